"""What a session states about its readings is kept with it."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0019_session_statement.sql")
