"""Merging day vectors: what fills, what stays, what goes to quarantine, and who waits for whom."""

from __future__ import annotations

import datetime as dt
import threading

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults import DeveloperFault
from storage.database import Database
from storage.readings import merge_readings, read_reading_days
from tests.storage.factory import AT, DAY, add_points, add_submission, reading


def stored(db: Database, meter_id: int) -> list[tuple]:
    with db.connect() as conn:
        return conn.execute(
            "SELECT version, pulses, source_starts, source_sessions FROM reading_day WHERE meter_id = %s "
            "ORDER BY day, channel, version",
            [meter_id],
        ).fetchall()


def test_insert_fill_repeat(db: Database) -> None:
    with db.connect() as conn:
        first = merge_readings(conn, reading(7, [1, None, None, 4], session=10), AT)
        again = merge_readings(conn, reading(7, [1, None, None, 4], session=11), AT)
        filled = merge_readings(conn, reading(7, [None, 2, None, None], session=12), AT)
    assert (first.inserted, first.touched) == (1, ((7, DAY),))
    assert (again.unchanged, again.touched) == (1, ())
    assert (filled.extended, filled.conflicts, filled.touched) == (1, 0, ((7, DAY),))
    assert stored(db, 7) == [(1, [1, 2, None, 4], [0, 1, 2, 3], [10, 12, 0, 10])]
    with db.connect() as conn:
        assert conn.execute("SELECT meter_id, day FROM touched_day ORDER BY seq").fetchall() == [(7, DAY)] * 2


def test_contradiction_keeps_the_stored_value_and_both_are_in_quarantine(db: Database) -> None:
    with db.connect() as conn:
        merge_readings(conn, reading(7, [1, 2, None], session=1), AT)
        for session in (11, 12):
            result = merge_readings(conn, reading(7, [1, 9, 3], session=session), AT)
            assert result.conflicts == 1
        assert conn.execute("SELECT stage, meter_id, day, session_id, detail FROM quarantine").fetchall() == [
            (
                "merge",
                7,
                DAY,
                11,
                {
                    "channel": 1,
                    "slots": [1],
                    "kept": [2],
                    "kept_sessions": [1],
                    "refused": [9],
                    "refused_sessions": [11],
                },
            )
        ]
    assert stored(db, 7) == [(1, [1, 2, 3], [0, 2], [1, 11])]


@pytest.mark.parametrize("change", [{"interval_s": 900}, {"quantity_code": 2}, {"pulses": [5, 6]}])
def test_another_shape_is_a_contradiction_of_the_whole_day(embedded_db: Database, change: dict) -> None:
    with embedded_db.connect() as conn:
        merge_readings(conn, reading(7, [1, None, None]), AT)
        result = merge_readings(conn, reading(7, **{"pulses": [5, 6, 7], **change}), AT)
        assert (result.conflicts, result.extended) == (1, 0)
        (detail,) = conn.execute("SELECT detail FROM quarantine").fetchone()
    assert detail["kept_shape"]["pulses"] == [1, None, None]
    assert detail["refused_shape"]["pulses"][0] == 5
    assert stored(embedded_db, 7)[0][1] == [1, None, None]


@pytest.mark.req("TR-5.7d")
def test_a_delivered_day_gets_a_new_version(db: Database) -> None:
    with db.connect() as conn:
        (uc_id, meter_id), (_, other) = add_points(conn, 2)
        merge_readings(conn, pl.concat([reading(meter_id, [1, None]), reading(other, [1, None])]), AT)
        add_submission(conn, uc_id)
        merge_readings(conn, pl.concat([reading(meter_id, [None, 2]), reading(other, [None, 2])]), AT)
    assert [row[:2] for row in stored(db, meter_id)] == [(1, [1, None]), (2, [1, 2])]
    assert [row[:2] for row in stored(db, other)] == [(1, [1, 2])]
    latest = read_reading_days(db, DAY, DAY, meter_ids=[meter_id])
    assert latest["version"].to_list() == [2]
    assert latest["pulses"].to_list() == [[1, 2]]


def test_same_day_twice_in_one_frame_and_days_without_values(embedded_db: Database) -> None:
    frame = pl.concat([reading(7, [1, None]), reading(7, [None, 2], session=2), reading(8, [None, None])])
    with embedded_db.connect() as conn:
        result = merge_readings(conn, frame, AT)
        assert merge_readings(conn, frame.clear(), AT).touched == ()
    assert (result.inserted, result.unchanged) == (1, 1)
    assert stored(embedded_db, 7) == [(1, [1, 2], [0, 1], [1, 2])]
    assert stored(embedded_db, 8) == []


@pytest.mark.parametrize("starts", [[1], [0, 2, 1], [0, 1, 1], [0, 3]])
def test_runs_that_do_not_cover_the_day_are_a_bug(embedded_db: Database, starts: list[int]) -> None:
    broken = reading(7, [1, 2, 3]).with_columns(
        source_starts=pl.Series([starts], dtype=pl.List(pl.Int16)),
        source_sessions=pl.Series([list(range(1, len(starts) + 1))], dtype=pl.List(pl.Int64)),
    )
    with embedded_db.connect() as conn, pytest.raises(DeveloperFault, match="do not cover"):
        merge_readings(conn, broken, AT)


vectors = st.lists(
    st.lists(st.booleans(), min_size=6, max_size=6).map(
        lambda known: [n * 10 if k else None for n, k in enumerate(known)]
    ),
    min_size=1,
    max_size=5,
)

# One database for all examples is meant; and a busy machine draws slowly.
_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=30, deadline=None, suppress_health_check=_SHARED)
@given(vectors, st.randoms())
def test_order_does_not_matter(embedded_db: Database, parts: list[list[int | None]], random) -> None:
    """Property: partial reads of one truth end in the same pulses in any order, one by one or at once."""
    shuffled = random.sample(parts, len(parts))
    with embedded_db.connect() as conn:
        conn.execute("TRUNCATE reading_day")
        for part in parts:
            merge_readings(conn, reading(1, part), AT)
        merge_readings(conn, pl.concat([reading(2, part) for part in shuffled]), AT)
        conn.commit()
    one, other = stored(embedded_db, 1), stored(embedded_db, 2)
    assert one == other


def test_interrupted_merge_leaves_nothing(db: Database) -> None:
    with db.connect() as conn:
        merge_readings(conn, reading(7, [1, None, 3]), AT)
    before = stored(db, 7)
    conn = db.connect()
    merge_readings(conn, reading(7, [1, 2, 9]), AT)
    # As after kill -9: the server notices that the client is gone and rolls back.
    with db.connect(autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
    assert stored(db, 7) == before
    with db.connect() as fresh:
        assert fresh.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
        assert merge_readings(fresh, reading(7, [1, 2, 9]), AT).conflicts == 1
    assert stored(db, 7)[0][1] == [1, 2, 3]


def test_merges_of_one_meter_at_once_lose_nothing(db: Database) -> None:
    """Twelve sessions of one meter-day, each with one slot, from six threads."""
    slots, failures = 12, []

    def merge(numbers: list[int]) -> None:
        try:
            for number in numbers:
                with db.connect() as conn:
                    values = [number * 5 if slot == number else None for slot in range(slots)]
                    merge_readings(conn, reading(7, values, session=number + 1), AT)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=merge, args=([n, n + 6],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert stored(db, 7)[0][1] == [slot * 5 for slot in range(slots)]


def test_reading_by_shard_covers_each_meter_once(db: Database) -> None:
    with db.connect() as conn:
        pairs = add_points(conn, 7)
        frame = pl.concat(
            [
                reading(m, [1, 2], day=DAY + dt.timedelta(days=d), channel=c)
                for _, m in pairs
                for d in (0, 1)
                for c in (1, 2)
            ]
        )
        merge_readings(conn, frame, AT)
    parts = [read_reading_days(db, DAY, DAY, shard, 3) for shard in range(3)]
    assert sorted(pl.concat(parts)["meter_id"]) == [meter for _, meter in pairs]
    assert all(part["channel"].unique().to_list() == [1] for part in parts)
    assert {uc_id % 3 for uc_id, meter in pairs if meter in set(parts[1]["meter_id"])} == {1}
    assert read_reading_days(db, DAY, DAY + dt.timedelta(days=1), active_only=False).height == 28
