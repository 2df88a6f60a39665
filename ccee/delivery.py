"""One delivery run: find what is due, seal it in the ledger, tell CCEE, keep what it answers.

Order of work per agent: first what is in doubt is sent again with the same bytes, then new versions are made,
then they are sent. So a newer version never overtakes an older one whose fate is unknown. Killed at any point
and started again, a run ends as one that was left alone would have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import psycopg
import structlog

from ccee import ledger, notices
from ccee.body import Body
from ccee.client import Attempt, CceeClient, Outcome
from ccee.deadlines import closing_of
from ccee.ledger import AttemptRecord, Event, Submission, Verdict
from ccee.profile import Action, Profile
from faults import Fault, OperatorFault, RetryFault
from faults.market_time import parse_zone
from storage.database import Database
from storage.submission_states import IN_DOUBT, State
from vee.calendars import Calendars

log = structlog.get_logger(__name__)

# Another run of the same agent is waited for this long: usually it does the very same work.
AGENT_WAIT_S = 600.0
_AGENT_POLL_S = 0.5
# Repairs of a month that closes within this many days go before the newest day (reference, section 12).
CLOSING_DAYS = 2
_TICKET_WAITS_S = (0.2, 1.0, 5.0)

ClientFactory = Callable[[int], CceeClient]
Progress = Callable[[str, int, int], None]


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

    def add(self, other: DeliverySummary) -> None:
        """Count another run's work in."""
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, dict):
                mine.update(theirs)
            else:
                setattr(self, item.name, mine + theirs)


def deliver_day(
    db: Database,
    days: Sequence[date],
    profile: Profile,
    make_client: ClientFactory,
    calendars: Calendars,
    *,
    now: datetime,
    run_id: str,
    progress: Progress | None = None,
    dry_run_dir: Path | None = None,
    as_of: datetime | None = None,
) -> DeliverySummary:
    """Deliver what is due of these days. Sent again, nothing goes twice.

    Args:
        make_client: called once per agent with something to send; a Fault it raises stops that agent only.
        now: aware; when versions are sealed.
        as_of: aware; decides deadlines and order, default `now`. See `practice_only`.
        progress: called with (agent and stage, done, total).
        dry_run_dir: write the bodies there instead, touching neither ledger nor network, whatever the
            deadlines say.
    """
    reference = as_of or now
    run = _Run(db, profile, make_client, calendars, now, reference, run_id, progress)
    return asyncio.run(run.deliver(in_order(days, profile, calendars, reference), dry_run_dir))


def practice_only(base_url: str) -> None:
    """Deliveries as at another moment are for practice and replays: CCEE has one clock.

    Args: base_url: where the delivery would go.
    Raises: OperatorFault: it is not this machine's.
    """
    host = urlsplit(base_url).hostname or ""
    if host != "localhost" and not _is_loopback(host):
        raise OperatorFault(
            "a delivery as at another moment goes to the stand-in only",
            where=f"--as-of, {host or base_url}",
            remedy="start `smf ccee standin` and name its address in SMF_CCEE_BASE_URL, or leave --as-of out",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def in_order(days: Sequence[date], profile: Profile, calendars: Calendars, now: datetime) -> list[date]:
    """Newest first; but days of a month about to close go before all others, oldest first."""
    today = now.astimezone(parse_zone(profile.send.offset)).date()

    def rank(day: date) -> tuple[int, int]:
        left = closing_of(calendars, day).data - today
        is_closing = timedelta(0) <= left < timedelta(days=CLOSING_DAYS)
        return (0, day.toordinal()) if is_closing else (1, -day.toordinal())

    return sorted(set(days), key=rank)


class _Run:
    """State of one call of `deliver_day`."""

    def __init__(
        self,
        db: Database,
        profile: Profile,
        make_client: ClientFactory,
        calendars: Calendars,
        now: datetime,
        as_of: datetime,
        run_id: str,
        progress: Progress | None,
    ) -> None:
        self._db = db
        self._profile = profile
        self._make_client = make_client
        self._calendars = calendars
        self._now = now
        self._as_of = as_of
        self._run_id = run_id
        self._progress = progress or (lambda stage, done, total: None)
        self._summary = DeliverySummary()
        self._stage = ""
        self._done = 0
        self._total = 0

    async def deliver(self, days: Sequence[date], dry_run_dir: Path | None) -> DeliverySummary:
        open_days = []
        agents: dict[int, int] = {}
        for day in days:
            rows = ledger.survey(self._db, self._profile, day)
            self._count_quiet(rows)
            due = rows.filter(pl.col("verdict").is_in(_DUE))
            if due.height and dry_run_dir is None and self._is_closed(day):
                self._summary.after_deadline += due.height
                due = due.clear()
            held = rows.filter((pl.col("verdict") == Verdict.HELD) & pl.col("rejected_hours").is_not_null())
            if due.height or held.height:
                open_days.append(day)
                agents |= dict((due if due.height else held).select("agent_id", "agent_code").iter_rows())
                agents |= dict(held.select("agent_id", "agent_code").iter_rows())
        if dry_run_dir is not None:
            self._dry_run(open_days, dry_run_dir)
            return self._summary
        for agent_id, agent_code in sorted(agents.items()):
            try:
                with self._only_sender(agent_id, agent_code):
                    await self._deliver_agent(agent_id, agent_code, open_days)
            except Fault as fault:
                # One distributor's trouble must not keep the others from delivering.
                log.error("ccee.agent_failed", agent=agent_code, fault=str(fault))
                self._summary.problems.append(f"agent {agent_code}: {fault}")
        return self._summary

    def _count_quiet(self, rows: pl.DataFrame) -> None:
        counts: dict[str, int] = dict(rows["verdict"].value_counts().iter_rows())
        for verdict in (
            Verdict.UNCHANGED,
            Verdict.REFUSED,
            Verdict.NOT_READY,
            Verdict.HELD,
            Verdict.SUSPENDED,
            Verdict.NOT_EXPECTED,
        ):
            setattr(
                self._summary, verdict.value, getattr(self._summary, verdict.value) + counts.get(verdict, 0)
            )

    def _is_closed(self, day: date) -> bool:
        today = self._as_of.astimezone(parse_zone(self._profile.send.offset)).date()
        closing = closing_of(self._calendars, day).data
        return today > closing and not self._profile.deadline.send_after_deadline

    @contextmanager
    def _only_sender(self, agent_id: int, agent_code: int) -> Iterator[None]:
        """Hold the agent's lock. It belongs to the connection, so a killed sender frees it."""
        with self._db.connect(autocommit=True) as conn:
            deadline = time.monotonic() + AGENT_WAIT_S
            while not ledger.take_agent(conn, agent_id):
                if time.monotonic() > deadline:
                    raise RetryFault(
                        f"another delivery has been sending for {AGENT_WAIT_S:.0f} s",
                        where=f"agent {agent_code}",
                        remedy="wait until it ends, then run again",
                    )
                time.sleep(_AGENT_POLL_S)
            yield

    async def _deliver_agent(self, agent_id: int, agent_code: int, days: Sequence[date]) -> None:
        with self._db.connect(autocommit=True) as conn:
            # Before anything is sealed: where the credential is missing nothing should be.
            async with self._make_client(agent_code) as client, _Writer.open(conn) as writer:
                sender = _Sender(client, writer, self._profile, self._summary, self._tick)
                for day in days:
                    self._stage = f"agent {agent_code}, {day}"
                    await self._deliver_agent_day(agent_id, day, conn, sender)
                reason = client.stopped(agent_code)
            if reason:
                self._summary.notices += notices.agent_stopped(conn, agent_id, reason, self._run_id)
                self._summary.problems.append(f"agent {agent_code}: stopped, {reason}")

    async def _deliver_agent_day(
        self, agent_id: int, day: date, conn: psycopg.Connection[Any], sender: _Sender
    ) -> None:
        rows = self._of_agent(agent_id, day)
        processing = ledger.submissions_of(rows.filter(pl.col("verdict") == Verdict.PROCESSING), day)
        doubtful = ledger.submissions_of(rows.filter(pl.col("verdict") == Verdict.IN_DOUBT), day)
        self._total += len(doubtful)
        self._summary.processing += len(await sender.follow(processing))
        await sender.send_all(self._db, doubtful)
        self._summary.resent += len(doubtful)
        if processing or doubtful:
            # What was in doubt may be settled now, and newer content may wait behind it.
            rows = self._of_agent(agent_id, day)
        retries = ledger.submissions_of(rows.filter(pl.col("verdict") == Verdict.RETRY), day)
        new = rows.filter(pl.col("verdict") == Verdict.NEW)
        recorded = await asyncio.to_thread(
            ledger.record, self._db, self._profile, day, new, self._run_id, self._now
        )
        self._summary.planned += len(recorded.submissions)
        self._summary.unchanged += recorded.unchanged
        self._summary.blocked |= recorded.refused
        self._summary.resent += len(retries)
        due = [*recorded.submissions, *retries]
        self._notify_musd(conn, day, rows, due)
        self._total += len(due)
        await sender.send_all(self._db, due)
        for submission_id, reason in sender.refused.items():
            self._summary.notices += notices.data_refused(conn, submission_id, reason)
        sender.refused.clear()

    def _of_agent(self, agent_id: int, day: date) -> pl.DataFrame:
        return ledger.survey(self._db, self._profile, day).filter(pl.col("agent_id") == agent_id)

    def _notify_musd(
        self, conn: psycopg.Connection[Any], day: date, rows: pl.DataFrame, due: Sequence[Submission]
    ) -> None:
        closing = closing_of(self._calendars, day).register
        with_hours = rows.filter(pl.col("rejected_hours").is_not_null())
        sent = with_hours.filter(pl.col("uc_id").is_in([item.uc_id for item in due]))
        held = with_hours.filter(pl.col("verdict") == Verdict.HELD)
        for part, is_held in ((sent, False), (held, True)):
            if part.height:
                self._summary.notices += notices.musd_hours(
                    conn, day, part["uc_id"].to_list(), closing, is_held=is_held
                )
        self._summary.musd_hours += int(sent["rejected_hours"].str.count_matches(",").sum()) + sent.height

    def _tick(self) -> None:
        self._done += 1
        self._progress(self._stage, self._done, self._total)

    def _dry_run(self, days: Sequence[date], folder: Path) -> None:
        for day in days:
            rows = ledger.survey(self._db, self._profile, day).filter(
                pl.col("verdict").is_in(_DUE) & pl.col("series_version").is_not_null()
            )
            target = folder / day.isoformat()
            try:
                target.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OperatorFault(
                    f"cannot write bodies: {error.strerror}",
                    where=str(target),
                    remedy="choose another folder",
                ) from error
            for uc_code, body in ledger.drafts(self._db, self._profile, day, rows):
                (target / f"{uc_code}.json").write_bytes(body.content)
                self._summary.dry_run += 1


_DUE = (Verdict.IN_DOUBT, Verdict.PROCESSING, Verdict.RETRY, Verdict.NEW)


class _Writer:
    """Appends to the ledger from many tasks, as few commits as it can, each durable when awaited."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn
        self._waiting: asyncio.Queue[tuple[Event | AttemptRecord, asyncio.Future[None]]] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def open(cls, conn: psycopg.Connection[Any]) -> AsyncIterator[_Writer]:
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
            except Exception as error:
                for _, done in batch:
                    if not done.cancelled():
                        done.set_exception(error)
                continue
            for _, done in batch:
                if not done.cancelled():
                    done.set_result(None)


class _Sender:
    """Sends submissions of one agent and writes down each step before the next."""

    def __init__(
        self,
        client: CceeClient,
        writer: _Writer,
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
