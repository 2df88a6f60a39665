"""What the registry says of a UC at one interval: the facts that a trace shows beside the value."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import psycopg

from audit.parts import Row

_DATED = {
    "status": "SELECT status, note, valid::text FROM uc_status WHERE uc_id = %(uc)s AND valid @> %(day)s",
    "contract": "SELECT tariff_subgroup, tariff_modality, contracted_demand_kw, supply_voltage_kv,"
    " valid::text"
    " FROM uc_contract WHERE uc_id = %(uc)s AND valid @> %(day)s",
    "musd": "SELECT musd_kw, confirmed_on, valid::text FROM uc_musd"
    " WHERE uc_id = %(uc)s AND valid @> %(day)s",
    "strategy": "SELECT strategy, valid::text FROM uc_estimation WHERE uc_id = %(uc)s AND valid @> %(day)s",
}
_LOSSES = (
    "SELECT l.kind, l.percent, l.compensated_at, l.valid::text FROM point_loss l"
    " JOIN point p ON p.id = l.point_id WHERE p.uc_id = %(uc)s AND l.valid @> %(at)s::timestamptz"
    " ORDER BY p.id, l.kind"
)
_INSTALLATIONS = (
    "SELECT i.role, i.active_channel, i.pulse_energy_num, i.pulse_energy_den, i.tp_ratio, i.tc_ratio,"
    " i.constant_includes_ratios, i.interval_s, i.valid::text, m.id AS meter_id, m.serial,"
    " mm.code AS model, mm.profile, u.url, u.cell, p.code AS point, p.sign, p.share_num, p.share_den"
    " FROM installation i JOIN point p ON p.id = i.point_id JOIN meter m ON m.id = i.meter_id"
    " JOIN meter_model mm ON mm.id = m.model_id LEFT JOIN unit u ON u.id = i.unit_id"
    " WHERE p.uc_id = %(uc)s AND i.valid @> %(at)s::timestamptz ORDER BY i.role DESC, p.id"
)


def registry_facts(conn: psycopg.Connection[Any], uc_id: int, day: date, start: datetime) -> Row:
    """What the registry said on that day; the installation is the one of that very interval."""
    keys = {"uc": uc_id, "day": day, "at": start}
    facts: Row = {name: conn.execute(query, keys).fetchone() for name, query in _DATED.items()}
    facts["losses"] = conn.execute(_LOSSES, keys).fetchall()
    facts["installations"] = conn.execute(_INSTALLATIONS, keys).fetchall()
    return facts
