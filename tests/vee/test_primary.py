"""Pulses to primary kWh: exact, by installation, nothing made up."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.vee.builders import reasons_of, values_of
from vee.layers.primary import PrimaryParams, energy_factor, from_pulses
from vee.quality import Origin, Reason

DAY = date(2026, 11, 20)
MIDNIGHT = datetime(2026, 11, 20, 3, tzinfo=UTC)
READING = {
    "meter_id": pl.Int64,
    "channel": pl.Int16,
    "day": pl.Date,
    "version": pl.Int32,
    "quantity_code": pl.Int16,
    "interval_s": pl.Int32,
    "pulses": pl.List(pl.Int32),
    "source_starts": pl.List(pl.Int16),
    "source_sessions": pl.List(pl.Int64),
}
REAL_MONTH = Path(__file__).parents[2].parent / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"


def reading(meter_id: int, pulses: list[int | None], **changes: Any) -> dict[str, Any]:
    return {
        "meter_id": meter_id,
        "channel": 1,
        "day": DAY,
        "version": 1,
        "quantity_code": 1,
        "interval_s": 300,
        "pulses": pulses,
        "source_starts": [0],
        "source_sessions": [1],
        **changes,
    }


def installation(uc_id: int, meter_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "uc_id": uc_id,
        "meter_id": meter_id,
        "role": "main",
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "valid_to": None,
        "active_channel": 1,
        "pulse_energy_num": 72,
        "pulse_energy_den": 10000,
        "tp_ratio": 1,
        "tc_ratio": 1,
        "constant_includes_ratios": True,
        "interval_s": 300,
        **changes,
    }


def frames(readings: list[dict[str, Any]], installations: list[dict[str, Any]]) -> tuple[Any, Any]:
    schema = {"valid_from": pl.Datetime("us", "UTC"), "valid_to": pl.Datetime("us", "UTC")}
    return (
        pl.DataFrame(readings, schema=READING),
        pl.DataFrame(installations, schema_overrides=schema),
    )


def uc_days(*uc_ids: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"uc_id": list(uc_ids), "day": [DAY] * len(uc_ids)}, schema_overrides={"uc_id": pl.Int64}
    )


def test_pulses_times_constant_is_exact_and_missing_stays_missing() -> None:
    pulses: list[int | None] = [*range(287), None]
    result = from_pulses(*frames([reading(1, pulses)], [installation(7, 1)]), uc_days(7))
    assert values_of(result.main, 7, DAY) == [*(Fraction(72 * n, 10000) for n in range(287)), None]
    assert reasons_of(result.main, 7, DAY)[-2:] == [Reason.MEASURED_OK, Reason.NOT_RECEIVED]
    assert result.main["input_version"].to_list() == [1]


def test_ratios_multiply_where_the_constant_does_not_include_them() -> None:
    assert energy_factor(1, 1000, "120", "40", False) == Fraction(4800, 1000)
    assert energy_factor(1, 1000, "120", "40", True) == Fraction(1, 1000)
    changes = {"tp_ratio": 120, "tc_ratio": 40, "constant_includes_ratios": False}
    result = from_pulses(*frames([reading(1, [10] * 288)], [installation(7, 1, **changes)]), uc_days(7))
    assert values_of(result.main, 7, DAY)[0] == Fraction(72 * 10 * 4800, 10000)


def test_the_latest_version_of_a_reading_counts() -> None:
    readings = [reading(1, [1] * 288), reading(1, [2] * 288, version=2)]
    result = from_pulses(*frames(readings, [installation(7, 1)]), uc_days(7))
    assert values_of(result.main, 7, DAY)[0] == Fraction(144, 10000)
    assert result.main["input_version"].to_list() == [2]


def test_a_swap_in_mid_day_takes_each_meter_for_its_slots() -> None:
    swap = MIDNIGHT + timedelta(hours=10, minutes=2)
    installations = [
        installation(7, 1, valid_to=swap),
        installation(7, 2, valid_from=swap, pulse_energy_num=1, pulse_energy_den=7),
    ]
    result = from_pulses(*frames([reading(1, [100] * 288), reading(2, [3] * 288)], installations), uc_days(7))
    values, reasons = values_of(result.main, 7, DAY), reasons_of(result.main, 7, DAY)
    assert values[:120] == [Fraction(7200, 10000)] * 120
    assert values[120] is None
    assert reasons[120] is Reason.METER_SWAP
    assert values[121:] == [Fraction(3, 7)] * 167


def test_before_the_first_installation_there_is_nothing() -> None:
    start = MIDNIGHT + timedelta(hours=6)
    result = from_pulses(*frames([reading(1, [1] * 288)], [installation(7, 1, valid_from=start)]), uc_days(7))
    assert set(reasons_of(result.main, 7, DAY)[:72]) == {Reason.NO_INSTALLATION}
    assert None not in values_of(result.main, 7, DAY)[72:]


def test_a_uc_that_was_not_read_or_has_no_meter_still_has_its_row() -> None:
    result = from_pulses(*frames([], [installation(7, 1)]), uc_days(7, 8))
    assert set(reasons_of(result.main, 7, DAY)) == {Reason.NOT_RECEIVED}
    assert set(reasons_of(result.main, 8, DAY)) == {Reason.NO_INSTALLATION}
    assert set(values_of(result.main, 7, DAY)) == {None}


def test_main_and_backup_are_separate_series() -> None:
    installations = [installation(7, 1), installation(7, 2, role="backup")]
    result = from_pulses(
        *frames([reading(1, [1] * 288), reading(2, [2] * 288)], installations), uc_days(7, 8)
    )
    assert values_of(result.main, 7, DAY)[0] == Fraction(72, 10000)
    assert values_of(result.backup, 7, DAY)[0] == Fraction(144, 10000)
    assert result.backup["uc_id"].to_list() == [7]
    assert result.backup["origin"][0][0] == Origin.BACKUP


def test_a_quarter_hour_is_split_in_three_exact_thirds_and_marked() -> None:
    coarse = reading(1, [10, None, *[0] * 94], interval_s=900)
    result = from_pulses(*frames([coarse], [installation(7, 1)]), uc_days(7))
    values = values_of(result.main, 7, DAY)
    assert values[:6] == [Fraction(720, 30000)] * 3 + [None] * 3
    assert sum(value or 0 for value in values) == Fraction(720, 10000)
    assert reasons_of(result.main, 7, DAY)[0] is Reason.SPLIT_INTERVAL
    assert result.main["origin"][0][0] == Origin.ESTIMATED
    as_measured = from_pulses(
        *frames([coarse], [installation(7, 1)]), uc_days(7), PrimaryParams(split_origin=Origin.MEASURED)
    )
    assert as_measured.main["origin"][0][0] == Origin.MEASURED


def test_a_reading_of_the_wrong_length_is_set_aside_and_the_others_flow() -> None:
    readings = [reading(1, [1] * 287), reading(2, [1] * 288)]
    result = from_pulses(*frames(readings, [installation(7, 1), installation(8, 2)]), uc_days(7, 8))
    assert result.quarantined.select("uc_id", "stage").rows() == [(7, "decode")]
    assert set(values_of(result.main, 7, DAY)) == {None}
    assert None not in values_of(result.main, 8, DAY)


def test_what_does_not_fit_is_quarantined_and_missing_not_wrong() -> None:
    huge = installation(7, 1, pulse_energy_num=2**62, pulse_energy_den=1)
    result = from_pulses(*frames([reading(1, [1000] * 288)], [huge]), uc_days(7))
    assert result.quarantined["stage"].to_list() == ["arithmetic"]
    assert set(values_of(result.main, 7, DAY)) == {None}


def test_a_channel_that_is_not_active_energy_is_not_taken() -> None:
    result = from_pulses(*frames([reading(1, [1] * 288, quantity_code=2)], [installation(7, 1)]), uc_days(7))
    assert set(reasons_of(result.main, 7, DAY)) == {Reason.WRONG_CHANNEL}


def test_late_recovery_is_measured_and_says_so() -> None:
    late = reading(1, [1] * 288, source_starts=[0, 100, 112], source_sessions=[1, 9, 1])
    result = from_pulses(*frames([late], [installation(7, 1)]), uc_days(7), recovery_sessions={9})
    reasons = reasons_of(result.main, 7, DAY)
    assert {slot for slot, reason in enumerate(reasons) if reason is Reason.LATE_RECOVERED} == set(
        range(100, 112)
    )
    assert set(result.main["origin"][0]) == {Origin.MEASURED}


@pytest.mark.skipif(not REAL_MONTH.exists(), reason="real data absent (../shared/data)")
def test_the_real_month_comes_out_exactly() -> None:
    with REAL_MONTH.open() as file:
        counts = [int(row["pulses"]) for row in csv.DictReader(file)]
    assert len(counts) == 8641
    vectors = [counts[i : i + 288] for i in range(0, len(counts), 288)]
    days = [DAY + timedelta(days=i) for i in range(len(vectors))]
    readings = [
        reading(1, [*values, *[None] * (288 - len(values))], day=day)
        for day, values in zip(days, vectors, strict=True)
    ]
    wanted = pl.DataFrame({"uc_id": [7] * len(days), "day": days})
    main = from_pulses(*frames(readings, [installation(7, 1)]), wanted).main
    values = [value for day in days for value in values_of(main, 7, day) if value is not None]
    total = sum(values, Fraction(0))
    assert total == Fraction(2373475 * 72, 10000) == Fraction("17089.02")
