"""Monitoring for a limited time; views of traffic, connectivity and depth of memories."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0008_schedules.sql")
