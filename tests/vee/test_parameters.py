"""Rule parameters by file: what differs is said, what is wrong is named with its place and remedy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import pytest

from faults import OperatorFault
from vee.layers.primary import PrimaryParams
from vee.parameters import bounded, from_table, read, with_value
from vee.quality import Origin
from vee.strategies.filling import EstimationParams


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Knobs:
    times: float = bounded(4.0, low=1)
    share: Fraction = Fraction(1, 100)
    tolerance: Fraction | None = Fraction(1, 100)
    size: Size = Size.SMALL
    codes: tuple[int, ...] = (1,)
    is_on: bool = True
    low: int = 1
    high: int = 5

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


@dataclass(frozen=True)
class Whole:
    knobs: Knobs = Knobs()
    rules: dict[str, Knobs] = field(default_factory=lambda: {"V07": Knobs(), "V08": Knobs(times=2.0)})


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        '[knobs]\ntimes = 6\nshare = "0.005"\ntolerance = "none"\nsize = "large"\ncodes = [1, 3]\n'
        "[rules.V08]\nis_on = false\n"
    )
    found = read(path, Whole())
    assert found.knobs == Knobs(6.0, Fraction(1, 200), None, Size.LARGE, (1, 3))
    assert isinstance(found.knobs.times, float)
    assert found.rules == {"V07": Knobs(), "V08": Knobs(times=2.0, is_on=False)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[knobs]\ntimez = 6\n", "knobs: no parameter 'timez' (known are codes,"),
        ("[knobs]\ntimes = 0.5\n", "knobs times: 0.5 is out of bounds (write a number from 1,"),
        ("[knobs]\ntimes = true\n", "knobs times: True is not a number"),
        ("[knobs]\nshare = 0.01\n", 'is not an exact number (write an exact number, for example "1/100")'),
        ('[knobs]\nshare = "1/0"\n', "'1/0' is not an exact number"),
        ("[knobs]\nlow = 1.5\n", "1.5 is not a whole number"),
        ('[knobs]\nsize = "huge"\n', "'huge' is not one of small, large"),
        ('[knobs]\nis_on = "yes"\n', "'yes' is not true or false"),
        ("[knobs]\ncodes = 1\n", "1 is not a list, each a whole number (write a list"),
        ("[knobs]\nlow = 9\n", "knobs: low 9 is above high 5"),
        ("[rules.V99]\ntimes = 6\n", "rules: no parameter 'V99' (known are V07, V08)"),
        ("knobs = 3\n", "knobs: 3 is not a table"),
        ("[knobs\n", "not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(OperatorFault) as raised:
        read(path, Whole())
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_the_operators(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="cannot be read"):
        read(tmp_path / "none.toml", Whole())


def test_the_parameters_of_the_layers_can_be_read() -> None:
    changed = from_table(
        EstimationParams(), {"usable_hour": "10/12", "e3_max_slots": 3, "calendar": "x"}, "f"
    )
    assert (changed.usable_hour, changed.e3_max_slots, changed.calendar) == (Fraction(5, 6), 3, "x")
    assert from_table(PrimaryParams(), {"split_origin": "measured"}, "f").split_origin is Origin.MEASURED


def test_an_override_is_one_value_in_the_words_of_the_file() -> None:
    assert with_value(Knobs(), "times", "8", "UC 1").times == 8.0
    assert with_value(Knobs(), "size", "large", "UC 1").size is Size.LARGE
    assert with_value(Knobs(), "share", "1/50", "UC 1").share == Fraction(1, 50)
    assert with_value(Knobs(), "is_on", "false", "UC 1").is_on is False
    with pytest.raises(OperatorFault, match="UC 1 times: 'many' is not a number"):
        with_value(Knobs(), "times", "many", "UC 1")
