"""Each validation rule, and the order in which they run."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
import polars as pl
import pytest

from tests.vee.builders import LONG_AFTER, SLOTS, reasons_of, registry, series, values_of
from vee.layers.validation import (
    INCIDENT_SCHEMA,
    OUTAGE_SCHEMA,
    PHASE_LOSS_SCHEMA,
    RULES,
    ValidationInput,
    ValidationParams,
    ValidationResult,
    check_digits,
    has_valid_check_digits,
    rule_rows,
    validate,
)
from vee.phase_losses import detect_phase_loss
from vee.quality import Origin, Reason

DAY = date(2026, 6, 3)
MIDNIGHT = datetime(2026, 6, 3, 3, tzinfo=UTC)
FULL = ["1.5"] * SLOTS


def run(values: list[Any], as_of: datetime = LONG_AFTER, **inputs: Any) -> ValidationResult:
    params = inputs.pop("params", None)
    inputs.setdefault("registry", registry([(1, DAY)]))
    return validate(ValidationInput(series({(1, DAY): values}), **inputs), as_of, params)


def said(result: ValidationResult) -> list[tuple[str, int, int, str]]:
    return result.verdicts.select("rule", "first_slot", "last_slot", "result").rows()


def incidents(*rows: tuple[int, str]) -> pl.DataFrame:
    return pl.DataFrame([(1, DAY, slot, kind) for slot, kind in rows], schema=INCIDENT_SCHEMA, orient="row")


def outages(start: timedelta, end: timedelta) -> pl.DataFrame:
    return pl.DataFrame([(1, MIDNIGHT + start, MIDNIGHT + end)], schema=OUTAGE_SCHEMA, orient="row")


def test_a_good_day_passes_untouched_and_nothing_is_said() -> None:
    result = run(FULL)
    assert said(result) == []
    assert result.validated.equals(series({(1, DAY): FULL}))


def test_the_order_of_the_rules_is_explicit() -> None:
    assert [rule.id for rule in RULES] == [
        "V02",
        "V03",
        "V04",
        "V09",
        "V15",
        "V20",
        "V01",
        "V22",
        "V19",
        "V21",
    ]
    assert [row["id"] for row in rule_rows()] == [rule.id for rule in RULES]


def test_v01_lists_the_missing_runs() -> None:
    values: list[Any] = [*FULL]
    values[10] = values[11] = values[100] = None
    result = run(values)
    assert said(result) == [("V01", 10, 11, "missing"), ("V01", 100, 100, "missing")]
    assert orjson.loads(result.verdicts["detail"][0]) == {"expected": 288, "received": 285}


def test_v02_refuses_what_has_not_happened_yet() -> None:
    result = run(FULL, as_of=MIDNIGHT + timedelta(hours=10, minutes=7))
    assert said(result) == [("V01", 121, 287, "missing"), ("V02", 121, 287, "refused")]
    assert values_of(result.validated, 1, DAY)[120] is not None
    assert set(reasons_of(result.validated, 1, DAY)[121:]) == {Reason.FUTURE}


def test_v02_a_record_of_another_day_leaves_its_reason_only_in_a_gap() -> None:
    values: list[Any] = [*FULL]
    values[5] = None
    result = run(values, incidents=incidents((5, "out_of_day"), (6, "out_of_day")))
    assert reasons_of(result.validated, 1, DAY)[5:7] == [Reason.REFUSED_OUT_OF_DAY, Reason.MEASURED_OK]


def test_v03_same_value_drops_one_and_different_value_holds() -> None:
    result = run(FULL, incidents=incidents((3, "duplicate_same"), (8, "duplicate_conflict")))
    reasons, values = reasons_of(result.validated, 1, DAY), values_of(result.validated, 1, DAY)
    assert (reasons[3], values[3]) == (Reason.DUPLICATE_DROPPED, values[2])
    assert (reasons[8], values[8]) == (Reason.HELD_CONFLICT, None)
    assert ("V03", 8, 8, "held") in said(result)


def test_v09_a_moved_clock_is_told_and_the_value_stays() -> None:
    plain, result = run(FULL), run(FULL, incidents=incidents((8, "clock_touched"), (9, "clock_touched")))
    assert ("V09", 8, 9, "alert") in said(result)
    assert values_of(result.validated, 1, DAY) == values_of(plain.validated, 1, DAY)
    assert reasons_of(result.validated, 1, DAY) == reasons_of(plain.validated, 1, DAY)


def test_v04_a_negative_value_becomes_missing_not_zero() -> None:
    values: list[Any] = [*FULL]
    values[7] = "-0.1"
    result = run(values, incidents=incidents((7, "not_a_number")))
    assert values_of(result.validated, 1, DAY)[7] is None
    assert ("V04", 7, 7, "refused") in said(result)
    assert ("V01", 7, 7, "missing") in said(result)


@pytest.mark.parametrize("status", ["suspended", "inactive", "captive", None])
def test_v15_blocks_what_is_not_active_and_forbids_filling_it(status: str | None) -> None:
    values: list[Any] = [*FULL]
    values[0] = None
    result = run(values, registry=registry([(1, DAY)], status=status))
    assert ("V15", 0, 287, "blocked") in said(result)
    assert reasons_of(result.validated, 1, DAY)[:2] == [Reason.OUTSIDE_ACTIVE_PERIOD, Reason.MEASURED_OK]


def test_v20_zeros_in_a_recorded_outage_are_measured() -> None:
    values: list[Any] = [*FULL]
    values[120:126] = [0] * 6
    values[126] = None
    power_cut = outages(timedelta(hours=9, minutes=58), timedelta(hours=10, minutes=35))
    result = run(values, outages=power_cut)
    reasons = reasons_of(result.validated, 1, DAY)
    assert reasons[119] is Reason.PARTIAL_OUTAGE
    assert set(reasons[120:126]) == {Reason.ZERO_IN_OUTAGE}
    assert reasons[126] is Reason.ZERO_FROM_OUTAGE_LOG
    assert values_of(result.validated, 1, DAY)[126] == 0
    assert result.validated["origin"][0] == bytes([Origin.MEASURED]) * SLOTS
    assert said(result) == [("V20", 120, 126, "measured_zero")]


def test_v20_a_gap_only_partly_in_the_outage_stays_missing() -> None:
    values: list[Any] = [*FULL]
    values[120] = values[121] = None
    result = run(values, outages=outages(timedelta(hours=10), timedelta(hours=10, minutes=7)))
    assert values_of(result.validated, 1, DAY)[120:122] == [0, None]
    strict = run(
        values,
        outages=outages(timedelta(hours=10), timedelta(hours=10, minutes=7)),
        params=ValidationParams(outage_fills_gap=False),
    )
    assert values_of(strict.validated, 1, DAY)[120:122] == [None, None]


def test_v20_an_outage_crosses_midnight() -> None:
    next_day = DAY + timedelta(days=1)
    primary = series({(1, DAY): [*FULL[:276], *[None] * 12], (1, next_day): [*[None] * 12, *FULL[:276]]})
    cut = outages(timedelta(hours=23), timedelta(hours=25))
    both = registry([(1, DAY), (1, next_day)])
    result = validate(ValidationInput(primary, both, outages=cut), LONG_AFTER)
    assert values_of(result.validated, 1, DAY)[276:] == [0] * 12
    assert values_of(result.validated, 1, next_day)[:12] == [0] * 12


def test_v22_marks_suspect_and_offers_the_factor() -> None:
    loss = pl.DataFrame([(1, DAY, 12, 23, 3, 1, True, "OS 4711")], schema=PHASE_LOSS_SCHEMA, orient="row")
    result = run(FULL, phase_loss=loss)
    assert said(result) == [("V22", 12, 23, "suspect")]
    assert orjson.loads(result.verdicts["detail"][0])["factor"] == "3/2"
    assert values_of(result.validated, 1, DAY) == values_of(series({(1, DAY): FULL}), 1, DAY)


def test_v22_a_dead_phase_is_found_in_the_meters_own_data() -> None:
    def line(
        slot: int, voltages: tuple[int, int, int], currents: tuple[float, float, float]
    ) -> tuple[Any, ...]:
        return (1, DAY, slot, 3, *voltages, *currents)

    engineering = pl.DataFrame(
        [
            line(10, (220, 220, 220), (5.0, 5.0, 5.0)),
            line(11, (0, 220, 220), (5.0, 5.0, 5.0)),
            line(12, (220, 220, 220), (0.0, 5.0, 5.0)),
            line(13, (0, 0, 220), (5.0, 5.0, 5.0)),
            line(14, (150, 220, 220), (5.0, 5.0, 5.0)),
            line(15, (0, 0, 0), (0.0, 0.0, 0.0)),
        ],
        schema=[
            "uc_id",
            "day",
            "slot",
            "element_count",
            *[f"voltage_{k}_v" for k in (1, 2, 3)],
            *[f"current_{k}_a" for k in (1, 2, 3)],
        ],
        orient="row",
    )
    found = detect_phase_loss(engineering).sort("first_slot")
    assert found.select("first_slot", "last_slot", "phases_lost").rows() == [(11, 12, 1), (13, 13, 2)]


def test_v19_without_agent_is_blocked_and_bad_digits_only_warn() -> None:
    assert ("V19", 0, 287, "blocked") in said(run(FULL, registry=registry([(1, DAY)], agent_code=None)))
    assert ("V19", 0, 287, "blocked") in said(run(FULL, registry=registry([])))
    assert ("V19", 0, 287, "alert") in said(
        run(FULL, registry=registry([(1, DAY)], uc_code="001347925802811"))
    )


def test_check_digits_of_the_reference() -> None:
    assert check_digits("0013479258028") == "10"
    assert check_digits("0000010000004") == "71"
    assert has_valid_check_digits("1234567")
    assert not has_valid_check_digits("00000100000047X")


@pytest.mark.parametrize(
    ("musd", "confirmed", "expected"),
    [
        (None, None, "absent"),
        ("500", None, "default"),
        ("500.000", None, "default"),
        ("500", DAY, None),
        ("150", None, None),
    ],
)
def test_v21_musd_absent_or_default_is_on_the_work_list(
    musd: str | None, confirmed: date | None, expected: str | None
) -> None:
    result = run(FULL, registry=registry([(1, DAY)], musd_kw=musd, confirmed=confirmed))
    kinds = [orjson.loads(detail)["kind"] for detail in result.verdicts["detail"]]
    assert kinds == ([expected] if expected else [])


def test_a_refused_value_does_not_hide_an_outage_and_the_count_comes_last() -> None:
    """V04 before V20 before V01: a negative count in an outage is refused, not made a measured zero."""
    values: list[Any] = [*FULL]
    values[120] = "-1"
    result = run(values, outages=outages(timedelta(hours=10), timedelta(hours=10, minutes=5)))
    assert reasons_of(result.validated, 1, DAY)[120] is Reason.REFUSED_NEGATIVE
    assert [rule for rule, *_ in said(result)] == ["V01", "V04"]
