"""What a session's answers prove about one another, and about what earlier sessions brought.

Each misfit becomes an `Issue` of stage `cross_check` and so a row of the quarantine: an alarm, never silent.
It takes nothing out of the readings, because it does not tell which of the two sides is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
import psycopg

from collector.decoded import Decoded, Issue, MeterContext
from protocols.nbr14522 import checks
from protocols.nbr14522.checks import CheckResult, CrossCheck

_PARAMETERS_NOW = (0x20, 0x21)
_CHANGE_LOG = 0x28
_REGISTERS_NOW, _REGISTERS_LAST = 0x23, 0x24


def check_history(
    conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
) -> dict[int, list[Issue]]:
    """Compare sessions with what was stored before them: the log with changes, registers with memory.

    Args:
        sessions: (session id, context, what it brought).

    Returns:
        Misfits by session id.
    """
    earlier = _earlier_parameters(conn, sessions)
    totals = _earlier_totals(conn, sessions)
    found: dict[int, list[Issue]] = {}
    for session_id, context, decoded in sessions:
        if decoded.is_held:
            continue
        results = [
            *_changes(context, decoded, earlier.get(session_id)),
            *_registers(context, decoded, totals),
        ]
        found[session_id] = [
            Issue("cross_check", f"{where}: {check.name} do not agree", dict(check.detail))
            for where, check in results
            if check.verdict is CheckResult.MISFIT
        ]
    return found


def _changes(
    context: MeterContext, decoded: Decoded, before: tuple[dict[str, Any], float | None] | None
) -> Iterable[tuple[str, CrossCheck]]:
    row = next((row for row in decoded.parameters if row.command in _PARAMETERS_NOW), None)
    if row is None or before is None or _CHANGE_LOG not in decoded.answered:
        return
    values, drift_s = before
    step_s = None
    if drift_s is not None and decoded.clock is not None:
        step_s = decoded.clock.drift_s - drift_s
    logged = [(one.at.astimezone(context.zone).replace(tzinfo=None), one.code) for one in decoded.changes]
    yield "change log", checks.check_changes(values, row.values, logged, step_s)


def _registers(
    context: MeterContext, decoded: Decoded, totals: dict[tuple[int, datetime], dict[int, int]]
) -> Iterable[tuple[str, CrossCheck]]:
    for memory in decoded.sums:
        before = totals.get((context.meter_id, memory.begins_at))
        command = _REGISTERS_LAST if memory.code == 0x27 else _REGISTERS_NOW
        after = {
            row.channel: row.values.get("total_pulses") for row in decoded.registers if row.command == command
        }
        if before is None or not after:
            continue
        channels = range(memory.first_channel, memory.first_channel + len(memory.pulses))
        yield (
            f"memory {memory.code:02X}",
            checks.check_registers(
                [before.get(channel) for channel in channels],
                [after.get(channel) for channel in channels],
                memory.pulses,
                memory.open_intervals,
            ),
        )


def _earlier_parameters(
    conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
) -> dict[int, tuple[dict[str, Any], float | None]]:
    asked = [
        {"session_id": session_id, "meter_id": context.meter_id, "at": row.at}
        for session_id, context, decoded in sessions
        for row in decoded.parameters
        if row.command in _PARAMETERS_NOW
    ]
    if not asked:
        return {}
    rows = conn.execute(
        "SELECT q.session_id, p.values, p.drift_s "
        "FROM jsonb_to_recordset(%s) AS q (session_id bigint, meter_id bigint, at timestamptz), "
        'LATERAL (SELECT m."values", s.drift_s::float8 FROM meter_parameters m '
        "  JOIN session s ON s.id = m.session_id "
        "  WHERE m.meter_id = q.meter_id AND m.command = ANY(%s) AND m.at < q.at "
        "  ORDER BY m.at DESC LIMIT 1) p",
        [orjson.dumps(asked).decode(), list(_PARAMETERS_NOW)],
    )
    return {session_id: (values, drift_s) for session_id, values, drift_s in rows}


def _earlier_totals(
    conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
) -> dict[tuple[int, datetime], dict[int, int]]:
    asked = [
        {"meter_id": context.meter_id, "at": memory.begins_at}
        for _, context, decoded in sessions
        for memory in decoded.sums
    ]
    if not asked:
        return {}
    rows = conn.execute(
        "SELECT r.meter_id, r.at, r.channel, (r.values->>'total_pulses')::bigint "
        "FROM jsonb_to_recordset(%s) AS q (meter_id bigint, at timestamptz) "
        "JOIN register_reading r ON r.meter_id = q.meter_id AND r.at = q.at AND r.command = %s",
        [orjson.dumps(asked).decode(), _REGISTERS_LAST],
    )
    found: dict[tuple[int, datetime], dict[int, int]] = {}
    for meter_id, at, channel, total in rows:
        if total is not None:
            found.setdefault((meter_id, at), {})[channel] = total
    return found
