"""A database made before protocols had one table: it migrates, and smf trace explains it as it did then.

`before/banco.copy.xz` holds the rows of four UCs of the demonstration of d0c9609 (losses, DLMS, an estimate,
a backup meter), `before/explicacoes.json.xz` what `smf trace --json` of that commit said about them.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import sqlalchemy
from alembic import command

from audit.trace import trace
from ccee.profile import load_profile
from pipelines.cli.trace import _document
from storage.database import Database
from storage.migrations import run as migrations
from storage.settings import DatabaseSettings, Settings

FOLDER = Path(__file__).with_name("before")
EXPLAINED: dict[str, dict[str, Any]] = json.loads(
    lzma.decompress((FOLDER / "explicacoes.json.xz").read_bytes())
)
REVISION = "0010"


def restore(conn: psycopg.Connection[Any]) -> None:
    """Rows as they were, with their numbers; what triggers made of them is among them."""
    conn.execute("SET session_replication_role = replica")
    text = lzma.decompress((FOLDER / "banco.copy.xz").read_bytes()).decode()
    lines = iter(text.splitlines(keepends=True))
    for head in lines:
        table, count, columns = head.rstrip("\n").split("\t")
        rows = [next(lines) for _ in range(int(count))]
        if table == "alembic_version":
            assert rows[0].strip() == REVISION
            continue
        assert table.isidentifier()
        with conn.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
            copy.write("".join(rows))


def as_before(document: Any) -> Any:
    """The parts that were kept of the explanations of then."""
    plain = orjson.loads(orjson.dumps(document, default=str))
    for one in (plain, *plain["inputs"]):
        if one["reading"] is not None:
            one["reading"].pop("frames", None)
            (one["reading"]["session"] or {}).pop("url", None)
        for attempt in (one["delivery"] or {}).get("attempts", ()):
            attempt.pop("reply_body", None)
    return plain


@pytest.fixture
def made_before(embedded_server: Database, tmp_path: Path) -> Iterator[Database]:
    """The database of then, migrated to now."""
    name = f"before_{os.getpid()}"
    embedded_server.create_database(name)
    url = embedded_server.sibling(name).url
    settings = Settings(database=DatabaseSettings(url=url, data_dir=tmp_path))
    with Database(url, settings) as db:
        engine = sqlalchemy.create_engine(db.sqlalchemy_url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            config = migrations._config()
            config.attributes["connection"] = connection
            command.upgrade(config, REVISION)
            migrations._set_market_zone(connection, settings.market.tzinfo)
        engine.dispose()
        with db.connect() as conn:
            restore(conn)
        db.migrate()
        yield db
    with embedded_server.connect(autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.req("X-trace")
def test_a_database_made_before_is_explained_as_it_was(made_before: Database) -> None:
    for place, explained in EXPLAINED.items():
        uc, at = place.split()
        end = datetime.fromisoformat(f"{at}:00-03:00")
        found = trace(made_before, load_profile(), uc, end)
        assert found.is_identical, place
        document = as_before(_document(found))
        for key, value in explained.items():
            if key == "inputs":
                assert [one["interval_end"] for one in document[key]] == [
                    one["interval_end"] for one in value
                ]
            else:
                assert_still_said(document[key], value, f"{place} {key}")


def assert_still_said(now: Any, then: Any, where: str) -> None:
    """All that was said is said the same; parts that are said since then, or were null, may differ."""
    if isinstance(then, dict):
        for key, value in then.items():
            # A loss is dated by the instant since, no longer by the day.
            if value is not None and not (".losses[" in where and key == "valid"):
                assert_still_said(now[key], value, f"{where}.{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            assert_still_said(one, other, f"{where}[{number}]")
    else:
        assert now == then, where
