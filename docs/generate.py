"""Fills the generated tables of the manuals, each between `<!-- gerado:NAME -->` and `<!-- fim -->`.

    python docs/generate.py            rewrites the tables
    python docs/generate.py --check    exit code 1 when a page is stale

The tables come from the code that uses the values, so that a manual cannot say something else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from storage import settings
from vee import quality

DOCS = Path(__file__).resolve().parent
_BLOCK = re.compile(r"(<!-- gerado:(?P<name>[a-z-]+) -->\n).*?(<!-- fim -->)", re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells must not contain a bar."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


_ORIGINS = {
    "missing": ("faltante", "–"),
    "measured": ("medido", "`MEDIDO`"),
    "backup": ("retaguarda", "`AJUSTADO`"),
    "estimated": ("estimado", "`AJUSTADO`"),
    "edited": ("editado", "`AJUSTADO`"),
}


def reasons() -> str:
    rows = quality.reason_rows()
    return table(
        ["Código", "Nome", "Origem", "Vai como", "O que quer dizer"],
        [(row["code"], f"`{row['name']}`", *_ORIGINS[str(row["origin"])], row["text_pt"]) for row in rows],
    )


def causes() -> str:
    return table(
        ["Causa", "O que houve", "O que fazer"],
        [(f"`{row['cause']}`", row["text_pt"], row["remedy_pt"]) for row in quality.cause_rows()],
    )


def configuration() -> str:
    parts = []
    rows = settings.describe()
    for section in dict.fromkeys(row.section for row in rows):
        lines = [
            (
                f"`{row.key}`",
                f"`{row.environment}`",
                f"`{row.default}`" if row.default else "–",
                row.help_line,
            )
            for row in rows
            if row.section == section
        ]
        parts.append(f"### `[{section}]`\n\n" + table(["Chave", "Variável", "Padrão", "What it is"], lines))
    return "\n".join(parts)


GENERATED: dict[str, Callable[[], str]] = {
    "motivos": reasons,
    "causas": causes,
    "configuracao": configuration,
}


def fill(page: str, where: str) -> str:
    """The page with each generated block made anew."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in GENERATED:
            raise SystemExit(f"{where}: no generator named {name!r}; known are {', '.join(GENERATED)}")
        return f"{match[1]}\n{GENERATED[name]()}\n{match[3]}"

    return _BLOCK.sub(block, page)


def main(argv: Sequence[str]) -> int:
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = fill(before, path.name)
        if after != before:
            stale.append(path.name)
            if "--check" not in argv:
                path.write_text(after, encoding="utf-8")
    if stale:
        print(f"docs: {'stale' if '--check' in argv else 'written'}: {', '.join(stale)}")
    if stale and "--check" in argv:
        print("docs: run `make docs` and commit the pages")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
