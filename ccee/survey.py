"""What is due: each expected UC-day against what the ledger holds of it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

import polars as pl

from ccee.ledger import VersionCause
from ccee.profile import Profile
from storage.bulk import read_frame
from storage.database import Database
from storage.registry import SUBMITTED
from storage.series import ACTIVE_ENERGY, Layer
from storage.submission_states import DELIVERED, IN_DOUBT, REFUSED, State


class Standing(StrEnum):
    """What a survey says of one expected UC-day."""

    NOT_EXPECTED = "not_expected"
    SUSPENDED = "suspended"
    NOT_READY = "not_ready"
    HELD = "held"
    UNCHANGED = "unchanged"
    IN_DOUBT = "in_doubt"
    PROCESSING = "processing"
    REFUSED = "refused"
    RETRY = "retry"
    NEW = "new"


_SURVEY = """
SELECT o.uc_id, a.id AS agent_id, a.code AS agent_code, o.state AS outcome,
       -- A day delivered under a former code stays under it, unless the register dates the change otherwise.
       coalesce(nullif(uc_code_on(u.id, u.code, $1::date), u.code), accepted.uc_code, u.code) AS uc_code,
       st.status, m.musd_kw::text AS musd_kw, h.hours AS rejected_hours,
       (SELECT max(s.version) FROM series_day s
         WHERE s.uc_id = o.uc_id AND s.quantity = $2 AND s.layer = $3 AND s.day = $1) AS series_version,
       l.id AS submission_id, l.version, l.series_version AS sent_series_version, l.profile AS sent_format,
       l.body_sha256, l.state, l.planned_musd_kw, l.attempts, l.receipt, l.uc_code AS sent_uc_code,
       l.agent_id AS sent_agent_id, sa.code AS sent_agent_code, accepted.body_sha256 AS accepted_sha256
FROM uc_day_outcome o
JOIN uc u ON u.id = o.uc_id
LEFT JOIN uc_agent c ON c.uc_id = o.uc_id AND c.valid @> $1::date
LEFT JOIN agent a ON a.id = c.agent_id
LEFT JOIN LATERAL (
  SELECT s.body_sha256, s.uc_code FROM submission s
   WHERE s.uc_id = o.uc_id AND s.day = $1 AND EXISTS (
     SELECT 1 FROM submission_event e WHERE e.submission_id = s.id AND e.state = 'aceito')
   ORDER BY s.version DESC LIMIT 1) accepted ON true
LEFT JOIN uc_status st ON st.uc_id = o.uc_id AND st.valid @> $1::date
LEFT JOIN uc_musd m ON m.uc_id = o.uc_id AND m.valid @> $1::date
LEFT JOIN (SELECT uc_id, string_agg(hour::text, ',' ORDER BY hour) AS hours
             FROM musd_hour WHERE day = $1 AND is_rejected GROUP BY uc_id) h ON h.uc_id = o.uc_id
LEFT JOIN LATERAL (
  SELECT s.*, (SELECT e.state FROM submission_event e WHERE e.submission_id = s.id
                ORDER BY e.id DESC LIMIT 1) AS state,
         (SELECT e.detail ->> 'musd_kw' FROM submission_event e WHERE e.submission_id = s.id
           ORDER BY e.id LIMIT 1) AS planned_musd_kw,
         (SELECT max(t.attempt) FROM submission_attempt t WHERE t.submission_id = s.id) AS attempts,
         (SELECT t.receipt FROM submission_attempt t WHERE t.submission_id = s.id AND t.receipt IS NOT NULL
           ORDER BY t.attempt DESC LIMIT 1) AS receipt
    FROM submission s WHERE s.uc_id = o.uc_id AND s.day = $1 ORDER BY s.version DESC LIMIT 1) l ON true
LEFT JOIN agent sa ON sa.id = l.agent_id
WHERE o.day = $1
ORDER BY o.uc_id
"""


def survey(db: Database, profile: Profile, day: date) -> pl.DataFrame:
    """One row per expected UC-day: registry, series version, last submission, and a `verdict`.

    Returns: the columns of the query above and `verdict` (Standing), `cause` (VersionCause, for NEW). A
        UC-day that is NEW by its series version may still be equal in content: `record` compares hashes.
    """
    frame = read_frame(db, _SURVEY, [day, ACTIVE_ENERGY, int(Layer.CCEE)])
    changed = (
        (pl.col("series_version") != pl.col("sent_series_version"))
        | (pl.col("sent_format") != profile.body_format)
        # The register was corrected: the day belongs to another agent, or to another code.
        | (pl.col("sent_agent_id") != pl.col("agent_id"))
        | (pl.col("sent_uc_code") != pl.col("uc_code"))
    )
    can_send = ["ready", "incomplete"] if profile.send.allow_partial_day else ["ready"]
    hold = (profile.musd.on_violation == "hold_day") & pl.col("rejected_hours").is_not_null()
    # Nothing says that stored hours are judged again after a change of the register.
    musd_changed = (
        pl.lit(profile.musd.resend_on_change)
        & pl.col("planned_musd_kw").is_not_null()
        & (_exact("planned_musd_kw") != _exact("musd_kw").fill_null(profile.musd.default_kw))
        & pl.col("state").is_in([*DELIVERED, State.REJECTED_MUSD])
    )
    verdict = (
        pl.when(pl.col("state").is_in(IN_DOUBT))
        .then(pl.lit(Standing.IN_DOUBT))
        .when(pl.col("state") == State.PROCESSING)
        .then(pl.lit(Standing.PROCESSING))
        .when(pl.col("outcome") == "not_expected")
        .then(pl.lit(Standing.NOT_EXPECTED))
        .when(~pl.col("status").is_in(SUBMITTED).fill_null(False))
        .then(pl.lit(Standing.SUSPENDED))
        .when((pl.col("outcome") == "held") | hold)
        .then(pl.lit(Standing.HELD))
        .when(
            ~pl.col("outcome").is_in(can_send)
            | pl.col("series_version").is_null()
            | pl.col("agent_id").is_null()
        )
        .then(pl.lit(Standing.NOT_READY))
        .when(pl.col("submission_id").is_null() | changed | musd_changed)
        .then(pl.lit(Standing.NEW))
        .when(pl.col("state").is_in(DELIVERED))
        .then(pl.lit(Standing.UNCHANGED))
        .when(pl.col("state").is_in(REFUSED))
        .then(pl.lit(Standing.REFUSED))
        .otherwise(pl.lit(Standing.RETRY))
    )
    cause = (
        pl.when(pl.col("submission_id").is_null())
        .then(pl.lit(VersionCause.FIRST))
        .when(changed)
        .then(pl.lit(VersionCause.CONTENT_CHANGED))
        .otherwise(pl.lit(VersionCause.MUSD_CHANGED))
    )
    judged = frame.with_columns(verdict=verdict, cause=cause)
    # What left already belongs to the agent it was sealed for, whoever the agent of the day is by now.
    is_sealed = pl.col("verdict").is_in([Standing.IN_DOUBT, Standing.PROCESSING, Standing.RETRY])
    return judged.with_columns(
        agent_id=pl.when(is_sealed).then("sent_agent_id").otherwise("agent_id"),
        agent_code=pl.when(is_sealed).then("sent_agent_code").otherwise("agent_code"),
    )


def _exact(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Decimal(38, 9))
