"""A trace written to files: the document of an interval or of a day, with all that it is made of.

What belongs here: from a UC and an instant or a day to the document. What does not: where files go and what
a terminal shows (`pipelines.cli.trace`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from audit.day import DayTrace, trace_day
from audit.pages.day_document import day_document
from audit.pages.document import interval_document
from audit.pages.words import Words
from audit.parts import Trace
from audit.registry_changes import RegistryChange, registry_changes
from audit.trace import trace
from ccee.profile import Profile
from documents import Document, Language
from storage.database import Database


@dataclass(frozen=True)
class Page:
    """A document, what it is of, and whether all of it came out the same when it was made anew."""

    document: Document
    found: Trace | DayTrace
    is_identical: bool


def interval_page(
    db: Database,
    profile: Profile,
    uc_code: str,
    at: datetime,
    language: Language,
    zone: tzinfo,
    *,
    version: int | None = None,
) -> Page:
    """The page of one interval. Arguments and faults as of `audit.trace.trace`."""
    found = trace(db, profile, uc_code, at, version=version)
    words = Words(language, zone)
    return Page(interval_document(found, profile, _changes(db, found), words), found, found.is_identical)


def day_page(
    db: Database,
    profile: Profile,
    uc_code: str,
    day: date,
    language: Language,
    zone: tzinfo,
    *,
    version: int | None = None,
) -> Page:
    """The page of a UC-day. Arguments and faults as of `audit.trace.trace`."""
    found = trace_day(db, profile, uc_code, day, zone, version=version)
    words = Words(language, zone)
    return Page(day_document(found, _changes(db, found.first), words), found, found.is_identical)


def _changes(db: Database, found: Trace) -> list[RegistryChange]:
    installations = found.registry["installations"]
    with db.connect() as conn:
        return registry_changes(
            conn,
            found.uc_code,
            sorted({row["point"] for row in installations}),
            sorted({row["serial"] for row in installations}),
        )
