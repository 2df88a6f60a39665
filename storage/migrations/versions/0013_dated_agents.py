"""Connected agents by day, former codes of UCs, suspensions with an open contract."""

from __future__ import annotations

from storage.migrations.run import run_sql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql("0017_dated_agents.sql")
