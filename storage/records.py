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

    Args:
        rows_of: by table (register_reading, outage, meter_change, meter_parameters), rows by column.
    """
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
