"""The house's sizes: `python -m tests.house` fails with a list of what has grown past them.

- a file of ours has at most 500 lines, or says at its head why it is longer (`Over 500 lines: ...`);
- a folder has at most 15 files beside its charter, or stands in `CEILINGS` with the reason;
- a test's name has at most 70 characters.
"""

from __future__ import annotations

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
    "tests/collector/dlms": (18, "cases of one driver, with their helpers"),
    "tests/simulator": (16, "cases of one room, with their helpers"),
}
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
    too_large = problems(files)
    if too_large:
        print("house:", *too_large, sep="\n  ")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
