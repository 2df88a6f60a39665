"""Rows that a session was to bring against those that it brought, by time. Pure; one for every protocol.

A decoder says which rows came (`Decoded.got`); what was asked for is the goal of the visit. What came and was
refused has its own reason and counts as having come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from collector.decoded import Decoded, Issue
from collector.work.planning import Span, day_of
from protocols.acquisition import Coverage, Period, Statement, coverage, divides_day

STAGE = "coverage"
_USUAL_S = 300
# A clock that is further off is no reason to expect less: then it is the matter.
_MOST_SLOW_S = 3600
_MOST_DAYS = 40


def covered(decoded: Decoded, asked: Sequence[Span], now: datetime) -> Decoded:
    """What a session brought, with its coverage stated and each day that lacks rows told.

    Args:
        asked: the intervals that were to be brought, meter local. now: the same clock, when they were read.
            The newest interval, and what a slow clock has not reached, may not be there yet.
    """
    if decoded.got is None or not asked or decoded.is_held:
        return decoded
    statement = decoded.statement or Statement()
    interval_s = _interval_s(statement)
    step = timedelta(seconds=interval_s)
    slow_s = 0.0 if decoded.clock is None else max(0.0, -decoded.clock.drift_s)
    due = now - step - timedelta(seconds=slow_s if slow_s <= _MOST_SLOW_S else 0)
    periods = [Period(span.first_end - step, min(span.last_end, due)) for span in asked]
    found = coverage(periods, decoded.got, interval_s)
    issues = [] if found.is_complete else list(_issues(found, decoded, statement))
    return replace(
        decoded,
        statement=replace(statement, coverage=found),
        issues=(*decoded.issues, *issues),
    )


def is_short(decoded: Decoded) -> bool:
    """Whether rows that were asked for did not come."""
    found = None if decoded.statement is None else decoded.statement.coverage
    return found is not None and not found.is_complete


def _interval_s(statement: Statement) -> int:
    """Length in which rows are counted: the commonest, else the stated one."""
    if statement.lengths_s:
        return max(statement.lengths_s, key=lambda length: (statement.lengths_s[length], -length))
    stated = statement.interval_s
    return stated if stated is not None and divides_day(stated) else _USUAL_S


def _issues(found: Coverage, decoded: Decoded, statement: Statement) -> list[Issue]:
    missing: dict[date, list[Period]] = {}
    for period in found.missing:
        missing.setdefault(day_of(period.start + timedelta(seconds=found.interval_s)), []).append(period)
    reason = f"not all rows that were asked for came{_clock_words(decoded, found.interval_s)}"
    return [
        Issue(
            STAGE,
            reason,
            {
                "asked": found.asked,
                "got": found.got,
                "interval_s": found.interval_s,
                "missing": [period.document() for period in periods],
                "questions": list(statement.questions),
            },
            day,
        )
        for day, periods in sorted(missing.items())[:_MOST_DAYS]
    ]


def _clock_words(decoded: Decoded, interval_s: int) -> str:
    """The clock, where it may be why."""
    drift_s = 0.0 if decoded.clock is None else decoded.clock.drift_s
    if abs(drift_s) <= interval_s:
        return ""
    side = "fast" if drift_s > 0 else "slow"
    size = timedelta(seconds=round(abs(drift_s)))
    return f": the meter's clock is {size} {side}"
