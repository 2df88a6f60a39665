"""Every UC-day of a month: what the registry expects, what was derived, what CCEE has of it.

What belongs here: the one table that the report, the freezing and the recount are made from. What does not:
what CCEE counts of a body (`ccee.counting`).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl

from ccee.counting import COUNTED_SCHEMA, counted_days
from ccee.profile import Profile
from closing.acting import NOT_DELIVERED, NOT_DERIVED
from storage.bulk import read_frame
from storage.database import Database
from storage.series import ACTIVE_ENERGY, Layer
from storage.submission_states import State
from vee.quality import Cause

# Due is what the registry says: a submitted status on the day. What CCEE accepted is listed even where the
# registry has since changed its mind, because CCEE counts it.
_DAYS = """
    WITH due AS (
        SELECT st.uc_id, d.day::date AS day, true AS is_due
        FROM generate_series($1::date, $2::date, INTERVAL '1 day') AS d (day)
        JOIN uc_status st ON is_submitted(st.status) AND st.valid @> d.day::date
    ), accepted AS (
        SELECT s.uc_id, s.day, min(e.at) AS first_accepted_at
        FROM submission s JOIN submission_event e ON e.submission_id = s.id AND e.state = 'aceito'
        WHERE s.day BETWEEN $1::date AND $2::date
        GROUP BY 1, 2
    ), known AS (
        SELECT uc_id, day, coalesce(due.is_due, false) AS is_due, accepted.first_accepted_at
        FROM due FULL JOIN accepted USING (uc_id, day)
    ), told AS (
        SELECT DISTINCT ON (uc_id, day) uc_id, day, id, state, series_version
        FROM submission_state WHERE day BETWEEN $1::date AND $2::date
        ORDER BY uc_id, day, version DESC
    ), series AS (
        SELECT uc_id, day, max(version) AS version FROM series_day
        WHERE quantity = $3 AND layer = $4 AND day BETWEEN $1::date AND $2::date
        GROUP BY 1, 2
    )
    SELECT k.uc_id, k.day, k.is_due, k.first_accepted_at, u.code AS uc_code, u.name AS uc_name,
           a.id AS agent_id, a.code AS agent_code, a.name AS agent_name,
           CASE WHEN o.state = 'not_expected' AND k.is_due THEN 'incomplete'
                ELSE coalesce(o.state, 'incomplete') END AS state,
           CASE WHEN o.uc_id IS NULL OR (o.state = 'not_expected' AND k.is_due) THEN 'not_derived'
                ELSE o.cause END AS cause,
           coalesce(o.missing, 0)::int AS missing,
           (o.detail -> 'missing_by_cause')::text AS missing_by_cause,
           coalesce(o.measured + o.backup + o.estimated + o.edited + o.missing, 0)::int AS intervals,
           coalesce(o.backup + o.estimated + o.edited, 0)::int AS adjusted,
           coalesce(o.measured, 0)::int AS measured, coalesce(o.backup, 0)::int AS backup,
           coalesce(o.estimated, 0)::int AS estimated, coalesce(o.edited, 0)::int AS edited,
           coalesce(round(o.energy_kwh * 1000), 0)::bigint AS derived_milli,
           t.id AS told_id, t.state AS told_state, t.series_version AS told_series_version,
           s.version AS series_version, m.musd_kw::text AS musd_kw
    FROM known k
    JOIN uc u ON u.id = k.uc_id
    LEFT JOIN uc_agent c ON c.uc_id = k.uc_id AND c.valid @> k.day
    LEFT JOIN agent a ON a.id = c.agent_id
    LEFT JOIN uc_day_outcome o ON o.uc_id = k.uc_id AND o.day = k.day
    LEFT JOIN told t ON t.uc_id = k.uc_id AND t.day = k.day
    LEFT JOIN series s ON s.uc_id = k.uc_id AND s.day = k.day
    LEFT JOIN uc_musd m ON m.uc_id = k.uc_id AND m.valid @> k.day
    ORDER BY u.code, k.day
"""


def month_days(source: Database | Any, profile: Profile, first_day: date, last_day: date) -> pl.DataFrame:
    """One row a UC-day that is due or that CCEE has.

    Returns: columns of the query above; of `ccee.counting.counted_days` those of what was accepted (null
        where nothing was), `accepted_version` and `accepted_series_version` among them; `is_delivered`,
        and `reason`: why CCEE does not have it, empty where it has.
    """
    days = read_frame(source, _DAYS, [first_day, last_day, ACTIVE_ENERGY, int(Layer.CCEE)])
    wanted = [first_day + timedelta(n) for n in range((last_day - first_day).days + 1)]
    counted = counted_days(source, profile, wanted)
    kept = [name for name in COUNTED_SCHEMA if name not in ("uc_code", "agent_id", "musd_kw")]
    counted = counted.select(kept).rename(
        {"version": "accepted_version", "series_version": "accepted_series_version"}
    )
    return (
        days.join(counted, on=["uc_id", "day"], how="left", maintain_order="left")
        .with_columns(is_delivered=pl.col("submission_id").is_not_null())
        .with_columns(
            reason=pl.when("is_delivered")
            .then(pl.lit(""))
            .when(pl.col("told_state") == State.REJECTED_MUSD)
            .then(pl.lit(Cause.MUSD_EXCEEDED.value))
            .when(pl.col("state") == "ready")
            .then(pl.lit(NOT_DELIVERED))
            # A day without a cause is a day that the derivation has not said anything about.
            .otherwise(pl.when(pl.col("cause") == "").then(pl.lit(NOT_DERIVED)).otherwise("cause"))
        )
    )
