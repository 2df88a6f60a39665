"""Clocks that are shifted by so many seconds."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0014_clock_shift.sql")
