"""What a person, or a dated policy, does about readings that are held: release, shift, reject, undo.

All in the caller's transaction: merged and versioned as what a session brings, audited, and the days touched
so that they derive again. Who may decide, and above which energy a second person must agree, is `editing`'s.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import psycopg

from faults import OperatorFault
from storage import audit
from storage.locks import lock_meters
from storage.readings import SCHEMA, MergeResult, StoredDay, latest_days, merge_readings, take_back
from storage.review.holds import Hold, HoldState, Slots, holds, packed, touch_incomplete

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a decision did. `merge`: as `merge_readings` tells it; nothing for a rejection.

    `touched`: (meter, day) pairs that derive again.
    """

    hold_ids: tuple[int, ...]
    state: HoldState
    merge: MergeResult
    touched: tuple[tuple[int, dt.date], ...]


def release(conn: Connection, hold_ids: Sequence[int], *, actor: str, why: str, at: dt.datetime) -> Decision:
    """Take held readings as they are, under the days that they name.

    Merged as `merge_readings` merges what a session brings: what is stored stays, a contradiction goes to
    quarantine, a delivered day gets a new version. The rows are closed with who, when and why, the audit
    record is written, and the changed days are touched, so that their UC-days derive again.

    Args:
        actor: login of the person, or name of the dated policy. why: in words, not empty. at: now.
    Raises:
        OperatorFault: no such hold, one that is decided already, no reason, or intervals yet to come.
    """
    return _decide(conn, hold_ids, HoldState.RELEASED, 0, actor, why, at)


def shift(
    conn: Connection, hold_ids: Sequence[int], shift_s: int, *, actor: str, why: str, at: dt.datetime
) -> Decision:
    """Take held readings under other times: `shift_s` is added to each, then as `release`.

    Args:
        shift_s: whole intervals; positive where the meter was slow. `Hold.likely_shift_s` proposes it.
    Raises:
        OperatorFault: as `release`; or `shift_s` is not a multiple of the interval, or 0.
    """
    return _decide(conn, hold_ids, HoldState.SHIFTED, shift_s, actor, why, at)


def reject(conn: Connection, hold_ids: Sequence[int], *, actor: str, why: str, at: dt.datetime) -> Decision:
    """Never use these readings: the slots stay missing, and estimation may fill them.

    The evidence stays. The same readings brought again are not held again.

    Raises:
        OperatorFault: no such hold, one that is decided already, or no reason.
    """
    return _decide(conn, hold_ids, HoldState.REJECTED, 0, actor, why, at)


def moved(days: Sequence[Hold], shift_s: int = 0) -> pl.DataFrame:
    """What a release (0) or shift would merge: the preview, in the shape of `merge_readings`.

    Raises:
        OperatorFault: `shift_s` is not a multiple of an interval.
    """
    found: dict[tuple[int, int, dt.date, int, int], Slots] = {}
    for hold in days:
        if shift_s % hold.interval_s:
            least = shift_s // hold.interval_s * hold.interval_s
            raise OperatorFault(
                f"a shift of {shift_s} s is not a whole number of intervals of {hold.interval_s} s",
                where=f"hold {hold.id}, meter {hold.serial}",
                remedy=f"give {least} or {least + hold.interval_s} s: intervals have their place on the grid",
            )
        per_day = 86_400 // hold.interval_s
        steps = shift_s // hold.interval_s
        for slot, told in hold.slots.items():
            days_on, place = divmod(slot + steps, per_day)
            day = hold.day + dt.timedelta(days=days_on)
            key = (hold.meter_id, hold.channel, day, hold.quantity_code, hold.interval_s)
            found.setdefault(key, {}).setdefault(place, told)
    rows = [(*key[:3], *key[3:], *packed(slots, 86_400 // key[4])) for key, slots in sorted(found.items())]
    schema = {name: kind for name, kind in SCHEMA.items() if name != "version"}
    return pl.DataFrame(rows, schema=schema, orient="row")


def undo(conn: Connection, hold_ids: Sequence[int], *, actor: str, why: str, at: dt.datetime) -> Decision:
    """Take decisions back: what a release or shift filled is taken out again, and the readings are held anew.

    A slot that somebody has filled otherwise since stays. A delivered day gets a new version.

    Raises:
        OperatorFault: no such hold, one that nobody has decided, or no reason.
    """
    chosen = _chosen(conn, hold_ids, why)
    for hold in chosen:
        if hold.state is HoldState.HELD:
            raise OperatorFault(
                f"hold {hold.id} is not decided: nothing to undo",
                where=f"meter {hold.serial}, {hold.day}",
                remedy="smf queue shows what waits",
            )
    taken: dict[tuple[int, int, dt.date], Slots] = {}
    for hold in chosen:
        per_day = 86_400 // hold.interval_s
        steps = (hold.shift_s or 0) // hold.interval_s
        for text, slots in hold.filled.items():
            day = dt.date.fromisoformat(text)
            offset = (day - hold.day).days * per_day - steps
            own = hold.slots
            for slot in slots:
                taken.setdefault((hold.meter_id, hold.channel, day), {})[slot] = own[slot + offset]
    touched = take_back(conn, taken, at)
    conn.execute(
        "UPDATE reading_hold SET state = 'held', decided_at = NULL, decided_by = NULL, "
        "decision_reason = NULL, shift_s = NULL, filled = '{}' WHERE id = ANY(%s)",
        [[hold.id for hold in chosen]],
    )
    # The outcome changes where nothing was filled, too: a rejected day is estimated, a held one waits.
    touch_incomplete(conn, {(hold.meter_id, hold.day) for hold in chosen} - set(touched), at)
    for hold in chosen:
        before = {"state": hold.state, "shift_s": hold.shift_s, "filled": hold.filled}
        _record(conn, hold, actor, "hold.undo", before, {"state": HoldState.HELD, "why": why})
    pairs = tuple(sorted({*touched, *((hold.meter_id, hold.day) for hold in chosen)}))
    return Decision(tuple(hold.id for hold in chosen), HoldState.HELD, MergeResult(), pairs)


def _decide(
    conn: Connection,
    hold_ids: Sequence[int],
    state: HoldState,
    shift_s: int,
    actor: str,
    why: str,
    at: dt.datetime,
) -> Decision:
    if state is HoldState.SHIFTED and not shift_s:
        raise OperatorFault("a shift of 0 s", where="shift", remedy="release what needs no shift")
    chosen = _chosen(conn, hold_ids, why)
    for hold in chosen:
        if hold.state is not HoldState.HELD:
            raise OperatorFault(
                f"hold {hold.id} is {hold.state} already, by {hold.decided_by}",
                where=f"meter {hold.serial}, {hold.day}",
                remedy="undo that decision first",
            )
    filled: dict[int, dict[str, list[int]]] = {}
    merge = MergeResult()
    if state is not HoldState.REJECTED:
        frame = moved(chosen, shift_s)
        _refuse_future(conn, frame, at)
        stored = latest_days(conn, frame.select("meter_id", "channel", "day").rows())
        filled = {hold.id: _fills(hold, shift_s, stored) for hold in chosen}
        merge = merge_readings(conn, frame, at)
    for hold in chosen:
        conn.execute(
            "UPDATE reading_hold SET state = %s, decided_at = %s, decided_by = %s, decision_reason = %s, "
            "shift_s = %s, filled = %s WHERE id = %s",
            [
                state,
                at,
                actor,
                why,
                shift_s if state is HoldState.SHIFTED else None,
                orjson.dumps(filled.get(hold.id, {})).decode(),
                hold.id,
            ],
        )
        after = {"state": state, "why": why, "shift_s": shift_s, "filled": filled.get(hold.id, {})}
        before = {"state": hold.state, "reason": hold.reason, "evidence": hold.evidence}
        _record(conn, hold, actor, f"hold.{_VERBS[state]}", before, after)
    own = {(hold.meter_id, hold.day) for hold in chosen}
    touch_incomplete(conn, own - set(merge.touched), at)
    pairs = tuple(sorted(own | set(merge.touched)))
    return Decision(tuple(hold.id for hold in chosen), state, merge, pairs)


_VERBS = {HoldState.RELEASED: "release", HoldState.SHIFTED: "shift", HoldState.REJECTED: "reject"}


def _chosen(conn: Connection, hold_ids: Sequence[int], why: str) -> list[Hold]:
    """These holds, and nobody else decides about them until the transaction ends."""
    if not why.strip():
        raise OperatorFault("a decision without a reason", where="decision", remedy="say why, in words")
    wanted = sorted(set(hold_ids))
    found = holds(conn, wanted)
    # In the order of merging: meters first, then rows.
    lock_meters(conn, {hold.meter_id for hold in found})
    conn.execute("SELECT FROM reading_hold WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [wanted])
    found = holds(conn, wanted)
    if len(found) != len(wanted) or not wanted:
        missing = sorted(set(wanted) - {hold.id for hold in found})
        raise OperatorFault(
            f"no hold {', '.join(map(str, missing)) or 'named'}",
            where="decision",
            remedy="smf queue shows what waits",
        )
    return found


def _refuse_future(conn: Connection, frame: pl.DataFrame, at: dt.datetime) -> None:
    """Nothing of the future is stored, whoever decides."""
    for meter_id, day, interval_s, pulses in frame.select(
        "meter_id", "day", "interval_s", "pulses"
    ).iter_rows():
        last = max(slot for slot, value in enumerate(pulses) if value is not None) + 1
        row = conn.execute(
            "SELECT market_day_start(%s) + make_interval(secs => %s) > %s", [day, last * interval_s, at]
        ).fetchone()
        if row == (True,):
            raise OperatorFault(
                f"intervals of {day} that have not ended yet",
                where=f"meter {meter_id}",
                remedy="shift them to where they belong, or reject them",
            )


def _fills(
    hold: Hold, shift_s: int, stored: Mapping[tuple[int, int, dt.date], StoredDay]
) -> dict[str, list[int]]:
    """Slots by day that this hold's merge fills: those that nobody filled before."""
    found: dict[str, list[int]] = {}
    for _, channel, day, quantity_code, interval_s, pulses, _, _ in moved([hold], shift_s).iter_rows():
        kept = stored.get((hold.meter_id, channel, day))
        if kept is not None and (kept.quantity_code, kept.interval_s) != (quantity_code, interval_s):
            continue
        free = [
            slot
            for slot, value in enumerate(pulses)
            if value is not None and (kept is None or kept.pulses[slot] is None)
        ]
        if free:
            found[day.isoformat()] = free
    return found


def _record(conn: Connection, hold: Hold, actor: str, action: str, before: Any, after: Any) -> None:
    where = f"hold/{hold.id} meter/{hold.serial} {hold.day} channel {hold.channel}"
    audit.append(conn, actor=actor, action=action, object=where, before=before, after=after)
