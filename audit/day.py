"""A whole UC-day traced at once: every interval, what was delivered, and all of it computed anew.

What belongs here: gathering a day and comparing it slot by slot. What does not: one interval's way back to
its octets (`trace`), how it is shown (`day_document`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from fractions import Fraction
from typing import Any

import psycopg
from psycopg.rows import dict_row

from audit import scored
from audit.evidence import Evidence
from audit.parts import Check, Row, Trace
from audit.readings import told_at
from audit.trace import trace
from ccee.profile import Profile
from collector.decoded import MeterContext
from derivation.parameters import parameters_kept
from derivation.run import recompute
from storage.database import Database
from storage.sessions import session_row
from vee.quality import Origin, Reason


@dataclass(frozen=True)
class DaySlot:
    """One interval: exact kWh by layer, primary to CCEE; None where missing. `session`: that brought it."""

    slot: int
    end: datetime
    values: tuple[Fraction | None, ...]
    origin: Origin
    reason: Reason
    pulses: int | None
    session: int | None


@dataclass(frozen=True)
class DayTrace:
    """A UC-day of one version.

    Attributes:
        first: the trace of its first interval: delivery, registry, versions.
        estimates: rows of `estimate`, each with its `expected_error`.
        sessions: those whose octets gave its readings.
        checks: of whole vectors.
    """

    first: Trace
    slots: list[DaySlot]
    estimates: list[Row]
    verdicts: list[Row]
    sessions: list[Row]
    checks: list[Check]

    @property
    def is_identical(self) -> bool:
        return bool(self.checks) and all(check.is_identical for check in self.checks)


def trace_day(
    db: Database, profile: Profile, uc_code: str, day: date, zone: tzinfo, *, version: int | None = None
) -> DayTrace:
    """Explain all intervals of a UC-day, and compute them anew. Arguments and faults as of `trace`."""
    midnight = datetime.combine(day, time(), zone)
    first = _first_interval(db, profile, uc_code, midnight, version)
    with db.connect() as conn:
        conn.row_factory = dict_row
        uc_id = _rows(conn, "SELECT id FROM uc WHERE code = %s OR %s = ANY (aliases)", [uc_code, uc_code])[0][
            "id"
        ]
        key = [uc_id, day, first.version]
        layers = _rows(
            conn,
            "SELECT layer, interval_s, denominator, numerators, origin, reason FROM series_day "
            "WHERE uc_id = %s AND day = %s AND version = %s ORDER BY layer",
            key,
        )
        readings = _readings(conn, uc_id, first)
        numbers = sorted({number for one in readings for number in one.sessions} - {0})
        sessions = {number: row for number in numbers if (row := session_row(conn, number))}
        checks = [
            *_reading_checks(conn, first, readings, sessions),
            *_layer_checks(db, uc_id, first, layers),
        ]
        checks += [check for check in first.checks if check.what == "body"]
        return DayTrace(
            first=first,
            slots=_slots(layers, readings, midnight),
            estimates=scored.with_expected_errors(
                db,
                conn,
                uc_id,
                _rows(
                    conn,
                    "SELECT * FROM estimate WHERE uc_id = %s AND day = %s AND version = %s "
                    "ORDER BY first_slot",
                    key,
                ),
                layers[0]["interval_s"],
            ),
            verdicts=_rows(
                conn,
                "SELECT rule, first_slot, last_slot, result, detail FROM verdict "
                "WHERE uc_id = %s AND day = %s ORDER BY first_slot, rule",
                [uc_id, day],
            ),
            sessions=list(sessions.values()),
            checks=checks,
        )


def _first_interval(
    db: Database, profile: Profile, uc_code: str, midnight: datetime, version: int | None
) -> Trace:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT min(s.interval_s) FROM series_day s JOIN uc u ON u.id = s.uc_id "
            "WHERE (u.code = %s OR %s = ANY (u.aliases)) AND s.day = %s",
            [uc_code, uc_code, midnight.date()],
        ).fetchone()
    # Without a series the trace itself says what is wrong.
    interval_s = int(row[0]) if row and row[0] else 300
    return trace(db, profile, uc_code, midnight + timedelta(seconds=interval_s), version=version)


@dataclass(frozen=True)
class _Reading:
    """Stored pulses of one main meter's day, the session that brought each, and since when it is there."""

    meter: Row
    interval_s: int
    pulses: list[int | None]
    sessions: list[int]

    def index(self, slot: int, interval_s: int) -> int | None:
        """Of the stored interval that a slot of the series is made from, where this meter was there."""
        start = self.meter["midnight"] + timedelta(seconds=slot * interval_s)
        since, until = self.meter["since"], self.meter["until"]
        is_there = (since is None or since <= start) and (until is None or start < until)
        index = slot * interval_s // self.interval_s
        return index if is_there and index < len(self.pulses) else None


_METERS = """
    SELECT m.id AS meter_id, m.serial, i.active_channel, mm.profile, p.code AS point,
           lower(i.valid) AS since, upper(i.valid) AS until, market_day_start(%(day)s) AS midnight
    FROM installation i JOIN point p ON p.id = i.point_id JOIN meter m ON m.id = i.meter_id
    JOIN meter_model mm ON mm.id = m.model_id
    WHERE p.uc_id = %(uc)s AND i.role = 'main'
      AND i.valid && tstzrange(market_day_start(%(day)s), market_day_start(%(day)s + 1))
    ORDER BY p.id, lower(i.valid) NULLS FIRST
"""


def _readings(conn: psycopg.Connection[Any], uc_id: int, first: Trace) -> list[_Reading]:
    found = []
    for meter in conn.execute(_METERS, {"uc": uc_id, "day": first.day}).fetchall():
        stored = _rows(
            conn,
            "SELECT interval_s, pulses, source_starts, source_sessions FROM reading_day "
            "WHERE meter_id = %s AND channel = %s AND day = %s AND version <= %s ORDER BY version DESC "
            "LIMIT 1",
            [meter["meter_id"], meter["active_channel"], first.day, max(first.layers[0].input_version, 1)],
        )
        for row in stored:
            sessions: list[int] = []
            ends = [*row["source_starts"][1:], len(row["pulses"])]
            for begin, end, number in zip(row["source_starts"], ends, row["source_sessions"], strict=True):
                sessions += [number] * (end - begin)
            found.append(_Reading(meter, row["interval_s"], row["pulses"], sessions))
    return found


def _slots(layers: Sequence[Row], readings: Sequence[_Reading], midnight: datetime) -> list[DaySlot]:
    last = layers[-1]
    made = []
    for slot in range(len(last["numerators"])):
        # Of several points the first one's, as in the trace of one interval.
        there = (
            (one, index) for one in readings if (index := one.index(slot, last["interval_s"])) is not None
        )
        reading, index = next(there, (None, 0))
        made.append(
            DaySlot(
                slot=slot,
                end=midnight + timedelta(seconds=(slot + 1) * last["interval_s"]),
                values=tuple(_value(row, slot) for row in layers),
                origin=Origin(bytes(last["origin"])[slot]),
                reason=Reason(bytes(last["reason"])[slot]),
                pulses=reading.pulses[index] if reading else None,
                session=(reading.sessions[index] or None) if reading else None,
            )
        )
    return made


def _value(row: Row, slot: int) -> Fraction | None:
    numerator = row["numerators"][slot]
    return None if numerator is None else Fraction(numerator, row["denominator"])


def _reading_checks(
    conn: psycopg.Connection[Any],
    first: Trace,
    readings: Sequence[_Reading],
    sessions: Mapping[int, Row],
) -> list[Check]:
    """Each stored count beside the one decoded anew from its session's octets."""
    evidence, checks = Evidence(conn), []
    zone = timezone(first.interval_end.utcoffset() or timedelta())
    for reading in readings:
        meter = reading.meter
        context = MeterContext(meter["meter_id"], meter["serial"], meter["active_channel"], zone)
        differs, compared = [], 0
        for index, (pulses, number) in enumerate(zip(reading.pulses, reading.sessions, strict=True)):
            if pulses is None or number not in sessions:
                continue
            compared += 1
            day, told = told_at(conn, number, meter["active_channel"], first.day, index, reading.interval_s)
            if evidence.pulses(sessions[number], meter["profile"], context, day, told) != pulses:
                differs.append(index + 1)
        if compared:
            checks.append(
                _whole(f"counts of meter {meter['serial']} decoded from its octets", compared, differs)
            )
    return checks


def _layer_checks(db: Database, uc_id: int, first: Trace, layers: Sequence[Row]) -> list[Check]:
    kept = parameters_kept({layer.name: layer.parameters for layer in first.layers})
    made = recompute(db, uc_id, first.day, as_of=first.layers[-1].recorded_at, parameters=kept)
    checks = []
    for stored, layer, frame in zip(layers, first.layers, made.in_order, strict=True):
        row = frame.row(0, named=True)
        differs = [
            slot + 1
            for slot in range(len(stored["numerators"]))
            if _value(stored, slot) != _value(row, slot)
            or bytes(stored["origin"])[slot] != bytes(row["origin"])[slot]
            or bytes(stored["reason"])[slot] != bytes(row["reason"])[slot]
        ]
        checks.append(_whole(f"layer {layer.layer} {layer.name}", len(stored["numerators"]), differs))
    return checks


def _whole(what: str, compared: int, differs: Sequence[int]) -> Check:
    """A comparison of a vector: how many intervals are the same, and which are not."""
    named = ", ".join(map(str, differs[:10])) + (" ..." if len(differs) > 10 else "")
    same = f"{compared} intervals"
    return Check(what, same, f"differs in intervals {named}" if differs else same)


def _rows(conn: psycopg.Connection[Any], query: str, parameters: Sequence[Any]) -> list[Row]:
    return conn.execute(query, parameters).fetchall()
