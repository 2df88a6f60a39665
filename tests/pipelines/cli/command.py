"""The `smf` command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def smf(*words: str, url: str | None, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it with no setting but the database and `variables`; an empty one is not set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SMF_")}
    if url:
        environment["SMF_DATABASE_URL"] = url
    return subprocess.run(
        [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())", *words],
        env={name: value for name, value in {**environment, "COLUMNS": "200", **variables}.items() if value},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
