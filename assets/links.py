"""Where the links of assets and checks lead: addresses of the evidence pages.

What belongs here: the parts of those addresses, for who links and for who serves (`pipelines.evidence`).
Links are kept in Dagster's events for good, so a setting fixes their address, never a file's path.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg

from storage.settings import Settings

DATA_DOCS, CLOSING, DAYS, SCORES, MANUAL = "auditoria", "fechamento", "dia", "placar", "manual"
# Made when they are asked for, from the database as it is then.
TRACE, STANDING = "rastro", "situacao"


def link(settings: Settings, *parts: str) -> dg.MetadataValue[Any]:
    """A link to a page of the evidence server."""
    return dg.MetadataValue.url(_address(settings, *parts))


def image(settings: Settings, words: str, *parts: str) -> dg.MetadataValue[Any]:
    """A picture of the evidence server, shown where the metadata is; the words stand where it is not up.

    Not the picture itself: events are kept for good, and the interface hides long texts behind a click.
    """
    return dg.MetadataValue.md(f"![{words}]({_address(settings, *parts)})")


def traced(settings: Settings, uc_code: str, day: date) -> str:
    """A UC's code in a Markdown table, leading to the trace of its day."""
    return f"[{uc_code}]({_address(settings, TRACE, uc_code, str(day))})"


def _address(settings: Settings, *parts: str) -> str:
    return "/".join([settings.dagster.evidence_url.rstrip("/"), *parts])


def manual(settings: Settings, page: str) -> dg.MetadataValue[Any]:
    """A link to a page of the manual."""
    return link(settings, MANUAL, page)
