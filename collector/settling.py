"""What becomes of sessions that are over: decoded and merged in batches, and their requests answered.

Runs in the workers' threads of `service`, and once more at the start of the next collector for what a killed
one left open.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from datetime import date, datetime

import psycopg
import structlog

from collector import store, worklist
from collector.batching import Connection, Worker
from collector.commands import store as command_store
from collector.commands.clock.rule import consider_clock
from collector.commands.policy import Policy
from collector.nbr14522.session import SessionResult
from collector.store import Closing, Settled
from collector.worklist import Assignment
from faults import DeveloperFault, Fault, RetryFault
from storage import queue
from storage.settings import Settings

log = structlog.get_logger(__name__)

_DEADLOCK_TRIES = 3


class Settler:
    """Settles sessions on behalf of one collector."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        name: str,
        now: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._name = name
        self._now = now
        self._rng = rng

    def settle(
        self, worker: Worker, closings: Sequence[Closing], assignments: dict[int, Assignment]
    ) -> dict[int, Settled]:
        """Settle a batch; if something in it cannot be merged, each alone: one must not stop the rest."""
        try:
            for _ in range(_DEADLOCK_TRIES):
                try:
                    found = worker.transact(self._settle_and_answer, closings, assignments)
                except psycopg.errors.DeadlockDetected:
                    continue
                return {settled.session_id: settled for settled in found}
            raise RetryFault("the database kept finding deadlocks", where="collector", remedy="start again")
        except (psycopg.OperationalError, Fault):
            raise
        except Exception as error:  # made the outcome of the session that caused it
            if len(closings) > 1:
                result: dict[int, Settled] = {}
                for closing in closings:
                    result |= self.settle(worker, [closing], assignments)
                return result
            bug = DeveloperFault(
                f"{type(error).__name__}: {error}",
                where=f"session {closings[0].session_id}",
                remedy="report it; the frames are stored",
            )
            told = traceback.format_exc()
            log.error("session.unmergeable", session=closings[0].session_id, traceback=told)
            worker.transact(self._condemn, closings[0], assignments.get(closings[0].session_id), bug)
            return {}

    def _settle_and_answer(
        self, conn: Connection, closings: Sequence[Closing], assignments: dict[int, Assignment]
    ) -> list[Settled]:
        settled = store.settle(conn, closings, self._settings, self._now())
        for one in settled:
            assignment = assignments.get(one.session_id)
            if assignment is not None:
                self._answer(conn, one, assignment)
        return settled

    def _answer(self, conn: Connection, settled: Settled, assignment: Assignment) -> None:
        """What the request gets: its result, another try later, or the reason why not."""
        fault, target = settled.fault, assignment.target
        if assignment.command is not None:
            command_store.answer(
                conn, self._name, settled, assignment, self._now(), retry_after_s=self._backoff_s(assignment)
            )
        elif settled.outcome == "aborted":
            queue.release(conn, self._name, [assignment.request_id], 0.0)
        elif fault is None and target is not None:
            exhausted = worklist.exhausted_days(
                conn, settled.decoded, target, assignment.days, self._now(), self._settings
            )
            queue.finish(conn, self._name, assignment.request_id, _result(settled, exhausted))
        elif fault is not None:
            retry_after_s = self._backoff_s(assignment) if isinstance(fault, RetryFault) else None
            queue.fail(
                conn,
                self._name,
                assignment.request_id,
                fault,
                stage=settled.failed_stage or "",
                retry_after_s=retry_after_s,
            )
        if target is not None and settled.outcome != "aborted":
            # After the answer: a step of a correction that left a rest is followed by the next.
            consider_clock(
                conn, self._settings, self._policy, settled, target, self._now(), assignment.command
            )

    def _backoff_s(self, assignment: Assignment) -> float:
        limits = self._settings.collector
        base_s, max_s = limits.backoff_base_s, limits.backoff_max_s
        return queue.backoff_s(assignment.attempts, base_s, max_s) * (0.5 + self._rng.random())

    def _condemn(self, conn: Connection, closing: Closing, assignment: Assignment | None, bug: Fault) -> None:
        store.condemn(conn, closing, bug, self._now())
        if assignment is not None:
            queue.fail(conn, self._name, assignment.request_id, bug, stage="merge")


def closing_of(session_id: int, result: SessionResult) -> Closing:
    return Closing(
        session_id=session_id,
        outcome=result.outcome,
        failed_stage=result.failed_stage,
        fault=result.fault,
        bytes_sent=result.bytes_sent,
        bytes_received=result.bytes_received,
        retries=result.retries,
    )


def _result(settled: Settled, exhausted: Sequence[date]) -> dict[str, object]:
    clock = settled.decoded.clock
    result: dict[str, object] = {
        "outcome": settled.outcome,
        "session_id": settled.session_id,
        "bytes_sent": settled.bytes_sent,
        "bytes_received": settled.bytes_received,
        "blocks": settled.decoded.blocks,
        "days_changed": [day.isoformat() for day in settled.touched],
        "drift_s": round(clock.drift_s, 3) if clock else None,
    }
    if exhausted:
        result["exhausted_days"] = [day.isoformat() for day in exhausted]
    return result
