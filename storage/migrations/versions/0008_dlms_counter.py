"""Invocation counters of DLMS keys."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0012_dlms_counter.sql")
