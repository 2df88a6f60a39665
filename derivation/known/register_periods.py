"""Periods between two readings of a meter's register, and what its intervals add up to in between.

What belongs here: reading registers and the vectors around them, and the sums, of a whole chunk at once. What
does not: what follows from a difference (rule V06, `derivation.checking`, `derivation.register_bounds`).

A reading within an interval cuts it: the register counted part of it before, and part after.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from storage.bulk import array_literal, read_frame
from vee.calendars import ONE_DAY, day_start, slots_per_day
from vee.rules.inputs import REGISTER_SCHEMA

I64 = npt.NDArray[np.int64]
_PERIOD = ["uc_id", "meter_id", "before_at", "at"]
_VECTOR_KEY = ["meter_id", "channel", "day"]
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US

# Of each meter: its register readings from the last one before the days to the first one after them.
# Each part is made before the next: the planner takes a chunk's list for few rows, and would join meters with
# meters.
# 0x23: registers now, 0x24: at the last reset of demand; both count on from the same total.
_TOTALS = """
    WITH meters AS MATERIALIZED (
        SELECT p.uc_id, i.meter_id, i.active_channel AS channel, i.valid, i.interval_s
        FROM unnest($3::text::bigint[]) AS k (uc_id)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = ANY($4::text::text[])
            AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
    )
    SELECT m.uc_id, m.meter_id, m.channel, m.interval_s, g.at, g.total
    FROM meters m
    CROSS JOIN LATERAL (
        (SELECT at, (values ->> 'total_pulses')::bigint AS total FROM register_reading
         WHERE meter_id = m.meter_id AND channel = m.channel AND m.valid @> at
           AND at >= market_day_start($1::date - 40) AND at <= market_day_start($1::date)
           AND values ->> 'total_pulses' IS NOT NULL
         ORDER BY at DESC LIMIT 1)
        UNION ALL
        (SELECT at, (values ->> 'total_pulses')::bigint FROM register_reading
         WHERE meter_id = m.meter_id AND channel = m.channel AND m.valid @> at
           AND at > market_day_start($1::date) AND at < market_day_start($2::date + 1)
           AND values ->> 'total_pulses' IS NOT NULL)
        UNION ALL
        (SELECT at, (values ->> 'total_pulses')::bigint FROM register_reading
         WHERE meter_id = m.meter_id AND channel = m.channel AND m.valid @> at
           AND at >= market_day_start($2::date + 1) AND at <= market_day_start($2::date + 40)
           AND values ->> 'total_pulses' IS NOT NULL
         ORDER BY at LIMIT 1)
    ) g
"""

_VECTORS = """
    SELECT k.meter_id, k.channel, k.day, r.interval_s, r.pulses
    FROM unnest($1::text::bigint[], $2::text::smallint[], $3::text::date[]) AS k (meter_id, channel, day)
    CROSS JOIN LATERAL (
        SELECT interval_s, pulses FROM reading_day
        WHERE meter_id = k.meter_id AND channel = k.channel AND day = k.day
          AND day BETWEEN $4::date AND $5::date
        ORDER BY version DESC LIMIT 1
    ) r
"""


def read_register_periods(
    connection: Any,
    first: date,
    last: date,
    uc_ids: Iterable[int],
    readings: pl.DataFrame | None,
    zone: str,
    roles: tuple[str, ...] = ("main",),
) -> pl.DataFrame:
    """Periods that touch these days, by the days that each lies in.

    Args:
        readings: vectors of these days that are known already: `meter_id, channel, day, interval_s, pulses`.

    Returns:
        `uc_id, meter_id, before_at, at, day, gained, inner, inner_missing, edge, edge_missing`: pulses that
        the register gained, what the intervals wholly inside add up to, and those that a reading cuts; of the
        whole period, in each of its rows.
    """
    found = read_frame(connection, _TOTALS, [first, last, array_literal(uc_ids), array_literal(roles)])
    pieces = _pieces(found, first, last, zone)
    known = pieces.select(pl.lit(0, pl.Int32).alias("interval_s"), *_VECTOR_KEY).clear()
    columns = [*_VECTOR_KEY, "interval_s", "pulses"]
    vectors = known.with_columns(pulses=pl.lit(None, pl.List(pl.Int32))).select(columns)
    if readings is not None:
        vectors = readings.select(pl.col(name).cast(vectors.schema[name]) for name in columns)
    lacking = pieces.select(_VECTOR_KEY).unique().join(vectors, on=_VECTOR_KEY, how="anti")
    if lacking.height:
        keys = [array_literal(lacking[name].to_list()) for name in _VECTOR_KEY]
        outside = read_frame(connection, _VECTORS, [*keys, lacking["day"].min(), lacking["day"].max()])
        vectors = pl.concat(
            [vectors, outside.select(pl.col(name).cast(vectors.schema[name]) for name in columns)]
        )
    return _sums(pieces, vectors)


def _pieces(totals: pl.DataFrame, first: date, last: date, zone: str) -> pl.DataFrame:
    """Pairs of readings by the days between them, with microseconds of the day from and to."""
    meter = ["uc_id", "meter_id"]
    start, end = day_start(first, zone), day_start(last + ONE_DAY, zone)
    # The market's day begins at the same time of UTC all the year.
    shift_us = int((day_start(date(2000, 1, 1), zone).timestamp() - 946_684_800) * _SECOND_US)
    pairs = (
        totals.with_columns(pl.col("at").dt.convert_time_zone("UTC").dt.cast_time_unit("us"))
        .sort(*meter, "at")
        .with_columns(
            before_at=pl.col("at").shift().over(meter),
            gained=pl.col("total") - pl.col("total").shift().over(meter),
        )
        .filter(
            pl.col("before_at").is_not_null() & (pl.col("at") > pl.col("before_at")),
            (pl.col("at") > start) & (pl.col("before_at") < end),
        )
        .with_columns(
            from_us=pl.col("before_at").to_physical() - shift_us, to_us=pl.col("at").to_physical() - shift_us
        )
    )
    days = pl.int_ranges(pl.col("from_us") // _DAY_US, (pl.col("to_us") - 1) // _DAY_US + 1)
    return (
        pairs.with_columns(day_number=days)
        .explode("day_number", empty_as_null=False)
        .with_columns(
            day=pl.col("day_number").cast(pl.Int32).cast(pl.Date),
            begin_us=(pl.col("from_us") - pl.col("day_number") * _DAY_US).clip(0),
            end_us=(pl.col("to_us") - pl.col("day_number") * _DAY_US).clip(None, _DAY_US),
        )
        .select(
            *_PERIOD, "gained", "day", "begin_us", "end_us",
            pl.col("channel").cast(pl.Int16), pl.col("interval_s").cast(pl.Int64).alias("usual_s"),
        )
    )  # fmt: skip


def _sums(pieces: pl.DataFrame, vectors: pl.DataFrame) -> pl.DataFrame:
    """The periods with their sums, by day."""
    placed = pieces.join(
        vectors.with_row_index("vector").select(*_VECTOR_KEY, "vector", "interval_s"),
        on=_VECTOR_KEY,
        how="left",
    )
    length = pl.coalesce("interval_s", "usual_s").cast(pl.Int64) * _SECOND_US
    begins, ends = (pl.col("begin_us") + length - 1) // length, pl.col("end_us") // length
    placed = placed.with_columns(
        first_whole=begins, last_whole=pl.max_horizontal(begins, ends), length=length
    ).with_columns(
        cuts_first=pl.col("first_whole") * pl.col("length") > pl.col("begin_us"),
        cuts_last=(ends * pl.col("length") < pl.col("end_us")) & (ends >= pl.col("first_whole")),
    )
    inner, inner_known, edge, edge_known = _of_vectors(placed, vectors)
    edges = pl.col("cuts_first").cast(pl.Int64) + pl.col("cuts_last").cast(pl.Int64)
    slots = pl.col("last_whole") - pl.col("first_whole")
    by_piece = placed.with_columns(
        pl.Series("inner", inner),
        pl.Series("edge", edge),
        inner_missing=slots - pl.Series("known", inner_known),
        edge_missing=edges - pl.Series("known", edge_known),
    )
    return by_piece.select(
        *_PERIOD,
        "day",
        "gained",
        *(pl.col(name).sum().over(_PERIOD) for name in ("inner", "inner_missing", "edge", "edge_missing")),
    )


def _of_vectors(placed: pl.DataFrame, vectors: pl.DataFrame) -> tuple[I64, I64, I64, I64]:
    """Of each piece: sum and number of known intervals wholly inside, and the same of those that are cut."""
    sums = tuple(np.zeros(placed.height, np.int64) for _ in range(4))
    inner, inner_known, edge, edge_known = sums
    at = placed["vector"].fill_null(-1).cast(pl.Int64).to_numpy()
    lengths = vectors["pulses"].list.len().to_numpy()
    first, last = placed["first_whole"].to_numpy(), placed["last_whole"].to_numpy()
    cuts = ((placed["cuts_first"].to_numpy(), first - 1), (placed["cuts_last"].to_numpy(), last))
    for slots in np.unique(lengths[at[at >= 0]]).tolist():
        rows = np.flatnonzero((at >= 0) & (lengths[at] == slots))
        wanted, place = np.unique(at[rows], return_inverse=True)
        flat = vectors["pulses"].gather(wanted).explode(empty_as_null=True)
        shape = (len(wanted), slots)
        known = flat.is_not_null().to_numpy().reshape(shape)
        values = flat.fill_null(0).to_numpy().astype(np.int64).reshape(shape)
        low, high = np.minimum(first[rows], slots), np.minimum(last[rows], slots)
        inner[rows] = _between(values, place, low, high)
        inner_known[rows] = _between(known.astype(np.int64), place, low, high)
        for is_cut, slot in cuts:
            inside = is_cut[rows] & (slot[rows] >= 0) & (slot[rows] < slots)
            where = rows[inside]
            edge[where] += values[place[inside], slot[where]]
            edge_known[where] += known[place[inside], slot[where]]
    return inner, inner_known, edge, edge_known


def _between(values: I64, place: npt.NDArray[np.intp], low: I64, high: I64) -> I64:
    """Sums from slot `low` to before `high` of rows `place`."""
    totals = np.zeros((len(values), values.shape[1] + 1), np.int64)
    np.cumsum(values, axis=1, out=totals[:, 1:])
    return np.asarray(totals[place, high] - totals[place, low])


def of_market_slots(periods: pl.DataFrame, days: list[date], zone: str, interval_s: int) -> pl.DataFrame:
    """Periods as they lie in the days of a window, in market slots: REGISTER_SCHEMA."""
    starts = pl.DataFrame(
        [(day, day_start(day, zone), slots_per_day(day, zone, interval_s)) for day in days],
        schema={"day": pl.Date, "start": pl.Datetime("us", "UTC"), "slots": pl.Int64},
        orient="row",
    )
    length_us = interval_s * _SECOND_US
    begin = (pl.col("before_at") - pl.col("start")).dt.total_microseconds().clip(0) // length_us
    # The last interval that the period touches.
    end = ((pl.col("at") - pl.col("start")).dt.total_microseconds() - 1) // length_us
    return (
        periods.join(starts, on="day")
        .with_columns(first_slot=begin, last_slot=pl.min_horizontal(end, pl.col("slots") - 1))
        .sort("uc_id", "day", "before_at")
        .select(pl.col(name).cast(kind) for name, kind in REGISTER_SCHEMA.items())
    )
