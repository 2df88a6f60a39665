"""Dead phases from what meters tell: intervals, instants at their end, and pages of one moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from vee.calendars import MARKET_ZONE
from vee.phase_losses import CHANNEL_SCHEMA, SAMPLE_SCHEMA, phase_losses

DAY = date(2026, 6, 3)
MIDNIGHT = datetime(2026, 6, 3, 3, tzinfo=UTC)
NO_SAMPLES = pl.DataFrame(schema=SAMPLE_SCHEMA)
NO_CHANNELS = pl.DataFrame(schema=CHANNEL_SCHEMA)
COLUMNS = ["first_slot", "last_slot", "phases_lost", "is_proven"]


def channels(elements: int, interval_s: int = 300, **pulses: list[int | None]) -> pl.DataFrame:
    """Channels by name: q17 and so on."""
    rows = [
        (1, DAY, elements, int(name.removeprefix("q")), interval_s, values) for name, values in pulses.items()
    ]
    return pl.DataFrame(rows, schema=CHANNEL_SCHEMA, orient="row")


def found(
    told: pl.DataFrame, samples: pl.DataFrame = NO_SAMPLES, **options: object
) -> list[tuple[object, ...]]:
    lost, _ = phase_losses(told, samples, [DAY], MARKET_ZONE, 300, **options)  # type: ignore[arg-type]
    return lost.select(COLUMNS).rows()


def day(value: int = 1270, **runs: tuple[int, int, int | None]) -> list[int | None]:
    pulses: list[int | None] = [value] * 288
    for first, last, other in runs.values():
        pulses[first : last + 1] = [other] * (last + 1 - first)
    return pulses


def test_voltages_alone_prove_and_a_null_is_no_zero() -> None:
    told = channels(3, q17=day(), q18=day(lost=(10, 20, 0), gap=(30, 40, None)), q19=day())
    assert found(told) == [(10, 20, 1, True)]
    assert found(channels(2, q17=day(lost=(5, 9, 0)), q19=day())) == [(5, 9, 1, True)]


def test_longer_intervals_of_the_meter_cover_the_markets() -> None:
    quarters: list[int | None] = [1270] * 96
    told = channels(3, 900, q17=[*quarters[:4], 0, *quarters[5:]], q18=quarters, q19=quarters)
    assert found(told) == [(12, 14, 1, True)]


def test_a_current_counts_where_the_others_carry_load() -> None:
    night = day(100, night=(0, 71, 5))
    told = channels(3, q20=night, q21=day(100, night=(0, 71, 0), lost=(120, 130, 0)), q22=night)
    assert found(told) == [(120, 130, 1, False)]
    assert found(told, zero_current_proves=True, loaded_share=0.0) == [(0, 71, 1, True), (120, 130, 1, True)]


def test_ends_of_intervals_count_where_there_is_no_average() -> None:
    ends = channels(3, q81=day(), q82=day(lost=(10, 20, 0)), q83=day())
    averages = channels(3, q17=day(), q18=day(), q19=day())
    assert found(ends) == [(10, 20, 1, False)]
    assert found(pl.concat([ends, averages])) == []


def samples(*pages: tuple[float, float, float, float]) -> pl.DataFrame:
    """Pages: hours after midnight, and voltages."""
    rows = [(1, MIDNIGHT + timedelta(hours=hours), 3, *volts, 5.0, 5.0, 5.0) for hours, *volts in pages]
    return pl.DataFrame(rows, schema=SAMPLE_SCHEMA, orient="row")


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (((6, 127, 127, 127), (30, 127, 127, 127)), []),
        (((6, 127, 0, 127),), [(72, 72, 1, False)]),
        (((-18, 127, 127, 127), (6, 127, 0, 127), (30, 127, 0, 127)), [(0, 287, 1, False)]),
        (((6, 127, 127, 127), (12, 0, 0, 127), (13, 127, 127, 127)), [(72, 156, 2, False)]),
        (((-40, 127, 127, 127), (6, 127, 0, 127)), [(72, 72, 1, False)]),  # too long before to say anything
        (((6, 0, 0, 0),), []),  # an outage is another matter
    ],
)
def test_a_page_accuses_the_time_to_its_neighbours(
    pages: tuple[tuple[float, float, float, float], ...], expected: list[tuple[object, ...]]
) -> None:
    assert found(NO_CHANNELS, samples(*pages)) == expected
    _, told = phase_losses(NO_CHANNELS, samples(*pages), [DAY], MARKET_ZONE, 300)
    assert told.rows() == [(1, DAY)]
    # A meter with channels is believed by them.
    quiet = channels(3, q17=day(), q18=day(), q19=day())
    assert found(quiet, samples(*pages)) == []
