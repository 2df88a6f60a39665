"""What stays of a month after its deadline."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0023_closed_months.sql")
