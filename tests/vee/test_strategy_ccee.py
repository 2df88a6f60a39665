"""Annex 7.2 as read in vee_rules.md section 4: its worked examples, to the digit."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import orjson
import polars as pl
import pytest

from faults import OperatorFault
from tests.vee.builders import SLOTS, backup_series, reasons_of, registry, series, values_of
from vee.calendars import load_calendars
from vee.layers.estimation import EstimationInput, EstimationResult, estimate, history_needs, strategy_for
from vee.layers.validation import PHASE_LOSS_SCHEMA
from vee.quality import Cause, Origin, Reason
from vee.strategies.ccee import CceePdc18R1
from vee.strategies.filling import EstimationParams, Scope

CALENDARS = load_calendars()
AS_OF = date(2026, 6, 8)
TUESDAY = date(2026, 6, 2)
NEXT = TUESDAY + timedelta(days=1)
BEFORE = TUESDAY - timedelta(days=1)
FLAT: list[Any] = ["4.2"] * SLOTS


def run(
    days: dict[date, list[Any]], wanted: date = TUESDAY, params: EstimationParams | None = None, **inputs: Any
) -> EstimationResult:
    validated = series({(1, day): values for day, values in days.items()})
    return estimate(EstimationInput(validated, **inputs), [wanted], CALENDARS, AS_OF, params)


def with_gap(first: int, last: int, values: list[Any] | None = None) -> list[Any]:
    out = [*(values or FLAT)]
    out[first : last + 1] = [None] * (last - first + 1)
    return out


def history(value_by_day: dict[date, Any], uc_id: int = 1) -> pl.DataFrame:
    return series({(uc_id, day): [value] * SLOTS for day, value in value_by_day.items()})


TUESDAYS = [date(2026, 2, 10) + timedelta(weeks=k) for k in range(12)]
ELEVEN = ["4.10", "4.22", "4.05", "4.31", "4.18", "4.26", "4.09", "4.15", "4.20", "4.12", "4.24"]


def test_window_of_the_worked_example() -> None:
    assert Scope(CALENDARS, AS_OF, EstimationParams()).window == (date(2026, 2, 6), date(2026, 4, 30))


def test_dates_of_rule_a() -> None:
    scope = Scope(CALENDARS, AS_OF, EstimationParams())
    dates = CceePdc18R1().history_dates(TUESDAY, scope)
    # 21 April is a national holiday and goes out; 17 February is Carnival and stays.
    assert dates == [day for day in TUESDAYS if day != date(2026, 4, 21)]
    sundays = CceePdc18R1().history_dates(date(2026, 5, 1), scope)
    assert sundays == [date(2026, 2, 8) + timedelta(weeks=k) for k in range(12)]


def test_the_seven_weekdays_share_out_the_window_and_no_day_beyond_it() -> None:
    scope = Scope(CALENDARS, date(2026, 7, 8), EstimationParams())
    assert scope.window == (date(2026, 3, 9), date(2026, 5, 31))
    week = [date(2026, 7, 6) + timedelta(days=k) for k in range(7)]
    shared = sorted(day for wanted in week for day in CceePdc18R1().history_dates(wanted, scope))
    window = [date(2026, 3, 9) + timedelta(days=k) for k in range(84)]
    assert shared == [day for day in window if not scope.is_holiday(day)]


def test_rule_a_worked() -> None:
    dates = [day for day in TUESDAYS if day != date(2026, 4, 21)]
    past = history({**dict(zip(dates, ELEVEN, strict=True)), date(2026, 4, 21): "99"})
    result = run({TUESDAY: with_gap(108, 131)}, history=past)
    values = values_of(result.estimated, 1, TUESDAY)
    assert values[120] == Fraction("45.92") / 11
    assert float(values[120] or 0) == pytest.approx(4.174545454545)
    assert set(reasons_of(result.estimated, 1, TUESDAY)[108:132]) == {Reason.RULE_A}
    line = result.estimates.row(0, named=True)
    assert (line["method"], line["first_slot"], line["last_slot"]) == ("A", 108, 131)
    detail = orjson.loads(line["detail"])
    assert detail["dates"] == [day.isoformat() for day in dates]
    assert (detail["days_in_mean"], detail["awaiting_neighbour"]) == (11, False)


def test_rule_a_on_a_holiday_takes_the_sundays() -> None:
    holiday = date(2026, 5, 1)
    sundays = [date(2026, 2, 8) + timedelta(weeks=k) for k in range(12)]
    past = history({day: k for k, day in enumerate(sundays)})
    result = run({holiday: with_gap(0, 287)}, holiday, history=past)
    assert set(values_of(result.estimated, 1, holiday)) == {Fraction(66, 12)}
    assert set(reasons_of(result.estimated, 1, holiday)) == {Reason.RULE_A_HOLIDAY}


HOUR_BEFORE = ["4.25", "4.31", "4.28", "4.30", "4.27", "4.33", "4.29", "4.26", "4.32", "4.30", "4.35", "4.34"]
HOUR_AFTER = ["4.45", "4.49", "4.52", "4.50", "4.47", "4.51", "4.53", "4.48", "4.50", "4.52", "4.49", "4.54"]
HOUR_BETWEEN = [
    "4.35",
    "4.40",
    "4.40",
    "4.40",
    "4.37",
    "4.42",
    "4.41",
    "4.37",
    "4.41",
    "4.41",
    "4.42",
    "4.44",
]


def test_rule_b_worked() -> None:
    day = [*FLAT[:108], *HOUR_BEFORE, *[None] * 12, *HOUR_AFTER, *FLAT[144:]]
    result = run({TUESDAY: day})
    assert values_of(result.estimated, 1, TUESDAY)[120:132] == [Fraction(value) for value in HOUR_BETWEEN]
    assert sum(Fraction(value) for value in HOUR_BETWEEN) == Fraction("52.80")
    detail = orjson.loads(result.estimates["detail"][0])
    assert (detail["before"]["energy_kwh"], detail["after"]["energy_kwh"]) == ("258/5", "54")
    assert (detail["before"]["hour"], detail["after"]["hour"]) == (10, 12)


def test_inside_an_hour_worked() -> None:
    collected = ["5.10", "5.00", "5.20", "5.05", "5.15", "4.95", "5.10", "5.25", "5.00", "5.20"]
    day = [*FLAT[:120], *collected[:5], None, None, *collected[5:], *FLAT[132:]]
    result = run({TUESDAY: day})
    assert values_of(result.estimated, 1, TUESDAY)[125:127] == [Fraction("5.10")] * 2
    detail = orjson.loads(result.estimates["detail"][0])
    assert (detail["hour"], detail["sum_kwh"]) == (11, "51")
    assert detail["collected_slots"] == [*range(120, 125), *range(127, 132)]


@pytest.mark.parametrize(
    ("elements", "lost", "expected"), [(3, 1, "5.118"), (3, 2, "10.236"), (2, 1, "6.824"), (2, 2, "3.412")]
)
def test_rule_c_worked(elements: int, lost: int, expected: str) -> None:
    loss = pl.DataFrame(
        [(1, TUESDAY, 120, 120, elements, lost, True, "OS 1")], schema=PHASE_LOSS_SCHEMA, orient="row"
    )
    result = run({TUESDAY: ["3.412"] * SLOTS}, phase_loss=loss)
    assert values_of(result.estimated, 1, TUESDAY)[119:122] == [
        Fraction("3.412"), Fraction(expected), Fraction("3.412")
    ]  # fmt: skip


def test_rule_c_only_where_it_is_proven() -> None:
    loss = pl.DataFrame(
        [(1, TUESDAY, 0, 287, 3, 1, False, "suspicion")], schema=PHASE_LOSS_SCHEMA, orient="row"
    )
    assert set(values_of(run({TUESDAY: FLAT}, phase_loss=loss).estimated, 1, TUESDAY)) == {Fraction("4.2")}


def test_rule_c_comes_before_b() -> None:
    loss = pl.DataFrame([(1, TUESDAY, 108, 119, 3, 1, True, "OS 1")], schema=PHASE_LOSS_SCHEMA, orient="row")
    result = run({TUESDAY: with_gap(120, 131)}, phase_loss=loss)
    expected = (Fraction("4.2") * Fraction(3, 2) + Fraction("4.2")) / 2
    assert values_of(result.estimated, 1, TUESDAY)[125] == expected


@pytest.mark.parametrize(("collected", "reason"), [(9, Reason.INSIDE_HOUR), (8, Reason.RULE_B)])
def test_nine_of_twelve_make_an_hour_usable(collected: int, reason: Reason) -> None:
    result = run({TUESDAY: with_gap(120 + collected, 131)})
    assert set(reasons_of(result.estimated, 1, TUESDAY)[120 + collected : 132]) == {reason}
    # The good intervals of a missing hour stay as collected.
    assert set(reasons_of(result.estimated, 1, TUESDAY)[120 : 120 + collected]) == {Reason.MEASURED_OK}


def test_collected_intervals_of_a_missing_hour_can_be_discarded_by_setting() -> None:
    day = [*FLAT[:120], *["9"] * 8, *[None] * 4, *FLAT[132:]]
    kept = run({TUESDAY: day})
    assert values_of(kept.estimated, 1, TUESDAY)[120:128] == [9] * 8
    discarded = run({TUESDAY: day}, params=EstimationParams(keep_collected=False))
    assert values_of(discarded.estimated, 1, TUESDAY)[120:132] == [Fraction("4.2")] * 12


def test_a_usable_neighbour_with_a_hole_lends_its_mean() -> None:
    day = with_gap(120, 131)
    day[110] = None
    result = run({TUESDAY: day})
    assert values_of(result.estimated, 1, TUESDAY)[110] == Fraction("4.2")
    assert values_of(result.estimated, 1, TUESDAY)[122] == Fraction("4.2")


def test_a_run_is_counted_across_midnight() -> None:
    past = history({day: "2" for day in TUESDAYS})
    yesterday, today = with_gap(276, 287), with_gap(0, 11)
    across = run({BEFORE: yesterday, TUESDAY: today}, history=past)
    assert set(reasons_of(across.estimated, 1, TUESDAY)[:12]) == {Reason.RULE_A}
    alone = run({BEFORE: FLAT, TUESDAY: today}, history=past)
    assert set(reasons_of(alone.estimated, 1, TUESDAY)[:12]) == {Reason.RULE_B}


def test_each_hour_beyond_midnight_counts_once() -> None:
    past = history({day: "2" for day in TUESDAYS})
    days = {BEFORE: with_gap(276, 287), TUESDAY: with_gap(0, 11)}
    for least, reason in ((2, Reason.RULE_A), (3, Reason.RULE_B)):
        found = run(days, params=EstimationParams(rule_a_min_hours=least), history=past)
        assert set(reasons_of(found.estimated, 1, TUESDAY)[:12]) == {reason}


def test_an_hour_that_is_over_counts_though_the_next_is_still_to_come() -> None:
    past = history({day: "2" for day in TUESDAYS})
    validated = series({(1, TUESDAY): with_gap(276, 287), (1, NEXT): with_gap(3, 287)})
    for over, is_awaiting in ((11, True), (12, False)):
        reasons = bytes(
            [Reason.MEASURED_OK] * 3 + [Reason.NOT_RECEIVED] * (over - 3) + [Reason.FUTURE] * (SLOTS - over)
        )
        is_next = pl.col("day") == NEXT
        frame = validated.with_columns(
            reason=pl.when(is_next).then(pl.lit(reasons, pl.Binary)).otherwise("reason")
        )
        result = estimate(EstimationInput(frame, history=past), [TUESDAY], CALENDARS, AS_OF)
        assert orjson.loads(result.estimates["detail"][0])["awaiting_neighbour"] is is_awaiting


def test_a_late_neighbour_replaces_a_by_b() -> None:
    past = history({day: "2" for day in TUESDAYS})
    day = with_gap(276, 287)
    early = run({TUESDAY: day}, history=past)
    assert values_of(early.estimated, 1, TUESDAY)[-1] == 2
    assert set(reasons_of(early.estimated, 1, TUESDAY)[276:]) == {Reason.RULE_A_AWAITING_NEIGHBOUR}
    assert orjson.loads(early.estimates["detail"][0])["awaiting_neighbour"] is True
    late = run({TUESDAY: day, NEXT: ["6.2"] * SLOTS}, history=past)
    assert values_of(late.estimated, 1, TUESDAY)[-1] == Fraction("5.2")
    assert set(reasons_of(late.estimated, 1, TUESDAY)[276:]) == {Reason.RULE_B}


def test_a_next_day_not_collected_at_all_is_not_a_gap() -> None:
    past = history({day: "2" for day in TUESDAYS})
    result = run({TUESDAY: with_gap(276, 287), NEXT: [None] * SLOTS}, history=past)
    assert set(reasons_of(result.estimated, 1, TUESDAY)[276:]) == {Reason.RULE_A_AWAITING_NEIGHBOUR}


def test_neighbours_estimates_are_never_inputs() -> None:
    """Both days have a gap at midnight; each sees only what was collected of the other."""
    past = history({day: "2" for day in [*TUESDAYS, *(day - timedelta(days=1) for day in TUESDAYS)]})
    days = {BEFORE: with_gap(276, 287), TUESDAY: with_gap(0, 11)}
    validated = series({(1, day): values for day, values in days.items()})
    inputs = EstimationInput(validated, history=past)
    both = estimate(inputs, [BEFORE, TUESDAY], CALENDARS, AS_OF).estimated
    one = estimate(inputs, [TUESDAY], CALENDARS, AS_OF).estimated
    assert both.filter(pl.col("day") == TUESDAY).equals(one)


def test_without_history_nothing_is_made_up() -> None:
    result = run({TUESDAY: with_gap(120, 143)}, registry=registry([(1, TUESDAY)], musd_kw="150"))
    assert values_of(result.estimated, 1, TUESDAY)[120:144] == [None] * 24
    line = result.unresolved.row(0, named=True)
    assert (line["cause"], line["first_slot"], line["last_slot"]) == (
        Cause.NO_HISTORY_NEEDS_APPROVAL,
        120,
        143,
    )


def approval(method: str) -> pl.DataFrame:
    return pl.DataFrame({"uc_id": [1], "day": [TUESDAY], "method": [method], "approved_by": ["ana"]})


def test_no_history_with_approval_takes_a_share_of_the_musd() -> None:
    result = run(
        {TUESDAY: with_gap(120, 143)},
        registry=registry([(1, TUESDAY)], musd_kw="150"),
        approvals=approval("no_history_musd"),
    )
    assert values_of(result.estimated, 1, TUESDAY)[120:144] == [Fraction("8.75")] * 24
    assert result.estimates["approved_by"].to_list() == ["ana"]
    assert result.unresolved.is_empty()


def test_no_history_prefers_the_months_before_migration() -> None:
    prior = history({date(2025, 9, 2): "3", date(2025, 9, 9): "5", date(2025, 9, 10): "100"})
    approvals = pl.concat([approval("no_history_musd"), approval("no_history_prior_months")])
    result = run(
        {TUESDAY: with_gap(120, 143)}, registry=registry([(1, TUESDAY)]), approvals=approvals, prior=prior
    )
    assert values_of(result.estimated, 1, TUESDAY)[120] == 4
    assert set(result.estimates["method"]) == {"no_history_prior_months"}


def test_no_history_approved_but_no_musd_is_its_own_cause() -> None:
    result = run(
        {TUESDAY: with_gap(120, 143)},
        registry=registry([(1, TUESDAY)], musd_kw=None),
        approvals=approval("no_history_musd"),
    )
    assert result.unresolved["cause"].to_list() == [Cause.NO_MUSD_FOR_ESTIMATE]


def test_backup_fills_first_and_is_marked() -> None:
    result = run({TUESDAY: with_gap(120, 143)}, backup=backup_series({(1, TUESDAY): ["4.21"] * SLOTS}))
    assert values_of(result.estimated, 1, TUESDAY)[120:144] == [Fraction("4.21")] * 24
    assert set(result.estimated["origin"][0][120:144]) == {Origin.BACKUP}
    assert result.estimates["method"].to_list() == ["E2"]


def test_backup_beyond_one_percent_is_not_used() -> None:
    result = run({TUESDAY: with_gap(120, 131)}, backup=backup_series({(1, TUESDAY): ["5"] * SLOTS}))
    assert set(reasons_of(result.estimated, 1, TUESDAY)[120:132]) == {Reason.RULE_B}
    assert result.verdicts.select("rule", "first_slot", "last_slot").rows() == [("V12", 120, 131)]


def test_measured_only_history_leaves_estimates_out() -> None:
    estimated_past = series({(1, TUESDAYS[0]): ["9"] * SLOTS}, Origin.ESTIMATED, Reason.RULE_A)
    past = pl.concat([estimated_past, history({TUESDAYS[1]: "3"})])
    final = run({TUESDAY: with_gap(0, 287)}, history=past)
    assert values_of(final.estimated, 1, TUESDAY)[0] == 6
    only = run({TUESDAY: with_gap(0, 287)}, history=past, params=EstimationParams(history="measured_only"))
    assert values_of(only.estimated, 1, TUESDAY)[0] == 3


def test_a_register_difference_opens_a_case_and_the_value_stands() -> None:
    registers = pl.DataFrame(
        {
            "uc_id": [1], "first_day": [TUESDAY], "first_slot": [0],
            "last_day": [TUESDAY], "last_slot": [287], "energy_kwh": ["1300"], "step_kwh": ["0.1"],
        }
    )  # fmt: skip
    result = run({TUESDAY: with_gap(120, 131)}, registers=registers)
    assert values_of(result.estimated, 1, TUESDAY)[125] == Fraction("4.2")
    verdict = result.verdicts.row(0, named=True)
    assert (verdict["rule"], verdict["result"]) == ("V06", "suspect")
    near = registers.with_columns(energy_kwh=pl.lit("1209.7"))
    assert run({TUESDAY: with_gap(120, 131)}, registers=near).verdicts.is_empty()
    scaled = run(
        {TUESDAY: with_gap(120, 131)}, registers=registers, params=EstimationParams(register_bound="scale")
    )
    assert sum(value or 0 for value in values_of(scaled.estimated, 1, TUESDAY)) == 1300
    assert set(reasons_of(scaled.estimated, 1, TUESDAY)[120:132]) == {Reason.REGISTER_SCALED}


def test_history_needs_name_only_rows_that_miss_an_hour() -> None:
    validated = series(
        {(1, TUESDAY): with_gap(120, 131), (2, TUESDAY): with_gap(120, 121), (3, TUESDAY): FLAT}
    )
    needs = history_needs(validated, [TUESDAY], CALENDARS, AS_OF)
    assert set(needs["uc_id"]) == {1}
    assert sorted(needs["needed_day"]) == [day for day in TUESDAYS if day != date(2026, 4, 21)]


def test_strategies_have_names_and_dates() -> None:
    assert strategy_for("ccee-pdc-1.8-r1", date(2025, 7, 1)).name == "ccee-pdc-1.8-r1"
    with pytest.raises(OperatorFault, match="not in force on 2025-06-30"):
        strategy_for("ccee-pdc-1.8-r1", date(2025, 6, 30))
    with pytest.raises(OperatorFault, match="unknown"):
        strategy_for("guess", TUESDAY)


def test_a_strategy_that_is_not_in_force_leaves_the_gap_with_its_cause() -> None:
    old = date(2025, 6, 3)
    result = run({old: with_gap(120, 131)}, old)
    assert result.unresolved["cause"].to_list() == [Cause.NO_STRATEGY]
    assert values_of(result.estimated, 1, old)[120] is None


def test_what_validation_holds_is_not_filled() -> None:
    validated = series({(1, TUESDAY): with_gap(120, 131)})
    reason = bytearray(validated["reason"][0])
    reason[125] = Reason.HELD_CONFLICT
    validated = validated.with_columns(reason=pl.lit(bytes(reason)))
    result = estimate(EstimationInput(validated), [TUESDAY], CALENDARS, AS_OF)
    values = values_of(result.estimated, 1, TUESDAY)
    assert values[125] is None
    assert None not in values[120:125] + values[126:132]


def test_values_too_fine_for_64_bits_are_quarantined_and_left_as_they_were() -> None:
    validated = series({(1, TUESDAY): with_gap(120, 131)}).with_columns(denominator=pl.lit(2**61 - 1))
    past = history({day: Fraction(1, 2**40 + 15) for day in TUESDAYS[:3]})
    gap = validated.with_columns(
        numerators=pl.Series([[1] * 108 + [None] * 48 + [1] * 132], dtype=pl.List(pl.Int64)),
        origin=pl.lit(bytes([1] * 108 + [0] * 48 + [1] * 132)),
        reason=pl.lit(bytes([30] * 108 + [0] * 48 + [30] * 132)),
    )
    result = estimate(EstimationInput(gap, history=past), [TUESDAY], CALENDARS, AS_OF)
    assert result.quarantined["stage"].to_list() == ["arithmetic"]
    assert values_of(result.estimated, 1, TUESDAY)[120] is None
