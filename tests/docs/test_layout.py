"""What of the tests' layout can be checked by itself."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_tests_import_helpers_and_no_other_tests() -> None:
    taken = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("tests")]
            else:
                continue
            taken += [
                f"{path.relative_to(TESTS)}:{node.lineno} takes {name}" for name in names if _is_test(name)
            ]
    assert not taken, "move what is shared into a module beside the tests"


def _is_test(name: str) -> bool:
    """Whether the name is a test module, or something in one."""
    parts = name.split(".")
    places = (TESTS.parent.joinpath(*parts[:count]).with_suffix(".py") for count in range(1, len(parts) + 1))
    return any(place.name.startswith("test_") and place.exists() for place in places)
