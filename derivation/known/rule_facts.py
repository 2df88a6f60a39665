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
from derivation.known.register_periods import of_market_slots, read_register_periods
from storage.bulk import array_literal, read_frame
from storage.review import suspects
from vee.calendars import ONE_DAY
from vee.missing import KNOWN_SCHEMA
from vee.rules.inputs import (
    CONSTANT_SCHEMA,
    COUNT_SCHEMA,
    MONTH_SCHEMA,
    OVERRIDE_SCHEMA,
)
from vee.strategies.shapes import FEW_DAYS, LATEST_DAYS, SHAPE_SCHEMA

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
    readings: pl.DataFrame,
    with_gaps: Collection[int],
    shape_days: Collection[date],
    zone: str,
    interval_s: int,
) -> RuleFacts:
    """Facts of these UCs for the days of a window.

    Args:
        uc_days: `RegistrySnapshot.uc_days`. readings: vectors of these days.
        with_gaps: UCs of which something may be missing.
        shape_days: earlier days that these days are compared with.
    """
    ucs, first, last = array_literal(uc_ids), min(days), max(days)
    gapped, dates = array_literal(with_gaps), array_literal(days)
    periods = read_register_periods(connection, first, last, uc_ids, readings, zone)
    samples = read_phase_samples(connection, first, last, ucs)
    tables = {
        "constants": _constants(read_frame(connection, _CONSTANTS, [dates, ucs])),
        "engineering": engineering(samples, days, zone, interval_s),
        "reactive": read_reactive(connection, first, last, ucs),
        "registers": of_market_slots(periods, days, zone, interval_s),
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
