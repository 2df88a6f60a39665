"""What a meter that nobody here wrote counts wrongly is not sent as measured: from its socket to CCEE."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from derivation.run import derive
from storage.database import Database
from storage.review import suspects
from tests.collector.nbr14522.rude import needs_peers, rude_meter
from tests.collector.world import add_meter, collect, query, quick
from tests.derivation.sending import sent_day

pytestmark = [needs_peers, pytest.mark.req("TR-2b", "TR-5.1")]

NOW = datetime(2026, 11, 20, 13, 2, tzinfo=UTC)
# A Thursday; the peer's modes spoil the last whole day.
DAY = date(2026, 11, 19)
DAYS = [DAY - timedelta(days=n) for n in range(8, -1, -1)]
OPTIONS = {"end": "2026-11-20T10:00", "now": "2026-11-20T10:02", "days": 9, "constant": "1/25"}
SERIAL, UC = "14522001", "0000000001"


def derived(db: Database, *modes: str) -> tuple[Any, ...]:
    """The meter registered, read for nine days and derived; state and cause of the spoiled day."""
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor"
        )
    with rude_meter(*modes, **OPTIONS) as port:
        with db.connect() as conn:
            add_meter(conn, 1, SERIAL, f"tcp://127.0.0.1:{port}", constant=(1, 25))
            conn.execute("INSERT INTO uc_status SELECT id, '[2026-09-01,)', 'active' FROM uc")
            conn.execute("INSERT INTO uc_musd SELECT id, '[2026-09-01,)', 400, '2026-09-01' FROM uc")
        asyncio.run(collect(db, days=DAYS, now=NOW))
    return again(db)


def again(db: Database) -> tuple[Any, ...]:
    derive(db, DAYS[0], DAY, as_of=NOW, run_id="r")
    (row,) = query(db, "SELECT state, cause FROM uc_day_outcome WHERE day = %s", DAY)
    return row


def waiting(db: Database) -> list[tuple[Any, ...]]:
    return query(
        db,
        "SELECT rule, first_slot, last_slot FROM suspect WHERE state = 'open' AND day = %s ORDER BY rule",
        DAY,
    )


@pytest.fixture
def db(embedded_db: Database) -> Database:
    return quick(embedded_db)


def test_polite_it_is_sent_as_measured(db: Database, tmp_path: Path) -> None:
    assert derived(db) == ("ready", "")
    assert query(db, "SELECT DISTINCT day FROM suspect WHERE state = 'open'") == []
    body = sent_day(db, UC, DAY, NOW, tmp_path)
    assert body is not None
    assert {kind for kind, _ in body} == {"MEDIDO"}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros=08-16", ("V14", 96, 191)),
        ("frozen=08-16", ("V08", 96, 191)),
        ("spike=2040@10:05", ("V07", 120, 120)),
    ],
)
def test_what_it_counts_wrongly_is_held_and_then_estimated(
    db: Database, tmp_path: Path, mode: str, expected: tuple[str, int, int]
) -> None:
    assert derived(db, mode) == ("held", "suspect")
    assert expected in waiting(db)
    assert {rule for rule, _, _ in waiting(db)} <= {"V05", "V07", "V08", "V14"}
    assert sent_day(db, UC, DAY, NOW, tmp_path) is None
    with db.connect() as conn:
        ids = [row[0] for row in conn.execute("SELECT id FROM suspect WHERE state = 'open'")]
        suspects.decide(conn, ids, "rejected", NOW)
        conn.execute(
            "INSERT INTO estimate_approval (uc_id, day, method, approved_by) "
            "SELECT id, %s, 'no_history_musd', 'ana' FROM uc",
            [DAY],
        )
    assert again(db) == ("ready", "")
    body = sent_day(db, UC, DAY, NOW, tmp_path)
    assert body is not None
    _, first, last = expected
    assert [slot for slot, (kind, _) in enumerate(body) if kind == "AJUSTADO"] == [*range(first, last + 1)]
