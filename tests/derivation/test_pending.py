"""What sensors ask of the database each half minute costs the same however many years are stored."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import psycopg
import pytest

from derivation import pending
from storage.database import Database
from tests.derivation.world import DAY, NOW, add_points

YEARS = 2


@pytest.fixture
def years(db: Database) -> Database:
    """A UC with a day of the CCEE layer in each week of some years, and one day that waits."""
    with db.connect() as conn:
        (point,) = add_points(conn, 1)
        conn.execute(
            "INSERT INTO series_day (uc_id, layer, day, interval_s, denominator, numerators, origin, reason, "
            "input_version, derivation_id, run_id, content_hash) "
            "SELECT %s, 5, %s::date - 7 * n, 300, 1000, '{1}', '\\x01', '\\x00', 1, 1, 'r', '\\x00' "
            "FROM generate_series(0, %s) AS n",
            [point.uc_id, DAY, 52 * YEARS],
        )
        conn.execute(
            "INSERT INTO uc_day_outcome (uc_id, day, state, measured, backup, estimated, edited, missing, "
            "energy_kwh, run_id) VALUES (%s, %s, 'ready', 1, 0, 0, 0, 0, 0, 'r')",
            [point.uc_id, DAY],
        )
    with db.connect(autocommit=True) as conn:
        conn.execute("ANALYZE")
    return db


def plan_of(db: Database, window: dict[str, dt.date]) -> str:
    parameters: dict[str, Any] = {"shards": 1, "unsettled": [], "retry_before": NOW, **window}
    with db.connect() as conn, psycopg.ClientCursor(conn) as cursor:
        rows = cursor.execute("EXPLAIN " + pending._UNSENT, parameters).fetchall()
    return "\n".join(line for (line,) in rows)


@pytest.mark.req("X-scale")
def test_unsent_days_look_into_the_chunks_of_their_window_only(years: Database) -> None:
    week = {"first_day": DAY - dt.timedelta(days=6), "last_day": DAY}
    found = pending.unsent_days(years, week["first_day"], DAY, 1, NOW)
    assert [(each.day, each.uc_days) for each in found] == [(DAY, 1)]
    if years.has_timescale:
        chunks = set(re.findall(r"_hyper_\w+_chunk", plan_of(years, week)))
        everything = {"first_day": DAY - dt.timedelta(days=366 * YEARS), "last_day": DAY}
        assert len(set(re.findall(r"_hyper_\w+_chunk", plan_of(years, everything)))) > 52
        assert len(chunks) <= 4, "a week touches two chunks of a table"
