"""Sessions and their frames: the tables `session` and `frame`.

A session is opened before the first octet, has its frames while it runs, and is closed with its outcome once
they are decoded and merged. A session without an outcome belongs to the collector that is named in it; where
that lives no more, another one closes it.

One meter is never in two sessions: `session_open`, a unique index on sessions without an outcome, refuses the
second, whichever collector asks; `session_line` does the same for the line that several meters share.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row, tuple_row

from faults import Fault
from storage.locks import ALIVE_LOCK

Connection = psycopg.Connection[Any]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TAIL = b"\xff\xff"
_FRAME_ROW = struct.Struct(">hiqiiiqicih")
# One request must not kill collectors for ever; a machine that is restarted now and then must not fail it.
_DEATHS = 20


# --- frames -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """One stored frame: a command as it left ('>'), or a block as it came, prefix and CRC included."""

    seq: int
    at: datetime
    is_sent: bool
    crc_ok: bool
    payload: bytes


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


def write_file(conn: Connection, session_id: int, at: datetime, octets: bytes) -> None:
    """A file as the one frame of its session; it has no command."""
    conn.execute(
        "INSERT INTO frame (session_id, seq, at, direction, payload) VALUES (%s, 1, %s, '<', %s)",
        [session_id, at, octets],
    )


def read_frames(conn: Connection, session_ids: Sequence[int]) -> dict[int, list[Frame]]:
    """The stored frames of sessions, in order; a session without frames has an empty list."""
    frames: dict[int, list[Frame]] = {session_id: [] for session_id in session_ids}
    with conn.cursor(binary=True, row_factory=tuple_row) as cursor:
        cursor.execute(
            # No CRC is known of what we sent ourselves, and of a file.
            "SELECT session_id, seq, at, direction = '>', coalesce(crc_ok, true), payload FROM frame "
            "WHERE session_id = ANY(%s) ORDER BY session_id, seq",
            [list(session_ids)],
        )
        for session_id, *values in cursor:
            frames[session_id].append(Frame(*values))
    return frames


# --- who lives ----------------------------------------------------------------------------------------------


def proclaim(conn: Connection, collector: str) -> None:
    """Say that this collector lives, for as long as the connection does."""
    conn.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [ALIVE_LOCK, collector])


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
    return [name for name in names if conn.execute(query, [ALIVE_LOCK, name]).fetchone() == (True,)]


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


# --- opened -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be opened. `request_id`: of the queue; None: nobody asked."""

    meter_id: int
    unit_id: int | None
    purpose: str
    protocol: str
    url: str | None
    request_id: int | None = None


def open_sessions(
    conn: Connection, collector: str, wanted: Sequence[NewSession], at: datetime
) -> list[int | None]:
    """Open sessions; None where the meter or its line is in one."""
    rows = conn.execute(
        "INSERT INTO session (request_id, meter_id, unit_id, collector, purpose, protocol, url, started_at) "
        "SELECT r, m, u, %s, p, o, l, %s FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], "
        "%s::text[], %s::text[]) AS t (r, m, u, p, o, l) ON CONFLICT DO NOTHING "
        "RETURNING meter_id, id",
        [
            collector,
            at,
            [one.request_id for one in wanted],
            [one.meter_id for one in wanted],
            [one.unit_id for one in wanted],
            [one.purpose for one in wanted],
            [one.protocol for one in wanted],
            [one.url for one in wanted],
        ],
    )
    ids = dict(rows.fetchall())
    return [ids.pop(one.meter_id, None) for one in wanted]


def finished_import(conn: Connection, meter_id: int, purpose: str, digest: str) -> int | None:
    """The session that took a file with these very octets before."""
    row = conn.execute(
        "SELECT id FROM session WHERE meter_id = %s AND purpose = %s "
        "AND outcome IN ('complete', 'partial') AND split_part(url, '?sha256=', 2) = %s "
        "ORDER BY id LIMIT 1",
        [meter_id, purpose, digest],
    ).fetchone()
    return None if row is None else int(row[0])


def meters_complete_since(conn: Connection, meter_ids: Sequence[int], since: datetime) -> set[int]:
    """Of these meters, those with a complete session that began since then."""
    rows = conn.execute(
        "SELECT DISTINCT meter_id FROM session WHERE meter_id = ANY(%s) AND started_at >= %s "
        "AND outcome = 'complete'",
        [list(meter_ids), since],
    )
    return {row[0] for row in rows}


def failures_at(
    conn: Connection, meter_id: int, stage: str, since: datetime, retried_since: datetime
) -> tuple[int, int]:
    """How often a meter's sessions failed at a stage since then, `(for good, left to another try)`.

    Args:
        stage: the first count takes it as it is, the second every stage that starts with it.
        retried_since: the second count begins there, not before `since`.
    """
    row = conn.execute(
        "SELECT count(*) FILTER (WHERE failed_stage = %(stage)s AND error ->> 'actor' = 'operator'), "
        "count(*) FILTER (WHERE starts_with(failed_stage, %(stage)s) AND error ->> 'actor' = 'retry' "
        "AND started_at > %(day)s) FROM session WHERE meter_id = %(meter)s AND started_at >= %(since)s "
        "AND starts_with(failed_stage, %(stage)s)",
        {"stage": stage, "day": retried_since, "meter": meter_id, "since": since},
    ).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def octets_by_unit(conn: Connection, since: date) -> list[tuple[int, date, int]]:
    """`(unit, market day, octets both ways)` of sessions by way of a unit, from the market day `since` on."""
    # The bound on started_at spares the sessions of all the months before.
    rows = conn.execute(
        "SELECT unit_id, market_day(started_at), sum(bytes_sent + bytes_received)::bigint FROM session "
        "WHERE unit_id IS NOT NULL AND started_at >= market_day_start(%s) GROUP BY 1, 2",
        [since],
    )
    return list(rows)


# --- closed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSession:
    """What is needed to decode a session.

    Attributes:
        serial, profile, active_channel: of its meter, by the registry as it is now.
        installation: its latest one; None: it has none.
    """

    session_id: int
    request_id: int | None
    meter_id: int
    serial: str
    protocol: str
    profile: str
    active_channel: int
    installation: Installation | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """What the registry says of a meter's constant and interval.

    Attributes:
        kwh_per_pulse: as registered; `includes_ratios` says whether `ratio`, TP x TC, is part of it.
        since: aware; None: ever.
        plant_kw: the largest of TC x supply voltage, MUSD and contracted demand; None: none is known.
    """

    kwh_per_pulse: Fraction
    ratio: Fraction
    includes_ratios: bool
    interval_s: int
    since: datetime | None
    plant_kw: Fraction | None = None

    @property
    def fitting_constants(self) -> tuple[Fraction, Fraction]:
        """See `fitting_constants`."""
        return fitting_constants(self.kwh_per_pulse, self.ratio, self.includes_ratios)


def fitting_constants(
    kwh_per_pulse: Fraction, ratio: Fraction, includes_ratios: bool
) -> tuple[Fraction, Fraction]:
    """What a meter may state: energy at the point, or behind its transformers (nbr14522.md 8.5)."""
    return kwh_per_pulse, kwh_per_pulse / ratio if includes_ratios else kwh_per_pulse * ratio


def lock_open(conn: Connection, session_ids: Sequence[int]) -> list[OpenSession]:
    """Those that have no outcome yet, locked; what somebody else has closed or is closing is left out."""
    still_open = conn.execute(
        "SELECT id FROM session WHERE id = ANY(%s) AND outcome IS NULL ORDER BY id FOR UPDATE SKIP LOCKED",
        [list(session_ids)],
    )
    ids = [row[0] for row in still_open]
    if not ids:
        return []
    rows = conn.execute(
        "SELECT DISTINCT ON (s.id) s.id, s.request_id, s.meter_id, m.serial, s.protocol, mm.profile, "
        "coalesce(i.active_channel, 1), i.pulse_energy_num, i.pulse_energy_den, i.tp_ratio * i.tc_ratio, "
        "i.constant_includes_ratios, i.interval_s, lower(i.valid), "
        "greatest(c.demand_kw, c.musd_kw, "
        # A TC has 5 A at its secondary.
        "CASE WHEN i.tc_ratio > 1 THEN round(sqrt(3.0) * c.voltage_kv * i.tc_ratio * 5, 1) END) "
        "FROM session s JOIN meter m ON m.id = s.meter_id "
        "JOIN meter_model mm ON mm.id = m.model_id LEFT JOIN installation i ON i.meter_id = m.id "
        "LEFT JOIN LATERAL (SELECT "
        "  (SELECT max(musd_kw) FROM uc_musd WHERE uc_id = p.uc_id) AS musd_kw, "
        "  max(k.contracted_demand_kw) AS demand_kw, max(k.supply_voltage_kv) AS voltage_kv "
        "  FROM point p LEFT JOIN uc_contract k ON k.uc_id = p.uc_id WHERE p.id = i.point_id GROUP BY p.uc_id"
        ") c ON true "
        "WHERE s.id = ANY(%s) ORDER BY s.id, lower(i.valid) DESC NULLS LAST",
        [ids],
    )
    return [
        OpenSession(
            session_id=row[0],
            request_id=row[1],
            meter_id=row[2],
            serial=row[3],
            protocol=row[4],
            profile=row[5],
            active_channel=row[6],
            installation=None if row[7] is None else _installation(*row[7:]),
        )
        for row in rows
    ]


def _installation(
    numerator: int,
    denominator: int,
    ratio: Decimal,
    includes: bool,
    interval_s: int,
    since: datetime | None,
    plant_kw: Decimal | None,
) -> Installation:
    known_kw = None if plant_kw is None else Fraction(plant_kw)
    return Installation(
        Fraction(numerator, denominator), Fraction(ratio), includes, interval_s, since, known_kw
    )


Totals = Mapping[tuple[int, str], tuple[datetime, Fraction]]
"""By meter and name of a running total: the end at which it was read last, and where it stood, Wh."""


def totals_before(conn: Connection, session_ids: Sequence[int]) -> Totals:
    """Where running totals stood last, by meter and name, before any of these sessions of theirs.

    Ends are naive, as the meter's clock has them; totals in Wh.
    """
    rows = conn.execute(
        "SELECT s.meter_id, t ->> 'name', t -> 'last' ->> 0, t -> 'last' ->> 1 "
        "FROM (SELECT DISTINCT meter_id FROM session WHERE id = ANY(%s)) m CROSS JOIN LATERAL ("
        "  SELECT o.meter_id, o.statement FROM session o WHERE o.meter_id = m.meter_id AND o.id <> ALL(%s) "
        "  AND o.outcome IN ('complete', 'partial') AND jsonb_array_length(o.statement -> 'totals') > 0 "
        "  ORDER BY o.started_at DESC LIMIT 1"
        ") s CROSS JOIN LATERAL jsonb_array_elements(s.statement -> 'totals') t",
        [list(session_ids), list(session_ids)],
    )
    return {
        (meter_id, name): (datetime.fromisoformat(end), Fraction(energy))
        for meter_id, name, end, energy in rows
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended, for its row.

    Attributes:
        drift_s: the meter's clock minus ours; with `meter_time` and `round_trip_s` None where none was told.
        statement: what it states about its readings, as JSON has it.
    """

    session_id: int
    outcome: str
    failed_stage: str | None
    fault: Fault | None
    bytes_sent: int
    bytes_received: int
    retries: int
    meter_serial: str | None
    meter_time: datetime | None = None
    drift_s: float | None = None
    round_trip_s: float | None = None
    statement: Mapping[str, Any] | None = None


def close(conn: Connection, outcomes: Sequence[Outcome], at: datetime) -> None:
    """Write outcomes into the rows of their sessions."""
    records = [
        {
            "id": one.session_id,
            "outcome": one.outcome,
            "failed_stage": one.failed_stage,
            "error": fault_json(one.fault, one.failed_stage),
            "bytes_sent": one.bytes_sent,
            "bytes_received": one.bytes_received,
            "retries": one.retries,
            "meter_serial": one.meter_serial,
            "meter_time": one.meter_time,
            "drift_s": None if one.drift_s is None else round(one.drift_s, 3),
            "round_trip_s": None if one.round_trip_s is None else round(one.round_trip_s, 3),
            "statement": one.statement,
        }
        for one in outcomes
    ]
    conn.execute(
        "UPDATE session s SET ended_at = %s, outcome = r.outcome, failed_stage = r.failed_stage, "
        "error = r.error, "
        "bytes_sent = r.bytes_sent, bytes_received = r.bytes_received, retries = r.retries, "
        "meter_serial = r.meter_serial, meter_time = r.meter_time, drift_s = r.drift_s, "
        "round_trip_s = r.round_trip_s, statement = r.statement "
        "FROM jsonb_to_recordset(%s) AS r (id bigint, outcome text, "
        "failed_stage text, error jsonb, bytes_sent bigint, bytes_received bigint, retries integer, "
        "meter_serial text, meter_time timestamptz, drift_s numeric, round_trip_s numeric, statement jsonb) "
        "WHERE s.id = r.id",
        [at, orjson.dumps(records).decode()],
    )


def close_unmerged(conn: Connection, session_id: int, fault: Fault, at: datetime) -> None:
    """Close a session whose frames could not be merged: they stay, and the fault says why."""
    conn.execute(
        "UPDATE session SET ended_at = %s, outcome = 'failed', failed_stage = 'merge', error = %s "
        "WHERE id = %s",
        [at, orjson.dumps(fault_json(fault, "merge")).decode(), session_id],
    )


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


# --- asked about --------------------------------------------------------------------------------------------


def session_row(conn: Connection, session_id: int) -> dict[str, Any] | None:
    """One session with all its columns."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM session WHERE id = %s", [session_id]).fetchone()


def newest_streams(conn: Connection, purpose: str) -> list[dict[str, Any]]:
    """The newest session of each meter that speaks by itself: when it was heard last, and the line's quality.

    The quality is that of the newest session that is over.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "SELECT DISTINCT ON (s.meter_id) m.serial, s.protocol, s.url, s.started_at, s.outcome, "
            "f.at AS stored_until, s.retries AS reopened, s.drift_s, q.good, q.skipped_share "
            "FROM session s JOIN meter m ON m.id = s.meter_id "
            "LEFT JOIN LATERAL "
            "(SELECT max(at) AS at FROM frame WHERE session_id = s.id AND seq > 1) f ON true "
            "LEFT JOIN LATERAL (SELECT (values ->> 'good')::bigint AS good, "
            "round((values ->> 'skipped_share')::numeric, 4) AS skipped_share FROM meter_parameters p "
            "WHERE p.meter_id = s.meter_id AND p.command = 0 ORDER BY p.at DESC LIMIT 1) q ON true "
            "WHERE s.purpose = %s ORDER BY s.meter_id, s.id DESC",
            [purpose],
        ).fetchall()
