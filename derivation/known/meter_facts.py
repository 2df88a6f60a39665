"""What main meters say of themselves, for rules: their phases, constants and reactive energy.

What belongs here: reading it for one chunk of UCs, in the frames that `vee` takes. What does not: judging
any of it. Each query starts from the UCs of the chunk and has bounds on the day.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl

from storage.bulk import read_frame
from vee.calendars import ONE_DAY, day_start
from vee.phase_losses import CHANNEL_SCHEMA, CURRENTS, SAMPLE_SCHEMA, VOLTAGES
from vee.rules.inputs import ENGINEERING_SCHEMA, REACTIVE_SCHEMA

# Pages of instantaneous values are read about once a day: those of the days around tell how long it lasted.
AROUND = timedelta(days=2)

# Volt-hours and ampere-hours of the phases, of UCs with one main meter on the day: phases of one of several
# points say nothing of the sum.
_CHANNELS = """
    SELECT m.uc_id, r.day, m.element_count, r.quantity_code, r.interval_s, r.version, r.pulses
    FROM (
        SELECT p.uc_id, i.meter_id, i.element_count, i.valid
        FROM unnest($3::text::bigint[]) AS k (uc_id)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = 'main'
            AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
    ) m
    CROSS JOIN LATERAL (
        SELECT day, quantity_code, interval_s, version, pulses FROM reading_day
        WHERE meter_id = m.meter_id AND day BETWEEN $1::date AND $2::date
          AND (quantity_code BETWEEN 17 AND 22 OR quantity_code BETWEEN 81 AND 86)
        OFFSET 0
    ) r
    WHERE m.valid && tstzrange(market_day_start(r.day), market_day_start(r.day + 1))
      AND NOT EXISTS (
          SELECT FROM point q JOIN installation j ON j.point_id = q.id
          WHERE q.uc_id = m.uc_id AND j.role = 'main' AND j.meter_id <> m.meter_id
            AND j.valid && tstzrange(market_day_start(r.day), market_day_start(r.day + 1)))
"""

# Voltages and currents of the phases whenever a main meter told them (14).
_SAMPLES = """
    SELECT m.uc_id, p.at, m.element_count,
           (p.values ->> 'voltage_a_v')::float8 AS voltage_1_v,
           (p.values ->> 'voltage_b_v')::float8 AS voltage_2_v,
           (p.values ->> 'voltage_c_v')::float8 AS voltage_3_v,
           (p.values ->> 'current_a_a')::float8 AS current_1_a,
           (p.values ->> 'current_b_a')::float8 AS current_2_a,
           (p.values ->> 'current_c_a')::float8 AS current_3_a
    FROM (
        SELECT q.uc_id, i.meter_id, i.element_count, i.valid
        FROM unnest($3::text::bigint[]) AS k (uc_id)
        JOIN point q ON q.uc_id = k.uc_id
        JOIN installation i ON i.point_id = q.id AND i.role = 'main'
            AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
    ) m
    JOIN meter_parameters p ON p.meter_id = m.meter_id AND p.command = 20 AND m.valid @> p.at
        AND p.at >= market_day_start($1::date) AND p.at < market_day_start($2::date + 1)
    ORDER BY 1, 2
"""

# Reactive energy of whole days (quantities 2, or 10 and 11), of UCs with one main meter on the day.
_REACTIVE = """
    SELECT m.uc_id, r.day, sum(r.pulses)::bigint AS pulses
    FROM (
        SELECT p.uc_id, i.meter_id, i.valid
        FROM unnest($3::text::bigint[]) AS k (uc_id)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = 'main'
            AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
    ) m
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (channel, day) day, (SELECT sum(v) FROM unnest(pulses) AS v) AS pulses,
               array_position(pulses, NULL) IS NULL AS is_whole
        FROM reading_day
        WHERE meter_id = m.meter_id AND day BETWEEN $1::date AND $2::date AND quantity_code IN (2, 10, 11)
        ORDER BY channel, day, version DESC
    ) r
    WHERE m.valid @> tstzrange(market_day_start(r.day), market_day_start(r.day + 1))
    GROUP BY m.uc_id, r.day
    HAVING count(DISTINCT m.meter_id) = 1 AND bool_and(r.is_whole)
"""


def read_reactive(connection: Any, first: date, last: date, ucs: str) -> pl.DataFrame:
    """Reactive energy of whole days: REACTIVE_SCHEMA."""
    found = read_frame(connection, _REACTIVE, [first, last, ucs])
    return found.select(pl.col(name).cast(kind) for name, kind in REACTIVE_SCHEMA.items())


def read_phase_channels(connection: Any, first: date, last: date, ucs: str) -> pl.DataFrame:
    """Days of phase channels, their latest version: `phase_losses.CHANNEL_SCHEMA`."""
    found = read_frame(connection, _CHANNELS, [first, last, ucs])
    key = ["uc_id", "day", "quantity_code"]
    return (
        found.sort("version")
        .unique(key, keep="last")
        .sort(key)
        .select(pl.col(name).cast(kind) for name, kind in CHANNEL_SCHEMA.items())
    )


def read_phase_samples(connection: Any, first: date, last: date, ucs: str) -> pl.DataFrame:
    """Instantaneous values of these days and of those around: `phase_losses.SAMPLE_SCHEMA`."""
    found = read_frame(connection, _SAMPLES, [first - AROUND, last + AROUND, ucs])
    return found.select(pl.col(name).cast(kind) for name, kind in SAMPLE_SCHEMA.items())


def engineering(samples: pl.DataFrame, days: list[date], zone: str, interval_s: int) -> pl.DataFrame:
    """Samples by the days that they are compared on, ENGINEERING_SCHEMA; of earlier days, slots below 0."""
    parts = [pl.DataFrame(schema=ENGINEERING_SCHEMA)]
    for day in days if samples.height else ():
        start, end = day_start(day, zone), day_start(day + ONE_DAY, zone)
        of_day = samples.filter((pl.col("at") >= start - AROUND) & (pl.col("at") < end))
        slot = (pl.col("at") - pl.lit(start)).dt.total_seconds().floordiv(interval_s)
        parts.append(
            of_day.select(
                "uc_id",
                pl.lit(day).alias("day"),
                slot.cast(pl.Int16).alias("slot"),
                *VOLTAGES,
                *CURRENTS,
            )
        )
    return pl.concat(parts).sort("day", "uc_id", "slot")
