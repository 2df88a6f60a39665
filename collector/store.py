"""Sessions in the database: opened, their frames kept, what the frames say merged, closed. In batches.

Order of writing is what makes a crash harmless: the session's row, then its frames, then, in one transaction,
everything decoded from the stored frames, the outcome and the answer to the request. A session without an
outcome whose collector is gone is decoded from its frames and closed as aborted.

One meter is never in two sessions: `session_open`, a unique index on sessions without an outcome, refuses the
second, whichever collector asks; `session_line` does the same for the line that several meters share.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

import orjson

from collector.decoded import Decoded, Frame, MeterContext, readings_frame
from collector.drivers import driver_named, driver_of
from collector.files.decode import FILE_DECODERS
from collector.nbr14522.cross_checks import check_history
from collector.streams.decode import STREAM_DECODERS
from collector.worklist import Connection, Target
from faults import DeveloperFault, Fault, OperatorFault, RetryFault
from storage.readings import merge_readings
from storage.settings import Settings


class Decoder(Protocol):
    """What the stored frames of a session mean, by the session's protocol."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded: ...


_OTHER_DECODERS: Mapping[str, Decoder] = {**FILE_DECODERS, **STREAM_DECODERS}

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TAIL = b"\xff\xff"
_FRAME_ROW = struct.Struct(">hiqiiiqicih")
# Namespace of the advisory locks that say "this collector lives"; apart from ccee.ledger's 0x534D10.
_ALIVE = 0x534D11
# One request must not kill collectors for ever; a machine that is restarted now and then must not fail it.
_DEATHS = 20


def decoder_of(protocol: str) -> Decoder:
    """Who decodes the stored frames of a session of this protocol."""
    return _OTHER_DECODERS.get(protocol) or driver_named(protocol)


def encode_frame(
    session_id: int, seq: int, at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes
) -> bytes:
    """A row of `frame` as binary COPY wants it: packed at once, so that what waits to be written is small."""
    head = _FRAME_ROW.pack(
        7, 8, session_id, 4, seq, 8, (at - _EPOCH) // _MICROSECOND, 1, b">" if is_sent else b"<", 2, command
    )
    flag = b"\xff\xff\xff\xff" if crc_ok is None else b"\0\0\0\x01" + bytes([crc_ok])
    return head + flag + len(payload).to_bytes(4, "big") + payload


def write_frames(conn: Connection, rows: Sequence[bytes]) -> None:
    """Append rows made by `encode_frame`."""
    statement = (
        "COPY frame (session_id, seq, at, direction, command, crc_ok, payload) FROM STDIN (FORMAT binary)"
    )
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_COPY_HEAD + b"".join(rows) + _COPY_TAIL)


def read_frames(conn: Connection, session_ids: Sequence[int]) -> dict[int, list[Frame]]:
    """The stored frames of sessions, in order; a session without frames has an empty list."""
    found: dict[int, list[Frame]] = {session_id: [] for session_id in session_ids}
    cursor = conn.cursor(binary=True)
    cursor.execute(
        "SELECT session_id, seq, at, direction = '>', coalesce(crc_ok, true), payload FROM frame "
        "WHERE session_id = ANY(%s) ORDER BY session_id, seq",
        [list(session_ids)],
    )
    for session_id, *values in cursor:
        found[session_id].append(Frame(*values))
    return found


# --- who lives ---------------------------------------------------------------------------------------------


def proclaim(conn: Connection, collector: str) -> None:
    """Say that this collector lives, for as long as the connection does."""
    conn.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [_ALIVE, collector])


def gone_collectors(conn: Connection, own: str) -> list[str]:
    """Collectors that hold open sessions or claims and live no more.

    The locks taken to find out last for the transaction: of several that recover, one gets each name.
    """
    rows = conn.execute(
        "SELECT collector FROM session WHERE outcome IS NULL "
        "UNION SELECT claimed_by FROM job_request WHERE state = 'running' AND kind IN ('read', 'command')"
    )
    names = [name for (name,) in rows if name is not None and name != own]
    query = "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))"
    return [name for name in names if conn.execute(query, [_ALIVE, name]).fetchone() == (True,)]


def open_sessions_of(conn: Connection, collectors: Sequence[str]) -> list[int]:
    """Sessions without an outcome, oldest first."""
    rows = conn.execute(
        "SELECT id FROM session WHERE outcome IS NULL AND collector = ANY(%s) ORDER BY id", [list(collectors)]
    )
    return [row[0] for row in rows]


def deadly_requests(conn: Connection, session_ids: Sequence[int]) -> list[int]:
    """Requests of these sessions during which collectors died too often to be chance."""
    rows = conn.execute(
        "SELECT request_id FROM session WHERE outcome = 'aborted' AND request_id IN "
        "(SELECT request_id FROM session WHERE id = ANY(%s)) GROUP BY request_id HAVING count(*) >= %s",
        [list(session_ids), _DEATHS],
    )
    return [row[0] for row in rows]


# --- sessions -----------------------------------------------------------------------------------------------


def open_sessions(
    conn: Connection, collector: str, opened: Sequence[tuple[int | None, Target, str]], at: datetime
) -> list[int | None]:
    """Open a session for each (request, target, purpose); None where the meter or its line is in one."""
    rows = conn.execute(
        "INSERT INTO session (request_id, meter_id, unit_id, collector, purpose, protocol, url, started_at) "
        "SELECT r, m, u, %s, p, o, l, %s FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], "
        "%s::text[], %s::text[]) AS t (r, m, u, p, o, l) ON CONFLICT DO NOTHING "
        "RETURNING meter_id, id",
        [
            collector,
            at,
            [request_id for request_id, _, _ in opened],
            [target.meter_id for _, target, _ in opened],
            [target.unit_id for _, target, _ in opened],
            [purpose for _, _, purpose in opened],
            [driver_of(target.profile).name for _, target, _ in opened],
            [target.url for _, target, _ in opened],
        ],
    )
    made = dict(rows.fetchall())
    return [made.pop(target.meter_id, None) for _, target, _ in opened]


# --- what came of it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Closing:
    """A session that is over, still to be decoded. Defaults are those of a session whose collector died."""

    session_id: int
    outcome: str = "aborted"
    failed_stage: str | None = None
    fault: Fault | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What a session came to."""

    session_id: int
    request_id: int | None
    meter_id: int
    outcome: str
    failed_stage: str | None
    fault: Fault | None
    decoded: Decoded
    touched: tuple[date, ...] = ()
    bytes_sent: int = 0
    bytes_received: int = 0


def settle(conn: Connection, closings: Sequence[Closing], settings: Settings, at: datetime) -> list[Settled]:
    """Decode stored frames, merge what they say, and close the sessions, in the caller's transaction.

    Sessions that somebody else has closed or is closing are left out.
    """
    still_open = conn.execute(
        "SELECT id FROM session WHERE id = ANY(%s) AND outcome IS NULL ORDER BY id FOR UPDATE SKIP LOCKED",
        [[closing.session_id for closing in closings]],
    )
    ids = [row[0] for row in still_open]
    closings = [closing for closing in closings if closing.session_id in set(ids)]
    if not closings:
        return []
    frames = read_frames(conn, ids)
    rows = conn.execute(
        "SELECT DISTINCT ON (s.id) s.id, s.request_id, s.meter_id, m.serial, s.protocol, mm.profile, "
        "coalesce(i.active_channel, 1) FROM session s JOIN meter m ON m.id = s.meter_id "
        "JOIN meter_model mm ON mm.id = m.model_id LEFT JOIN installation i ON i.meter_id = m.id "
        "WHERE s.id = ANY(%s) ORDER BY s.id, lower(i.valid) DESC NULLS LAST",
        [ids],
    )
    about = {row[0]: row[1:] for row in rows}
    zone = settings.market.tzinfo
    settled = []
    for closing in closings:
        request_id, meter_id, serial, protocol, profile, channel = about[closing.session_id]
        context = MeterContext(meter_id, serial, channel, zone)
        decoded, outcome, fault = _decode(
            closing, frames[closing.session_id], decoder_of(protocol), profile, context
        )
        settled.append(
            _Settling(closing, request_id, context, outcome, fault, decoded, frames[closing.session_id])
        )
    history = [(s.closing.session_id, s.context, s.decoded) for s in settled]
    for session_id, issues in check_history(conn, history).items():
        one = next(s for s in settled if s.closing.session_id == session_id)
        one.decoded = replace(one.decoded, issues=(*one.decoded.issues, *issues))
    merged = [s for s in settled if not s.decoded.is_held]
    readings = readings_frame([(s.context.meter_id, s.closing.session_id, s.decoded.vectors) for s in merged])
    touched: dict[int, list[date]] = {}
    for meter_id, day in merge_readings(conn, readings, at).touched:
        touched.setdefault(meter_id, []).append(day)
    _write_records(conn, merged)
    _quarantine(conn, settled, at)
    _close(conn, settled, at)
    return [
        Settled(
            session_id=s.closing.session_id,
            request_id=s.request_id,
            meter_id=s.context.meter_id,
            outcome=s.outcome,
            failed_stage=s.closing.failed_stage,
            fault=s.fault,
            decoded=s.decoded,
            touched=tuple(touched.get(s.context.meter_id, ())),
            bytes_sent=s.bytes_sent,
            bytes_received=s.bytes_received,
        )
        for s in settled
    ]


@dataclass(slots=True)
class _Settling:
    closing: Closing
    request_id: int | None
    context: MeterContext
    outcome: str
    fault: Fault | None
    decoded: Decoded
    frames: list[Frame] = field(default_factory=list)

    @property
    def bytes_sent(self) -> int:
        # After a crash the frames are all that is known of the traffic; signals are lost to the count.
        known = self.closing.bytes_sent
        return sum(len(f.payload) for f in self.frames if f.is_sent) if known is None else known

    @property
    def bytes_received(self) -> int:
        known = self.closing.bytes_received
        return sum(len(f.payload) for f in self.frames if not f.is_sent) if known is None else known


def _decode(
    closing: Closing, frames: list[Frame], decoder: Decoder, profile: str, context: MeterContext
) -> tuple[Decoded, str, Fault | None]:
    try:
        decoded = decoder.decode(frames, profile, context)
    except Exception as error:  # recorded as the session's outcome; the other sessions of the batch go on
        if isinstance(error, Fault):
            return Decoded(), "failed", error
        bug = DeveloperFault(
            f"{type(error).__name__}: {error}",
            where=f"decode of session {closing.session_id}",
            remedy="report it; the frames are stored, the corrected version decodes them",
        )
        return Decoded(), "failed", bug
    fault = closing.fault
    if decoded.is_moved and fault is None:
        fault = RetryFault(
            "an interval ended between the parameters (51) and the memory (52)",
            where=f"session {closing.session_id}",
            remedy="the memory was left out and is read again",
        )
    if decoded.is_held and fault is None:
        said = decoded.meter_serial or "of no serial"
        fault = OperatorFault(
            f"meter {said} answered, the registry names {context.serial}: held (V10)",
            where=f"session {closing.session_id}",
            remedy="if the meter was changed, register the new one; else correct the unit's address",
        )
    return decoded, closing.outcome, fault


def fault_json(fault: Fault | None, stage: str | None) -> dict[str, Any] | None:
    """A fault as the error columns of `session` and `job_request` hold it."""
    if fault is None:
        return None
    return {
        "actor": fault.actor.value,
        "stage": stage or "",
        "message": fault.message,
        "where": fault.where,
        "remedy": fault.remedy,
    }


def _close(conn: Connection, settled: Sequence[_Settling], at: datetime) -> None:
    records = []
    for s in settled:
        clock = s.decoded.clock
        error = fault_json(s.fault, s.closing.failed_stage)
        records.append(
            {
                "id": s.closing.session_id,
                "outcome": s.outcome,
                "failed_stage": s.closing.failed_stage,
                "error": error,
                "bytes_sent": s.bytes_sent,
                "bytes_received": s.bytes_received,
                "retries": s.closing.retries,
                "meter_serial": s.decoded.meter_serial,
                "meter_time": clock.meter_time if clock else None,
                "drift_s": round(clock.drift_s, 3) if clock else None,
                "round_trip_s": round(clock.round_trip_s, 3) if clock else None,
            }
        )
    conn.execute(
        "UPDATE session s SET ended_at = %s, outcome = r.outcome, failed_stage = r.failed_stage, "
        "error = r.error, "
        "bytes_sent = r.bytes_sent, bytes_received = r.bytes_received, retries = r.retries, "
        "meter_serial = r.meter_serial, meter_time = r.meter_time, drift_s = r.drift_s, "
        "round_trip_s = r.round_trip_s FROM jsonb_to_recordset(%s) AS r (id bigint, outcome text, "
        "failed_stage text, error jsonb, bytes_sent bigint, bytes_received bigint, retries integer, "
        "meter_serial text, meter_time timestamptz, drift_s numeric, round_trip_s numeric) WHERE s.id = r.id",
        [at, orjson.dumps(records).decode()],
    )


def _write_records(conn: Connection, settled: Sequence[_Settling]) -> None:
    registers, outages, changes, parameters = [], [], [], []
    for s in settled:
        owner = {"session_id": s.closing.session_id, "meter_id": s.context.meter_id}
        registers += [owner | _row(row) for row in s.decoded.registers]
        outages += [owner | _row(row) for row in s.decoded.outages]
        changes += [owner | _row(row) for row in s.decoded.changes]
        parameters += [owner | _row(row) for row in s.decoded.parameters]
    _insert(
        conn,
        "register_reading",
        "session_id bigint, meter_id bigint, command smallint, channel smallint, at timestamptz, "
        "values jsonb",
        registers,
    )
    _insert(
        conn,
        "outage",
        "meter_id bigint, started_at timestamptz, ended_at timestamptz, session_id bigint",
        outages,
    )
    _insert(
        conn,
        "meter_change",
        "meter_id bigint, at timestamptz, code smallint, reader_serial text, session_id bigint",
        changes,
    )
    _insert(
        conn,
        "meter_parameters",
        "session_id bigint, meter_id bigint, command smallint, at timestamptz, values jsonb",
        parameters,
    )


def _row(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _insert(conn: Connection, table: str, columns: str, records: Iterable[dict[str, Any]]) -> None:
    """Append rows; what is known already (a failure an earlier session told) stays as it was."""
    rows = list(records)
    if not rows:
        return
    quoted = columns.replace("values jsonb", '"values" jsonb')
    names = ", ".join(column.rsplit(" ", 1)[0] for column in quoted.split(", "))
    conn.execute(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM jsonb_to_recordset(%s) AS r ({quoted}) "
        "ON CONFLICT DO NOTHING",
        [orjson.dumps(rows, default=str).decode()],
    )


def _quarantine(conn: Connection, settled: Sequence[_Settling], at: datetime) -> None:
    records = [
        {
            "stage": issue.stage,
            "reason": issue.reason,
            "meter_id": s.context.meter_id,
            "day": issue.day,
            "session_id": s.closing.session_id,
            "detail": issue.detail,
            # The same trouble in each day's session is one row, told by what it is.
            "dedup_key": f"{issue.stage}:{s.context.meter_id}:{issue.reason}:{issue.day}",
        }
        for s in settled
        for issue in s.decoded.issues
    ]
    if records:
        conn.execute(
            "INSERT INTO quarantine (at, stage, reason, meter_id, day, session_id, detail, dedup_key) "
            "SELECT %s, stage, reason, meter_id, day, session_id, detail, dedup_key "
            "FROM jsonb_to_recordset(%s) AS r (stage text, reason text, meter_id bigint, day date, "
            "session_id bigint, detail jsonb, dedup_key text) ON CONFLICT (dedup_key) DO NOTHING",
            [at, orjson.dumps(records, default=str).decode()],
        )


def condemn(conn: Connection, closing: Closing, fault: Fault, at: datetime) -> None:
    """Close a session whose frames could not be merged: they stay, and the fault says why."""
    conn.execute(
        "UPDATE session SET ended_at = %s, outcome = 'failed', failed_stage = 'merge', error = %s "
        "WHERE id = %s",
        [at, orjson.dumps(fault_json(fault, "merge")).decode(), closing.session_id],
    )
