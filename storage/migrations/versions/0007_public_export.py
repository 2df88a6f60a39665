"""What was exported in the public formats."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0011_public_export.sql")
