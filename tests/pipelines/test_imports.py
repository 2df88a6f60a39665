"""What a command or a process must not load to begin: seconds and megabytes that it has no use for.

Measured in modules, which are the same on any machine.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_HEAVY = {"great_expectations", "pandas", "pyarrow", "scipy", "dbt", "sqlalchemy", "alembic"}


def loaded(statement: str) -> set[str]:
    """Top-level modules that a new process has after the statement."""
    script = (
        f"{statement}\nimport json, sys; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    )
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        pytest.param(
            "from pipelines.cli import main; main(['--help'])",
            {"dagster", "polars", "numpy", "psycopg", "httpx", "pydantic", *_HEAVY},
            id="smf --help",
        ),
        pytest.param(
            "import audit.trace, storage.arrow",
            {"dagster", "pydantic", *_HEAVY},
            id="smf trace",
        ),
        pytest.param(
            "from pipelines.definitions import build_defs; build_defs()",
            _HEAVY - {"sqlalchemy", "alembic"},
            id="definitions",
        ),
        pytest.param(
            "import collector.drain, collector.service",
            {"dagster", "httpx", "pydantic", "adbc_driver_manager", "vee", "ccee", *_HEAVY},
            id="collector",
        ),
    ],
)
def test_it_begins_without(statement: str, without: set[str]) -> None:
    assert not loaded(statement) & without


def test_judging_a_day_leaves_distributions_unloaded() -> None:
    names = loaded(
        "from derivation import expectations; expectations._load_on_first_use('scipy.stats')\n"
        "import great_expectations, sys\n"
        "assert 'scipy.optimize' not in sys.modules"
    )
    assert "great_expectations" in names
