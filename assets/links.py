"""Where the links of assets and checks lead: addresses of the evidence pages.

What belongs here: the parts of those addresses, for who links and for who serves (`pipelines.evidence`).
Links are kept in Dagster's events for good, so a setting fixes their address, never a file's path.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from storage.settings import Settings

DATA_DOCS, CLOSING, MANUAL = "auditoria", "fechamento", "manual"


def link(settings: Settings, *parts: str) -> dg.MetadataValue[Any]:
    """A link to a page of the evidence server."""
    return dg.MetadataValue.url("/".join([settings.dagster.evidence_url.rstrip("/"), *parts]))


def manual(settings: Settings, page: str) -> dg.MetadataValue[Any]:
    """A link to a page of the manual."""
    return link(settings, MANUAL, page)
