"""The house's sizes: `python -m tests.house` fails with a list of what has grown past them.

- a file of ours has at most 500 lines, or says at its head why it is longer (`Over 500 lines: ...`);
- a folder has at most 15 files beside its charter, or stands in `CEILINGS` with the reason;
- a test's name has at most 70 characters;
- a function, method or class of the product is named somewhere in it besides its definition, or stands in
  `FOR_TESTS` with the reason;
- variables are named after the thing: of names that only say the act, no more than `VAGUE` has.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 500
MAX_FILES = 15
MAX_NAME = 70
HEAD_LINES = 25
REASON = "Over 500 lines: "

CEILINGS = {
    "docs": (40, "one page a subject, side by side, as their readers look for them"),
    "pipelines/cli": (30, "one module a command, as a contributor expects"),
    "storage/migrations/sql": (999, "one file a migration, never touched again"),
    "storage/migrations/versions": (999, "one file a migration, never touched again"),
    # Larger than they should be. A ceiling here may only fall: a file more needs a seam first.
    "protocols/dlms": (17, "the layers of one protocol"),
}
# How often the product has these as names of variables and arguments. Rename one, and lower its number.
VAGUE = {"told": 98, "found": 326, "one": 277}
FOR_TESTS = {
    # What a test looks at or starts, and the product has no other need of. Names may only leave this table.
    "capture_signals": "called by uvicorn",
    "decode_memory": "what the benchmark of a month measures",
    "import_file": "a file of the disk imported in one call",
    "listening_port": "where units dial in, when the system chose the port",
    "open_holds": "what waits for a decision, whatever page shows it",
    "own_addresses": "which unit is at the other end of a connection",
    "serve_pty": "one simulated meter on a pseudo terminal",
    "serve_tcp": "one simulated meter on a port",
    "virtual_loop": "the clock of a test in simulated time",
}
# Modules whose methods are called by asyncio.
CALLED_FROM_OUTSIDE = {"simulator/wires/virtual_time.py"}
_TEXTS = {".py", ".sql", ".sh", ".toml", ".md", ".js", ".ts", ".css", ".html"}
_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


def problems(files: list[str], root: Path = ROOT) -> list[str]:
    """What is too large among these files, one line each; paths are relative to `root`."""
    too_large = []
    folders = Counter(str(Path(name).parent) for name in files if not name.endswith("__init__.py"))
    for folder, count in sorted(folders.items()):
        most, _ = CEILINGS.get(folder, (MAX_FILES, ""))
        if count > most:
            too_large.append(f"{folder}: {count} files, {most} at most: split it along a seam")
    for name in files:
        path = root / name
        if path.suffix not in _TEXTS or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        if len(lines) > MAX_LINES and not any(REASON in line for line in lines[:HEAD_LINES]):
            too_large.append(f'{name}: {len(lines)} lines: split it, or write "{REASON}..." at its head')
        if name.startswith("tests/"):
            too_large += [
                f"{name}: {test} has {len(test)} characters, {MAX_NAME} at most"
                for test in _TEST.findall(text)
                if len(test) > MAX_NAME
            ]
    return too_large


def unused(files: list[str], root: Path = ROOT) -> list[str]:
    """What the product defines and does not name again, one line each; paths are relative to `root`.

    A name counts wherever it stands in product code, also in a text: this finds what nothing names, no more.
    """
    product = {
        name: (root / name).read_text(encoding="utf-8")
        for name in files
        if name.endswith(".py") and not name.startswith("tests/") and (root / name).is_file()
    }
    words = Counter(word for text in product.values() for word in re.findall(r"\w+", text))
    for name in files:
        if name.endswith((".sql", ".toml")) and not name.startswith("tests/") and (root / name).is_file():
            words.update(re.findall(r"\w+", (root / name).read_text(encoding="utf-8")))
    lines = []
    for name, text in product.items():
        for line, defined in _definitions(ast.parse(text)):
            outside = defined in FOR_TESTS or (name in CALLED_FROM_OUTSIDE and words[defined] == 1)
            if words[defined] == 1 and not outside and not defined.startswith("__"):
                lines.append(f"{name}:{line}: nothing names {defined}: take it out, or move it to the tests")
    return lines


def _definitions(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and name of functions and classes of a module and of its classes.

    Commands of the command line are left out: their decorator registers them.
    """
    inner = [part for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body]
    return [
        (node.lineno, node.name)
        for node in [*tree.body, *inner]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not any(".command" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]


def vague_names(files: list[str], root: Path = ROOT) -> list[str]:
    """Names of `VAGUE` that the product has more often than the table says."""
    counts: Counter[str] = Counter()
    for name in files:
        if name.endswith(".py") and not name.startswith("tests/") and (root / name).is_file():
            for node in ast.walk(ast.parse((root / name).read_text(encoding="utf-8"))):
                if isinstance(node, ast.arg):
                    counts[node.arg] += 1
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    counts[node.id] += 1
    return [
        f"variables named {name}: {counts[name]}, {most} at most: name the thing instead"
        for name, most in VAGUE.items()
        if counts[name] > most
    ]


def tracked() -> list[str]:
    """Files under version control."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listing.stdout.split()


def main() -> int:
    try:
        files = tracked()
    except (OSError, subprocess.CalledProcessError):
        print("house: not a working copy, nothing to measure")
        return 0
    wrong = problems(files) + unused(files) + vague_names(files)
    if wrong:
        print("house:", *wrong, sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
