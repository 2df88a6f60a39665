"""A collector process of its own: python -m tests.collector.child URL NOW REQUEST_ID..., to be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime
from pathlib import Path

from collector.drain import drain
from storage.database import Database
from storage.settings import DatabaseSettings, Settings
from tests.collector.world import quick


def main() -> None:
    url, now, *ids = sys.argv[1:]
    settings = Settings(database=DatabaseSettings(url=url, data_dir=Path("unused")))
    policy = os.environ.get("SMF_TEST_POLICY")
    policy_path = None if policy is None else Path(policy)
    db = quick(Database(url, settings), per_host_limit=3, command_policy_path=policy_path)
    instant = datetime.fromisoformat(now)
    print("ready", flush=True)
    asyncio.run(drain(db, [int(number) for number in ids], lambda: instant, deadline_s=60))


if __name__ == "__main__":
    main()
