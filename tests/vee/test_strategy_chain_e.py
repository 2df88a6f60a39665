"""The chain E3, E4, E5, E0: the worked examples of vee_rules.md section 4."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import polars as pl
import pytest

from tests.vee.builders import SLOTS, reasons_of, series, values_of
from vee.calendars import load_calendars
from vee.layers.estimation import EstimationInput, EstimationResult, estimate, history_needs
from vee.quality import Cause, Origin, Reason
from vee.strategies.filling import EstimationParams

CALENDARS = load_calendars()
AS_OF = date(2026, 6, 8)
TUESDAY = date(2026, 6, 2)
BEFORE = TUESDAY - timedelta(days=1)
CHAIN = EstimationParams(default_strategy="chain-e")


def run(
    days: dict[date, list[Any]], wanted: date = TUESDAY, params: EstimationParams = CHAIN, **inputs: Any
) -> EstimationResult:
    validated = series({(1, day): values for day, values in days.items()})
    return estimate(EstimationInput(validated, **inputs), [wanted], CALENDARS, AS_OF, params)


def flat(value: Any = "4.2", first: int = 0, last: int = -1) -> list[Any]:
    return [None if first <= slot <= last else value for slot in range(SLOTS)]


def past(values: dict[date, Any], origin: Origin = Origin.MEASURED) -> pl.DataFrame:
    reason = Reason.MEASURED_OK if origin is Origin.MEASURED else Reason.RULE_A
    return series({(1, day): [value] * SLOTS for day, value in values.items()}, origin, reason)


def test_e3_worked() -> None:
    day = flat()
    day[100:105] = ["4.2", None, None, None, "5.4"]
    result = run({TUESDAY: day})
    assert values_of(result.estimated, 1, TUESDAY)[101:104] == [
        Fraction("4.5"),
        Fraction("4.8"),
        Fraction("5.1"),
    ]
    assert result.estimates["method"].to_list() == ["E3"]


def test_e3_crosses_midnight() -> None:
    yesterday, today = flat("4", 286, 287), flat("8", 0, 0)
    result = run({BEFORE: yesterday, TUESDAY: today})
    assert values_of(result.estimated, 1, TUESDAY)[0] == 7
    assert values_of(run({BEFORE: yesterday, TUESDAY: today}, BEFORE).estimated, 1, BEFORE)[286:] == [5, 6]


@pytest.mark.parametrize(("last", "reason"), [(105, Reason.E3_INTERPOLATION), (106, Reason.E4_SIMILAR_DAYS)])
def test_e3_takes_six_intervals_and_no_more(last: int, reason: Reason) -> None:
    history = past({TUESDAY - timedelta(weeks=k): "3" for k in (1, 2)})
    result = run({TUESDAY: flat("4", 100, last)}, history=history)
    assert set(reasons_of(result.estimated, 1, TUESDAY)[100 : last + 1]) == {reason}


def test_a_gap_at_the_edge_of_known_data_takes_e4() -> None:
    history = past({TUESDAY - timedelta(weeks=k): "3" for k in (1, 2)})
    result = run({TUESDAY: flat("4", 0, 1)}, history=history)
    assert values_of(result.estimated, 1, TUESDAY)[:2] == [3, 3]


def test_e4_worked() -> None:
    weeks = dict(zip((1, 2, 3, 4, 5), ("3.10", "2.90", "3.30", "3.06", "99"), strict=True))
    history = past({TUESDAY - timedelta(weeks=week): value for week, value in weeks.items()})
    result = run({TUESDAY: flat("4", 100, 120)}, history=history)
    assert values_of(result.estimated, 1, TUESDAY)[110] == Fraction("3.09")


def test_e4_takes_measured_history_only_and_needs_two_days() -> None:
    measured = past({TUESDAY - timedelta(weeks=1): "3"})
    estimated = past({TUESDAY - timedelta(weeks=2): "9"}, Origin.ESTIMATED)
    result = run({TUESDAY: flat("4", 100, 120)}, history=pl.concat([measured, estimated]))
    assert result.unresolved["cause"].to_list() == [Cause.NO_HISTORY_NEEDS_APPROVAL]
    assert values_of(result.estimated, 1, TUESDAY)[110] is None


def test_e4_holidays_and_sundays_are_one_type() -> None:
    holiday = date(2026, 6, 7)
    validated = series({(1, holiday): flat("4", 100, 120)})
    needs = history_needs(validated, [holiday], CALENDARS, AS_OF, CHAIN)
    days = set(needs["needed_day"])
    # Sunday 7 June: Sundays of eight weeks, and the national holidays 21 April and 1 May.
    assert {date(2026, 5, 31), date(2026, 4, 12), date(2026, 4, 21), date(2026, 5, 1)} <= days
    assert date(2026, 6, 1) not in days


def test_e5_only_with_approval() -> None:
    means = pl.DataFrame(
        {"uc_id": [1], "day": [TUESDAY], "first_slot": [0], "last_slot": [287], "slot_kwh": ["2.5"]}
    )
    approvals = pl.DataFrame({"uc_id": [1], "day": [TUESDAY], "method": ["E5"], "approved_by": ["ana"]})
    without = run({TUESDAY: flat("4", 100, 120)}, cycle_means=means)
    assert values_of(without.estimated, 1, TUESDAY)[110] is None
    result = run({TUESDAY: flat("4", 100, 120)}, cycle_means=means, approvals=approvals)
    assert values_of(result.estimated, 1, TUESDAY)[110] == Fraction("2.5")
    assert result.estimates["approved_by"].to_list() == ["ana"]


def register(energy: str, first: int = 0, last: int = 287) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "uc_id": [1],
            "first_day": [TUESDAY],
            "first_slot": [first],
            "last_day": [TUESDAY],
            "last_slot": [last],
            "energy_kwh": [energy],
            "step_kwh": ["0.1"],
        }
    )


def e4_of_four() -> tuple[list[Any], pl.DataFrame]:
    """Known 240 in four slots, a profile 10, 14, 16, 8 in the gap of four, all else outside the register."""
    day: list[Any] = ["1"] * SLOTS
    day[96:100], day[100:104] = ["60"] * 4, [None] * 4
    profile: list[Any] = ["1"] * SLOTS
    profile[100:104] = ["10", "14", "16", "8"]
    history = series({(1, TUESDAY - timedelta(weeks=k)): profile for k in (1, 2)})
    return day, history


def test_e0_worked() -> None:
    day, history = e4_of_four()
    params = EstimationParams(default_strategy="chain-e", e3_max_slots=0)
    result = run({TUESDAY: day}, params=params, history=history, registers=register("300.0", 96, 103))
    assert values_of(result.estimated, 1, TUESDAY)[100:104] == [Fraction("12.5"), Fraction("17.5"), 20, 10]
    assert set(reasons_of(result.estimated, 1, TUESDAY)[100:104]) == {Reason.REGISTER_SCALED}


def test_e0_a_negative_remainder_is_an_error_not_a_value() -> None:
    day, history = e4_of_four()
    params = EstimationParams(default_strategy="chain-e", e3_max_slots=0)
    result = run({TUESDAY: day}, params=params, history=history, registers=register("200", 96, 103))
    assert result.unresolved["cause"].to_list() == [Cause.REGISTER_MISMATCH]
    assert values_of(result.estimated, 1, TUESDAY)[100] == 10


def test_the_strategy_is_chosen_per_uc_and_day() -> None:
    validated = series({(uc, TUESDAY): flat("4", 100, 105) for uc in (1, 2)})
    chosen = pl.DataFrame({"uc_id": [2], "day": [TUESDAY], "strategy": ["chain-e"]})
    result = estimate(EstimationInput(validated, strategies=chosen), [TUESDAY], CALENDARS, AS_OF)
    assert result.estimates.select("uc_id", "method").rows() == [(1, "B"), (2, "E3")]
