"""What people decide about values."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0018_decisions.sql")
