"""Commands with preview, approvals and verdicts; clocks, their corrections and the intervals touched."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0007_commands.sql")
