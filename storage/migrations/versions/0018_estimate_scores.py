"""Scores of estimates, and estimates that gave way to what the meter had."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0022_estimate_scores.sql")
