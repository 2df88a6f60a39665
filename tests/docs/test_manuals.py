"""The manuals name what there is: every command, every page, every generated table up to date."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer

from pipelines.cli.main import GROUPS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.req("TR-5.2")
@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_command_is_in_the_manual(group: str) -> None:
    page = (DOCS / "linha_de_comando.md").read_text(encoding="utf-8")
    command = typer.main.get_command(importlib.import_module(GROUPS[group][0]).app)
    names = sorted(getattr(command, "commands", {})) or [""]
    for name in names:
        assert re.search(rf"`smf {group}{' ' if name else ''}{re.escape(name)}[ `]", page), (
            f"smf {group} {name}"
        )


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            place = page.parent / target if target else page
            assert place.exists(), target
            assert not heading or heading in headings(place), f"{target}#{heading}"


def headings(page: Path) -> set[str]:
    """What links name the headings of a page by."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"], ids=lambda page: page.name
)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    shown = [line.partition("#")[0] for line in blocks] + re.findall(r"`((?:\.venv/bin/)?smf [^`]*)`", text)
    for command in shown:
        words = command.replace(".venv/bin/", "").split()
        if words[:1] == ["smf"]:
            assert not (wrong := unknown(words[1:])), f"{command}: {wrong}"


def unknown(words: list[str]) -> str:
    """The first word that is no command, or no option of the command; empty where all are known."""
    if not words or words[0] in ("--version", "--help", "...", "WORD"):
        return ""
    if words[0] not in GROUPS:
        return words[0]
    command = typer.main.get_command(importlib.import_module(GROUPS[words[0]][0]).app)
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    known |= {"--help", "--csv", "--json"}
    return next((word for word in rest if word.startswith("--") and word.split("=")[0] not in known), "")
