"""From the stored frames of ended sessions to readings: decoded, checked, merged, closed. In batches.

Order of writing is what makes a crash harmless: the session's row, then its frames, then, in one transaction,
everything decoded from the stored frames, the outcome and the answer to the request. A session without an
outcome whose collector is gone is decoded from its frames and closed as aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import chain
from typing import Any

import psycopg

from collector.coverage import covered, is_short
from collector.decoded import Decoded, Frame, Issue, MeterContext, readings_frame
from collector.drivers import Decoder, decoder_of
from collector.judging import held_days, judge, most_power_w
from collector.session import EndedSession, MergedSession
from faults import DeveloperFault, Fault, OperatorFault, RetryFault
from faults.market_time import to_local
from storage import sessions
from storage.readings import merge_readings
from storage.records import append_records
from storage.review import quarantine
from storage.review.holds import hold_readings
from storage.settings import Settings

Connection = psycopg.Connection[Any]


def merge_sessions(
    conn: Connection, ended: Sequence[EndedSession], settings: Settings, at: datetime
) -> list[MergedSession]:
    """Decode stored frames, merge what they say, and close the sessions, in the caller's transaction.

    Sessions that somebody else has closed or is closing are left out.
    """
    ends = {one.session_id: one for one in ended}
    rows = sessions.lock_open(conn, list(ends))
    if not rows:
        return []
    frames = sessions.read_frames(conn, [row.session_id for row in rows])
    zone = settings.market.tzinfo
    work = []
    for row in rows:
        decoder = decoder_of(row.protocol)
        most_w = most_power_w(row.installation, settings.acquisition)
        context = MeterContext(row.meter_id, row.serial, row.active_channel, zone, row.installation, most_w)
        decoded, outcome, fault = _decode(
            ends[row.session_id], frames[row.session_id], decoder, row.profile, context
        )
        end = replace(ends[row.session_id], outcome=outcome, fault=fault)
        work.append(_Work(end, row.request_id, decoder, context, frames[row.session_id], decoded))
    _check_history(conn, work)
    before = _totals_before(conn, work)
    for one in work:
        one.cover(at)
        _judge(one, settings, at, before)
    held = (held_days(one.decoded, one.context.meter_id, one.session_id) for one in work)
    hold_readings(conn, chain.from_iterable(held), at)
    touched = _merge(conn, work, at)
    _set_aside(conn, work, at)
    sessions.close(conn, [one.outcome for one in work], at)
    return [one.merged(touched.get(one.context.meter_id, ())) for one in work]


@dataclass(slots=True)
class _Work:
    """One session on its way."""

    end: EndedSession
    request_id: int | None
    decoder: Decoder
    context: MeterContext
    frames: Sequence[Frame]
    decoded: Decoded

    @property
    def session_id(self) -> int:
        return self.end.session_id

    @property
    def bytes_sent(self) -> int:
        # After a crash the frames are all that is known of the traffic; signals are lost to the count.
        known = self.end.bytes_sent
        return sum(len(f.payload) for f in self.frames if f.is_sent) if known is None else known

    @property
    def bytes_received(self) -> int:
        known = self.end.bytes_received
        return sum(len(f.payload) for f in self.frames if not f.is_sent) if known is None else known

    @property
    def outcome(self) -> sessions.Outcome:
        clock = self.decoded.clock
        return sessions.Outcome(
            session_id=self.session_id,
            outcome=self.end.outcome,
            failed_stage=self.end.failed_stage,
            fault=self.end.fault,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            retries=self.end.retries,
            meter_serial=self.decoded.meter_serial,
            meter_time=clock.meter_time if clock else None,
            drift_s=clock.drift_s if clock else None,
            round_trip_s=clock.round_trip_s if clock else None,
            statement=self.decoded.statement.document() if self.decoded.statement else None,
        )

    def cover(self, at: datetime) -> None:
        """Rows asked against rows got; a session that lacks some is not complete."""
        read_at = self.frames[-1].at if self.frames else at
        self.decoded = covered(self.decoded, self.end.asked, to_local(read_at, self.context.zone))
        if self.end.outcome == "complete" and is_short(self.decoded):
            self.end = replace(self.end, outcome="partial")

    def merged(self, touched: Sequence[date]) -> MergedSession:
        return MergedSession(
            session_id=self.session_id,
            request_id=self.request_id,
            meter_id=self.context.meter_id,
            outcome=self.end.outcome,
            failed_stage=self.end.failed_stage,
            fault=self.end.fault,
            decoded=self.decoded,
            touched=tuple(touched),
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
        )


def _decode(
    end: EndedSession, frames: Sequence[Frame], decoder: Decoder, profile: str, context: MeterContext
) -> tuple[Decoded, str, Fault | None]:
    """What the frames say; outcome and fault of the session with that known."""
    try:
        decoded = decoder.decode(frames, profile, context)
    except Exception as error:  # recorded as the session's outcome; the other sessions of the batch go on
        if isinstance(error, Fault):
            return Decoded(), "failed", error
        bug = DeveloperFault(
            f"{type(error).__name__}: {error}",
            where=f"decode of session {end.session_id}",
            remedy="report it; the frames are stored, the corrected version decodes them",
        )
        return Decoded(), "failed", bug
    fault = end.fault
    if decoded.is_moved and fault is None:
        fault = RetryFault(
            "an interval ended between the parameters (51) and the memory (52)",
            where=f"session {end.session_id}",
            remedy="the memory was left out and is read again",
        )
    outcome = end.outcome
    if decoded.shortfall:
        outcome = "partial" if outcome == "complete" else outcome
        fault = fault or RetryFault(
            decoded.shortfall,
            where=f"session {end.session_id}",
            remedy="read again; what could be given a time is kept",
        )
    return decoded, outcome, fault


def _totals_before(conn: Connection, work: Sequence[_Work]) -> sessions.Totals:
    """Where the running totals of these sessions' meters stood in the sessions before."""
    with_totals = [one.session_id for one in work if one.decoded.statement and one.decoded.statement.totals]
    return sessions.totals_before(conn, with_totals) if with_totals else {}


def _judge(one: _Work, settings: Settings, at: datetime, before: sessions.Totals) -> None:
    """Hold what must not become readings; a session of which nothing may is a matter of an operator's."""
    own = {name: stood for (meter_id, name), stood in before.items() if meter_id == one.context.meter_id}
    one.decoded, why, remedy = judge(one.decoded, one.context, settings.acquisition, at, own)
    if (one.decoded.held or why) and one.end.outcome == "complete":
        one.end = replace(one.end, outcome="partial")
    if why and one.end.fault is None:
        fault = OperatorFault(why, where=f"session {one.session_id}", remedy=remedy)
        one.end = replace(one.end, fault=fault)


def _check_history(conn: Connection, work: Sequence[_Work]) -> None:
    """What the sessions contradict of those before them becomes issues, by each protocol's own checks."""
    for decoder in {id(one.decoder): one.decoder for one in work}.values():
        own = [one for one in work if one.decoder is decoder]
        found = decoder.check_history(conn, [(one.session_id, one.context, one.decoded) for one in own])
        for one in own:
            issues: Sequence[Issue] = found.get(one.session_id, ())
            one.decoded = replace(one.decoded, issues=(*one.decoded.issues, *issues))


def _merge(conn: Connection, work: Sequence[_Work], at: datetime) -> dict[int, list[date]]:
    """Readings and records of sessions that are not held; days that changed, by meter."""
    taken = [one for one in work if not one.decoded.is_held]
    readings = readings_frame([(one.context.meter_id, one.session_id, one.decoded.vectors) for one in taken])
    touched: dict[int, list[date]] = {}
    for meter_id, day in merge_readings(conn, readings, at).touched:
        touched.setdefault(meter_id, []).append(day)
    rows_of: dict[str, list[dict[str, Any]]] = {
        "register_reading": [],
        "outage": [],
        "meter_change": [],
        "meter_parameters": [],
    }
    for one in taken:
        owner = {"session_id": one.session_id, "meter_id": one.context.meter_id}
        rows_of["register_reading"] += [owner | _row(record) for record in one.decoded.registers]
        rows_of["outage"] += [owner | _row(record) for record in one.decoded.outages]
        rows_of["meter_change"] += [owner | _row(record) for record in one.decoded.changes]
        rows_of["meter_parameters"] += [owner | _row(record) for record in one.decoded.parameters]
    append_records(conn, rows_of)
    return touched


def _row(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _set_aside(conn: Connection, work: Sequence[_Work], at: datetime) -> None:
    quarantine.put(
        conn,
        [
            quarantine.Quarantined(
                stage=issue.stage,
                reason=issue.reason,
                meter_id=one.context.meter_id,
                day=issue.day,
                session_id=one.session_id,
                detail=issue.detail,
            )
            for one in work
            for issue in one.decoded.issues
        ],
        at,
    )
