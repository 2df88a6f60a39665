"""From a delivered interval back to the octets, and forward again.

What belongs here: gathering what the database holds about one interval of one UC, and computing it anew from
the frames to compare. What does not: how a value is decoded or derived (the same functions as the daily run
are called), and how the result is shown (`pipelines.cli.trace`).

Over 500 lines: one value's way back, read top to bottom.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, timezone
from fractions import Fraction
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row

from audit import scored
from audit.evidence import Evidence, Place, locator_of
from ccee.body import day_stamps, render
from ccee.ledger import NAME_THE_CONTRACT, not_in_force
from ccee.profile import Profile
from collector.decoded import MeterContext
from derivation.parameters import parameters_kept
from derivation.run import recompute
from faults import OperatorFault
from faults.market_time import fixed_offset
from storage.database import Database
from storage.sessions import session_row
from vee.quality import Origin, Reason, describe_cause, describe_reason

LAYERS = {1: "primary", 2: "validated", 3: "estimated", 4: "adjusted", 5: "ccee"}

Row = dict[str, Any]


@dataclass(frozen=True)
class LayerValue:
    """One interval in one layer: exact kWh (None where missing), and what made the row."""

    layer: int
    name: str
    value_kwh: Fraction | None
    origin: str
    reason: str
    reason_text: str
    version: int
    input_version: int
    interval_s: int
    run_id: str
    recorded_at: datetime
    derivation_id: int
    code_version: str
    parameters: Row

    @property
    def decimal(self) -> str:
        return "" if self.value_kwh is None else as_decimal(self.value_kwh)


@dataclass(frozen=True)
class Delivery:
    """What CCEE was told, and what it answered."""

    submission: Row
    events: list[Row]
    attempts: list[Row]
    record: Row | None
    """The interval as it stands in the body."""
    body_sha256: bytes | None
    """Of the body made anew from layer 5; equal to the ledger's where nothing is wrong."""
    not_rendered: str = ""
    """Why no body was made anew: it was made with a contract that is not the one in force."""


@dataclass(frozen=True)
class Reading:
    """Where the pulses came from: the stored day and the conversation that brought the slot."""

    meter: Row
    version: int
    pulses: int | None
    session: Row | None = None
    place: Place | None = None
    """Where in the session's octets the count stands, as its protocol has places."""
    decoded_pulses: int | None = None
    """The same slot, decoded anew from all frames of the session."""


@dataclass(frozen=True)
class Check:
    """One comparison of the replay."""

    what: str
    stored: str
    computed: str
    not_made: str = ""
    """Why nothing could be computed, and what to do."""

    @property
    def is_identical(self) -> bool:
        return not self.not_made and self.stored == self.computed


@dataclass(frozen=True)
class Trace:
    """Everything about one interval. Shown by `smf trace`, and as JSON with the same names."""

    uc_code: str
    uc_name: str
    day: date
    slot: int
    interval_start: datetime
    interval_end: datetime
    version: int
    newer_version: int | None
    outcome: Row
    delivery: Delivery | None
    layers: list[LayerValue]
    estimate: Row | None
    expected_error: Row | None
    """What the latest score says of the estimate; None where the value is none."""
    replaced: list[Row]
    """Estimates of this interval that gave way to what the meter had."""
    verdicts: list[Row]
    decisions: list[Row]
    registry: Row
    reading: Reading | None
    checks: list[Check] = field(default_factory=list)
    inputs: list[Trace] = field(default_factory=list)
    """For an estimated value: the traces of the values that went in, one level deep."""

    @property
    def is_identical(self) -> bool:
        return bool(self.checks) and all(check.is_identical for check in self.checks)


def as_decimal(value: Fraction) -> str:
    """Exact decimal text where there is one, else 12 digits and an ellipsis.

    >>> as_decimal(Fraction(12653625, 1000000)), as_decimal(Fraction(1, 3))
    ('12.653625', '0.333333333333…')
    """
    powers, rest = {2: 0, 5: 0}, value.denominator
    for prime in powers:
        while rest % prime == 0:
            rest //= prime
            powers[prime] += 1
    digits = max(powers.values()) if rest == 1 else 12
    whole, part = divmod(abs(value.numerator) * 10**digits // value.denominator, 10**digits)
    text = f"{'-' if value < 0 else ''}{whole}" + (f".{part:0{digits}d}" if digits else "")
    return text if rest == 1 else text + "…"


def parse_interval_end(text: str, zone: str) -> datetime:
    """`2026-11-20T10:05`, with or without offset; without one it is market time.

    Raises: OperatorFault for what is no date and time.
    """
    market = fixed_offset(zone)
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=market) if at.tzinfo is None else at.astimezone(market)
        at - timedelta(days=1)  # the end 00:00 belongs to the day before, which the first day does not have
    except (ValueError, OverflowError) as error:
        raise OperatorFault(
            f"{text!r} is no date and time",
            where="TIMESTAMP",
            remedy="write the END of the interval, such as 2026-11-20T10:05",
        ) from error
    return at


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
    registry = _registry(conn, uc["id"], day, start)
    delivery = _delivery(conn, profile, uc, day, chosen, slot, submissions)
    estimate = _one(
        conn,
        "SELECT * FROM estimate WHERE uc_id = %s AND day = %s AND version = %s"
        " AND %s BETWEEN first_slot AND last_slot",
        [uc["id"], day, chosen, slot],
    )
    # The backup meter's value enters at the estimated layer; the primary one is the main meter's.
    is_backup = layers[2].origin == Origin.BACKUP.name.lower()
    reading = _reading(conn, evidence, registry, layers[0], is_backup, at, day, slot)
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
        verdicts=_rows(
            conn,
            "SELECT rule, first_slot, last_slot, result, detail FROM verdict"
            " WHERE uc_id = %s AND day = %s AND %s BETWEEN first_slot AND last_slot ORDER BY rule",
            [uc["id"], day, slot],
        ),
        decisions=_rows(conn, _DECISIONS, {"uc": uc["id"], "day": day, "slot": slot}),
        registry=registry,
        reading=reading,
        checks=_checks(db, uc["id"], day, slot, layers, reading, delivery),
    )


def _checks(
    db: Database,
    uc_id: int,
    day: date,
    slot: int,
    layers: Sequence[LayerValue],
    reading: Reading | None,
    delivery: Delivery | None,
) -> list[Check]:
    """The value computed anew, step by step, beside what is stored."""
    checks = []
    if reading is not None and reading.session is not None:
        locator, place = locator_of(reading.session["protocol"]), reading.place
        there = "no word found" if place is None else str(place.pulses)
        checks.append(Check(f"count in the {locator.holder}'s octets", str(reading.pulses), there))
        decoded = str(reading.decoded_pulses)
        checks.append(Check(f"count decoded from the {locator.whole}", str(reading.pulses), decoded))
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


def _state(value: Fraction | None, origin: Origin, reason: Reason) -> str:
    shown = "missing" if value is None else f"{value.numerator}/{value.denominator} kWh"
    return f"{shown}, {origin.name.lower()}, {reason.name.lower()}"


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
    " mm.code AS model, mm.profile, u.url, u.cell, p.code AS point"
    " FROM installation i JOIN point p ON p.id = i.point_id JOIN meter m ON m.id = i.meter_id"
    " JOIN meter_model mm ON mm.id = m.model_id LEFT JOIN unit u ON u.id = i.unit_id"
    " WHERE p.uc_id = %(uc)s AND i.valid @> %(at)s::timestamptz ORDER BY i.role DESC"
)


def _registry(conn: psycopg.Connection[Any], uc_id: int, day: date, start: datetime) -> Row:
    """What the registry said on that day; the installation is the one of that very interval."""
    keys = {"uc": uc_id, "day": day, "at": start}
    facts: Row = {name: conn.execute(query, keys).fetchone() for name, query in _DATED.items()}
    facts["losses"] = conn.execute(_LOSSES, keys).fetchall()
    facts["installations"] = conn.execute(_INSTALLATIONS, keys).fetchall()
    return facts


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
    registry: Row,
    primary: LayerValue,
    is_backup: bool,
    at: datetime,
    day: date,
    slot: int,
) -> Reading | None:
    """The stored pulses of the meter that gave the value, and where in which frame they stand."""
    role = "backup" if is_backup else "main"
    meter = next((row for row in registry["installations"] if row["role"] == role), None)
    if meter is None:
        return None
    stored = _one(
        conn,
        "SELECT version, interval_s, pulses, source_starts, source_sessions FROM reading_day"
        " WHERE meter_id = %s AND channel = %s AND day = %s AND version <= %s ORDER BY version DESC LIMIT 1",
        [meter["meter_id"], meter["active_channel"], day, max(primary.input_version, 1)],
    )
    if stored is None:
        return Reading(meter, 0, None)
    index = slot * primary.interval_s // stored["interval_s"]
    session_id = stored["source_sessions"][bisect_right(stored["source_starts"], index) - 1]
    reading = Reading(meter, stored["version"], stored["pulses"][index])
    if not session_id:
        return reading
    session = session_row(conn, session_id)
    if session is None:
        return reading
    end = datetime.combine(day, time()) + timedelta(seconds=(index + 1) * stored["interval_s"])
    channel = meter["active_channel"]
    context = MeterContext(
        meter["meter_id"], meter["serial"], channel, timezone(at.utcoffset() or timedelta())
    )
    return replace(
        reading,
        session=session,
        place=locator_of(session["protocol"]).locate(
            session, evidence.frames(session_id), meter["profile"], context, end
        ),
        decoded_pulses=evidence.pulses(session, meter["profile"], context, day, index),
    )
