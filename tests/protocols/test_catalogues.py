"""What all catalogues of meter models have in common: laying over, extending, adding and taking out."""

from __future__ import annotations

import pytest

from faults import OperatorFault
from protocols.catalogues import Catalogue, laid_over, layered, lineage

OWN = '[models.a]\nx = 1\ny = 2\n[models.b]\nextends = "a"\ny = 3\n'


def read(*texts: str):
    return layered(
        "models", tuple((f"{number}.toml", text) for number, text in enumerate(texts)), "docs/x.md"
    )


def test_an_entry_has_what_it_extends_and_a_later_file_counts() -> None:
    found = read(OWN, '[models.b]\nz = 4\n[models.a]\nx = 9\n[models.c]\nextends = "b"')
    assert {name: dict(entry.table) for name, entry in found.items()} == {
        "a": {"x": 9, "y": 2},
        "b": {"x": 9, "y": 3, "z": 4},
        "c": {"x": 9, "y": 3, "z": 4},
    }
    assert found["c"].where == "1.toml, model c"


def test_a_lineage_begins_with_the_first_and_may_end_in_a_root() -> None:
    entries = laid_over("models", (("own.toml", OWN + '[models.c]\nextends = "general"'),), "docs/x.md")
    assert [one.where for one in lineage("b", entries, "docs/x.md")] == [
        "own.toml, model a",
        "own.toml, model b",
    ]
    assert len(lineage("c", entries, "docs/x.md", {"general"})) == 1
    with pytest.raises(OperatorFault, match="extends 'general', which is not an entry"):
        lineage("c", entries, "docs/x.md")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[models.a]\nextends = "b"\n[models.b]\nextends = "a"', "extends itself: a > b > a"),
        ("[models.a]\nextends = 3", "extends 3, which is not an entry"),
        ("[others.a]", "only tables"),
        ("[models]\na = 1", "not a table"),
        ("[models.a\n", "not TOML"),
    ],
)
def test_what_is_no_catalogue_is_refused(text: str, message: str) -> None:
    with pytest.raises(OperatorFault, match=message) as told:
        read(text)
    assert told.value.where.startswith("0.toml")


def test_an_added_model_counts_until_removed_and_a_bad_one_changes_nothing() -> None:
    calls = []

    def load(*sources: tuple[str, str]) -> list[str]:
        calls.append(len(sources))
        return sorted(layered("models", sources[1:], "docs/x.md"))

    catalogue = Catalogue("protocols.dlms", "models.toml", load)
    assert calls == []
    assert catalogue.in_force() == catalogue.in_force() == []
    catalogue.add("own.toml", OWN)
    assert catalogue.in_force() == ["a", "b"]
    with pytest.raises(OperatorFault):
        catalogue.add("own.toml", "[")
    assert catalogue.in_force() == ["a", "b"]
    assert calls == [1, 2, 2]
    catalogue.remove("own.toml")
    assert catalogue.in_force() == []
