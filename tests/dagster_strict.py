"""Dagster's own warnings as test errors: what it deprecates or still tries out is not used unseen.

pytestmark = strict_dagster()
"""

from __future__ import annotations

import pytest

_ERRORS = (
    "error::dagster.BetaWarning",
    "error::dagster.PreviewWarning",
    "error::dagster.SupersessionWarning",
    r"error:.*is deprecated and will be removed:DeprecationWarning",
)
# Used on purpose, each with its reason; anything else must be argued for here.
_ALLOWED = (
    # Single-run backfills: a month of history in one run, not thirty-one.
    r"ignore:Parameter `backfill_policy` of function `asset` is currently in beta",
    # Partitioned checks (new in 1.13): a check says of which day it speaks.
    r"ignore:Specifying a partitions_def on an AssetCheckSpec is currently in preview",
)


def strict_dagster(*more: pytest.MarkDecorator) -> list[pytest.MarkDecorator]:
    """Marks for a module whose tests use Dagster."""
    # pytest applies the last one first: what is allowed must be looked at before what is refused.
    return [*(pytest.mark.filterwarnings(rule) for rule in (*_ERRORS, *_ALLOWED)), *more]
