"""One delivery run: find what is due, seal it in the ledger, tell CCEE, keep what it answers.

Order of work per agent: first what is in doubt is sent again with the same bytes, then new versions are made,
then they are sent. So a newer version never overtakes an older one whose fate is unknown. Killed at any point
and started again, a run ends as one that was left alone would have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import psycopg
import structlog

from ccee import ledger, notices
from ccee.client import CceeClient
from ccee.deadlines import closing_of
from ccee.ledger import Submission
from ccee.profile import Profile
from ccee.sending import DeliverySummary, Sender, Unsent, Writer
from ccee.survey import Standing, survey
from faults import Fault, OperatorFault, RetryFault
from faults.market_time import parse_zone
from storage.database import Database
from vee.calendars import Calendars

log = structlog.get_logger(__name__)

# Another run of the same agent is waited for this long: usually it does the very same work.
AGENT_WAIT_S = 600.0
_AGENT_POLL_S = 0.5
# Repairs of a month that closes within this many days go before the newest day (reference, section 12).
CLOSING_DAYS = 2

ClientFactory = Callable[[int], CceeClient]
Progress = Callable[[str, int, int], None]


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
        self._stopped: dict[int, str] = {}
        self._stage = ""
        self._done = 0
        self._total = 0

    async def deliver(self, days: Sequence[date], dry_run_dir: Path | None) -> DeliverySummary:
        open_days = []
        agents: dict[int, int] = {}
        for day in days:
            rows = survey(self._db, self._profile, day)
            self._count_quiet(rows)
            due = rows.filter(pl.col("verdict").is_in(_DUE))
            if due.height and dry_run_dir is None and self._is_closed(day):
                self._summary.after_deadline += due.height
                due = due.clear()
            held = rows.filter((pl.col("verdict") == Standing.HELD) & pl.col("rejected_hours").is_not_null())
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
                self._count_unsent(agent_id, agent_code, open_days, fault)
            else:
                self._count_unsent(agent_id, agent_code, open_days, None)
        return self._summary

    def _count_unsent(
        self, agent_id: int, agent_code: int, days: Sequence[date], fault: Fault | None
    ) -> None:
        """What the agent's part of the run leaves ready and not sent.

        A run that went through has sealed all that was new, so what still looks new is equal in content.
        """
        stopped = self._stopped.get(agent_code)
        left = _UNSENT if fault is None and stopped is None else (*_UNSENT, Standing.NEW)
        standing = [self._of_agent(agent_id, day) for day in days]
        count = sum(rows.filter(pl.col("verdict").is_in(left)).height for rows in standing)
        refused = self._summary.blocked
        count += sum(rows.filter(pl.col("uc_code").is_in(list(refused))).height for rows in standing)
        if not count:
            return
        if fault is not None:
            reason, remedy = fault.message, fault.remedy
        elif stopped is not None:
            reason, remedy = stopped, "correct what CCEE names, then deliver again"
        else:
            reason = "CCEE did not settle them"
            remedy = (
                "they are sent again by the next delivery; `smf ccee ledger --day DAY` shows each attempt"
            )
        self._summary.unsent.append(Unsent(agent_code, count, reason, remedy))

    def _count_quiet(self, rows: pl.DataFrame) -> None:
        counts: dict[str, int] = dict(rows["verdict"].value_counts().iter_rows())
        for verdict in (
            Standing.UNCHANGED,
            Standing.REFUSED,
            Standing.NOT_READY,
            Standing.HELD,
            Standing.SUSPENDED,
            Standing.NOT_EXPECTED,
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
            async with self._make_client(agent_code) as client, Writer.open(conn) as writer:
                sender = Sender(client, writer, self._profile, self._summary, self._tick)
                for day in days:
                    self._stage = f"agent {agent_code}, {day}"
                    await self._deliver_agent_day(agent_id, day, conn, sender)
                reason = client.stopped(agent_code)
            if reason:
                self._summary.notices += notices.agent_stopped(conn, agent_id, reason, self._run_id)
                self._summary.problems.append(f"agent {agent_code}: stopped, {reason}")
                self._stopped[agent_code] = reason

    async def _deliver_agent_day(
        self, agent_id: int, day: date, conn: psycopg.Connection[Any], sender: Sender
    ) -> None:
        rows = self._of_agent(agent_id, day)
        processing = ledger.submissions_of(rows.filter(pl.col("verdict") == Standing.PROCESSING), day)
        doubtful = ledger.submissions_of(rows.filter(pl.col("verdict") == Standing.IN_DOUBT), day)
        self._total += len(doubtful)
        self._summary.processing += len(await sender.follow(processing))
        await sender.send_all(self._db, doubtful)
        self._summary.resent += len(doubtful)
        if processing or doubtful:
            # What was in doubt may be settled now, and newer content may wait behind it.
            rows = self._of_agent(agent_id, day)
        retries = ledger.submissions_of(rows.filter(pl.col("verdict") == Standing.RETRY), day)
        new = rows.filter(pl.col("verdict") == Standing.NEW)
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
        return survey(self._db, self._profile, day).filter(pl.col("agent_id") == agent_id)

    def _notify_musd(
        self, conn: psycopg.Connection[Any], day: date, rows: pl.DataFrame, due: Sequence[Submission]
    ) -> None:
        closing = closing_of(self._calendars, day).register
        with_hours = rows.filter(pl.col("rejected_hours").is_not_null())
        sent = with_hours.filter(pl.col("uc_id").is_in([item.uc_id for item in due]))
        held = with_hours.filter(pl.col("verdict") == Standing.HELD)
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
            rows = survey(self._db, self._profile, day).filter(
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


_UNSENT = (Standing.IN_DOUBT, Standing.RETRY)
_DUE = (Standing.IN_DOUBT, Standing.PROCESSING, Standing.RETRY, Standing.NEW)
