"""Approvals that nobody gave in time have an end."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0025_lapsed_decisions.sql")
