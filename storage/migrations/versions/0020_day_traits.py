"""Runs, fingerprints and reactive energy of a day, which later days are compared with."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0024_day_traits.sql")
