"""What holds for any day, whatever the gaps: energy kept, missing never zero, nothing measured changed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vee.builders import LONG_AFTER, SLOTS, backup_series, registry, series
from vee.calendars import load_calendars
from vee.frames import SeriesMatrix, to_frame, to_matrix
from vee.layers.estimation import EstimationInput, EstimationResult, estimate
from vee.layers.losses import adjust, loss_factor
from vee.layers.rounding import to_ccee
from vee.layers.validation import ValidationInput, validate
from vee.quality import Origin
from vee.strategies.filling import EstimationParams

CALENDARS = load_calendars()
AS_OF = date(2026, 6, 8)
DAYS = [date(2026, 6, 1), date(2026, 6, 2), date(2026, 6, 3)]
UCS = (1, 2)

# Gaps as (first slot, length), mostly short, some of hours; values as pulses of an odd constant.
gaps = st.lists(
    st.tuples(st.integers(0, SLOTS - 1), st.sampled_from([1, 2, 3, 4, 12, 13, 24, 60])), max_size=4
)
pulses = st.lists(st.integers(0, 900), min_size=SLOTS, max_size=SLOTS)
constants = st.sampled_from([Fraction(72, 10000), Fraction(1, 3), Fraction(7, 11000), Fraction(4800, 1000)])


@st.composite
def fleets(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Validated days of two UCs, some history, some backup."""
    rows: dict[tuple[int, date], list[Any]] = {}
    for uc_id in UCS:
        constant = draw(constants)
        base = draw(pulses)
        for shift, day in enumerate(DAYS):
            vector: list[Any] = [constant * base[(slot + shift) % SLOTS] for slot in range(SLOTS)]
            for first, length in draw(gaps):
                vector[first : min(first + length, SLOTS)] = [None] * (min(first + length, SLOTS) - first)
            rows[uc_id, day] = vector
    weeks = draw(st.lists(st.integers(6, 12), max_size=4, unique=True))
    past = {
        (uc_id, day - timedelta(weeks=week)): [Fraction(week * slot, 7) for slot in range(SLOTS)]
        for uc_id in UCS
        for day in DAYS
        for week in weeks
    }
    spare = {(2, DAYS[1]): rows[2, DAYS[1]]} if draw(st.booleans()) else {}
    return series(rows), series(past), backup_series(spare)


def run(
    fleet: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], params: EstimationParams | None = None
) -> EstimationResult:
    validated, history, backup = fleet
    return estimate(EstimationInput(validated, backup, history), DAYS, CALENDARS, AS_OF, params)


def exact(matrix: SeriesMatrix, row: int) -> list[Fraction | None]:
    return [matrix.value(row, slot) for slot in range(matrix.slots)]


STRATEGIES = pytest.mark.parametrize("name", ["ccee-pdc-1.8-r1", "chain-e"])


@STRATEGIES
@settings(max_examples=25, deadline=None)
@given(fleet=fleets())
def test_nothing_measured_is_changed_and_missing_is_never_zero(name: str, fleet: Any) -> None:
    result = run(fleet, EstimationParams(default_strategy=name))
    before, after = to_matrix(fleet[0]), to_matrix(result.estimated)
    explained = {
        (line["uc_id"], line["day"], slot)
        for frame in (result.estimates, result.unresolved)
        for line in frame.iter_rows(named=True)
        for slot in range(line["first_slot"], line["last_slot"] + 1)
    }
    for row in range(len(before)):
        old, new = exact(before, row), exact(after, row)
        for slot, (was, now) in enumerate(zip(old, new, strict=True)):
            key = (int(before.uc_id[row]), before.day_of(row), slot)
            if was is not None:
                assert now == was
                assert after.origin[row, slot] == Origin.MEASURED
                assert key not in explained
            else:
                assert key in explained
                assert (now is None) == (after.origin[row, slot] == Origin.MISSING)


@STRATEGIES
@settings(max_examples=15, deadline=None)
@given(fleet=fleets(), seed=st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(name: str, fleet: Any, seed: int) -> None:
    params = EstimationParams(default_strategy=name)
    shuffled = tuple(frame.sample(fraction=1, shuffle=True, seed=seed) for frame in fleet)
    one, other = run(fleet, params), run(shuffled, params)  # type: ignore[arg-type]
    assert one.estimated.sort("uc_id", "day").equals(other.estimated.sort("uc_id", "day"))
    assert one.estimates.sort("uc_id", "day", "first_slot").equals(
        other.estimates.sort("uc_id", "day", "first_slot")
    )


@settings(max_examples=15, deadline=None)
@given(fleet=fleets())
def test_a_uc_does_not_see_the_others(fleet: Any) -> None:
    alone = tuple(frame.filter(pl.col("uc_id") == 2) for frame in fleet)
    together = run(fleet).estimated.filter(pl.col("uc_id") == 2)
    assert run(alone).estimated.equals(together)  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(fleet=fleets())
def test_an_estimated_day_without_gaps_left_passes_unchanged(fleet: Any) -> None:
    once = run(fleet).estimated
    whole = once.filter(~pl.col("numerators").list.eval(pl.element().is_null()).list.any())
    again = estimate(EstimationInput(whole), DAYS, CALENDARS, AS_OF)
    assert again.estimated.equals(whole)
    assert again.estimates.is_empty()


@settings(max_examples=25, deadline=None)
@given(
    fleet=fleets(),
    t=st.decimals(0, 10, places=4, allow_nan=False),
    line=st.decimals(0, 10, places=4, allow_nan=False),
)
def test_losses_conserve_energy_exactly(fleet: Any, t: Decimal, line: Decimal) -> None:
    estimated = run(fleet).estimated
    entries = [
        (uc_id, kind, None, None, percent, "platform")
        for uc_id in UCS
        for kind, percent in (("transformation", t), ("line", line))
    ]
    schema = {
        "uc_id": pl.Int64, "kind": pl.String, "valid_from": pl.Date, "valid_to": pl.Date,
        "percent": pl.Decimal(scale=6), "compensated_at": pl.String,
    }  # fmt: skip
    result = adjust(estimated, pl.DataFrame(entries, schema=schema, orient="row"))
    before, after = to_matrix(estimated), to_matrix(result.adjusted)
    set_aside = set(result.quarantined.select("uc_id", "day").rows())
    factor = loss_factor(t, line)
    for row in range(len(before)):
        if (int(before.uc_id[row]), before.day_of(row)) in set_aside:
            continue
        old, new = exact(before, row), exact(after, row)
        assert [None if value is None else value * factor for value in old] == new
        assert after.origin[row].tolist() == before.origin[row].tolist()


@settings(max_examples=25, deadline=None)
@given(fleet=fleets())
def test_rounding_moves_no_value_by_more_than_half_a_watt_hour(fleet: Any) -> None:
    estimated = run(fleet).estimated
    rounded = to_ccee(estimated)
    before, after = to_matrix(estimated), to_matrix(rounded)
    for row in range(len(before)):
        for old, new in zip(exact(before, row), exact(after, row), strict=True):
            assert (old is None) == (new is None)
            if old is not None and new is not None:
                assert Fraction(-1, 2000) < new - old <= Fraction(1, 2000)
    assert to_ccee(rounded).equals(rounded)


@settings(max_examples=25, deadline=None)
@given(fleet=fleets())
def test_validation_twice_is_validation_once(fleet: Any) -> None:
    primary = fleet[0]
    known = registry([(uc_id, day) for uc_id in UCS for day in DAYS])
    once = validate(ValidationInput(primary, known), LONG_AFTER)
    twice = validate(ValidationInput(once.validated, known), LONG_AFTER)
    assert twice.validated.equals(once.validated)
    assert twice.verdicts.equals(once.verdicts)


@settings(max_examples=20, deadline=None)
@given(fleet=fleets())
def test_frames_and_matrices_are_the_same_thing(fleet: Any) -> None:
    assert to_frame(to_matrix(fleet[0])).equals(fleet[0])
