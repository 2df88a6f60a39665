"""Held readings: kept once, used when somebody decides, and taken back."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from faults import OperatorFault
from storage import audit
from storage.database import Database
from storage.readings import merge_readings
from storage.review import hold_decisions
from storage.review.holds import (
    HeldDay,
    HoldReason,
    HoldState,
    hold_of,
    hold_readings,
    holds,
    open_holds,
)
from tests.storage.factory import AT, DAY, add_points, add_submission, reading

WHY = {"actor": "ana", "why": "o relógio estava 30 dias atrasado", "at": AT}
MONTH = 30 * 86_400


@pytest.fixture
def meter(db: Database) -> int:
    with db.connect() as conn:
        meter_id = add_points(conn, 1)[0][1]
        for number in (1, 2, 3):
            conn.execute(
                "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
                "VALUES (%s, 'c', 'read', 'nbr14522', %s, %s, 'complete')",
                [meter_id, f"tcp://{number}", AT],
            )
    return meter_id


def held(meter_id: int, slots: dict[int, int], session: int = 1, day: dt.date = DAY, **changes) -> HeldDay:
    fields = {"channel": 1, "quantity_code": 1, "interval_s": 300, "reason": HoldReason.CLOCK}
    told = {slot: (value, session) for slot, value in slots.items()}
    return HeldDay(meter_id, day=day, slots=told, **{**fields, **changes})


def stored(conn, meter_id: int, day: dt.date = DAY) -> list:
    return conn.execute(
        "SELECT version, pulses, source_sessions FROM reading_day WHERE meter_id = %s AND day = %s "
        "ORDER BY version",
        [meter_id, day],
    ).fetchall()


def test_what_is_held_is_no_reading_and_is_kept_once(db: Database, meter: int) -> None:
    with db.connect() as conn:
        first = hold_readings(conn, [held(meter, {0: 5, 1: 6})], AT)
        assert hold_readings(conn, [held(meter, {0: 5, 1: 6}, session=2)], AT) == []
        assert hold_readings(conn, [held(meter, {1: 6, 2: 7}, session=2)], AT) == first, "the row grows"
        assert stored(conn, meter) == []
        (row,) = open_holds(conn, [meter])
        assert (row.slots, row.session_ids) == ({0: (5, 1), 1: (6, 1), 2: (7, 2)}, [1, 2])
        # Another value for the same slot is another row: neither is more right than the other.
        assert hold_readings(conn, [held(meter, {0: 9}, session=3)], AT) != first
        assert conn.execute("SELECT DISTINCT meter_id, day FROM touched_day").fetchall() == [(meter, DAY)]


def test_what_is_stored_already_needs_no_decision(db: Database, meter: int) -> None:
    with db.connect() as conn:
        merge_readings(conn, reading(meter, [5, 6] + [None] * 286), AT)
        assert hold_readings(conn, [held(meter, {0: 5}, reason=HoldReason.CONSTANT)], AT) == []
        assert hold_readings(conn, [held(meter, {0: 8}, reason=HoldReason.CONSTANT)], AT) != []


def test_a_release_merges_as_a_session_does(db: Database, meter: int) -> None:
    with db.connect() as conn:
        merge_readings(conn, reading(meter, [1] + [None] * 287, session=3), AT)
        ids = hold_readings(conn, [held(meter, {0: 5, 1: 6})], AT)
        touched = conn.execute("SELECT count(*) FROM touched_day").fetchone()[0]
        done = hold_decisions.release(conn, ids, **WHY)
        assert (done.state, done.merge.conflicts, done.touched) == (HoldState.RELEASED, 1, ((meter, DAY),))
        assert [row[1][:3] for row in stored(conn, meter)] == [[1, 6, None]], "what is stored stays"
        assert conn.execute("SELECT count(*) FROM touched_day").fetchone()[0] > touched
        (row,) = holds(conn, ids)
        assert (row.state, row.decided_by, row.filled) == (HoldState.RELEASED, "ana", {str(DAY): [1]})
        assert conn.execute("SELECT actor, action FROM audit").fetchall() == [("ana", "hold.release")]
        assert audit.verify(conn).is_whole
        # The same brought again: decided is decided.
        assert hold_readings(conn, [held(meter, {0: 5, 1: 6}, session=2)], AT) == []
        with pytest.raises(OperatorFault, match="released already, by ana"):
            hold_decisions.reject(conn, ids, **WHY)


def test_a_shift_moves_over_midnight_and_says_where_it_came_from(db: Database, meter: int) -> None:
    early = DAY - dt.timedelta(days=30)
    with db.connect() as conn:
        ids = hold_readings(conn, [held(meter, {0: 5, 287: 7}, day=early, likely_shift_s=MONTH + 300)], AT)
        (row,) = open_holds(conn)
        done = hold_decisions.shift(conn, ids, row.likely_shift_s, **WHY)
        assert [row[1][1] for row in stored(conn, meter)] == [5]
        after = DAY + dt.timedelta(days=1)
        assert [row[1][0] for row in stored(conn, meter, after)] == [7]
        assert done.touched == ((meter, early), (meter, DAY), (meter, after))
        hold = hold_of(conn, 1, 1, after, 0)
        assert hold is not None
        assert (hold.shift_s, hold.decided_by) == (MONTH + 300, "ana")
        assert (hold_of(conn, 1, 1, DAY, 0), hold_of(conn, 2, 1, DAY, 1)) == (None, None)


@pytest.mark.parametrize(
    ("shift_s", "message"), [(100, "not a whole number of intervals"), (0, "0 s"), (86_400, "not ended yet")]
)
def test_a_shift_that_cannot_be_is_refused(db: Database, meter: int, shift_s: int, message: str) -> None:
    with db.connect() as conn:
        ids = hold_readings(conn, [held(meter, {0: 5, 150: 5})], AT)
        with pytest.raises(OperatorFault, match=message):
            hold_decisions.shift(conn, ids, shift_s, **WHY)
        with pytest.raises(OperatorFault, match="without a reason"):
            hold_decisions.shift(conn, ids, 300, actor="ana", why=" ", at=AT)
        with pytest.raises(OperatorFault, match="no hold 99"):
            hold_decisions.reject(conn, [*ids, 99], **WHY)
        assert open_holds(conn)[0].state is HoldState.HELD


def test_a_rejection_leaves_the_day_missing_and_touched(db: Database, meter: int) -> None:
    with db.connect() as conn:
        ids = hold_readings(conn, [held(meter, {0: 5})], AT)
        conn.execute("DELETE FROM touched_day")
        done = hold_decisions.reject(conn, ids, **WHY)
        assert (done.state, stored(conn, meter), open_holds(conn)) == (HoldState.REJECTED, [], [])
        assert conn.execute("SELECT meter_id, day FROM touched_day").fetchall() == [(meter, DAY)]
        assert hold_readings(conn, [held(meter, {0: 5}, session=2)], AT) == [], "asked once, not each day"


@pytest.mark.parametrize("is_delivered", [False, True])
def test_undo_takes_out_what_the_release_filled(db: Database, meter: int, is_delivered: bool) -> None:
    with db.connect() as conn:
        merge_readings(conn, reading(meter, [1] + [None] * 287, session=3), AT)
        ids = hold_readings(conn, [held(meter, {0: 1, 1: 6, 2: 7})], AT)
        hold_decisions.release(conn, ids, **WHY)
        if is_delivered:
            (uc_id,) = conn.execute("SELECT id FROM uc").fetchone()
            add_submission(conn, uc_id)
        done = hold_decisions.undo(conn, ids, **WHY)
        versions = [(version, pulses[:3]) for version, pulses, _ in stored(conn, meter)]
        assert versions == ([(1, [1, 6, 7])] if is_delivered else []) + [(1 + is_delivered, [1, None, None])]
        assert (done.state, done.touched) == (HoldState.HELD, ((meter, DAY),))
        assert [row.id for row in open_holds(conn)] == ids
        hold_decisions.release(conn, ids, **WHY)
        assert stored(conn, meter)[-1][1][:3] == [1, 6, 7]


def test_a_preview_is_what_would_be_merged(db: Database, meter: int) -> None:
    with db.connect() as conn:
        ids = hold_readings(conn, [held(meter, {0: 5, 287: 7})], AT)
        frame = hold_decisions.moved(holds(conn, ids), -600)
    by_day = {day: pulses for _, _, day, _, _, pulses, _, _ in frame.iter_rows()}
    assert (by_day[DAY][285], by_day[DAY - dt.timedelta(days=1)][286]) == (7, 5)
    assert frame.select(pl.col("pulses").list.drop_nulls().list.len().sum()).item() == 2
