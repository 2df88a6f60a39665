"""Readings that are held: brought by a session or a file, judged, and not used until somebody decides.

Each row is one meter channel and day as it would have been stored, with the reason, the evidence and, where a
clock is wrong, the shift that would most likely put it right. The day lacks those slots meanwhile.
`hold_decisions` is what a person does about them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
import psycopg

from faults import DeveloperFault
from storage.locks import lock_meters
from storage.readings import latest_days

Connection = psycopg.Connection[Any]
Slots = dict[int, tuple[int, int]]
"""By 0-based slot of a day: pulses, and the session that brought them."""


class HoldReason(StrEnum):
    """Why readings are held. What the reason found is in the row's evidence."""

    CLOCK = "clock"
    """The meter's clock is wrong beyond the ceiling, or disagrees with itself (V09)."""
    FUTURE = "future"
    """Intervals that have not ended yet."""
    IDENTITY = "identity"
    """Another meter answered than the registry names (V10)."""
    CONSTANT = "constant"
    """The meter states another constant than the registry (V11)."""
    QUANTITY = "quantity"
    """The channel carries something else than the registry says (V11)."""
    INTERVAL = "interval"
    """The memory's interval is not the registered one (V11)."""
    WORDS = "words"
    """What was announced, what was sent and what the registers counted do not fit together."""
    PATTERN = "pattern"
    """Patterns that are not counts: all ones, a sign bit that the model's profile does not explain."""
    UNIT = "unit"
    """A unit or scaler that is not energy, or is not the registered one."""
    TOTAL = "total"
    """A running total that its neighbours contradict."""
    STATUS = "status"
    """The meter itself marks these intervals as doubtful."""
    LIMIT = "limit"
    """Above what the installation can carry."""


class HoldState(StrEnum):
    HELD = "held"
    RELEASED = "released"
    SHIFTED = "shifted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class HeldDay:
    """One channel and day to be held.

    Attributes:
        slots: what is held of the day; slot i ends (i + 1) x `interval_s` after the day's midnight.
        rule: its number (V09 ...), or nothing.
        likely_shift_s: added to its times it would be right; a multiple of the interval.
    """

    meter_id: int
    channel: int
    day: dt.date
    quantity_code: int
    interval_s: int
    slots: Slots
    reason: HoldReason
    rule: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    likely_shift_s: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A row of `reading_hold`.

    Attributes:
        pulses: one per slot of the day, None where nothing is held.
        filled: after a release or shift, the slots of `reading_day` that it filled, by day.
    """

    id: int
    meter_id: int
    serial: str
    channel: int
    day: dt.date
    quantity_code: int
    interval_s: int
    pulses: tuple[int | None, ...]
    source_starts: tuple[int, ...]
    source_sessions: tuple[int, ...]
    reason: HoldReason
    rule: str
    evidence: dict[str, Any]
    likely_shift_s: int | None
    held_at: dt.datetime
    state: HoldState
    decided_at: dt.datetime | None
    decided_by: str | None
    decision_reason: str | None
    shift_s: int | None
    filled: dict[str, list[int]]

    @property
    def slots(self) -> Slots:
        return spread(self.pulses, self.source_starts, self.source_sessions)

    @property
    def session_ids(self) -> list[int]:
        return sorted({number for number in self.source_sessions if number})


_COLUMNS = (
    "h.id, h.meter_id, m.serial, h.channel, h.day, h.quantity_code, h.interval_s, h.pulses, h.source_starts, "
    "h.source_sessions, h.reason, h.rule, h.evidence, h.likely_shift_s, h.held_at, h.state, h.decided_at, "
    "h.decided_by, h.decision_reason, h.shift_s, h.filled"
)


# --- holding ------------------------------------------------------------------------------------------------


def hold_readings(conn: Connection, days: Iterable[HeldDay], at: dt.datetime) -> list[int]:
    """Hold readings, in the caller's transaction; ids of the rows that are new or grew.

    The same readings brought again are one row: what is stored already with the same value, what is held
    already, and what somebody has decided about under the same reason is not held again. Days in the past
    whose stored readings lack something are touched, so that they say why.
    """
    # The same day more than once: 24 and 25 h of a memory that two commands brought.
    offered = [day for day in days if day.slots]
    if not offered:
        return []
    lock_meters(conn, {day.meter_id for day in offered})
    stored = latest_days(conn, [(day.meter_id, day.channel, day.day) for day in offered])
    known = _known(conn, offered)
    changed: list[int] = []
    for day in offered:
        slots = dict(day.slots)
        kept = stored.get((day.meter_id, day.channel, day.day))
        if day.likely_shift_s is None and kept is not None and kept.interval_s == day.interval_s:
            slots = {slot: told for slot, told in slots.items() if kept.pulses[slot] != told[0]}
        for hold in known.get(_key(day), []):
            same = hold.slots
            slots = {s: told for s, told in slots.items() if s not in same or same[s][0] != told[0]}
        if not slots:
            continue
        hold_id = _grown(conn, known.get(_key(day), []), slots) or _insert(conn, day, slots, at)
        changed.append(hold_id)
        known.setdefault(_key(day), [])
        known[_key(day)] = [one for one in known[_key(day)] if one.id != hold_id]
        known[_key(day)] += holds(conn, [hold_id])
    touch_incomplete(conn, {(day.meter_id, day.day) for day in offered} if changed else set(), at)
    return sorted(set(changed))


def _key(day: HeldDay | Hold) -> tuple[Any, ...]:
    shift_s = -1 if day.likely_shift_s is None else day.likely_shift_s
    return day.meter_id, day.channel, day.day, day.quantity_code, day.interval_s, str(day.reason), shift_s


def _known(conn: Connection, offered: Sequence[HeldDay]) -> dict[tuple[Any, ...], list[Hold]]:
    found: dict[tuple[Any, ...], list[Hold]] = {}
    for hold in _select(
        conn,
        "WHERE h.meter_id = ANY(%s) AND h.day = ANY(%s) ORDER BY h.id",
        [sorted({day.meter_id for day in offered}), sorted({day.day for day in offered})],
    ):
        found.setdefault(_key(hold), []).append(hold)
    return found


def _grown(conn: Connection, known: Sequence[Hold], slots: Slots) -> int | None:
    """The open hold that these slots went into: one that says nothing of them yet."""
    for hold in known:
        if hold.state is not HoldState.HELD or hold.slots.keys() & slots.keys():
            continue
        pulses, starts, sessions = packed({**hold.slots, **slots}, len(hold.pulses))
        conn.execute(
            "UPDATE reading_hold SET pulses = %s, source_starts = %s, source_sessions = %s WHERE id = %s",
            [pulses, starts, sessions, hold.id],
        )
        return hold.id
    return None


def _insert(conn: Connection, day: HeldDay, slots: Slots, at: dt.datetime) -> int:
    pulses, starts, sessions = packed(slots, 86_400 // day.interval_s)
    row = conn.execute(
        "INSERT INTO reading_hold (meter_id, channel, day, quantity_code, interval_s, pulses, source_starts, "
        "source_sessions, reason, rule, evidence, likely_shift_s, held_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            day.meter_id,
            day.channel,
            day.day,
            day.quantity_code,
            day.interval_s,
            pulses,
            starts,
            sessions,
            day.reason,
            day.rule,
            orjson.dumps(dict(day.evidence), default=str).decode(),
            day.likely_shift_s,
            at,
        ],
    ).fetchone()
    assert row is not None
    return int(row[0])


def touch_incomplete(conn: Connection, pairs: set[tuple[int, dt.date]], at: dt.datetime) -> None:
    """Have days derive again that lack something: they say now why."""
    if not pairs:
        return
    ordered = sorted(pairs)
    conn.execute(
        "INSERT INTO touched_day (meter_id, day, touched_at) SELECT k.meter_id, k.day, %(at)s "
        "FROM unnest(%(meters)s::bigint[], %(days)s::date[]) AS k (meter_id, day) "
        "WHERE market_day_start(k.day + 1) <= %(at)s AND EXISTS (SELECT FROM installation i "
        "  WHERE i.meter_id = k.meter_id "
        "  AND i.valid && tstzrange(market_day_start(k.day), market_day_start(k.day + 1)) "
        "  AND NOT EXISTS (SELECT FROM reading_day r WHERE r.meter_id = k.meter_id AND r.day = k.day "
        "    AND r.channel = i.active_channel AND array_position(r.pulses, NULL) IS NULL))",
        {"at": at, "meters": [meter for meter, _ in ordered], "days": [day for _, day in ordered]},
    )


# --- what is held -------------------------------------------------------------------------------------------


def holds(conn: Connection, hold_ids: Sequence[int]) -> list[Hold]:
    """These holds, whatever their state, in order of id."""
    return _select(conn, "WHERE h.id = ANY(%s) ORDER BY h.id", [list(hold_ids)])


def open_holds(
    conn: Connection,
    meter_ids: Sequence[int] | None = None,
    first_day: dt.date | None = None,
    last_day: dt.date | None = None,
) -> list[Hold]:
    """What waits for a decision, oldest first; of all meters and days where none are named."""
    return _select(
        conn,
        "WHERE h.state = 'held' AND (%(meters)s::bigint[] IS NULL OR h.meter_id = ANY(%(meters)s)) "
        "AND (%(first)s::date IS NULL OR h.day >= %(first)s) "
        "AND (%(last)s::date IS NULL OR h.day <= %(last)s) ORDER BY h.held_at, h.id",
        {"meters": None if meter_ids is None else list(meter_ids), "first": first_day, "last": last_day},
    )


def hold_of(conn: Connection, session_id: int, channel: int, day: dt.date, slot: int) -> Hold | None:
    """The hold out of which a release or shift filled a stored slot; None where it was never held.

    For whoever goes from `reading_day` back to the frames: those say the time before the shift.
    """
    found = _select(
        conn,
        "WHERE h.state IN ('released', 'shifted') AND h.channel = %s AND %s = ANY(h.source_sessions) "
        "AND h.filled -> %s @> to_jsonb(%s::int) ORDER BY h.id DESC LIMIT 1",
        [channel, session_id, day.isoformat(), slot],
    )
    return found[0] if found else None


def _select(conn: Connection, clause: str, parameters: Any) -> list[Hold]:
    cursor = conn.cursor(row_factory=psycopg.rows.tuple_row)
    cursor.execute(
        f"SELECT {_COLUMNS} FROM reading_hold h JOIN meter m ON m.id = h.meter_id {clause}", parameters
    )
    found = []
    for row in cursor:
        values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in row]
        values[10], values[15] = HoldReason(values[10]), HoldState(values[15])
        found.append(Hold(*values))
    return found


# --- vectors ------------------------------------------------------------------------------------------------


def spread(pulses: Sequence[int | None], starts: Sequence[int], sessions: Sequence[int]) -> Slots:
    """Slots of a day out of its pulses and the runs of their sources; what is missing has none."""
    if len(starts) != len(sessions) or (pulses and list(starts[:1]) != [0]):
        raise DeveloperFault(f"runs {starts} with sessions {sessions}", where="held readings")
    found: Slots = {}
    for first, end, session in zip(starts, [*starts[1:], len(pulses)], sessions, strict=True):
        for slot in range(first, end):
            value = pulses[slot]
            if value is not None:
                found[slot] = (value, session)
    return found


def packed(slots: Slots, count: int) -> tuple[list[int | None], list[int], list[int]]:
    """Pulses of a day of so many slots, and the runs of their sources."""
    pulses: list[int | None] = [None] * count
    sources = [0] * count
    for slot, (value, session) in slots.items():
        pulses[slot], sources[slot] = value, session
    starts = [slot for slot in range(count) if not slot or sources[slot] != sources[slot - 1]]
    return pulses, starts, [sources[start] for start in starts]
