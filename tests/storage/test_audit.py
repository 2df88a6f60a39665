"""The audit chain: whole when nobody touched it, broken where somebody did."""

from __future__ import annotations

import threading

import psycopg
import pytest

from storage import audit
from storage.database import Database


def fill(db: Database) -> list[int]:
    with db.connect() as conn:
        return [
            audit.append(
                conn, actor="ana", action="registry.import", object=f"uc/{i}", after={"x": 1.50, "n": i}
            )
            for i in range(5)
        ]


def test_chain_is_whole_and_append_only(db: Database) -> None:
    ids = fill(db)
    with db.connect() as conn:
        report = audit.verify(conn)
        assert report.is_whole
        assert report.rows == len(ids)
        for statement in ("UPDATE audit SET actor = 'eva'", "DELETE FROM audit", "TRUNCATE audit"):
            with pytest.raises(psycopg.errors.RestrictViolation), conn.transaction():
                conn.execute(statement)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE audit SET after = '{}' WHERE id = {id}", "DELETE FROM audit WHERE id = {id}"],
)
def test_damage_is_located(embedded_db: Database, damage: str) -> None:
    ids = fill(embedded_db)
    with embedded_db.connect() as conn:
        conn.execute("ALTER TABLE audit DISABLE TRIGGER append_only")
        conn.execute(damage.replace("{id}", str(ids[2])))
        report = audit.verify(conn)
    assert not report.is_whole
    assert report.rows == 2
    assert report.broken_id == (ids[2] if "UPDATE" in damage else ids[3])


def test_appends_at_once_make_one_chain(embedded_db: Database) -> None:
    def add(actor: str) -> None:
        for i in range(20):
            with embedded_db.connect() as conn:
                audit.append(conn, actor=actor, action="test.add", object=f"row/{i}")

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with embedded_db.connect() as conn:
        report = audit.verify(conn)
    assert report.is_whole
    assert report.rows == 80
