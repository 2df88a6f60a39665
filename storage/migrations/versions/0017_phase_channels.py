"""Channels of phases are found quickly."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0021_phase_channels.sql")
