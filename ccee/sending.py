"""Submissions of one agent on their way: sent, followed, and written down step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from ccee import ledger
from ccee.body import Body
from ccee.client import CceeClient
from ccee.ledger import AttemptRecord, Event, Submission
from ccee.profile import Action, Profile
from ccee.replies import Attempt, Outcome
from storage.database import Database
from storage.submission_states import IN_DOUBT, State

_TICKET_WAITS_S = (0.2, 1.0, 5.0)


@dataclass(frozen=True)
class Unsent:
    """UC-days of one agent that are ready and that CCEE could not be told, and what to do about it."""

    agent_code: int
    uc_days: int
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"agent {self.agent_code}: {self.uc_days} UC-days, {self.reason} ({self.remedy})"


@dataclass
class DeliverySummary:
    """What a run did, counted in UC-days unless said otherwise.

    Attributes:
        planned: new versions sealed in the ledger; resent: older ones sent again.
        sent: submissions for which a request left; attempts: requests.
        accepted, processing, rejected, transient, unknown: how the sent ones ended.
        receipts: accepted ones whose reply carried an identifier (every reply is kept all the same).
        musd_hours: hours above the limit among the sent UC-days; notices: new messages to agents.
        unchanged: delivered before, nothing to tell; refused: rejected before, waiting for other data.
        not_ready, held, suspended, not_expected: not sent, by reason; after_deadline: due in a closed month.
        blocked: UC code to reason, for bodies that cannot be made; problems: what a person must look at.
        unsent: by agent, what is ready and could not be sent; a month that is closed does not count.
    """

    planned: int = 0
    resent: int = 0
    sent: int = 0
    attempts: int = 0
    accepted: int = 0
    processing: int = 0
    rejected: int = 0
    transient: int = 0
    unknown: int = 0
    receipts: int = 0
    musd_hours: int = 0
    notices: int = 0
    unchanged: int = 0
    refused: int = 0
    not_ready: int = 0
    held: int = 0
    suspended: int = 0
    not_expected: int = 0
    after_deadline: int = 0
    dry_run: int = 0
    blocked: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unsent: list[Unsent] = field(default_factory=list)

    @property
    def ready_not_sent(self) -> int:
        return sum(item.uc_days for item in self.unsent)

    @property
    def needs_attention(self) -> bool:
        return bool(
            self.rejected
            or self.transient
            or self.unknown
            or self.after_deadline
            or self.blocked
            or self.problems
        )

    def sentence(self) -> str:
        """One line for a person."""
        if self.after_deadline and not self.sent and not self.dry_run:
            return f"nothing sent: {self.after_deadline} UC-days are due, but their month is closed"
        if not self.sent and not self.dry_run and not self.problems:
            return f"nothing to send: {self.unchanged} UC-days are delivered already, nothing was sent twice"
        if self.dry_run:
            return f"dry run: {self.dry_run} bodies written, nothing sent"
        parts = [f"{self.sent} UC-days sent, {self.accepted} accepted"]
        parts += [
            f"{getattr(self, name)} {label}"
            for name, label in (
                ("processing", "in processing"),
                ("rejected", "rejected"),
                ("transient", "to try again"),
                ("unknown", "with unknown outcome"),
                ("unchanged", "delivered before"),
                ("after_deadline", "due in a closed month"),
            )
            if getattr(self, name)
        ]
        return ", ".join(parts)


class Writer:
    """Appends to the ledger from many tasks, as few commits as it can, each durable when awaited."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._waiting: asyncio.Queue[tuple[Event | AttemptRecord, asyncio.Future[None]]] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def open(cls, conn: psycopg.Connection[Any]) -> AsyncIterator[Writer]:
        writer = cls(conn)
        task = asyncio.create_task(writer._run())
        try:
            yield writer
        finally:
            task.cancel()

    async def append(self, item: Event | AttemptRecord) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, done))
        await done

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            # Whatever came while the last commit ran goes into the next one together.
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await asyncio.to_thread(ledger.append, self._conn, [item for item, _ in batch])
            except Exception as error:  # raised again in each task that waits for its row
                for _, done in batch:
                    if not done.cancelled():
                        done.set_exception(error)
                continue
            for _, done in batch:
                if not done.cancelled():
                    done.set_result(None)


class Sender:
    """Sends submissions of one agent and writes down each step before the next."""

    def __init__(
        self,
        client: CceeClient,
        writer: Writer,
        profile: Profile,
        summary: DeliverySummary,
        tick: Callable[[], None],
    ) -> None:
        self._client = client
        self._writer = writer
        self._profile = profile
        self._summary = summary
        self._tick = tick
        # Submission id -> reason, until somebody has told the agent.
        self.refused: dict[int, str] = {}

    async def send_all(self, db: Database, submissions: Sequence[Submission]) -> None:
        """Send submissions of one day, and follow the tickets they come back with for a while."""
        tickets: list[Submission] = []
        pairs = ledger.bodies(db, self._profile, submissions)
        taking = asyncio.Lock()

        async def work() -> None:
            while True:
                async with taking:
                    # Reading and rendering a chunk must not hold up replies that are arriving.
                    pair = await asyncio.to_thread(next, pairs, None)
                if pair is None:
                    return
                await self._send_one(*pair, tickets)
                self._tick()

        # One more than can be on the wire: the next body is ready when a slot is free.
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._client.max_parallel + 1, len(submissions))):
                    group.create_task(work())
        except BaseExceptionGroup as several:
            # The first failure cancelled the others; it is the one to be told.
            raise several.exceptions[0] from several
        for wait_s in _TICKET_WAITS_S:
            if not tickets:
                break
            await self._client.sleep(wait_s)
            tickets = await self.follow(tickets)
        self._summary.processing += len(tickets)

    async def _send_one(self, item: Submission, body: Body | None, tickets: list[Submission]) -> None:
        if body is None:
            await self._not_the_same(item)
            return
        was_in_doubt = item.state in IN_DOUBT
        number = item.attempts

        async def before() -> None:
            await self._event(item, State.SENDING, {})

        async def after(attempt: Attempt) -> None:
            nonlocal number
            number += 1
            await self._writer.append(AttemptRecord(item.id, number, attempt))

        result = await self._client.send(item.agent_code, body.content, before=before, after=after)
        if not result.attempts:
            return  # The agent is stopped: nothing left, the submission stays as it was.
        last = result.attempts[-1]
        outcome = result.outcome
        if outcome is Outcome.TRANSIENT and was_in_doubt:
            # This try failed for sure; whether an earlier one had arrived is as unknown as before.
            outcome = Outcome.UNKNOWN
        self._summary.sent += 1
        self._summary.attempts += len(result.attempts)
        await self._settle(item, outcome, last)
        if outcome is Outcome.PROCESSING:
            tickets.append(replace(item, state=State.PROCESSING, attempts=number, ticket=last.receipt))

    async def follow(self, items: Sequence[Submission]) -> list[Submission]:
        """Ask what became of tickets; returns those still in processing."""
        waiting = []
        for item in items:
            if item.ticket is None or self._profile.protocol.mode != "ticket":
                # Nobody can be asked; the same body again settles it.
                await self._event(item, State.UNKNOWN, {"reason": "no ticket to follow"})
                self._summary.unknown += 1
                continue
            attempt = await self._client.status(item.agent_code, item.ticket)
            number = item.attempts + 1
            await self._writer.append(AttemptRecord(item.id, number, attempt))
            if attempt.outcome in (Outcome.ACCEPTED, Outcome.REJECTED):
                await self._settle(item, attempt.outcome, attempt)
            else:
                waiting.append(replace(item, attempts=number))
        return waiting

    async def _settle(self, item: Submission, outcome: Outcome | None, last: Attempt) -> None:
        state = {
            Outcome.ACCEPTED: State.ACCEPTED,
            Outcome.PROCESSING: State.PROCESSING,
            Outcome.REJECTED: State.REJECTED_DATA,
            Outcome.TRANSIENT: State.TRANSIENT,
        }.get(outcome or Outcome.UNKNOWN, State.UNKNOWN)
        if outcome is Outcome.REJECTED and last.action is Action.REJECTED_MUSD:
            state = State.REJECTED_MUSD
        detail = {"http": last.http_status, "receipt": last.receipt, "error": last.error}
        await self._event(item, state, {key: value for key, value in detail.items() if value is not None})
        if outcome is Outcome.REJECTED:
            self.refused[item.id] = last.error or f"HTTP {last.http_status}"
        if outcome is not Outcome.PROCESSING:
            name = (outcome or Outcome.UNKNOWN).value
            setattr(self._summary, name, getattr(self._summary, name) + 1)
        if outcome is Outcome.ACCEPTED and last.receipt:
            self._summary.receipts += 1

    async def _not_the_same(self, item: Submission) -> None:
        reason = ledger.why_not(self._profile, item)
        self._summary.problems.append(f"UC {item.uc_code}, {item.day}, version {item.version}: {reason}")
        if item.body_format != self._profile.body_format:
            # The contract changed in between: these bytes will never be sent again, newer ones may be.
            await self._event(item, State.TRANSIENT, {"reason": reason})

    async def _event(self, item: Submission, state: State, detail: dict[str, Any]) -> None:
        await self._writer.append(Event(item.id, state, self._client.wall(), detail))
