"""Models of meters with a user output as data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults import OperatorFault
from protocols.ssu import Format
from protocols.ssu.catalogue import add_catalogue, load_models, models, remove_catalogue

OWN = """
[models.ssu-elo]
extends = "ssu-extended"
complete_within_s = 1
silence_s = 0.128
[models.ssu-elo-mixed]
extends = "ssu-elo"
formats = ["mixed"]
mixed_hour_post = "extended"
rate_bit_s = 600
"""


@pytest.fixture
def own() -> Iterator[None]:
    add_catalogue("own", OWN)
    yield
    remove_catalogue("own")


def test_those_that_are_shipped() -> None:
    known = {name: (model.formats, model.rate_bit_s) for name, model in models().items()}
    assert known == {
        "ssu": ((Format.NORMAL, Format.EXTENDED), 110),
        "ssu-normal": ((Format.NORMAL,), 110),
        "ssu-extended": ((Format.EXTENDED,), 110),
        "ssu-mixed": ((Format.MIXED,), 600),
    }


@pytest.mark.req("TR-5.5e")
def test_a_model_of_ones_own_takes_what_it_extends_and_goes_with_its_file(own: None) -> None:
    elo, mixed = models()["ssu-elo"], models()["ssu-elo-mixed"]
    assert (elo.formats, elo.rate_bit_s) == ((Format.EXTENDED,), 110)
    assert (elo.settings.complete_within_s, elo.settings.silence_s) == (1, 0.128)
    assert (mixed.formats, mixed.rate_bit_s) == ((Format.MIXED,), 600)
    assert (mixed.settings.complete_within_s, mixed.settings.mixed_hour_post) == (1, "extended")
    remove_catalogue("own")
    assert "ssu-elo" not in models()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("[models.elo]", "begins with ssu-"),
        ("[models.ssu-x]", "formats is missing"),
        ('[models.ssu-x]\nformats = ["half"]', "half"),
        ('[models.ssu-x]\nformats = ["mixed", "normal"]', "stands alone"),
        ('[models.ssu-x]\nformats = ["normal"]\ninterval_s = 900', "unknown key interval_s"),
        ('[models.ssu-x]\nformats = ["normal"]\nsilence_s = 3', "between 0 and 1"),
        ('[models.ssu-x]\nformats = ["normal"]\nlock_after = true', "whole number"),
        ('[models.ssu-x]\nformats = ["mixed"]\nmixed_hour_post = "odd"', "own, extended"),
        ('[models.ssu-x]\nextends = "ssu-y"\n[models.ssu-y]\nextends = "ssu-x"', "extends itself"),
        ('[models.ssu-x]\nextends = "ssu-y"', "not an entry"),
        ("[meters.x]", "only tables [models.NAME]"),
        ("models = 1", "only tables [models.NAME]"),
        ("[models]\nssu = 1", "not a table"),
        ("[models.ssu-x", "TOML"),
    ],
)
def test_a_wrong_entry_is_one_fault_and_changes_nothing(entry: str, told: str) -> None:
    before = models()
    with pytest.raises(OperatorFault) as caught:
        add_catalogue("own", entry)
    assert told in caught.value.message
    assert models() is before
    with pytest.raises(OperatorFault):
        load_models(("own", entry))
