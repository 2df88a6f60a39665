"""Losses by instant, several points of a UC, and the days between two meters."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0020_points_and_instants.sql")
