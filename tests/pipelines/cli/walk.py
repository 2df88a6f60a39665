"""Every command of `smf`, and how those that print tables are tried on the database of a demonstration."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import date
from typing import Any

import typer

from pipelines.cli.main import GROUPS

# Commands that print no table of the database: they act, answer one question, serve, or speak to a meter.
NO_TABLE = {
    "calendar deadline": "one date",
    "ccee body": "the exact body",
    "ccee deliver": "sends",
    "ccee month": "asks a server",
    "ccee standin": "serves",
    "clock correct": "acts",
    "collector": "serves",
    "collector monitor": "acts",
    "collector read": "speaks to a meter",
    "collector run": "serves",
    "command approve": "acts",
    "command preview": "octets of one command",
    "command request": "acts",
    "db migrate": "acts",
    "db start": "serves",
    "db url": "one line",
    "demo": "acts; its tables are tested by what they say",
    "decide show": "one decision",
    "export public": "writes files",
    "export series": "writes a file",
    "import public": "acts",
    "import pulses": "acts",
    "inspect celesc": "speaks to a meter",
    "lots import": "acts",
    "registry accept-constant": "acts",
    "registry export": "writes a file",
    "registry import": "acts",
    "registry template": "writes a file",
    "rules end": "acts",
    "rules set": "acts",
    "run closing": "acts; its report is tested by what it says",
    "run daily": "acts",
    "run delivery": "acts",
    "run history": "acts",
    "run ui": "serves",
    "scores run": "acts",
}
# Groups of which no command but `decide list` prints a table of the database.
NO_TABLE_GROUPS = {"decode": "octets to JSON", "read": "meters", "simulate": "serves", "edit": "acts"}
NO_TABLE |= {
    f"decide {word}": "acts"
    for word in ("accept", "reject", "choose", "release", "shift", "approve", "agree", "refuse", "undo")
}


def commands() -> Iterator[str]:
    """All words that are a command, `ccee ledger`."""
    for word, (module, _) in GROUPS.items():
        yield from _of(typer.main.get_command(importlib.import_module(module).app), word)


def _of(command: Any, path: str) -> Iterator[str]:
    below = getattr(command, "commands", {})
    if not below or getattr(command, "invoke_without_command", False):
        yield path
    for name, child in below.items():
        yield from _of(child, f"{path} {name}")


def tables(uc_code: str, day: date) -> dict[str, list[str]]:
    """Command and its further words, for all that print tables."""
    return {
        "calendar month": [f"{day:%Y-%m}"],
        "ccee ledger": ["--day", str(day)],
        "ccee profile": [],
        "clock status": [],
        "collector status": ["--points", "1000"],
        "command list": [],
        "command status": [],
        "db status": [],
        "decide list": [],
        "export list": [],
        "find": ["a"],
        "lots report": [],
        "model list": [],
        "queue": [],
        "registry check": [],
        "rules list": [],
        "scores": [],
        "series": [uc_code, str(day), "--intervals"],
        "status": ["--day", str(day)],
        "trace": [uc_code, f"{day}T10:05"],
    }
