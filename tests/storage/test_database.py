"""Opening, sharing and migrating the database."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from faults import OperatorFault, RetryFault
from storage.bulk import read_frame
from storage.database import Database
from storage.embedded import SharedUse
from storage.migrations.run import current_revision, newest_revision
from storage.settings import DatabaseSettings, Settings


def settings_for(url: str) -> Settings:
    return Settings(database=DatabaseSettings(url=url))


def test_migrate_twice_changes_nothing(db: Database) -> None:
    assert db.migrate() == []
    assert current_revision(db) == newest_revision()


def test_hypertables_where_the_extension_is(db: Database, request: pytest.FixtureRequest) -> None:
    assert db.has_timescale == ("timescale" in request.node.callspec.id)
    with db.connect() as conn:
        tables = {
            name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        }
        assert {"reading_day", "series_day", "submission", "uc"} <= tables
        if db.has_timescale:
            found = conn.execute(
                "SELECT hypertable_name::text FROM timescaledb_information.hypertables"
            ).fetchall()
            assert {name for (name,) in found} == {"reading_day", "series_day"}


def test_every_client_reaches_the_same_database(db: Database) -> None:
    import psycopg2
    import sqlalchemy

    with db.connect() as conn:
        conn.execute("CREATE TABLE seen (x int)")
        conn.execute("INSERT INTO seen VALUES (7)")
    engine = sqlalchemy.create_engine(db.sqlalchemy_url)
    with engine.connect() as conn:
        assert conn.execute(sqlalchemy.text("SELECT x FROM seen")).scalar() == 7
    engine.dispose()
    with db.connect_arrow() as arrow:
        assert arrow.read("SELECT x FROM seen").rows() == [(7,)]
    env = db.dbt_env()
    conn = psycopg2.connect(
        host=env["SMF_DBT_HOST"],
        port=env["SMF_DBT_PORT"],
        user=env["SMF_DBT_USER"],
        password=env["SMF_DBT_PASSWORD"],
        dbname=env["SMF_DBT_DBNAME"],
    )
    conn.close()
    with db.pool.connection() as pooled:
        assert pooled.execute("SELECT x FROM seen").fetchone() == (7,)


def test_dagster_has_a_database_of_its_own(db: Database) -> None:
    beside = db.dagster_database()
    assert beside.name == f"{db.name}_dagster"
    with beside.connect() as conn:
        assert conn.execute("SELECT current_database()").fetchone() == (beside.name,)
    assert db.dagster_database().url == beside.url
    with db.connect(autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {beside.name} WITH (FORCE)")


def test_nothing_answers_is_worth_a_retry() -> None:
    with pytest.raises(RetryFault) as caught:
        Database.open(settings_for("postgresql://u:secret@127.0.0.1:1/smf"))
    assert "secret" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://127.0.0.1:5432", "localhost/smf"])
def test_wrong_address_is_named(url: str) -> None:
    with pytest.raises(OperatorFault, match="SMF_DATABASE_URL"):
        Database.open(settings_for(url))


def test_missing_database_is_the_operators(embedded_db: Database) -> None:
    with pytest.raises(OperatorFault, match="does not exist"):
        Database.open(settings_for(embedded_db.sibling("nowhere").url))


_CHILD = """
import sys
from pathlib import Path
from storage.database import Database
from storage.settings import DatabaseSettings, Settings
with Database.open(Settings(database=DatabaseSettings(data_dir=Path(sys.argv[1])))) as db:
    print(db.url, flush=True)
    sys.stdin.readline()
"""


def test_embedded_server_is_shared_and_stopped_by_the_last(shared_dir: Path) -> None:
    """Two processes see one server; a killed one does not keep it alive."""
    folder = shared_dir / ("embedded " + "long" * 30)

    def child() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _CHILD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    first, second = child(), child()
    url = first.stdout.readline().strip()
    assert second.stdout.readline().strip() == url
    first.kill()
    first.wait()
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    second.communicate("\n")
    assert second.returncode == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_server_that_did_not_start_is_not_kept_by_who_tried(tmp_path: Path) -> None:
    def fails() -> None:
        raise OSError("no port")

    unlucky, lucky = SharedUse(tmp_path, "server"), SharedUse(tmp_path, "server")
    with pytest.raises(OSError, match="no port") as caught:
        unlucky.enter(fails)
    lucky.enter(lambda: None)
    assert lucky.leave(lambda: None), "the last one stops it"
    assert caught.value.__traceback__ is not None, "which holds on to who tried"
    assert not unlucky.leave(lambda: None)


def test_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorFault, match="SMF_DATA_DIR"):
        Database.open(Settings(database=DatabaseSettings(data_dir=tmp_path / "file" / "data")))
    assert os.listdir(tmp_path) == ["file"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under pytest's own folder, which the server's user may not enter."""
    with tempfile.TemporaryDirectory(prefix="smf-embedded-") as name:
        yield Path(name)


def one_row(data_dir: Path) -> int:
    """What a database of its own in that folder answers."""
    with Database.open(Settings(database=DatabaseSettings(data_dir=data_dir))) as db, db.connect() as conn:
        row = conn.execute("SELECT 1").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.case("F3")
@pytest.mark.parametrize("name", ["a,b", "d'água e luz", "plain"])
def test_a_data_folder_may_have_any_name(folder: Path, name: str) -> None:
    assert one_row(folder / name) == 1


@pytest.mark.case("F3")
def test_a_name_that_no_shell_passes_on_is_refused(folder: Path) -> None:
    with pytest.raises(OperatorFault, match="holds a character"):
        one_row(folder / "a$b")


@pytest.mark.case("F2")
def test_a_dead_servers_number_in_other_hands_does_not_hold_it_up(folder: Path) -> None:
    assert one_row(folder) == 1
    # A server that was killed leaves its file; this process stands for the one that got its number.
    stale = folder / "postgres" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{folder / 'postgres'}\n1\n5432\n{folder}\n\n  1 2\nready\n")
    began = time.monotonic()
    assert one_row(folder) == 1
    assert time.monotonic() - began < 60


@pytest.mark.case("F1")
def test_a_servers_own_style_of_dates_makes_no_difference(embedded_db: Database) -> None:
    name = embedded_db.name
    with embedded_db.connect(autocommit=True) as conn:
        for setting in ("datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "timezone = 'Asia/Tokyo'"):
            conn.execute(f"ALTER DATABASE {name} SET {setting}")
    query = "SELECT '2026-04-01'::date::text AS day, '2026-04-01 12:00Z'::timestamptz::text AS at"
    with embedded_db.connect() as conn:
        assert conn.execute(query).fetchone() == ("2026-04-01", "2026-04-01 12:00:00+00")
    assert read_frame(embedded_db, query).rows() == [("2026-04-01", "2026-04-01 12:00:00+00")]
