"""Days are derived again when the register changes what it says of them."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0010_registry_touches.sql")
