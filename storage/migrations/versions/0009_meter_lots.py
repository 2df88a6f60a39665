"""Lots of meters and their failures."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0013_meter_lots.sql")
