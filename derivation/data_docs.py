"""Data Docs that an auditor can open years later, with no network: nothing on the page comes from elsewhere.

Great Expectations writes pages that load their styles and scripts from other people's servers, and an image
that tells them who looks. `finish` takes all that out, gives the pages a style of their own, and writes the
day's index in Portuguese: each run of the day, each expectation with its words and its result.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RESULTS = "store/uncommitted/validations"
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)
_OUTSIDE_LINK = re.compile(r"<link\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_OUTSIDE_IMAGE = re.compile(r"<img\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_FOOTER = re.compile(r"<footer\b.*?</footer>", re.DOTALL | re.IGNORECASE)
_FILTER_CARD = re.compile(
    r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions</strong>'
    r'.*?(?=<div class="card d-md-block)',
    re.DOTALL,
)
_STYLE_BLOCK = re.compile(r"<style\b.*?</style>", re.DOTALL | re.IGNORECASE)
_MARK = "<!-- smf: self-contained -->"

# Colours mean something: green holds, red does not; all else is grey.
STYLE = """
:root{--ok:#137333;--bad:#b3261e;--line:#d9dce1;--soft:#f4f6f8;--ink:#1f2328}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);margin:0 auto;
max-width:1100px;padding:1rem}a{color:#0b57d0}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{border-bottom:1px solid var(--line);
padding:.4rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:var(--soft);overflow-wrap:normal}
.ok,.text-success{color:var(--ok);font-weight:600}.bad,.text-danger{color:var(--bad);font-weight:600}
.fa-check-circle::before{content:"\\2714"}.fa-times::before,.fa-times-circle::before{content:"\\2718"}
.fa-exclamation-triangle::before{content:"\\26A0"}
.badge{border-radius:1rem;padding:.1rem .6rem;white-space:nowrap;background:var(--soft)}
.badge.ok{background:var(--ok);color:#fff}.badge.bad{background:var(--bad);color:#fff}
.alert,.card{border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem;margin:.8rem 0}
.alert{background:var(--soft)}ul,ol{padding-left:1.2rem}nav ol{list-style:none;padding:0;display:flex;
gap:.5rem;flex-wrap:wrap}nav img{display:none}small{color:#57606a}.wide{overflow-x:auto}
a[data-toggle]{display:none}.h6,h6{font-size:1rem;margin:.3rem 0;font-weight:600}
@media(max-width:640px){body{padding:.6rem;font-size:14px}td,th{padding:.3rem}}
"""


@dataclass(frozen=True)
class _Run:
    """One validation of the day, as its stored result has it."""

    name: str
    at: str
    is_met: bool
    results: list[dict[str, Any]]
    page: str


def finish(folder: Path, title: str) -> Path:
    """Make the pages of a day self-contained and write its index.

    Args:
        folder: of the day, with what Great Expectations wrote.
        title: heading of the index, in Portuguese.

    Returns:
        The index.
    """
    for page in sorted([*folder.glob("validations/**/*.html"), *folder.glob("expectations/*.html")]):
        text = page.read_text(encoding="utf-8")
        if _MARK not in text:
            page.write_text(_self_contained(text), encoding="utf-8")
    # Four megabytes of styles and fonts that no page refers to any more.
    shutil.rmtree(folder / "static", ignore_errors=True)
    index = folder / "index.html"
    index.write_text(_index(folder, title), encoding="utf-8")
    return index


def _self_contained(text: str) -> str:
    for pattern in (_SCRIPT, _OUTSIDE_LINK, _OUTSIDE_IMAGE, _STYLE_BLOCK, _FOOTER, _FILTER_CARD):
        text = pattern.sub("", text)
    head = (
        f'{_MARK}<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>'
    )
    return text.replace("</head>", f"{head}</head>", 1)


def _runs(folder: Path) -> Iterator[_Run]:
    results = folder / _RESULTS
    for path in sorted(results.glob("**/*.json"), key=lambda path: path.parent.name, reverse=True):
        stored = json.loads(path.read_bytes())
        identity = stored["meta"]["run_id"]
        yield _Run(
            name=identity["run_name"],
            at=identity["run_time"][:19].replace("T", " ") + " UTC",
            is_met=bool(stored["success"]),
            results=stored["results"],
            page="validations/" + path.relative_to(results).with_suffix(".html").as_posix(),
        )


def _index(folder: Path, title: str) -> str:
    runs = list(_runs(folder))
    parts = [
        "<!doctype html>",
        f'<html lang="pt-BR"><head><meta charset="utf-8">{_MARK}',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        "<p>O que um auditor pode esperar de cada UC-dia entregue à CCEE, e se foi cumprido. "
        "Cada valor se explica com <code>smf trace UC INSTANTE</code>.</p>",
    ]
    if not runs:
        parts.append("<p>Nenhuma verificação ainda: execute <code>smf run daily --day DIA</code>.</p>")
    for place, run in enumerate(runs):
        heading = "Última verificação" if place == 0 else "Verificação anterior"
        parts.append(f"<h2>{heading} {_badge(run.is_met)}</h2>")
        parts.append(
            f"<p>{html.escape(run.at)} · execução do Dagster <code>{html.escape(run.name)}</code> · "
        )
        parts.append(f'<a href="{html.escape(run.page)}">página completa do Great Expectations</a></p>')
        if place == 0 or not run.is_met:
            parts.append(_table(run))
    parts.append('<p><a href="expectations/series_ccee.html">A suíte de expectativas</a></p></body></html>')
    return "\n".join(parts)


def _table(run: _Run) -> str:
    rows = [
        "<div class=wide><table><tr><th>Expectativa</th><th>Colunas</th><th>Linhas</th>"
        "<th>Fora do esperado</th><th>Resultado</th></tr>"
    ]
    for result in run.results:
        config, found = result["expectation_config"], result["result"]
        notes = " ".join(config.get("meta", {}).get("notes", {}).get("content", []))
        columns = [value for key, value in config["kwargs"].items() if key.startswith("column")]
        names = ", ".join(", ".join(value) if isinstance(value, list) else str(value) for value in columns)
        cells = (
            html.escape(notes or config["type"]),
            f"<code>{html.escape(names)}</code>",
            str(found.get("element_count", "–")),
            str(found.get("unexpected_count", "–")),
            _badge(bool(result["success"])),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "".join([*rows, "</table></div>"])


def _badge(is_met: bool) -> str:
    return (
        '<span class="badge ok">cumprida</span>' if is_met else '<span class="badge bad">não cumprida</span>'
    )
