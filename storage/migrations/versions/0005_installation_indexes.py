"""Indexes for looking up installations by point and by meter."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0009_installation_indexes.sql")
