"""From a delivered interval back to the octets, and forward again.

What belongs here: gathering what the database holds about one interval of one UC, and computing it anew from
the frames to compare. What does not: how a value is decoded or derived (the same functions as the daily run
are called), and how the result is shown (`pipelines.cli.trace`).

"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from fractions import Fraction
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row

from audit import scored
from audit.evidence import Evidence, locator_of
from audit.parts import LAYERS, Check, Delivery, LayerValue, PointReading, Reading, Released, Row, Trace
from audit.registered import registry_facts
from ccee.body import day_stamps, render
from ccee.ledger import NAME_THE_CONTRACT, not_in_force
from ccee.profile import Profile
from collector.decoded import MeterContext
from derivation.parameters import parameters_kept
from derivation.run import recompute
from faults import OperatorFault
from storage.database import Database
from storage.review.holds import Hold, hold_of
from storage.sessions import session_row
from vee.missing import WORDS, MissingCause
from vee.quality import Origin, Reason, describe_cause, describe_reason


def trace(db: Database, profile: Profile, uc_code: str, at: datetime, *, version: int | None = None) -> Trace:
    """Explain the interval of `uc_code` that ends at `at`, and compute it anew.

    Args:
        at: aware, the END of the interval.
        version: of the UC-day; without it the last one delivered, or the newest where none was.
    Raises: OperatorFault for an unknown UC, a time that is no interval end, a day without series.
    """
    with db.connect() as conn:
        conn.row_factory = dict_row
        evidence = Evidence(conn)
        found = _trace(conn, db, evidence, profile, uc_code, at, version)
        inputs = [_trace(conn, db, evidence, profile, uc_code, end, None) for end in _input_ends(found)]
    return replace(found, inputs=inputs)


def _input_ends(found: Trace) -> list[datetime]:
    """The intervals that went into an estimate, as far as its detail names intervals."""
    if found.estimate is None:
        return []
    detail, zone = found.estimate["detail"], found.interval_end.tzinfo
    interval = found.interval_end - found.interval_start

    def end(day: date, slot: int) -> datetime:
        return datetime.combine(day, time(), zone) + (slot + 1) * interval

    per_hour = timedelta(hours=1) // interval
    ends = [end(date.fromisoformat(text), found.slot) for text in detail.get("dates", ())]
    ends += [end(found.day, slot) for slot in detail.get("collected_slots", ())]
    for side in (detail.get("before"), detail.get("after")):
        if isinstance(side, dict) and "hour" in side:
            slot = (side["hour"] - 1) * per_hour + found.slot % per_hour
            ends.append(end(date.fromisoformat(side["day"]), slot))
    return ends


# What people decided about the slot, and about the held readings that filled it.
_DECISIONS = """
    SELECT d.id, d.kind, d.state, d.first_slot, d.last_slot, d.reason, d.asked_by, d.asked_at, d.answered_by,
           d.answered_at, d.undone_by, d.undone_at, d.energy_before_kwh::text AS energy_before_kwh,
           d.energy_after_kwh::text AS energy_after_kwh, d.payload - 'kwh' AS payload
    FROM decision d
    WHERE d.uc_id = %(uc)s AND d.day = %(day)s
      AND (d.first_slot IS NULL OR %(slot)s BETWEEN d.first_slot AND d.last_slot)
       OR EXISTS (
        SELECT FROM reading_hold h JOIN installation i ON i.meter_id = h.meter_id
        JOIN point p ON p.id = i.point_id AND p.uc_id = %(uc)s
        WHERE h.id = ANY(d.hold_ids) AND h.filled -> (%(day)s::date)::text @> to_jsonb(%(slot)s::int))
    ORDER BY d.id
"""


def _trace(
    conn: psycopg.Connection[Any],
    db: Database,
    evidence: Evidence,
    profile: Profile,
    uc_code: str,
    at: datetime,
    version: int | None,
) -> Trace:
    uc = _uc(conn, uc_code)
    # The end 00:00 belongs to the day before.
    day = (at - timedelta(microseconds=1)).date()
    versions = _rows(
        conn,
        "SELECT DISTINCT version, interval_s FROM series_day WHERE uc_id = %s AND day = %s ORDER BY version",
        [uc["id"], day],
    )
    if not versions:
        raise OperatorFault(
            f"no series of {day}",
            where=f"UC {uc_code}",
            remedy=f"run the day first: smf run daily --day {day}",
        )
    submissions = _rows(
        conn,
        "SELECT s.*, a.code AS agent_code FROM submission_state s JOIN agent a ON a.id = s.agent_id"
        " WHERE s.uc_id = %s AND s.day = %s ORDER BY s.version",
        [uc["id"], day],
    )
    newest = versions[-1]["version"]
    chosen = version or (submissions[-1]["series_version"] if submissions else newest)
    if chosen not in {row["version"] for row in versions}:
        raise OperatorFault(
            f"version {chosen} of {day} does not exist",
            where=f"UC {uc_code}",
            remedy=f"versions are 1 to {newest}",
        )
    interval_s = versions[-1]["interval_s"]
    start_of_day = datetime.combine(day, time(), at.tzinfo)
    slot, rest = divmod(int((at - start_of_day).total_seconds()), interval_s)
    if rest or at.microsecond:
        raise OperatorFault(
            f"{at.isoformat()} is not the end of an interval",
            where=f"UC {uc_code}",
            remedy=f"ends lie on multiples of {interval_s} s, such as "
            f"{(at - timedelta(seconds=rest)).replace(microsecond=0).isoformat()}",
        )
    slot -= 1
    start = at - timedelta(seconds=interval_s)
    layers = _layers(conn, uc["id"], day, chosen, slot)
    registry = registry_facts(conn, uc["id"], day, start)
    delivery = _delivery(conn, profile, uc, day, chosen, slot, submissions)
    estimate = _one(
        conn,
        "SELECT * FROM estimate WHERE uc_id = %s AND day = %s AND version = %s"
        " AND %s BETWEEN first_slot AND last_slot",
        [uc["id"], day, chosen, slot],
    )
    # The backup meter's value enters at the estimated layer; the primary one is the main meter's.
    is_backup = layers[2].origin == Origin.BACKUP.name.lower()
    role = "backup" if is_backup else "main"
    meters = [row for row in registry["installations"] if row["role"] == role]
    readings = [_reading(conn, evidence, meter, layers[0], at, day, slot) for meter in meters]
    reading = readings[0] if readings else None
    points = _points(meters, readings, layers[0]) if len({row["point"] for row in meters}) > 1 else []
    return Trace(
        uc_code=uc_code,
        uc_name=uc["name"],
        day=day,
        slot=slot,
        interval_start=start,
        interval_end=at,
        version=chosen,
        newer_version=newest if newest > chosen else None,
        outcome=_outcome(conn, uc["id"], day),
        delivery=delivery,
        layers=layers,
        estimate=estimate,
        expected_error=scored.expected_error(db, conn, uc["id"], estimate, interval_s, slot),
        replaced=scored.replaced(conn, uc["id"], day, slot),
        verdicts=_verdicts(conn, uc["id"], day, slot),
        decisions=_rows(conn, _DECISIONS, {"uc": uc["id"], "day": day, "slot": slot}),
        registry=registry,
        reading=reading,
        points=points,
        checks=_checks(db, uc["id"], day, slot, layers, readings, points, delivery),
    )


def _checks(
    db: Database,
    uc_id: int,
    day: date,
    slot: int,
    layers: Sequence[LayerValue],
    readings: Sequence[Reading],
    points: Sequence[PointReading],
    delivery: Delivery | None,
) -> list[Check]:
    """The value computed anew, step by step, beside what is stored."""
    checks = []
    for reading in readings:
        if reading.session is None:
            continue
        of_point = f" of point {reading.meter['point']}" if points else ""
        locator, place = locator_of(reading.session["protocol"]), reading.place
        there = "no word found" if place is None else str(place.pulses)
        checks.append(Check(f"count in the {locator.holder}'s octets{of_point}", str(reading.pulses), there))
        decoded = str(reading.decoded_pulses)
        checks.append(
            Check(f"count decoded from the {locator.whole}{of_point}", str(reading.pulses), decoded)
        )
    if points and all(point.part_kwh is not None for point in points):
        total = sum((point.part_kwh for point in points if point.part_kwh is not None), Fraction())
        checks.append(Check("sum of the points", _kwh(layers[0].value_kwh), _kwh(total)))
    kept = parameters_kept({layer.name: layer.parameters for layer in layers})
    made = recompute(db, uc_id, day, as_of=layers[-1].recorded_at, parameters=kept)
    for stored, frame in zip(layers, made.in_order, strict=True):
        row = frame.row(0, named=True)
        numerator = row["numerators"][slot]
        value = None if numerator is None else Fraction(numerator, row["denominator"])
        computed = _state(value, Origin(row["origin"][slot]), Reason(row["reason"][slot]))
        was = _state(stored.value_kwh, Origin[stored.origin.upper()], Reason[stored.reason.upper()])
        checks.append(Check(f"layer {stored.layer} {stored.name}", was, computed))
    if delivery is not None:
        told = bytes(delivery.submission["body_sha256"]).hex()
        made_anew = (delivery.body_sha256 or b"").hex()
        checks.append(Check("body", told, made_anew, delivery.not_rendered))
    return checks


def _kwh(value: Fraction | None) -> str:
    return "missing" if value is None else f"{value.numerator}/{value.denominator} kWh"


def _state(value: Fraction | None, origin: Origin, reason: Reason) -> str:
    return f"{_kwh(value)}, {origin.name.lower()}, {reason.name.lower()}"


def _rows(conn: psycopg.Connection[Any], query: str, parameters: Sequence[Any] | Row) -> list[Row]:
    return conn.execute(query, parameters).fetchall()


def _one(conn: psycopg.Connection[Any], query: str, parameters: Sequence[Any] | Row) -> Row | None:
    found: Row | None = conn.execute(query, parameters).fetchone()
    return found


def _uc(conn: psycopg.Connection[Any], code: str) -> Row:
    found = _one(
        conn,
        "SELECT uc.id, uc.code, uc.name, agent.code AS agent_code"
        " FROM uc JOIN agent ON agent.id = uc.agent_id WHERE uc.code = %s OR %s = ANY (uc.aliases)",
        [code, code],
    )
    if found is None:
        raise OperatorFault(
            f"no UC has the code {code!r}",
            where="UC",
            remedy="the code is text with its leading zeros; smf registry export lists all",
        )
    return found


def _layers(
    conn: psycopg.Connection[Any], uc_id: int, day: date, version: int, slot: int
) -> list[LayerValue]:
    rows = _rows(
        conn,
        "SELECT s.layer, s.denominator, s.numerators[%(i)s] AS numerator,"
        " get_byte(s.origin, %(o)s) AS origin, get_byte(s.reason, %(o)s) AS reason,"
        " s.version, s.input_version, s.interval_s, s.run_id, s.recorded_at, s.derivation_id,"
        " d.code_version, d.parameters"
        " FROM series_day s LEFT JOIN derivation d ON d.id = s.derivation_id"
        " WHERE uc_id = %(uc)s AND day = %(day)s AND version = %(version)s ORDER BY s.layer",
        {"i": slot + 1, "o": slot, "uc": uc_id, "day": day, "version": version},
    )
    return [
        LayerValue(
            layer=row["layer"],
            name=LAYERS[row["layer"]],
            value_kwh=None if row["numerator"] is None else Fraction(row["numerator"], row["denominator"]),
            origin=Origin(row["origin"]).name.lower(),
            reason=Reason(row["reason"]).name.lower(),
            reason_text=describe_reason(row["reason"]).text_pt,
            version=row["version"],
            input_version=row["input_version"],
            interval_s=row["interval_s"],
            run_id=row["run_id"],
            recorded_at=row["recorded_at"],
            derivation_id=row["derivation_id"],
            code_version=row["code_version"] or "",
            parameters=row["parameters"] or {},
        )
        for row in rows
    ]


def _verdicts(conn: psycopg.Connection[Any], uc_id: int, day: date, slot: int) -> list[Row]:
    found = _rows(
        conn,
        "SELECT rule, first_slot, last_slot, result, detail FROM verdict"
        " WHERE uc_id = %s AND day = %s AND %s BETWEEN first_slot AND last_slot ORDER BY rule",
        [uc_id, day, slot],
    )
    for verdict in found:
        cause = (verdict["detail"] or {}).get("cause") if verdict["rule"] == "V01" else None
        verdict["words"] = WORDS[MissingCause(cause)] if cause else ""
    return found


def _outcome(conn: psycopg.Connection[Any], uc_id: int, day: date) -> Row:
    found = _one(
        conn,
        "SELECT state, cause, measured, backup, estimated, edited, missing, energy_kwh, detail"
        " FROM uc_day_outcome WHERE uc_id = %s AND day = %s",
        [uc_id, day],
    )
    if found is None:
        return {}
    return found | {"cause_text": describe_cause(found["cause"]).text_pt if found["cause"] else ""}


def _delivery(
    conn: psycopg.Connection[Any],
    profile: Profile,
    uc: Row,
    day: date,
    version: int,
    slot: int,
    submissions: Sequence[Row],
) -> Delivery | None:
    """The last submission that rendered this version of the day."""
    told = [row for row in submissions if row["series_version"] == version]
    if not told:
        return None
    submission = told[-1]
    attempts = _rows(
        conn,
        "SELECT attempt, started_at, ended_at, http_status, receipt, error, outcome, reply_body"
        " FROM submission_attempt WHERE submission_id = %s ORDER BY attempt",
        [submission["id"]],
    )
    for attempt in attempts:
        # Whatever answered, a page of a gateway in another encoding included: the ledger has its octets.
        reply = attempt["reply_body"]
        attempt["reply_body"] = None if reply is None else bytes(reply).decode("utf-8", "replace")
    other = not_in_force(profile, submission["profile"])
    body = None if other else rendered_body(conn, profile, submission, day, version)
    return Delivery(
        submission=submission,
        events=_rows(
            conn,
            "SELECT at, state, detail FROM submission_event WHERE submission_id = %s ORDER BY id",
            [submission["id"]],
        ),
        attempts=attempts,
        record=None if body is None else _record(orjson.loads(body), *_place(profile, day, slot)),
        body_sha256=None if body is None else hashlib.sha256(body).digest(),
        not_rendered=f"{other}; {NAME_THE_CONTRACT}" if other else "",
    )


def rendered_body(
    conn: psycopg.Connection[Any], profile: Profile, submission: Row, day: date, version: int
) -> bytes:
    """The body made anew from the stored layer 5 of that version, for the code and agent of its seal."""
    layer = _one(
        conn,
        "SELECT numerators, origin FROM series_day"
        " WHERE uc_id = %s AND day = %s AND version = %s AND layer = 5",
        [submission["uc_id"], day, version],
    )
    assert layer is not None  # All five layers of a version are written in one transaction.
    adjusted = [origin != Origin.MEASURED for origin in layer["origin"]]
    return render(
        profile.for_sealed(),
        submission["uc_code"],
        submission["agent_code"],
        day,
        layer["numerators"],
        adjusted,
    )


def _place(profile: Profile, day: date, slot: int) -> tuple[str, str]:
    """Name and text of an interval's stamp in a body."""
    return profile.send.names.timestamp, day_stamps(day, profile.send)[slot].text


def _record(body: Any, name: str, stamp: str) -> Row | None:
    """The interval's object in a body of either layout: the one whose `name` is its stamp."""
    if isinstance(body, dict):
        if body.get(name) == stamp:
            return body
        body = list(body.values())
    if isinstance(body, list):
        return next((found for part in body if (found := _record(part, name, stamp))), None)
    return None


def _reading(
    conn: psycopg.Connection[Any],
    evidence: Evidence,
    meter: Row,
    primary: LayerValue,
    at: datetime,
    day: date,
    slot: int,
) -> Reading:
    """The stored pulses of the meter that gave the value, and where in which frame they stand."""
    stored = _one(
        conn,
        "SELECT version, interval_s, pulses, source_starts, source_sessions FROM reading_day"
        " WHERE meter_id = %s AND channel = %s AND day = %s AND version <= %s ORDER BY version DESC LIMIT 1",
        [meter["meter_id"], meter["active_channel"], day, max(primary.input_version, 1)],
    )
    if stored is None:
        return Reading(meter, 0, None, primary.interval_s)
    index = slot * primary.interval_s // stored["interval_s"]
    session_id = stored["source_sessions"][bisect_right(stored["source_starts"], index) - 1]
    reading = Reading(meter, stored["version"], stored["pulses"][index], stored["interval_s"])
    if not session_id:
        return reading
    session = session_row(conn, session_id)
    if session is None:
        return reading
    interval = timedelta(seconds=stored["interval_s"])
    end = datetime.combine(day, time()) + (index + 1) * interval
    channel = meter["active_channel"]
    hold = hold_of(conn, session_id, channel, day, index)
    # The frames know nothing of a shift: they say the time that the meter's clock had.
    told_end = end - timedelta(seconds=(hold.shift_s or 0) if hold else 0)
    told_day = (told_end - interval).date()
    told_index = (told_end - datetime.combine(told_day, time())) // interval - 1
    context = MeterContext(
        meter["meter_id"], meter["serial"], channel, timezone(at.utcoffset() or timedelta())
    )
    return replace(
        reading,
        session=session,
        place=locator_of(session["protocol"]).locate(
            session, evidence.frames(session_id), meter["profile"], context, told_end
        ),
        decoded_pulses=evidence.pulses(session, meter["profile"], context, told_day, told_index),
        hold=_released(hold, told_end) if hold else None,
    )


def _points(meters: Sequence[Row], readings: Sequence[Reading], primary: LayerValue) -> list[PointReading]:
    """Each point's part; energy only where the stored interval is the one of the series."""
    parts = []
    for meter, reading in zip(meters, readings, strict=True):
        energy = None
        if reading.pulses is not None and reading.interval_s == primary.interval_s:
            ratio = (
                Fraction(1)
                if meter["constant_includes_ratios"]
                else Fraction(meter["tp_ratio"]) * Fraction(meter["tc_ratio"])
            )
            energy = reading.pulses * Fraction(meter["pulse_energy_num"], meter["pulse_energy_den"]) * ratio
        parts.append(
            PointReading(
                meter["point"],
                meter["sign"],
                Fraction(meter["share_num"], meter["share_den"]),
                reading,
                energy,
            )
        )
    return parts


def _released(hold: Hold, told_end: datetime) -> Released:
    return Released(
        hold_id=hold.id,
        reason=hold.reason.value,
        rule=hold.rule,
        evidence=hold.evidence,
        told_end=told_end,
        shift_s=hold.shift_s or 0,
        decided_at=hold.decided_at,
        decided_by=hold.decided_by or "",
        why=hold.decision_reason or "",
    )
