"""The collector: works through the queue of read requests, many sessions at once, in one event loop.

Claiming, limits, back-off and shutdown live here; what a session does is `session`, what it means is
`decode`, what is written is `store`. Two worker threads with a connection each do all database work, in
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
import traceback
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import structlog

from collector import command_store, commands, store, worklist
from collector.batching import Batcher, Connection, Worker
from collector.callers import Callers
from collector.clock_rule import consider_clock
from collector.command_policy import load_policy
from collector.command_steps import Tools, Writing
from collector.gates import Gates, line_fault, usual_timeouts
from collector.meter_models import use_meter_models
from collector.monitoring import raised
from collector.planning import Priority, Windows, due_reads, plan_reads, to_local
from collector.sequences import Script, script_for
from collector.session import Line, SessionResult, read_meter
from collector.store import Closing, Settled
from collector.transports import parse_url
from collector.urgency import raise_waiting
from collector.worklist import Assignment, Target, market_zone
from faults import DeveloperFault, Fault, RetryFault
from protocols.nbr14522.profiles import profile_named
from storage import queue
from storage.database import Database

log = structlog.get_logger(__name__)

_CLAIM_BATCH = 500
# Sessions decoded and merged in one transaction: more would save little time and cost memory.
_SETTLE_BATCH = 10
# Frames wait at most so long, or so many, before they are stored: one COPY for all sessions.
_FLUSH_S = 0.25
_FLUSH_FRAMES = 2000
# A request given back because its cell, host or meter is busy comes again after about so long.
_BUSY_S = 2.0
_SCHEDULE_S = 20.0
# The same where another collector has the unit's connection.
_ELSEWHERE_S = 30.0
_DEADLOCK_TRIES = 3


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Stats:
    """Counters since the start, for metrics and progress."""

    active: int = 0
    waiting: int = 0
    frames: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    sessions: Counter[str] = field(default_factory=Counter)


class Collector:
    """One collector process' work.

    Args:
        now: reference time: what meters' clocks are compared with, and what is expected of a day. The queue
            itself goes by the database's clock.
        only: nothing but these requests, and no schedules: for a run that ends.
        on_settled: told of each session's end.
        rng: of the jitter.
    """

    def __init__(
        self,
        db: Database,
        *,
        now: Callable[[], datetime] = utc_now,
        only: Sequence[int] | None = None,
        on_settled: Callable[[Settled], None] | None = None,
        rng: random.Random | None = None,
        windows: Windows | None = None,
    ) -> None:
        self._db = db
        self._settings = db.settings.collector
        self._now: Callable[[], datetime] = lambda: now().astimezone(UTC)
        self._only = only
        self._on_settled = on_settled
        self._rng = rng or random.Random()
        self._windows = windows or Windows()
        use_meter_models(self._settings.meter_models_path)
        self._policy = load_policy(self._settings.command_policy_path)
        self.name = f"{self._settings.name}:{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.stats = Stats()
        self._gates = Gates(self._settings)
        self._waiting: list[Assignment] = []
        self._active: dict[int, asyncio.Task[None]] = {}
        self._frames: deque[bytes] = deque()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._claims = Worker(db, "collector-claims")
        self._writes = Worker(db, "collector-writes")
        self._callers = Callers(self._settings, self._claims, self.name, self._now, self._units_called)
        self._opening: Batcher[Assignment, int | None] = Batcher(self._open, self._claims, _CLAIM_BATCH)
        self._settling: Batcher[tuple[Closing, Assignment], Settled | None] = Batcher(
            self._settle, self._writes, _SETTLE_BATCH
        )
        self._group: asyncio.TaskGroup | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then let sessions end, cut the rest, and give back what is claimed.

        Raises:
            Fault: the database failed, or the software did; what was open is recovered at the next start.
        """
        _allow_many_sockets()
        try:
            await self._claims.call(store.proclaim, self.name)
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
            if self._flush_timer is not None:
                self._flush_timer.cancel()
            self._claims.close()
            self._writes.close()

    # --- taking work ---------------------------------------------------------------------------------------

    def _helpers(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        helpers = [self._heed(stop), self._listen(), self._renew(), self._watch(), self._callers.give_up()]
        if self._only is None:
            helpers.append(self._schedule())
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
            session_id = await self._opening.submit(assignment)
            if session_id is None:
                await self._give_back([assignment.request_id], _BUSY_S)
                return
            line = self._line(target)
            is_sound = False
            try:
                result = await read_meter(
                    line,
                    self._script(assignment, line, session_id),
                    self._recorder(session_id),
                    self._now,
                    way=self._callers.open,
                )
                is_sound = not isinstance(result.fault, RetryFault)
                closing = _closing(session_id, result)
            except asyncio.CancelledError:
                if not self._is_stopping and assignment.request_id in self._active:
                    raise
                closing = Closing(session_id)
            finally:
                self._callers.settle(line.endpoint, is_sound=is_sound)
            settled = await self._settling.submit((closing, assignment))
            if settled is not None:
                self._note(settled)
        finally:
            self._gates.leave(target)
            self._active.pop(assignment.request_id, None)
            self._count()
            self._wake.set()

    def _script(self, assignment: Assignment, line: Line, session_id: int) -> Script:
        work = assignment.command
        if work is None:
            assert assignment.goal is not None
            return script_for(assignment.goal, line.profile)

        async def commit(writing: Writing) -> None:
            await self._writes.run(partial(self._record_writing, work.request_id, session_id, writing))

        zone = market_zone(self._db.settings)
        tools = Tools(self._now, zone, asyncio.sleep, commit, line.reader_serial)
        return commands.script(work, line.profile, tools)

    def _line(self, target: Target) -> Line:
        settings = self._settings
        endpoint = parse_url(target.url or "")
        return Line(
            endpoint=endpoint,
            profile=endpoint.applied_to(profile_named(target.profile)),
            meter_serial=target.serial,
            reader_serial=settings.reader_serial,
            timeouts=endpoint.timeouts(usual_timeouts(endpoint, settings)),
        )

    def _recorder(self, session_id: int) -> Callable[[datetime, bool, int, bool | None, bytes], None]:
        seq = 0

        def record(at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes) -> None:
            nonlocal seq
            seq += 1
            self._frames.append(store.encode_frame(session_id, seq, at, is_sent, command, crc_ok, payload))
            self.stats.frames += 1
            if self._flush_timer is None:
                loop = asyncio.get_running_loop()
                self._flush_timer = loop.call_later(_FLUSH_S, self._flush_soon)
            elif len(self._frames) == _FLUSH_FRAMES:
                self._flush_timer.cancel()
                self._flush_soon()

        return record

    def _flush_soon(self) -> None:
        self._flush_timer = None
        if self._group is not None:
            self._group.create_task(self._writes.run(self._flush))

    # --- in the workers' threads ---------------------------------------------------------------------------

    def _flush(self) -> None:
        """Store the frames that wait. In one thread only: they are stored before what is settled later."""
        rows = []
        while self._frames:
            rows.append(self._frames.popleft())
        if rows:
            self._writes.transact(store.write_frames, rows)

    def _record_writing(self, request_id: int, session_id: int, writing: Writing) -> None:
        """Commit what is about to be written, the frames read before it included."""
        self._flush()
        self._writes.transact(command_store.record_writing, request_id, session_id, writing)

    def _open(self, assignments: Sequence[Assignment]) -> list[int | None]:
        opened = [
            (a.request_id, a.target, a.goal.sequence.value if a.goal is not None else "command")
            for a in assignments
            if a.target is not None
        ]
        return self._claims.transact(store.open_sessions, self.name, opened, self._now())

    def _settle(self, items: Sequence[tuple[Closing, Assignment]]) -> list[Settled | None]:
        self._flush()
        closings = [closing for closing, _ in items]
        assignments = {closing.session_id: assignment for closing, assignment in items}
        settled = self._settle_safely(self._writes, closings, assignments)
        return [settled.get(closing.session_id) for closing in closings]

    def _settle_safely(
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
                    result |= self._settle_safely(worker, [closing], assignments)
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
        settled = store.settle(conn, closings, self._db.settings, self._now())
        for one in settled:
            assignment = assignments.get(one.session_id)
            if assignment is not None:
                self._answer(conn, one, assignment)
        return settled

    def _answer(self, conn: Connection, settled: Settled, assignment: Assignment) -> None:
        """What the request gets: its result, another try later, or the reason why not."""
        fault, target = settled.fault, assignment.target
        settings = self._db.settings
        if assignment.command is not None:
            command_store.answer(
                conn, self.name, settled, assignment, self._now(), retry_after_s=self._backoff_s(assignment)
            )
        elif settled.outcome == "aborted":
            queue.release(conn, self.name, [assignment.request_id], 0.0)
        elif fault is None and target is not None:
            exhausted = worklist.exhausted_days(
                conn, settled.decoded, target, assignment.days, self._now(), self._db.settings
            )
            queue.finish(conn, self.name, assignment.request_id, _result(settled, exhausted))
        elif fault is not None:
            retry_after_s = self._backoff_s(assignment) if isinstance(fault, RetryFault) else None
            queue.fail(
                conn,
                self.name,
                assignment.request_id,
                fault,
                stage=settled.failed_stage or "",
                retry_after_s=retry_after_s,
            )
        if target is not None and settled.outcome != "aborted":
            # After the answer: a step of a correction that left a rest is followed by the next.
            consider_clock(conn, settings, self._policy, settled, target, self._now(), assignment.command)

    def _backoff_s(self, assignment: Assignment) -> float:
        base_s, max_s = self._settings.backoff_base_s, self._settings.backoff_max_s
        return queue.backoff_s(assignment.attempts, base_s, max_s) * (0.5 + self._rng.random())

    def _condemn(self, conn: Connection, closing: Closing, assignment: Assignment | None, bug: Fault) -> None:
        store.condemn(conn, closing, bug, self._now())
        if assignment is not None:
            queue.fail(conn, self.name, assignment.request_id, bug, stage="merge")

    # --- housekeeping --------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Close what collectors that are gone left open: their frames are decoded, their claims freed."""
        gone, open_ids = await self._claims.call(self._find_gone)
        for start in range(0, len(open_ids), _SETTLE_BATCH):
            closings = [Closing(session_id) for session_id in open_ids[start : start + _SETTLE_BATCH]]
            await self._claims.run(partial(self._settle_safely, self._claims, closings, {}))
        deadly = await self._claims.call(store.deadly_requests, open_ids) if open_ids else []
        freed = await self._claims.call(queue.release_expired, gone, deadly)
        if gone or freed:
            log.info("collector.recovered", collectors=len(gone), sessions=len(open_ids), requests=freed)
            self._wake.set()

    def _find_gone(self, conn: Connection) -> tuple[list[str], list[int]]:
        gone = store.gone_collectors(conn, self.name)
        return gone, store.open_sessions_of(conn, gone)

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
        zone = market_zone(self._db.settings)
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
        await self._writes.run(self._flush)

    def _count(self) -> None:
        self.stats.active = len(self._active)
        self.stats.waiting = len(self._waiting) + len(self._callers.waiting)

    def _note(self, settled: Settled) -> None:
        self.stats.sessions[settled.outcome] += 1
        self.stats.bytes_sent += settled.bytes_sent
        self.stats.bytes_received += settled.bytes_received
        log.debug(
            "session.settled",
            session=settled.session_id,
            meter=settled.meter_id,
            outcome=settled.outcome,
            blocks=settled.decoded.blocks,
            stage=settled.failed_stage,
            fault=None if settled.fault is None else str(settled.fault),
        )
        if self._on_settled is not None:
            self._on_settled(settled)


def _closing(session_id: int, result: SessionResult) -> Closing:
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


def _as_fault(error: BaseException) -> BaseException:
    """The first failure of a group, as a fault that says who must act."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
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
