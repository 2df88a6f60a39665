"""Stored readings against the frames that they came from: a count that somebody changed shows.

What belongs here: decoding the sessions of a day anew and comparing every count. What does not: one value's
way back to its octets (`trace`), and what stops a run (assets).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import psycopg
from psycopg.rows import dict_row

from audit.evidence import Evidence
from collector.decoded import MeterContext
from derivation.checking import Finding
from derivation.window import Window
from storage.database import Database
from storage.review.holds import hold_of
from storage.sessions import session_row

# Of each installed meter the channel that carries active energy, newest version.
_ROWS = """
    SELECT DISTINCT ON (r.meter_id, r.day) r.meter_id, r.day, r.interval_s, r.pulses, r.source_starts,
           r.source_sessions, r.channel, m.serial, mm.profile
    FROM reading_day r
    JOIN installation i ON i.meter_id = r.meter_id AND i.active_channel = r.channel
        AND i.valid && tstzrange(market_day_start(r.day), market_day_start(r.day + 1))
    JOIN point p ON p.id = i.point_id AND p.uc_id %% %(shards)s = %(shard)s
    JOIN meter m ON m.id = r.meter_id JOIN meter_model mm ON mm.id = m.model_id
    WHERE r.day BETWEEN %(first)s AND %(last)s
    ORDER BY r.meter_id, r.day, r.version DESC
"""


def readings_against_frames(db: Database, window: Window, zone: timezone) -> Finding:
    """Every stored count is what its session's frames decode to, shifted where a person decided so.

    Counts of sessions that have no frames are counted apart: there is nothing to compare them with.
    """
    finding = Finding()
    keys = {
        "first": window.first_day,
        "last": window.last_day,
        "shard": window.shard,
        "shards": window.shards,
    }
    with db.connect() as conn:
        with conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_ROWS, keys).fetchall()
        meter_id, evidence = None, Evidence(conn)
        for row in rows:
            if row["meter_id"] != meter_id:  # sessions are a meter's own: what is decoded is kept no longer
                meter_id, evidence = row["meter_id"], Evidence(conn)
            _compare(conn, evidence, row, zone, finding)
    return finding


def _compare(
    conn: psycopg.Connection[Any],
    evidence: Evidence,
    row: Mapping[str, Any],
    zone: timezone,
    finding: Finding,
) -> None:
    context = MeterContext(row["meter_id"], row["serial"], row["channel"], zone)
    ends = [*row["source_starts"][1:], len(row["pulses"])]
    differs: list[int] = []
    compared = 0
    for begin, end, number in zip(row["source_starts"], ends, row["source_sessions"], strict=True):
        if not number:
            continue
        session = session_row(conn, number)
        if session is None or not evidence.frames(number):
            finding.add("counts_without_frames", sum(value is not None for value in row["pulses"][begin:end]))
            continue
        known = evidence.vector(session, row["profile"], context, row["day"])
        for index in range(begin, end):
            pulses = row["pulses"][index]
            if pulses is None:
                continue
            compared += 1
            is_same = known is not None and bool(known.present[index]) and int(known.pulses[index]) == pulses
            if not is_same and not _is_shifted(conn, evidence, session, row, context, index, pulses):
                differs.append(index + 1)
    finding.judged += 1
    finding.add("counts_compared", compared)
    if differs:
        some = ", ".join(map(str, differs[:5])) + (" ..." if len(differs) > 5 else "")
        finding.broken[f"meter {row['serial']} {row['day']}"] = (
            f"{len(differs)} counts are not what the frames say: intervals {some}"
        )


def _is_shifted(
    conn: psycopg.Connection[Any],
    evidence: Evidence,
    session: Mapping[str, Any],
    row: Mapping[str, Any],
    context: MeterContext,
    index: int,
    pulses: int,
) -> bool:
    """Whether the frames have the count where a decision found it."""
    day, told = told_at(conn, session["id"], row["channel"], row["day"], index, row["interval_s"])
    return evidence.pulses(session, row["profile"], context, day, told) == pulses


def told_at(
    conn: psycopg.Connection[Any], session_id: int, channel: int, day: date, index: int, interval_s: int
) -> tuple[date, int]:
    """Day and place of a reading as the frames say it: earlier, where a decision shifted it."""
    hold = hold_of(conn, session_id, channel, day, index)
    if hold is None or not hold.shift_s:
        return day, index
    interval = timedelta(seconds=interval_s)
    end = datetime.combine(day, time()) + (index + 1) * interval - timedelta(seconds=hold.shift_s)
    told_day = (end - interval).date()
    return told_day, (end - datetime.combine(told_day, time())) // interval - 1
