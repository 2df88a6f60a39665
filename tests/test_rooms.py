"""The rooms hold: no circle of modules, and the architecture page names each room and what it may know."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS: list[str] = CONFIG["tool"]["importlinter"]["root_packages"]


def test_no_module_imports_itself_by_way_of_others() -> None:
    """What is imported for the type checker only does not count."""
    graph = grimp.build_graph(*ROOMS, exclude_type_checking_imports=True)
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    # Modules that import nothing any more are taken out, again and again: what stays is in a circle.
    while leaves := {module for module, others in imports.items() if not others}:
        imports = {module: others - leaves for module, others in imports.items() if module not in leaves}
    assert sorted(imports) == []


def rooms_of_the_page() -> dict[str, set[str]]:
    """By room, those that the page says it may know; the edges know all applications."""
    rows: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "arquitetura.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`(\w+)/`", cells[0])
        if line.startswith("| `") and len(cells) == 3:
            known = (
                set(ROOMS) if cells[2] in ("todos", "aplicações") else set(re.findall(r"`(\w+)`", cells[2]))
            )
            rows |= dict.fromkeys(names, known | {"faults"})
    return rows


def test_the_architecture_page_shows_the_rooms_as_they_are() -> None:
    graph = grimp.build_graph(*ROOMS)
    page = rooms_of_the_page()
    assert set(ROOMS) <= set(page)
    strays = {}
    for room in ROOMS:
        modules = {room, *graph.find_descendants(room)}
        known = {
            other.split(".")[0] for one in modules for other in graph.find_modules_directly_imported_by(one)
        }
        if extra := known - page[room] - {room}:
            strays[room] = sorted(extra)
    assert strays == {}
