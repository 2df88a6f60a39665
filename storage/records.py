"""Decoded records that are ordinary rows: registers, power failures, changes, parameters of meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import psycopg

_COLUMNS: Mapping[str, str] = {
    "register_reading": "session_id bigint, meter_id bigint, command smallint, channel smallint, "
    "at timestamptz, values jsonb",
    "outage": "meter_id bigint, started_at timestamptz, ended_at timestamptz, session_id bigint",
    "meter_change": "meter_id bigint, at timestamptz, code smallint, reader_serial text, session_id bigint",
    "meter_parameters": "session_id bigint, meter_id bigint, command smallint, at timestamptz, values jsonb",
}


def append_records(conn: psycopg.Connection[Any], rows_of: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Append rows by table; what is known already (a failure an earlier session told) stays as it was.

    A failure that was open gets its return.

    Args:
        rows_of: by table (register_reading, outage, meter_change, meter_parameters), rows by column.
    """
    _close_outages(conn, rows_of.get("outage", ()))
    for table, rows in rows_of.items():
        if not rows:
            continue
        quoted = _COLUMNS[table].replace("values jsonb", '"values" jsonb')
        names = ", ".join(column.rsplit(" ", 1)[0] for column in quoted.split(", "))
        conn.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM jsonb_to_recordset(%s) AS r ({quoted}) "
            "ON CONFLICT DO NOTHING",
            [orjson.dumps(list(rows), default=str).decode()],
        )


def _close_outages(conn: psycopg.Connection[Any], outages: Sequence[Mapping[str, Any]]) -> None:
    """Give failures that were open their return; the days in between derive again."""
    closed = [row for row in outages if row["ended_at"] is not None]
    if closed:
        conn.execute(
            "WITH closed AS (UPDATE outage o SET ended_at = r.ended_at FROM jsonb_to_recordset(%s) "
            "  AS r (meter_id bigint, started_at timestamptz, ended_at timestamptz) "
            "  WHERE o.meter_id = r.meter_id AND o.started_at = r.started_at AND o.ended_at IS NULL "
            "  RETURNING o.meter_id, o.started_at, o.ended_at) "
            "INSERT INTO touched_day (meter_id, day) SELECT DISTINCT c.meter_id, d::date FROM closed c, "
            "generate_series(c.started_at::date - 1, c.ended_at::date + 1, interval '1 day') AS d "
            "WHERE market_day_start(d::date) < c.ended_at AND market_day_start(d::date + 1) > c.started_at",
            [orjson.dumps(closed, default=str).decode()],
        )
