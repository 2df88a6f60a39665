"""What each role may and may not do, and what is append only for everybody."""

from __future__ import annotations

import psycopg
import pytest

from storage.database import Database
from storage.migrations.run import newest_revision
from tests.storage.factory import add_points, add_submission

READ_ONLY = "SELECT count(*) FROM submission"


@pytest.mark.parametrize(
    ("role", "statement", "is_allowed"),
    [
        ("smf_auditor", READ_ONLY, True),
        ("smf_auditor", "UPDATE uc SET name = 'x'", False),
        ("smf_auditor", "INSERT INTO quarantine (stage, reason) VALUES ('x', 'x')", False),
        ("smf_pipeline", "DELETE FROM series_day", True),
        ("smf_pipeline", "UPDATE uc_musd SET musd_kw = 1", False),
        ("smf_pipeline", "UPDATE audit SET actor = 'x'", False),
        ("smf_collector", "INSERT INTO job_request (kind, requested_by) VALUES ('read', 'x')", True),
        ("smf_collector", "DELETE FROM series_day", False),
        ("smf_collector", "INSERT INTO submission_event (submission_id, state) VALUES (1, 'aceito')", False),
        ("smf_portal", "INSERT INTO job_request (kind, requested_by) VALUES ('read', 'x')", True),
        ("smf_portal", "UPDATE job_request SET state = 'done'", False),
        ("smf_portal", "DELETE FROM reading_day", False),
        ("smf_owner", "UPDATE uc SET name = 'x'", True),
    ],
)
def test_roles(db: Database, role: str, statement: str, is_allowed: bool) -> None:
    with db.connect() as conn:
        conn.execute(f"SET ROLE {role}")
        if is_allowed:
            conn.execute(statement)
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                conn.execute(statement)


@pytest.mark.parametrize("table", ["submission", "submission_event", "submission_attempt", "frame", "audit"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_append_only_even_for_the_owner(embedded_db: Database, table: str, statement: str) -> None:
    with embedded_db.connect() as conn:
        add_points(conn, 1)
        add_submission(conn, 1)
        with pytest.raises(psycopg.errors.RestrictViolation, match="append only"), conn.transaction():
            conn.execute(statement.format(table))


def test_migrating_without_the_right_to_create_roles(
    embedded_server: Database, embedded_db: Database
) -> None:
    """A login of an ordinary hosted database: the schema is made, roles are skipped."""
    name = f"plain_{embedded_db.name}"
    with embedded_server.connect(autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {name} LOGIN")
        conn.execute(f"CREATE DATABASE {name} OWNER {name}")
    try:
        plain = Database(
            embedded_server.sibling(name).url.replace("postgres@", f"{name}@"), embedded_server.settings
        )
        assert plain.migrate() == [f"{number:04}" for number in range(1, int(newest_revision() or 0) + 1)]
        with plain.connect() as conn:
            assert conn.execute("SELECT count(*) FROM uc").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("SET ROLE smf_pipeline")
    finally:
        with embedded_server.connect(autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
            conn.execute(f"DROP ROLE {name}")
