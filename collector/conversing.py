"""One session of a claimed request, from its row to its end: opened, had by the protocol's driver, finished.

What passes on the line is evidence (`evidence`) before anybody decodes it; what the session came to is found
out from what was stored (`finishing`, `merging`). Many sessions end in one transaction.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import structlog

from collector.batching import Batcher, Worker
from collector.commands import store as command_store
from collector.commands.steps import Writing
from collector.drivers import Visit, driver_of
from collector.evidence import Evidence
from collector.finishing import Finisher
from collector.gates import usual_timeouts
from collector.lines.callers import Callers
from collector.lines.transports import parse_url
from collector.session import EndedSession, MergedSession
from collector.work.worklist import Assignment, Target
from faults import DeveloperFault, RetryFault
from protocols.table import protocol_of
from storage import sessions
from storage.settings import Settings

log = structlog.get_logger(__name__)

_OPEN_BATCH = 500
# Sessions decoded and merged in one transaction: more would save little time and cost memory.
FINISH_BATCH = 10


class Busy(Exception):
    """The meter or its line is in another session."""


class Conversations:
    """The sessions of one collector.

    Args:
        claims: opens their rows; writes: stores, merges and closes, in this order.
        is_cut: whether a session that is cancelled was cut on purpose, so that what it brought is kept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        claims: Worker,
        writes: Worker,
        callers: Callers,
        finisher: Finisher,
        now: Callable[[], datetime],
        is_cut: Callable[[Assignment], bool],
    ) -> None:
        self.evidence = Evidence(writes)
        self._settings = settings
        self._name = name
        self._claims = claims
        self._writes = writes
        self._callers = callers
        self._finisher = finisher
        self._now = now
        self._is_cut = is_cut
        self._opening: Batcher[Assignment, int | None] = Batcher(self._open, claims, _OPEN_BATCH)
        self._finishing: Batcher[tuple[EndedSession, Assignment], MergedSession | None] = Batcher(
            self._finish, writes, FINISH_BATCH
        )

    async def have(self, assignment: Assignment, target: Target) -> MergedSession | None:
        """Have the session of a request; None where what it brought could not be merged.

        Raises:
            Busy: no session could be opened.
        """
        session_id = await self._opening.submit(assignment)
        if session_id is None:
            raise Busy
        visit = self._visit(assignment, target, session_id)
        is_sound = False
        try:
            result = await driver_of(target.profile).read(visit)
            is_sound = not isinstance(result.fault, RetryFault)
            ended = EndedSession.of(session_id, result, assignment.goal)
            if isinstance(result.fault, DeveloperFault):
                trace = "".join(traceback.format_exception(result.fault))
                log.error("session.bug", session=session_id, traceback=trace)
        except asyncio.CancelledError:
            if not self._is_cut(assignment):
                raise
            ended = EndedSession(session_id)
        finally:
            self._callers.settle(visit.endpoint, is_sound=is_sound)
        return await self._finishing.submit((ended, assignment))

    def _visit(self, assignment: Assignment, target: Target, session_id: int) -> Visit:
        async def commit(writing: Writing) -> None:
            await self._writes.run(partial(self._record_writing, assignment.request_id, session_id, writing))

        endpoint = parse_url(target.url or "")
        return Visit(
            assignment=assignment,
            target=target,
            endpoint=endpoint,
            timeouts=endpoint.timeouts(usual_timeouts(endpoint, self._settings.collector)),
            settings=self._settings,
            now=self._now,
            record=self.evidence.recorder(session_id),
            way=self._callers.open,
            commit=commit,
            writes=self._writes,
        )

    # In the workers' threads.

    def _open(self, assignments: Sequence[Assignment]) -> list[int | None]:
        wanted = [
            sessions.NewSession(
                meter_id=target.meter_id,
                unit_id=target.unit_id,
                purpose="command" if assignment.goal is None else assignment.goal.sequence.value,
                protocol=protocol_of(target.profile).name,
                url=target.url,
                request_id=assignment.request_id,
            )
            for assignment in assignments
            if (target := assignment.target) is not None
        ]
        return self._claims.transact(sessions.open_sessions, self._name, wanted, self._now())

    def _record_writing(self, request_id: int, session_id: int, writing: Writing) -> None:
        """Commit what is about to be written, the frames read before it included."""
        self.evidence.store()
        self._writes.transact(command_store.record_writing, request_id, session_id, writing)

    def _finish(self, items: Sequence[tuple[EndedSession, Assignment]]) -> list[MergedSession | None]:
        self.evidence.store()
        ended = [session for session, _ in items]
        assignments = {session.session_id: assignment for session, assignment in items}
        merged = self._finisher.finish(self._writes, ended, assignments)
        return [merged.get(session.session_id) for session in ended]
