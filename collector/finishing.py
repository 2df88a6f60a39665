"""The end of sessions: merged in batches (`merging`), and their requests answered, in one transaction.

Runs in the workers' threads of `service`, and once more at the start of the next collector for what a killed
one left open.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

import psycopg
import structlog

from collector.batching import Connection, Worker
from collector.commands import store as command_store
from collector.commands.clock.policy import consider_clock
from collector.commands.policy import Policy
from collector.merging import merge_sessions
from collector.session import EndedSession, MergedSession
from collector.work import worklist
from collector.work.worklist import Assignment
from faults import DeveloperFault, Fault, RetryFault
from storage import queue, sessions
from storage.settings import Settings

log = structlog.get_logger(__name__)

_DEADLOCK_TRIES = 3


class Finisher:
    """Finishes sessions on behalf of one collector."""

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

    def finish(
        self, worker: Worker, ended: Sequence[EndedSession], assignments: Mapping[int, Assignment]
    ) -> dict[int, MergedSession]:
        """Merge a batch and answer its requests; if something in it cannot be merged, each session alone: one
        must not stop the rest.

        Args:
            assignments: by session id; a session of nobody's request has none.

        Returns:
            By session id, those that could be merged.
        """
        try:
            for _ in range(_DEADLOCK_TRIES):
                try:
                    merged = worker.transact(self._merge_and_answer, ended, assignments)
                except psycopg.errors.DeadlockDetected:
                    continue
                return {session.session_id: session for session in merged}
            raise RetryFault("the database kept finding deadlocks", where="collector", remedy="start again")
        except (psycopg.OperationalError, Fault):
            raise
        except Exception as error:  # made the outcome of the session that caused it
            if len(ended) > 1:
                result: dict[int, MergedSession] = {}
                for session in ended:
                    result |= self.finish(worker, [session], assignments)
                return result
            session_id = ended[0].session_id
            bug = DeveloperFault(
                f"{type(error).__name__}: {error}",
                where=f"session {session_id}",
                remedy="report it; the frames are stored",
            )
            log.error("session.unmergeable", session=session_id, traceback=traceback.format_exc())
            worker.transact(self._close_unmerged, session_id, assignments.get(session_id), bug)
            return {}

    def _merge_and_answer(
        self, conn: Connection, ended: Sequence[EndedSession], assignments: Mapping[int, Assignment]
    ) -> list[MergedSession]:
        merged = merge_sessions(conn, ended, self._settings, self._now())
        for session in merged:
            assignment = assignments.get(session.session_id)
            if assignment is not None:
                self._answer(conn, session, assignment)
        return merged

    def _answer(self, conn: Connection, merged: MergedSession, assignment: Assignment) -> None:
        """What the request gets: its result, another try later, or the reason why not."""
        fault, target = merged.fault, assignment.target
        if assignment.command is not None:
            command_store.answer(
                conn, self._name, merged, assignment, self._now(), retry_after_s=self._backoff_s(assignment)
            )
        elif merged.outcome == "aborted":
            queue.release(conn, self._name, [assignment.request_id], 0.0)
        elif fault is None and target is not None:
            exhausted = worklist.exhausted_days(
                conn, merged.decoded, target, assignment.days, self._now(), self._settings
            )
            queue.finish(conn, self._name, assignment.request_id, _result(merged, exhausted))
        elif fault is not None:
            retry_after_s = self._backoff_s(assignment) if isinstance(fault, RetryFault) else None
            queue.fail(
                conn,
                self._name,
                assignment.request_id,
                fault,
                stage=merged.failed_stage or "",
                retry_after_s=retry_after_s,
            )
        if target is not None and merged.outcome != "aborted":
            # After the answer: a step of a correction that left a rest is followed by the next.
            consider_clock(
                conn, self._settings, self._policy, merged, target, self._now(), assignment.command
            )

    def _backoff_s(self, assignment: Assignment) -> float:
        limits = self._settings.collector
        base_s, max_s = limits.backoff_base_s, limits.backoff_max_s
        return queue.backoff_s(assignment.attempts, base_s, max_s) * (0.5 + self._rng.random())

    def _close_unmerged(
        self, conn: Connection, session_id: int, assignment: Assignment | None, bug: Fault
    ) -> None:
        sessions.close_unmerged(conn, session_id, bug, self._now())
        if assignment is not None:
            queue.fail(conn, self._name, assignment.request_id, bug, stage="merge")


def _result(merged: MergedSession, exhausted: Sequence[date]) -> dict[str, object]:
    clock = merged.decoded.clock
    result: dict[str, object] = {
        "outcome": merged.outcome,
        "session_id": merged.session_id,
        "bytes_sent": merged.bytes_sent,
        "bytes_received": merged.bytes_received,
        "blocks": merged.decoded.blocks,
        "days_changed": [day.isoformat() for day in merged.touched],
        "drift_s": round(clock.drift_s, 3) if clock else None,
    }
    if exhausted:
        result["exhausted_days"] = [day.isoformat() for day in exhausted]
    return result
