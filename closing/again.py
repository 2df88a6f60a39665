"""The month estimated again, with one window of history for all its days (annex 7.2, read in point 6).

While a month runs, a gap is filled from the months that are closed on the next morning, so gaps of early and
late days look at other weeks. From MS+1du on one date decides for all of them
(`derivation.run.history_as_of`); what was estimated before that is made again, and sent again where it
changed. After MS+7du nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from derivation.layers import DerivationParameters
from derivation.run import derive_ucs, history_as_of
from storage.database import Database
from vee import calendars

# UCs with something estimated, still missing, or never looked at on a day of the month.
_UCS = """
    SELECT DISTINCT st.uc_id
    FROM generate_series(%(first)s::date, %(last)s::date, INTERVAL '1 day') AS d (day)
    JOIN uc_status st ON is_submitted(st.status) AND st.valid @> d.day::date
    LEFT JOIN uc_day_outcome o ON o.uc_id = st.uc_id AND o.day = d.day::date
    WHERE o.uc_id IS NULL OR o.estimated > 0 OR o.missing > 0
    ORDER BY 1
"""
# UCs in one transaction's reach: a month of five layers of them is about the memory of a day of the fleet.
_UCS_AT_ONCE = 500


@dataclass(frozen=True)
class EstimatedAgain:
    """What was made again. `history_month`: the last month used as history.

    Attributes:
        ucs: UCs looked at. uc_days_changed: UC-days with another content.
    """

    ucs: int
    uc_days_changed: int
    history_month: date


def is_time(month: date, today: date, known: calendars.Calendars) -> bool:
    """From MS+1du to MS+7du, both included."""
    period = calendars.Period.month(month)
    first, last = (known.date_of(code, period) for code in (calendars.GAPS_KNOWN, calendars.MEASUREMENT))
    return first <= today <= last


def estimate_again(
    db: Database,
    month: date,
    *,
    as_of: datetime,
    today: date,
    run_id: str,
    parameters: DerivationParameters,
    known: calendars.Calendars,
) -> EstimatedAgain | None:
    """Make again what was estimated of a month; None outside of its time.

    Args: month: its first day. today: market day of `as_of`.
    """
    if not is_time(month, today, known):
        return None
    period = calendars.Period.month(month)
    last_day = period.following - timedelta(days=1)
    with db.connect() as conn:
        rows = conn.execute(_UCS, {"first": period.start, "last": last_day}).fetchall()
    uc_ids = [uc_id for (uc_id,) in rows]
    written = 0
    for begin in range(0, len(uc_ids), _UCS_AT_ONCE):
        chunk = uc_ids[begin : begin + _UCS_AT_ONCE]
        made = derive_ucs(
            db, chunk, (period.start, last_day), as_of=as_of, run_id=run_id, parameters=parameters
        )
        written += made.written
    history = calendars.last_closed_month(
        history_as_of(period.start, today, known),
        known,
        closing_day_counts=parameters.estimation.closing_day_counts,
    )
    return EstimatedAgain(len(uc_ids), written, history)
