"""Suspects: opened and withdrawn by derivations, decided by people, each about the values it was made for."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest

from faults import OperatorFault
from storage.database import Database
from storage.review import suspects
from tests.storage.factory import AT, DAY, add_points

LATER = AT + dt.timedelta(hours=1)


def keys(*uc_ids: int) -> pl.DataFrame:
    return pl.DataFrame({"uc_id": uc_ids, "day": [DAY] * len(uc_ids)})


def found(*rows: tuple[int, str, int, int, bytes]) -> pl.DataFrame:
    whole = [
        (uc, DAY, rule, first, last, "suspect", values, Decimal("1.5"), '{"times": "9"}')
        for uc, rule, first, last, values in rows
    ]
    return pl.DataFrame(whole, schema=suspects.SCHEMA, orient="row")


def write(db: Database, of: pl.DataFrame, rows: pl.DataFrame, at: dt.datetime = AT) -> None:
    with db.connect() as conn:
        suspects.write_suspects(conn, of, rows, run_id="r", at=at)


def states(db: Database) -> list[tuple[str, bytes, str]]:
    with db.connect() as conn:
        return conn.execute("SELECT rule, values_hash, state FROM suspect ORDER BY id").fetchall()


@pytest.fixture
def stored(db: Database) -> Database:
    with db.connect() as conn:
        add_points(conn, 2)
    return db


def test_a_suspect_opens_once_and_is_withdrawn_when_no_longer_said(stored: Database) -> None:
    said = found((1, "V07", 10, 10, b"a"))
    write(stored, keys(1, 2), said)
    write(stored, keys(1, 2), said, LATER)
    assert states(stored) == [("V07", b"a", "open")]
    with stored.connect() as conn:
        assert conn.execute("SELECT opened_at, changed_at FROM suspect").fetchone() == (AT, AT)
    write(stored, keys(2), found())
    assert states(stored) == [("V07", b"a", "open")]
    write(stored, keys(1, 2), found(), LATER)
    assert states(stored) == [("V07", b"a", "withdrawn")]
    write(stored, keys(1, 2), said, LATER)
    assert states(stored) == [("V07", b"a", "open")]


def test_a_decision_is_about_the_values_that_were_judged(stored: Database) -> None:
    write(stored, keys(1), found((1, "V07", 10, 10, b"a")))
    with stored.connect() as conn:
        assert suspects.decide(conn, [1], "accepted", LATER) == [(1, DAY)]
    write(stored, keys(1), found((1, "V07", 10, 10, b"a")), LATER)
    assert states(stored) == [("V07", b"a", "accepted")]
    # Other values came in: the old decision stands, and says nothing about them.
    write(stored, keys(1), found((1, "V07", 10, 10, b"b")), LATER)
    assert states(stored) == [("V07", b"a", "accepted"), ("V07", b"b", "open")]
    with stored.connect_arrow() as connection:
        rows = suspects.decided(connection, [1, 2], [DAY])
    assert rows.rows() == [(1, DAY, "V07", 10, 10, b"a", "accepted")]


def test_a_decision_touches_the_day_of_the_main_meter(stored: Database) -> None:
    write(stored, keys(1), found((1, "V07", 10, 10, b"a")))
    with stored.connect() as conn:
        suspects.decide(conn, [1], "rejected", LATER)
        touched = conn.execute("SELECT meter_id, day, touched_at FROM touched_day").fetchall()
        meter = conn.execute(
            "SELECT i.meter_id FROM installation i JOIN point p ON p.id = i.point_id WHERE p.uc_id = 1"
        ).fetchone()
    assert meter is not None
    assert touched == [(meter[0], DAY, LATER)]


def test_only_what_waits_or_was_decided_can_be_decided(stored: Database) -> None:
    write(stored, keys(1), found((1, "V07", 10, 10, b"a")))
    write(stored, keys(1), found())
    with stored.connect() as conn:
        with pytest.raises(OperatorFault, match="no suspect 1 that waits"):
            suspects.decide(conn, [1], "accepted", LATER)
        with pytest.raises(OperatorFault, match="cannot be set to 'withdrawn'"):
            suspects.decide(conn, [1], "withdrawn", LATER)
