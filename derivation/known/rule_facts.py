"""What rules compare values with, as the database knows it: registers, shapes, counts, decisions, overrides.

What belongs here: reading it for one chunk of UCs, in the frames of `vee.rules.inputs`. What does not:
judging any of it. Each query starts from the UCs of the chunk and has bounds on the day.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from fractions import Fraction
from typing import Any

import polars as pl

from derivation.judging import RuleFacts
from derivation.known.meter_facts import (
    engineering,
    read_phase_channels,
    read_phase_samples,
    read_reactive,
)
from storage import suspects
from storage.bulk import array_literal, read_frame
from vee.calendars import ONE_DAY, day_start, slots_per_day
from vee.missing import KNOWN_SCHEMA
from vee.rules.inputs import (
    CONSTANT_SCHEMA,
    COUNT_SCHEMA,
    MONTH_SCHEMA,
    OVERRIDE_SCHEMA,
    REGISTER_SCHEMA,
)
from vee.shapes import FEW_DAYS, LATEST_DAYS, SHAPE_SCHEMA

_CONTRACT = (
    "uc_id",
    "day",
    "contracted_demand_kw",
    "supply_voltage_kv",
    "tariff_subgroup",
    "agent_code",
)

_SHAPES = """
    SELECT s.uc_id, s.day, s.hours_wh, s.peak_wh, s.longest_run, s.marks, s.reactive_ratio
    FROM unnest($2::text::bigint[]) AS k (uc_id)
    CROSS JOIN unnest($1::text::date[]) AS d (day)
    JOIN uc_day_shape s ON s.uc_id = k.uc_id AND s.day = d.day
"""

_OVERRIDES = """
    SELECT rule, parameter, value, uc_id, tariff_subgroup, agent_code::bigint AS agent_code,
           lower(valid) AS valid_from, upper(valid) AS valid_to
    FROM rule_override
    WHERE valid && daterange($1::date, $2::date, '[]')
      AND (uc_id IS NULL OR uc_id IN (SELECT unnest($3::text::bigint[])))
    ORDER BY id
"""

# Of each main meter: its register readings from the last one before the window to the first one after it, in
# pairs, and what the intervals between each pair add up to. A reading within an interval cuts it.
# Each part is made before the next: the planner takes a chunk's list for few rows, and would join meters with
# meters.
# 0x23: registers now, 0x24: at the last reset of demand; both count on from the same total.
_REGISTERS = """
    WITH mains AS MATERIALIZED (
        SELECT p.uc_id, i.meter_id, i.active_channel AS channel, i.valid, i.interval_s AS usual_s
        FROM unnest($3::text::bigint[]) AS k (uc_id)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = 'main'
            AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
    ), bounds AS MATERIALIZED (
        SELECT m.*,
            (SELECT g.at FROM register_reading g WHERE g.meter_id = m.meter_id AND g.channel = m.channel
                AND g.at BETWEEN market_day_start($1::date - 40) AND market_day_start($1::date)
                AND g.values ->> 'total_pulses' IS NOT NULL
             ORDER BY g.at DESC LIMIT 1) AS low,
            (SELECT g.at FROM register_reading g WHERE g.meter_id = m.meter_id AND g.channel = m.channel
                AND g.at BETWEEN market_day_start($2::date + 1) AND market_day_start($2::date + 40)
                AND g.values ->> 'total_pulses' IS NOT NULL
             ORDER BY g.at LIMIT 1) AS high
        FROM mains m
    ), readings AS MATERIALIZED (
        SELECT b.uc_id, b.meter_id, b.channel, b.usual_s, g.at, g.total
        FROM bounds b
        CROSS JOIN LATERAL (
            SELECT at, (values ->> 'total_pulses')::bigint AS total FROM register_reading
            WHERE meter_id = b.meter_id AND channel = b.channel AND b.valid @> at
              AND at >= coalesce(b.low, market_day_start($1::date))
              AND at <= coalesce(b.high, market_day_start($2::date + 1))
              AND values ->> 'total_pulses' IS NOT NULL
            OFFSET 0
        ) g
    ), pairs AS (
        SELECT uc_id, meter_id, channel, usual_s, at, total - lag(total) OVER meter AS gained,
               lag(at) OVER meter AS before_at
        FROM readings WINDOW meter AS (PARTITION BY uc_id, meter_id ORDER BY at)
    )
    SELECT p.uc_id, p.meter_id, p.before_at, p.at, p.gained, d.day::date AS day,
           x.last_whole - x.first_whole AS inner_slots, w.pulses AS inner_pulses, w.known AS inner_known,
           (x.cuts_first::int + x.cuts_last::int) AS edge_slots,
           coalesce(CASE WHEN x.cuts_first THEN r.pulses[x.first_whole] END, 0)::bigint
               + coalesce(CASE WHEN x.cuts_last THEN r.pulses[x.last_whole + 1] END, 0)::bigint
               AS edge_pulses,
           (x.cuts_first AND r.pulses[x.first_whole] IS NOT NULL)::int
               + (x.cuts_last AND r.pulses[x.last_whole + 1] IS NOT NULL)::int AS edge_known
    FROM (
        SELECT *, ((before_at AT TIME ZONE 'UTC') - shift)::date AS from_day,
               ((at AT TIME ZONE 'UTC') - INTERVAL '1 microsecond' - shift)::date AS to_day
        FROM pairs, (SELECT (market_day_start(DATE '2000-01-01') AT TIME ZONE 'UTC') - TIMESTAMP '2000-01-01')
            AS z (shift)
        WHERE before_at IS NOT NULL AND at > before_at
          AND at > market_day_start($1::date) AND before_at < market_day_start($2::date + 1)
    ) p
    CROSS JOIN LATERAL generate_series(p.from_day, p.to_day, INTERVAL '1 day') AS d (day)
    LEFT JOIN LATERAL (
        SELECT pulses, interval_s FROM reading_day
        WHERE meter_id = p.meter_id AND channel = p.channel AND day = d.day::date
          AND day BETWEEN $1::date - 42 AND $2::date + 42
        ORDER BY version DESC LIMIT 1
    ) r ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(r.interval_s, p.usual_s) AS length_s,
               greatest(extract(epoch FROM p.before_at - market_day_start(d.day::date)), 0)::float8 AS from_s,
               extract(epoch FROM least(p.at, market_day_start(d.day::date + 1))
                   - market_day_start(d.day::date))::float8 AS to_s
    ) s
    CROSS JOIN LATERAL (
        SELECT ceil(s.from_s / s.length_s)::int AS first_whole,
               greatest(floor(s.to_s / s.length_s), ceil(s.from_s / s.length_s))::int AS last_whole,
               ceil(s.from_s / s.length_s) * s.length_s > s.from_s AS cuts_first,
               floor(s.to_s / s.length_s) * s.length_s < s.to_s
                   AND floor(s.to_s / s.length_s) >= ceil(s.from_s / s.length_s) AS cuts_last
    ) x
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(v), 0)::bigint AS pulses, count(v) AS known
        FROM unnest(r.pulses[x.first_whole + 1:x.last_whole]) AS v
    ) w
"""

# How much of the month before each day was measured, for UCs with gaps.
_COUNTS = """
    SELECT o.uc_id, d.day, sum(o.backup + o.estimated + o.edited)::bigint AS adjusted,
           sum(o.measured + o.backup + o.estimated + o.edited + o.missing)::bigint AS slots
    FROM unnest($2::text::bigint[]) AS k (uc_id)
    CROSS JOIN unnest($1::text::date[]) AS d (day)
    JOIN uc_day_outcome o ON o.uc_id = k.uc_id AND o.day >= date_trunc('month', d.day)::date AND o.day < d.day
    GROUP BY 1, 2
"""

# On the last day of a month: its other days, and the mean power of up to twelve months before it.
_MONTHS = """
    SELECT k.uc_id, d.day, m.kwh AS other_kwh, m.slots AS other_slots,
           CASE WHEN h.slots > 0 THEN h.kwh * 3600 / ($3::int * h.slots) END AS history_kw, h.months
    FROM unnest($2::text::bigint[]) AS k (uc_id)
    CROSS JOIN unnest($1::text::date[]) AS d (day)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(energy_kwh), 0)::float8 AS kwh,
               coalesce(sum(measured + backup + estimated + edited), 0)::bigint AS slots
        FROM uc_day_outcome
        WHERE uc_id = k.uc_id AND day >= date_trunc('month', d.day)::date AND day < d.day
    ) m
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(energy_kwh), 0)::float8 AS kwh,
               coalesce(sum(measured + backup + estimated + edited), 0)::bigint AS slots,
               count(DISTINCT date_trunc('month', day))::bigint AS months
        FROM uc_day_outcome
        WHERE uc_id = k.uc_id AND day < date_trunc('month', d.day)::date
          AND day >= (date_trunc('month', d.day) - INTERVAL '12 months')::date
    ) h
"""


# What each main meter said last of the energy of a pulse on its channel (51, or 21 where it has no 51). The
# gates of collection compare it, too, when a session comes; here it is compared with the registry as it is
# now, so that a constant that is changed later changes nothing unseen. What a person released stays released.
_CONSTANTS = """
    SELECT m.uc_id, d.day, m.pulse_energy_num, m.pulse_energy_den, m.ratio, m.constant_includes_ratios,
           (c.told ->> 'numerator')::bigint AS told_num, (c.told ->> 'denominator')::bigint AS told_den
    FROM (
        SELECT p.uc_id, i.meter_id, i.active_channel, i.valid, i.pulse_energy_num, i.pulse_energy_den,
               (i.tp_ratio * i.tc_ratio)::text AS ratio, i.constant_includes_ratios
        FROM unnest($2::text::bigint[]) AS k (uc_id)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = 'main'
    ) m
    CROSS JOIN LATERAL (
        SELECT values -> 'constants' -> (m.active_channel - 1) AS told
        FROM meter_parameters
        WHERE meter_id = m.meter_id AND command IN (81, 33) AND m.valid @> at
        ORDER BY at DESC LIMIT 1
    ) c
    JOIN unnest($1::text::date[]) AS d (day)
        ON m.valid && tstzrange(market_day_start(d.day), market_day_start(d.day + 1))
    WHERE (c.told ->> 'numerator')::bigint > 0 AND (c.told ->> 'denominator')::bigint > 0
      AND NOT EXISTS (
          SELECT FROM reading_hold h
          WHERE h.meter_id = m.meter_id AND h.channel = m.active_channel AND h.day = d.day
            AND h.rule = 'V11' AND h.state = 'released')
    ORDER BY 1, 2
"""

# Why slots may be missing, the weightiest last: what became of the last session with the main meter since the
# day began, days that the meter no longer holds, and readings that the gates of collection hold.
_MISSING = """
    WITH mains AS (
        SELECT k.uc_id, d.day, i.meter_id, i.active_channel
        FROM unnest($2::text::bigint[]) AS k (uc_id)
        CROSS JOIN unnest($1::text::date[]) AS d (day)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = 'main'
            AND i.valid && tstzrange(market_day_start(d.day), market_day_start(d.day + 1))
    )
    SELECT m.uc_id, m.day, 0 AS first_slot, 32767 AS last_slot, 1 AS weight,
           CASE WHEN s.outcome IS NULL THEN 'not_due'
                WHEN s.outcome NOT IN ('failed', 'aborted') THEN 'gap'
                WHEN coalesce(s.error ->> 'actor', 'retry') = 'retry' THEN 'no_link'
                ELSE 'refused' END AS cause
    FROM mains m
    LEFT JOIN LATERAL (
        SELECT outcome, error FROM session
        WHERE meter_id = m.meter_id AND outcome IS NOT NULL
          AND started_at >= market_day_start(m.day + 1)
        ORDER BY started_at DESC LIMIT 1
    ) s ON true
    UNION ALL
    SELECT DISTINCT m.uc_id, m.day, 0, 32767, 2, 'overwritten'
    FROM mains m
    JOIN job_request j ON j.meter_id = m.meter_id AND j.result ? 'exhausted_days'
        AND j.result -> 'exhausted_days' ? m.day::text
    UNION ALL
    SELECT m.uc_id, m.day, (x.slot - 1) * h.interval_s / $3::int, (x.slot * h.interval_s - 1) / $3::int, 3,
           CASE WHEN h.reason IN ('clock', 'future') THEN 'clock' ELSE 'rule' END
    FROM mains m
    JOIN reading_hold h ON h.meter_id = m.meter_id AND h.channel = m.active_channel AND h.day = m.day
        AND h.state = 'held'
    CROSS JOIN LATERAL unnest(h.pulses) WITH ORDINALITY AS x (pulse, slot)
    WHERE x.pulse IS NOT NULL
    ORDER BY 1, 2, 5, 3
"""


def read_rule_facts(
    connection: Any,
    uc_ids: Collection[int],
    days: list[date],
    uc_days: pl.DataFrame,
    with_gaps: Collection[int],
    shape_days: Collection[date],
    zone: str,
    interval_s: int,
) -> RuleFacts:
    """Facts of these UCs for the days of a window.

    Args:
        uc_days: `RegistrySnapshot.uc_days`. with_gaps: UCs of which something may be missing.
        shape_days: earlier days that these days are compared with.
    """
    ucs, first, last = array_literal(uc_ids), min(days), max(days)
    gapped, dates = array_literal(with_gaps), array_literal(days)
    samples = read_phase_samples(connection, first, last, ucs)
    tables = {
        "constants": _constants(read_frame(connection, _CONSTANTS, [dates, ucs])),
        "engineering": engineering(samples, days, zone, interval_s),
        "reactive": read_reactive(connection, first, last, ucs),
        "registers": _registers(
            read_frame(connection, _REGISTERS, [first, last, ucs]), days, zone, interval_s
        ),
        "month_counts": _typed(read_frame(connection, _COUNTS, [dates, gapped]), COUNT_SCHEMA),
    }
    if ends := [day for day in days if (day + ONE_DAY).month != day.month]:
        found = read_frame(connection, _MONTHS, [array_literal(ends), ucs, interval_s])
        tables["months"] = _typed(found, MONTH_SCHEMA)
    shapes = pl.DataFrame(schema=SHAPE_SCHEMA)
    if shape_days:
        shapes = _typed(read_frame(connection, _SHAPES, [array_literal(shape_days), ucs]), SHAPE_SCHEMA)
        shapes = pl.concat([shapes, _latest_shapes(connection, uc_ids, shapes, days, shape_days)])
    return RuleFacts(
        contracts=uc_days.select(_CONTRACT),
        shapes=shapes,
        missing=_typed(read_frame(connection, _MISSING, [dates, gapped, interval_s]), KNOWN_SCHEMA),
        tables=tables,
        phase_channels=read_phase_channels(connection, first, last, ucs),
        phase_samples=samples,
        decided=suspects.decided(connection, uc_ids, days),
        overrides=_typed(read_frame(connection, _OVERRIDES, [first, last, ucs]), OVERRIDE_SCHEMA),
    )


def _latest_shapes(
    connection: Any,
    uc_ids: Collection[int],
    known: pl.DataFrame,
    days: list[date],
    shape_days: Collection[date],
) -> pl.DataFrame:
    """Shapes of the last days of any kind, of UCs of which few similar ones are known: new ones."""
    counts = known.group_by("uc_id").len().filter(pl.col("len") > FEW_DAYS)
    few = set(uc_ids) - set(counts["uc_id"].to_list())
    wanted = {day - ONE_DAY * n for day in days for n in range(1, LATEST_DAYS + 1)}
    wanted -= {*shape_days, *days}
    if not few or not wanted:
        return known.clear()
    return _typed(
        read_frame(connection, _SHAPES, [array_literal(sorted(wanted)), array_literal(sorted(few))]),
        SHAPE_SCHEMA,
    )


def _typed(found: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return found.select(pl.col(name).cast(kind) for name, kind in schema.items())


def _registers(found: pl.DataFrame, days: list[date], zone: str, interval_s: int) -> pl.DataFrame:
    """Periods by the days of the window that they touch, in market slots: REGISTER_SCHEMA."""
    if found.is_empty():
        return pl.DataFrame(schema=REGISTER_SCHEMA)
    period = ["uc_id", "meter_id", "before_at", "at"]
    whole = found.group_by(*period, maintain_order=True).agg(
        pl.col("gained").first(),
        pl.col("inner_pulses").sum().alias("inner"),
        (pl.col("inner_slots") - pl.col("inner_known")).sum().alias("inner_missing"),
        pl.col("edge_pulses").sum().alias("edge"),
        (pl.col("edge_slots") - pl.col("edge_known")).sum().alias("edge_missing"),
    )
    starts = pl.DataFrame(
        [(day, day_start(day, zone), slots_per_day(day, zone, interval_s)) for day in days],
        schema={"day": pl.Date, "start": pl.Datetime("us", "UTC"), "slots": pl.Int64},
        orient="row",
    )
    length_us = interval_s * 1_000_000
    begin = (pl.col("before_at") - pl.col("start")).dt.total_microseconds().clip(0) // length_us
    # The last interval that the period touches.
    end = ((pl.col("at") - pl.col("start")).dt.total_microseconds() - 1) // length_us
    rows = found.select(*period, "day").join(starts, on="day").join(whole, on=period)
    return _typed(
        rows.with_columns(first_slot=begin, last_slot=pl.min_horizontal(end, pl.col("slots") - 1)).sort(
            "uc_id", "day", "before_at"
        ),
        REGISTER_SCHEMA,
    )


def _constants(found: pl.DataFrame) -> pl.DataFrame:
    """Energy of a pulse as registered and as told, kWh: CONSTANT_SCHEMA.

    A meter may tell the energy at the point or behind its transformers (nbr14522.md, 8.5): told that way, it
    says what the registry says.
    """
    rows = []
    for uc_id, day, num, den, ratio, includes, told_num, told_den in found.iter_rows():
        own, told = Fraction(num, den), Fraction(told_num, told_den)
        behind = own / Fraction(ratio) if includes else own * Fraction(ratio)
        rows.append((uc_id, day, "pulse_energy", str(own), str(own if told == behind else told)))
    return pl.DataFrame(rows, schema=CONSTANT_SCHEMA, orient="row")
