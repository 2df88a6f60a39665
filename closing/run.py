"""One run of the closing: estimate again, freeze, list what changed, report, and write it all down.

What belongs here: the order of these steps, and which are due on which day; it does not know Dagster. What
does not: the steps themselves.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from ccee.deadlines import closing_of
from ccee.profile import Profile
from closing.again import estimate_again
from closing.certificates import certificates
from closing.document import Closing, document
from closing.freeze import freeze_month
from closing.recount import recount
from closing.report import closing_report
from derivation.layers import DerivationParameters
from documents import to_html, to_pdf, to_xlsx
from faults.market_time import fixed_offset
from storage.database import Database
from vee import calendars


@dataclass(frozen=True)
class Written:
    """Files of a closing, of the folder that the evidence pages serve."""

    html: Path
    xlsx: Path
    pdf: Path
    certificates: list[Path]


def close(
    db: Database,
    month: date,
    profile: Profile,
    parameters: DerivationParameters,
    *,
    now: datetime,
    as_of: datetime,
    run_id: str,
) -> Closing:
    """Do what is due of a month's closing. Repeatable: a frozen month stays, the same list is not kept twice.

    Args:
        month: its first day.
        now: the real time; nothing is frozen ahead of it. as_of: when it is taken to be.
    """
    zone = fixed_offset(db.settings.market.zone)
    today = as_of.astimezone(zone).date()
    known = calendars.market_calendars(db.settings.market)
    again = frozen = changed = None
    if min(today, now.astimezone(zone).date()) > closing_of(known, month).data:
        frozen = freeze_month(db, month, profile, known, now=now, run_id=run_id)
        changed = recount(db, month, profile, now=now, run_id=run_id)
    else:
        again = estimate_again(
            db, month, as_of=as_of, today=today, run_id=run_id, parameters=parameters, known=known
        )
    report = closing_report(db, month, as_of.astimezone(zone), today - timedelta(days=1), profile, known)
    with db.connect() as conn:
        kept = certificates(conn, month)
    return Closing(report, again, frozen, changed, kept)


def write(closing: Closing, folder: Path) -> Written:
    """Write the report in its three forms, and each certificate as it is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    made, name = document(closing), closing.report.name
    paths = Written(
        html=folder / f"{name}.html",
        xlsx=folder / f"{name}.xlsx",
        pdf=folder / f"{name}.pdf",
        certificates=[folder / one.file_name for one in closing.certificates],
    )
    _put(paths.html, to_html(made).encode())
    _put(paths.xlsx, to_xlsx(made))
    _put(paths.pdf, to_pdf(made))
    for path, certificate in zip(paths.certificates, closing.certificates, strict=True):
        _put(path, certificate.content)
    return paths


def _put(path: Path, content: bytes) -> None:
    """Whole or not at all: somebody may be reading the page."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(path)
