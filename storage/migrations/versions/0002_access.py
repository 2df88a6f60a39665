"""Views with a row per interval, and roles with what each may do."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0005_views.sql")
    run_sql("0006_roles.sql")
