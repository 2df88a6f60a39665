"""The queue: each request to one worker, nothing lost when a worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from faults import FieldCrewFault, RetryFault
from storage import queue
from storage.database import Database
from storage.queue import JobRequest


def ask(**changes: object) -> JobRequest:
    return JobRequest(**{"kind": "read", "requested_by": "test", **changes})


def states(db: Database) -> dict[int, tuple]:
    with db.connect() as conn:
        rows = conn.execute("SELECT id, state, attempts, claimed_by, error FROM job_request").fetchall()
    return {row[0]: row[1:] for row in rows}


def test_one_open_request_per_key(db: Database) -> None:
    with db.connect() as conn:
        first = queue.enqueue(conn, ask(dedup_key="meter 7 daily"))
        assert queue.enqueue(conn, ask(dedup_key="meter 7 daily")) == first
        assert len(queue.enqueue_many(conn, [ask(dedup_key=f"k{i % 3}") for i in range(6)])) == 3
        assert len(queue.enqueue_many(conn, [ask(), ask()])) == 2
        (job,) = queue.claim(conn, "w", limit=1, lease_s=60)
        assert queue.enqueue(conn, ask(dedup_key="meter 7 daily")) == first, "running is open, too"
        assert queue.finish(conn, "w", job.id, {"blocks": 3})
        assert queue.enqueue(conn, ask(dedup_key="meter 7 daily")) > first


def test_urgent_first_and_not_before_its_time(db: Database) -> None:
    with db.connect() as conn:
        (later,) = conn.execute("SELECT now() + interval '1 hour'").fetchone()
        routine = queue.enqueue(conn, ask(parameters={"days": ["2026-11-20"]}))
        queue.enqueue(conn, ask(priority=queue.Priority.ON_DEMAND, not_before=later))
        urgent = queue.enqueue(conn, ask(priority=queue.Priority.RECOVERY))
        queue.enqueue(conn, ask(kind="export"))
        conn.commit()
        jobs = queue.claim(conn, "w", limit=10, lease_s=60)
    assert [job.id for job in jobs] == [urgent, routine]
    assert jobs[1].parameters == {"days": ["2026-11-20"]}
    assert jobs[1].attempts == 1


def test_retry_waits_and_gives_up(db: Database) -> None:
    fault = RetryFault("no carrier", where="meter 12345678", remedy="wait")
    with db.connect(autocommit=True) as conn:
        number = queue.enqueue(conn, ask(max_attempts=2))
        queue.claim(conn, "w", limit=1, lease_s=60)
        assert queue.fail(conn, "w", number, fault, stage="connect", retry_after_s=3600)
        assert queue.claim(conn, "w", limit=1, lease_s=60) == []
        conn.execute("UPDATE job_request SET not_before = now()")
        queue.claim(conn, "w", limit=1, lease_s=60)
        assert queue.fail(conn, "w", number, fault, stage="connect", retry_after_s=0)
        other = queue.enqueue(conn, ask())
        queue.claim(conn, "w", limit=1, lease_s=60)
        queue.fail(conn, "w", other, FieldCrewFault("no answer for 3 days"))
    found = states(db)
    assert found[number][:3] == ("failed", 2, None)
    assert found[number][3] == {
        "actor": "retry",
        "stage": "connect",
        "message": "no carrier",
        "where": "meter 12345678",
        "remedy": "wait",
    }
    assert found[other][0] == "failed"


def test_backoff_doubles_to_a_limit() -> None:
    assert [queue.backoff_s(n, 30, 200) for n in (1, 2, 3, 4, 500)] == [30, 60, 120, 200, 200]


def test_claims_at_once_never_share(db: Database) -> None:
    """Eight workers, 200 requests: each is claimed once."""
    with db.connect() as conn:
        ids = queue.enqueue_many(conn, [ask() for _ in range(200)])
    claimed: list[tuple[str, int]] = []

    def work(worker: str) -> None:
        while True:
            with db.connect() as conn:
                jobs = queue.claim(conn, worker, limit=7, lease_s=60)
            if not jobs:
                return
            claimed.extend((worker, job.id) for job in jobs)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for _, number in claimed) == sorted(ids)


def test_a_lost_claim_is_told(db: Database) -> None:
    with db.connect(autocommit=True) as conn:
        number = queue.enqueue(conn, ask())
        queue.claim(conn, "slow", limit=1, lease_s=0)
        assert queue.release_expired(conn) == 1
        (job,) = queue.claim(conn, "quick", limit=1, lease_s=60)
        assert (job.id, job.attempts) == (number, 2)
        assert queue.renew(conn, "slow", [number], 60) == set()
        assert queue.renew(conn, "quick", [number], 60) == {number}
        assert not queue.finish(conn, "slow", number)
        assert not queue.fail(conn, "slow", number, RetryFault("late"), retry_after_s=1)
        assert queue.release_expired(conn) == 0
        assert queue.finish(conn, "quick", number)


_WORKER = """
import sys, time
import psycopg
from storage import queue
conn = psycopg.connect(sys.argv[1], autocommit=True)
print([job.id for job in queue.claim(conn, "doomed", limit=1, lease_s=0.5)], flush=True)
time.sleep(60)
"""


def test_kill_of_a_worker_frees_its_claim(db: Database) -> None:
    with db.connect() as conn:
        number = queue.enqueue(conn, ask(max_attempts=1))
        again = queue.enqueue(conn, ask())
    for expected in (number, again):
        child = subprocess.Popen([sys.executable, "-c", _WORKER, db.url], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline().strip() == f"[{expected}]"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with db.connect(autocommit=True) as conn:
        conn.execute("SELECT pg_sleep(0.6)")
        assert queue.release_expired(conn) == 2
        assert [job.id for job in queue.claim(conn, "w", limit=5, lease_s=60)] == [again]
    assert states(db)[number][0] == "failed"
    assert states(db)[number][3]["stage"] == "lease"


def test_a_killed_worker_does_not_count_against_its_request_unless_all_die(db: Database) -> None:
    with db.connect(autocommit=True) as conn:
        harmless, deadly = (queue.enqueue(conn, ask(max_attempts=1)) for _ in range(2))
        queue.claim(conn, "killed", limit=2, lease_s=3600)
        assert queue.release_expired(conn, ["killed"], [deadly]) == 2
        (job,) = queue.claim(conn, "next", limit=2, lease_s=60)
        assert (job.id, job.attempts) == (harmless, 1)
    assert states(db)[deadly][0] == "failed"


def test_listener_hears_work(db: Database) -> None:
    with queue.listen(db) as ears:
        assert not queue.wait(ears, 0.05)
        with db.connect() as conn:
            queue.enqueue(conn, ask())
            assert not queue.wait(ears, 0.05), "nothing is heard before the commit"
        assert queue.wait(ears, 60)


@pytest.mark.parametrize("rows", [0, 1])
def test_enqueue_nothing(embedded_db: Database, rows: int) -> None:
    with embedded_db.connect() as conn:
        assert len(queue.enqueue_many(conn, [ask()] * rows)) == rows
