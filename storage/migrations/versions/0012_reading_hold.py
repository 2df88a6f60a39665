"""Readings that are held until somebody decides, and outages without their return."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0016_reading_hold.sql")
