"""The collector: works through the queue of read requests, many sessions at once, in one event loop.

Claiming, limits, back-off and shutdown live here. The way of a session from its line to the readings is in
`conversing` (opened, had), `evidence` (its frames stored), `merging` (decoded, merged, closed) and
`finishing` (its request answered). Two worker threads with a connection each do all database work, in
batches.

It is made to be killed: everything it needs to go on is in the database, so an unexpected failure of the
database ends it, and the next one to start closes what it left open. Retries of a line belong here and
nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import structlog

from collector.batching import Connection, Worker
from collector.commands import store as command_store
from collector.commands.policy import load_policy
from collector.conversing import FINISH_BATCH, Busy, Conversations
from collector.finishing import Finisher
from collector.gates import Gates, line_fault
from collector.lines.callers import Callers
from collector.meter_models import use_meter_models
from collector.session import EndedSession, MergedSession
from collector.streams.reader import StreamReaders
from collector.work import worklist
from collector.work.monitoring import raised
from collector.work.planning import Windows, due_reads, plan_reads
from collector.work.urgency import raise_waiting
from collector.work.worklist import Assignment
from faults import OperatorFault, RetryFault
from faults.market_time import to_local
from storage import queue, sessions
from storage.database import Database
from storage.queue import Priority

log = structlog.get_logger(__name__)

_CLAIM_BATCH = 500
# A request given back because its cell, host or meter is busy comes again after about so long.
_BUSY_S = 2.0
_SCHEDULE_S = 20.0
# The same where another collector has the unit's connection.
_ELSEWHERE_S = 30.0
_OLD_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Stats:
    """Counters since the start, for metrics and progress."""

    active: int = 0
    waiting: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    sessions: Counter[str] = field(default_factory=Counter)


class Collector:
    """One collector process' work.

    Args:
        now: reference time: what meters' clocks are compared with, and what is expected of a day. The queue
            itself goes by the database's clock.
        only: nothing but these requests, and no schedules: for a run that ends.
        on_session: told of each session's end.
        rng: of the jitter.
    """

    def __init__(
        self,
        db: Database,
        *,
        now: Callable[[], datetime] = utc_now,
        only: Sequence[int] | None = None,
        on_session: Callable[[MergedSession], None] | None = None,
        rng: random.Random | None = None,
        windows: Windows | None = None,
    ) -> None:
        self._db = db
        self._settings = db.settings.collector
        self._now: Callable[[], datetime] = lambda: now().astimezone(UTC)
        self._only = only
        self._on_session = on_session
        self._rng = rng or random.Random()
        self._windows = windows or Windows()
        use_meter_models(self._settings.meter_models_path)
        self._policy = load_policy(self._settings.command_policy_path)
        self.name = f"{self._settings.name}:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.stats = Stats()
        self._gates = Gates(self._settings)
        self._waiting: list[Assignment] = []
        self._active: dict[int, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._claims = Worker(db, "collector-claims")
        self._writes = Worker(db, "collector-writes")
        self._callers = Callers(self._settings, self._claims, self.name, self._now, self._units_called)
        self._finisher = Finisher(db.settings, self._policy, self.name, self._now, self._rng)
        self._conversations = Conversations(
            db.settings,
            name=self.name,
            claims=self._claims,
            writes=self._writes,
            callers=self._callers,
            finisher=self._finisher,
            now=self._now,
            is_cut=lambda one: self._is_stopping or one.request_id not in self._active,
        )
        self.streams = StreamReaders(
            db.settings,
            self._writes,
            self.name,
            self._now,
            callers=self._callers,
            steady=time.monotonic if now is utc_now else None,
        )
        self._group: asyncio.TaskGroup | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then let sessions end, cut the rest, and give back what is claimed.

        Raises:
            Fault: the database failed, or the software did; what was open is recovered at the next start.
        """
        _allow_many_sockets()
        try:
            await self._claims.call(sessions.proclaim, self.name)
            await self._recover()
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._callers.listen(group, may_be_taken=self._only is not None)
                helpers = [group.create_task(work) for work in self._helpers(stop)]
                await self._intake()
                await self._wind_down()
                await self._callers.stop()
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as failures:
            raise _as_fault(failures) from failures
        except psycopg.Error as error:
            raise _as_fault(error) from error
        finally:
            await self._callers.stop()
            self._conversations.evidence.close()
            self._claims.close()
            self._writes.close()

    # --- taking work ---------------------------------------------------------------------------------------

    def _helpers(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        helpers = [self._heed(stop), self._listen(), self._renew(), self._watch(), self._callers.give_up()]
        helpers.append(self._conversations.evidence.keep_storing())
        if self._only is None:
            helpers += [self._schedule(), self.streams.run()]
        return helpers

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._is_stopping = True
        self._wake.set()

    async def _listen(self) -> None:
        """Wake when a request is queued."""
        loop = asyncio.get_running_loop()
        with queue.listen(self._db) as conn:
            heard = asyncio.Event()
            loop.add_reader(conn.fileno(), heard.set)
            try:
                while True:
                    await heard.wait()
                    heard.clear()
                    conn.pgconn.consume_input()
                    while conn.pgconn.notifies() is not None:
                        self._wake.set()
            finally:
                loop.remove_reader(conn.fileno())

    async def _intake(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            await self._claim()
            await self._dispatch()
            try:
                async with asyncio.timeout(self._settings.poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _claim(self) -> None:
        while not self._is_stopping:
            room = self._settings.max_sessions - len(self._active) - len(self._waiting)
            limit = min(room, _CLAIM_BATCH)
            if limit <= 0:
                return
            taken, ready = await self._claims.call(self._take, limit)
            self._waiting += ready
            if taken < limit:
                return

    def _take(self, conn: Connection, limit: int) -> tuple[int, list[Assignment]]:
        """Claim requests, and answer at once those that need no session."""
        jobs = queue.claim(
            conn,
            self.name,
            limit=limit,
            lease_s=self._settings.lease_s,
            kinds=("read", "command"),
            only=self._only,
        )
        ready = []
        for assignment in self._assign(conn, jobs) if jobs else []:
            fault = assignment.fault or line_fault(assignment.target, self._settings)
            if fault is not None:
                queue.fail(conn, self.name, assignment.request_id, fault, stage="registry")
            elif assignment.goal is None and assignment.command is None:
                queue.finish(conn, self.name, assignment.request_id, {"outcome": "present"})
            else:
                ready.append(assignment)
        return len(jobs), ready

    def _assign(self, conn: Connection, jobs: Sequence[queue.Job]) -> list[Assignment]:
        reads = [job for job in jobs if job.kind == "read"]
        commands = [job for job in jobs if job.kind == "command"]
        found = worklist.assign(conn, reads, self._db.settings, self._now()) if reads else []
        return found + (command_store.assign(conn, commands, self._policy) if commands else [])

    async def _dispatch(self) -> None:
        """Start what the gates let in, most urgent first; a surplus goes back to the queue."""
        assert self._group is not None
        self._waiting, elsewhere = self._callers.part(self._waiting)
        if elsewhere:
            await self._give_back(elsewhere, _ELSEWHERE_S)
        self._waiting.sort(key=lambda assignment: (assignment.priority, assignment.request_id))
        held = []
        for assignment in self._waiting:
            if assignment.target is not None and self._gates.enter(assignment.target):
                task = self._group.create_task(self._serve(assignment))
                self._active[assignment.request_id] = task
            else:
                held.append(assignment)
        # A full cell must not keep the others' requests out: only so many may wait here for a gate.
        room = max(16, self._settings.max_sessions // 8)
        self._waiting, surplus = held[:room], held[room:]
        self._count()
        if surplus:
            await self._give_back([assignment.request_id for assignment in surplus], _BUSY_S)

    @property
    def frames(self) -> int:
        """Frames recorded since the start."""
        return self._conversations.evidence.count

    @property
    def callers(self) -> Callers:
        """Units that call."""
        return self._callers

    def _units_called(self, came: list[Assignment]) -> None:
        self._waiting += came
        self._wake.set()

    async def _give_back(self, request_ids: list[int], after_s: float) -> None:
        delay_s = after_s * (0.5 + self._rng.random())
        await self._claims.call(queue.release, self.name, request_ids, delay_s)

    # --- one session ---------------------------------------------------------------------------------------

    async def _serve(self, assignment: Assignment) -> None:
        target = assignment.target
        assert target is not None
        try:
            merged = await self._conversations.have(assignment, target)
            if merged is not None:
                self._note(merged)
        except Busy:
            await self._give_back([assignment.request_id], _BUSY_S)
        finally:
            self._gates.leave(target)
            self._active.pop(assignment.request_id, None)
            self._count()
            self._wake.set()

    # --- housekeeping --------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Close what collectors that are gone left open: their frames are decoded, their claims freed."""
        gone, open_ids = await self._claims.call(self._find_gone)
        for start in range(0, len(open_ids), FINISH_BATCH):
            ended = [EndedSession(session_id) for session_id in open_ids[start : start + FINISH_BATCH]]
            await self._claims.run(partial(self._finisher.finish, self._claims, ended, {}))
        deadly = await self._claims.call(sessions.deadly_requests, open_ids) if open_ids else []
        freed = await self._claims.call(queue.release_expired, gone, deadly)
        if gone or freed:
            log.info("collector.recovered", collectors=len(gone), sessions=len(open_ids), requests=freed)
            self._wake.set()

    def _find_gone(self, conn: Connection) -> tuple[list[str], list[int]]:
        gone = sessions.gone_collectors(conn, self.name)
        return gone, sessions.open_sessions_of(conn, gone)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 2)
            await self._recover()

    async def _renew(self) -> None:
        """Keep our claims; a session whose request was cancelled or taken away is cut."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            waiting = [assignment.request_id for assignment in self._waiting]
            ids = [*self._active, *waiting, *self._callers.waiting.request_ids]
            if not ids:
                continue
            held = await self._claims.call(queue.renew, self.name, ids, self._settings.lease_s)
            # What came in while we asked is ours, though not among what was renewed.
            gone = set(ids) - held
            self._waiting = [a for a in self._waiting if a.request_id not in gone]
            self._callers.drop(gone)
            for request_id in ids:
                task = self._active.get(request_id)
                if request_id not in held and task is not None:
                    del self._active[request_id]
                    task.cancel()

    async def _schedule(self) -> None:
        """Queue what becomes due by schedule, and now and then what is missing of the last days."""
        zone = self._db.settings.market.tzinfo
        loop = asyncio.get_running_loop()
        last = to_local(self._now(), zone) - timedelta(days=1)
        next_recovery_s = loop.time()
        while True:
            local = to_local(self._now(), zone)
            await self._claims.call(self._enqueue_due, last, local)
            if loop.time() >= next_recovery_s:
                next_recovery_s = loop.time() + self._settings.recovery_every_s
                await self._claims.call(self._enqueue_missing, local)
            last = local
            await asyncio.sleep(_SCHEDULE_S)

    def _enqueue_due(self, conn: Connection, after: datetime, until: datetime) -> None:
        at = self._now()
        installed = raised(conn, worklist.installed_meters(conn, at, self._db.settings), at)
        worklist.enqueue_reads(conn, due_reads(installed, after, until, self._windows), "schedule")

    def _enqueue_missing(self, conn: Connection, local: datetime) -> None:
        days = [local.date() - timedelta(days=n) for n in range(1, self._settings.recovery_days + 1)]
        installed = worklist.installed_meters(conn, self._now(), self._db.settings)
        known = worklist.known_days(conn, days)
        planned = plan_reads(installed, known, days, local, Priority.RECOVERY)
        worklist.enqueue_reads(conn, planned, "gap recovery")
        raise_waiting(conn, self._now())

    async def _wind_down(self) -> None:
        unserved = [a.request_id for a in self._waiting] + self._callers.waiting.clear()
        if unserved:
            await self._give_back(unserved, 0.0)
            self._waiting = []
        if self._active:
            await asyncio.wait(list(self._active.values()), timeout=self._settings.stop_grace_s)
        for task in list(self._active.values()):
            task.cancel()
        if self._active:
            await asyncio.wait(list(self._active.values()))
        await self._writes.run(self._conversations.evidence.store)

    def _count(self) -> None:
        self.stats.active = len(self._active)
        self.stats.waiting = len(self._waiting) + len(self._callers.waiting)

    def _note(self, merged: MergedSession) -> None:
        self.stats.sessions[merged.outcome] += 1
        self.stats.bytes_sent += merged.bytes_sent
        self.stats.bytes_received += merged.bytes_received
        log.debug(
            "session.merged",
            session=merged.session_id,
            meter=merged.meter_id,
            outcome=merged.outcome,
            blocks=merged.decoded.blocks,
            stage=merged.failed_stage,
            fault=None if merged.fault is None else str(merged.fault),
        )
        if self._on_session is not None:
            self._on_session(merged)


def _as_fault(error: BaseException) -> BaseException:
    """The first failure of a group, as a fault that says who must act."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, _OLD_SCHEMA):
        # The role of a collector may not migrate, so it cannot do more than say what is amiss.
        return OperatorFault(
            f"the database is not of this version: {error}".strip(),
            where="collector",
            remedy="run smf db migrate with the owner's account, then start the collector again",
        )
    if isinstance(error, psycopg.Error):
        return RetryFault(
            f"the database failed: {error}".strip(),
            where="collector",
            remedy="start the collector again once it answers; it recovers what was open",
        )
    return error


def _allow_many_sockets() -> None:
    """Each session is a descriptor; the usual soft limit of 1024 is too low, and raising it is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
