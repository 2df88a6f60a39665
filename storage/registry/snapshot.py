"""The registry as the derivation sees it on given days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from storage.bulk import array_literal, one_of, read_frame
from storage.database import Database


@dataclass(frozen=True)
class RegistrySnapshot:
    """The registry as the derivation needs it, for a shard and a span of days.

    Attributes:
        uc_days: uc_id, day, uc_code, agent_id, agent_code (Int64), status, musd_kw (Decimal),
        musd_confirmed_on,
            strategy, tariff_subgroup, contracted_demand_kw, supply_voltage_kv (Decimal); one row per UC and
            day, null where the registry
            is silent.
        installations: uc_id, meter_id, meter_serial, profile, role, valid_from, valid_to (UTC, null = open),
            active_channel, pulse_energy_num, pulse_energy_den, tp_ratio, tc_ratio (exact, as text),
            constant_includes_ratios, element_count, interval_s; of the point: point_id, sign, share_num,
            share_den, is_reference; gap_until (UTC): when the next meter at its place comes, after a gap.
        losses: uc_id, point_id, is_reference, kind, valid_from, valid_to (UTC, null = open), percent (exact,
            as text), compensated_at.
    """

    uc_days: pl.DataFrame
    installations: pl.DataFrame
    losses: pl.DataFrame


def snapshot(
    source: Database | Any,
    first_day: dt.date,
    last_day: dt.date,
    shard: int = 0,
    shards: int = 1,
    *,
    uc_ids: Sequence[int] | None = None,
) -> RegistrySnapshot:
    """What the registry says about the UCs with `uc_id % shards == shard` from `first_day` to `last_day`.

    Args:
        source: as `storage.bulk.read_frame` takes it.
        uc_ids: only these, whatever their shard.
    """
    parameters: list[Any] = [first_day, last_day]
    if uc_ids is not None:
        wanted = one_of("{}", "$3")
        parameters.append(array_literal(uc_ids))
    else:
        wanted = "{} % $3 = $4"
        parameters += [shards, shard]
    uc_days = read_frame(source, _UC_DAYS.format(wanted=wanted.format("u.id")), parameters)
    by_point = wanted.format("p.uc_id")
    return RegistrySnapshot(
        uc_days=uc_days.with_columns(
            pl.col("agent_code").cast(pl.Int64),
            pl.col("musd_kw", "contracted_demand_kw", "supply_voltage_kv").cast(pl.Decimal(38, 9)),
        ),
        installations=read_frame(source, _INSTALLATIONS.format(wanted=by_point), parameters),
        losses=read_frame(source, _LOSSES.format(wanted=by_point), parameters),
    )


_UC_DAYS = """
SELECT u.id AS uc_id, d.day, u.code AS uc_code, c.agent_id, a.code AS agent_code, s.status,
    m.musd_kw::text AS musd_kw, m.confirmed_on AS musd_confirmed_on, e.strategy, t.tariff_subgroup,
    t.contracted_demand_kw::text AS contracted_demand_kw, t.supply_voltage_kv::text AS supply_voltage_kv
FROM (SELECT * FROM uc u WHERE {wanted} OFFSET 0) u
CROSS JOIN (SELECT $1::date + n AS day FROM generate_series(0, $2::date - $1::date) AS n) d
LEFT JOIN uc_agent c ON c.uc_id = u.id AND c.valid @> d.day
LEFT JOIN agent a ON a.id = c.agent_id
LEFT JOIN uc_status s ON s.uc_id = u.id AND s.valid @> d.day
LEFT JOIN uc_musd m ON m.uc_id = u.id AND m.valid @> d.day
LEFT JOIN uc_estimation e ON e.uc_id = u.id AND e.valid @> d.day
LEFT JOIN uc_contract t ON t.uc_id = u.id AND t.valid @> d.day
ORDER BY u.id, d.day
"""
# The point at whose level a UC's own layers are: its first one that adds.
_IS_REFERENCE = """p.id = (
        SELECT q.id FROM point q WHERE q.uc_id = p.uc_id ORDER BY q.sign DESC, q.id LIMIT 1
    ) AS is_reference"""
# Those of the days, and the last one before days on which no meter was there until the next one came.
_INSTALLATIONS = f"""
SELECT p.uc_id, p.id AS point_id, p.sign, p.share_num, p.share_den, {_IS_REFERENCE},
    CASE WHEN i.next_from > upper(i.valid) THEN i.next_from END AS gap_until,
    i.meter_id, m.serial AS meter_serial, k.profile, i.role,
    lower(i.valid) AS valid_from, upper(i.valid) AS valid_to, i.active_channel, i.pulse_energy_num,
    i.pulse_energy_den, i.tp_ratio::text AS tp_ratio, i.tc_ratio::text AS tc_ratio,
    i.constant_includes_ratios, i.element_count, i.interval_s
FROM point p
CROSS JOIN LATERAL (
    SELECT *, lead(lower(valid)) OVER (PARTITION BY role ORDER BY lower(valid) NULLS FIRST) AS next_from
    FROM installation WHERE point_id = p.id
) i
JOIN meter m ON m.id = i.meter_id
JOIN meter_model k ON k.id = m.model_id
WHERE {{wanted}}
    AND tstzrange(
            lower(i.valid),
            CASE WHEN NOT upper_inf(i.valid) THEN greatest(upper(i.valid), i.next_from) END)
        && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
ORDER BY p.uc_id, i.role DESC, lower(i.valid) NULLS FIRST
"""
_LOSSES = f"""
SELECT p.uc_id, p.id AS point_id, {_IS_REFERENCE}, l.kind,
    lower(l.valid) AS valid_from, upper(l.valid) AS valid_to, l.percent::text AS percent, l.compensated_at
FROM point_loss l
JOIN point p ON p.id = l.point_id
WHERE {{wanted}}
    AND l.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
ORDER BY p.uc_id, p.id, l.kind, lower(l.valid) NULLS FIRST
"""
