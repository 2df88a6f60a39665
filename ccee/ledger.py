"""The append-only ledger: what CCEE was told, what it answered, and what is still to be told.

A submission is one version of one UC-day, sealed by the hash of its body. Its state is its last event. The
body itself is not stored: it is rendered again from the series version that the submission names, and checked
against the hash, so the bytes of any receipt can be had at any time and nothing is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

import orjson
import polars as pl
import psycopg

from ccee.body import Body, refusals, render_batch
from ccee.profile import Profile
from ccee.replies import Attempt
from faults import DeveloperFault, OperatorFault
from storage.bulk import array_literal, copy_frame, read_frame
from storage.database import Database
from storage.locks import SENDER_LOCK, lock_ucs
from storage.review import quarantine
from storage.series import ACTIVE_ENERGY, Layer
from storage.submission_states import REFUSED, State
from vee.calendars import slots_per_day
from vee.frames import to_matrix
from vee.layers.rounding import MILLI
from vee.quality import Origin

# UC-days read and rendered at once: 2,048 bodies' values are about 10 MB.
CHUNK_UCS = 2048
NAME_THE_CONTRACT = "name that contract profile (setting ccee.profile_path)"
# Chunks sealed at once: while one waits for the server, another is rendered.
_RECORDERS = 3


class VersionCause(StrEnum):
    """Why a version was made."""

    FIRST = "first"
    CONTENT_CHANGED = "content_changed"
    MUSD_CHANGED = "musd_changed"


@dataclass(frozen=True, slots=True)
class Submission:
    """One version of one UC-day on its way to CCEE."""

    id: int
    agent_code: int
    uc_id: int
    uc_code: str
    day: date
    version: int
    series_version: int
    body_format: str
    body_sha256: bytes
    state: str
    attempts: int = 0
    ticket: str | None = None


@dataclass
class Recorded:
    """What recording a day's new submissions came to: refused ones by UC code, with the reason."""

    submissions: list[Submission] = field(default_factory=list)
    unchanged: int = 0
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of state to be appended."""

    submission_id: int
    state: State
    at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """A try to be appended."""

    submission_id: int
    number: int
    attempt: Attempt


def submissions_of(rows: pl.DataFrame, day: date) -> list[Submission]:
    """The last submissions named by rows of a survey."""
    return [
        Submission(
            id=row["submission_id"],
            agent_code=row["sent_agent_code"],
            uc_id=row["uc_id"],
            uc_code=row["sent_uc_code"],
            day=day,
            version=row["version"],
            series_version=row["sent_series_version"],
            body_format=row["sent_format"],
            body_sha256=row["body_sha256"],
            state=row["state"],
            attempts=row["attempts"] or 0,
            ticket=row["receipt"],
        )
        for row in rows.iter_rows(named=True)
    ]


# --- recording ------------------------------------------------------------------------------------------


def record(
    db: Database, profile: Profile, day: date, due: pl.DataFrame, run_id: str, now: datetime
) -> Recorded:
    """Seal the due UC-days of one day as new submissions, in chunks of one transaction each.

    Args: due: NEW rows of a survey of that day.
    Returns: the new submissions; those whose content turned out as delivered before are only counted.
    """
    chunks = [due.slice(start, CHUNK_UCS) for start in range(0, due.height, CHUNK_UCS)]
    parts = [Recorded() for _ in chunks]

    def seal(worker: int) -> None:
        with db.connect(autocommit=True) as conn, db.connect_arrow() as source:
            for chunk, part in list(zip(chunks, parts, strict=True))[worker::_RECORDERS]:
                with conn.transaction():
                    # Whoever derives may replace a series in place while nothing is submitted: not in
                    # between.
                    lock_ucs(conn, chunk["uc_id"].to_list(), shared=True)
                    _record_chunk(source, conn, profile, day, chunk, run_id, now, part)
                # The reader's own transaction must not see an old state in the next chunk.
                source.rollback()

    workers = range(min(_RECORDERS, len(chunks)))
    if workers:
        with ThreadPoolExecutor(len(workers), "ledger-record") as pool:
            list(pool.map(seal, workers))
    done = Recorded()
    for part in parts:
        done.submissions += part.submissions
        done.unchanged += part.unchanged
        done.refused |= part.refused
    return done


def _record_chunk(
    source: Any,
    conn: psycopg.Connection[Any],
    profile: Profile,
    day: date,
    due: pl.DataFrame,
    run_id: str,
    now: datetime,
    done: Recorded,
) -> None:
    due = _with_series(source, day, due)
    problems = _problems(profile, due, day)
    _quarantine(conn, due, day, problems, done)
    due = due.filter(pl.Series(problems, dtype=pl.String) == "")
    digests = (
        [(body.sha256, len(body.content)) for body in _rendered(profile, due, day)] if due.height else []
    )
    due = due.with_columns(
        new_sha256=pl.Series([digest for digest, _ in digests], dtype=pl.Binary),
        body_bytes=pl.Series([size for _, size in digests], dtype=pl.Int32),
    )
    # A refusal of the same bytes stays a refusal, and what CCEE has it need not be told again.
    known = pl.col("new_sha256").eq_missing(pl.col("accepted_sha256")) | (
        pl.col("state").is_in(REFUSED) & pl.col("new_sha256").eq_missing(pl.col("body_sha256"))
    )
    same = known & (pl.col("cause") != VersionCause.MUSD_CHANGED)
    new = due.filter(~same)
    done.unchanged += due.height - new.height
    if not new.height:
        return
    ids = conn.execute(
        "SELECT nextval(pg_get_serial_sequence('submission', 'id')) FROM generate_series(1, %s)", [new.height]
    ).fetchall()
    rows = new.select(
        pl.Series("id", [number for (number,) in ids], dtype=pl.Int64),
        "agent_id",
        "uc_id",
        pl.lit(day).alias("day"),
        (pl.col("version").fill_null(0) + 1).alias("version"),
        "series_version",
        pl.lit(profile.body_format).alias("profile"),
        pl.col("new_sha256").alias("body_sha256"),
        "body_bytes",
        "cause",
        pl.lit(run_id).alias("run_id"),
        pl.lit(now).alias("created_at"),
        "uc_code",
    )
    copy_frame(conn, "submission", rows)
    default_kw = str(profile.musd.default_kw)
    details = [
        _planned_detail(hours, musd_kw or default_kw)
        for hours, musd_kw in new.select("rejected_hours", "musd_kw").iter_rows()
    ]
    copy_frame(
        conn,
        "submission_event",
        rows.select(
            pl.col("id").alias("submission_id"),
            pl.lit(now).alias("at"),
            pl.lit(State.VALIDATED).alias("state"),
            pl.Series("detail", details, dtype=pl.String),
        ),
    )
    codes = new.select("uc_code", "agent_code")
    done.submissions += [
        Submission(
            id=row["id"],
            agent_code=agent_code,
            uc_id=row["uc_id"],
            uc_code=uc_code,
            day=day,
            version=row["version"],
            series_version=row["series_version"],
            body_format=row["profile"],
            body_sha256=row["body_sha256"],
            state=State.VALIDATED,
        )
        for row, (uc_code, agent_code) in zip(rows.iter_rows(named=True), codes.iter_rows(), strict=True)
    ]


def _quarantine(
    conn: psycopg.Connection[Any], due: pl.DataFrame, day: date, problems: Sequence[str], done: Recorded
) -> None:
    """Set aside what cannot become a body, so that the others flow."""
    for (uc_id, uc_code), problem in zip(due.select("uc_id", "uc_code").iter_rows(), problems, strict=True):
        if problem:
            done.refused[uc_code] = problem
            key = f"body:{uc_id}:{day}:{problem}"
            row = quarantine.Quarantined("body", problem, uc_id=uc_id, day=day, dedup_key=key)
            quarantine.put(conn, [row])


def _planned_detail(rejected_hours: str | None, musd_kw: str) -> str:
    """The MUSD that a version was made under is kept only where it decides about hours."""
    if rejected_hours is None:
        return "{}"
    hours = [int(hour) for hour in rejected_hours.split(",")]
    return orjson.dumps({"musd_kw": musd_kw, "rejected_hours": hours}).decode()


def append(conn: psycopg.Connection[Any], records: Sequence[Event | AttemptRecord]) -> None:
    """Append events and tries in the order given, durable when this returns."""
    events = [
        (item.submission_id, item.at, item.state.value, orjson.dumps(item.detail).decode())
        for item in records
        if isinstance(item, Event)
    ]
    attempts = [_attempt_row(item) for item in records if isinstance(item, AttemptRecord)]
    with conn.transaction(), conn.cursor() as cursor:
        if attempts:
            cursor.executemany(
                "INSERT INTO submission_attempt (submission_id, attempt, started_at, ended_at, http_status, "
                "reply_headers, reply_body, receipt, error, outcome) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                attempts,
            )
        if events:
            cursor.executemany(
                "INSERT INTO submission_event (submission_id, at, state, detail) VALUES (%s, %s, %s, %s)",
                events,
            )


def _attempt_row(item: AttemptRecord) -> tuple[Any, ...]:
    attempt = item.attempt
    headers = None if attempt.reply_headers is None else orjson.dumps(dict(attempt.reply_headers)).decode()
    return (
        item.submission_id,
        item.number,
        attempt.started_at,
        attempt.ended_at,
        attempt.http_status,
        headers,
        attempt.reply_body,
        attempt.receipt,
        # PostgreSQL's text cannot hold the octet zero, which a broken reply can.
        None if attempt.error is None else attempt.error.replace("\x00", "\ufffd"),
        attempt.outcome.value,
    )


def take_agent(conn: psycopg.Connection[Any], agent_id: int) -> bool:
    """Become the one sender of an agent for as long as the connection lives; False where another is."""
    found = conn.execute("SELECT pg_try_advisory_lock(%s, %s)", [SENDER_LOCK, agent_id]).fetchone()
    return bool(found and found[0])


# --- bodies ---------------------------------------------------------------------------------------------


def bodies(
    source: Database | Any, profile: Profile, submissions: Sequence[Submission]
) -> Iterator[tuple[Submission, Body | None]]:
    """The bodies of submissions of one day, rendered again from the versions they name.

    Yields: None for the body where the bytes would differ from those sealed, which `why_not` explains.
    """
    for start in range(0, len(submissions), CHUNK_UCS):
        chunk = submissions[start : start + CHUNK_UCS]
        day = chunk[0].day
        rows = pl.DataFrame(
            {
                "position": range(len(chunk)),
                "uc_id": [item.uc_id for item in chunk],
                "series_version": [item.series_version for item in chunk],
                "uc_code": [item.uc_code for item in chunk],
                "agent_code": [item.agent_code for item in chunk],
            }
        )
        rows = _with_series(source, day, rows)
        rows = rows.filter(pl.Series(_problems(profile, rows, day), dtype=pl.String) == "")
        rendered = _rendered(profile, rows, day) if rows.height else iter(())
        by_position = dict(zip(rows["position"].to_list(), rendered, strict=True))
        for position, item in enumerate(chunk):
            body = by_position.get(position)
            yield item, body if body is not None and body.sha256 == item.body_sha256 else None


def not_in_force(profile: Profile, body_format: str) -> str:
    """Why a body of that contract cannot be made with this one, or nothing where it can."""
    if body_format == profile.body_format:
        return ""
    return f"made with contract {body_format}, which is not the one in force ({profile.body_format})"


def why_not(profile: Profile, item: Submission) -> str:
    """Why a body cannot be had again as it was sealed."""
    changed = f"series version {item.series_version} no longer gives the bytes that were sealed"
    if not profile.send.allow_partial_day:
        changed += ", or the day is partial, which send.allow_partial_day does not let through now"
    return not_in_force(profile, item.body_format) or changed


def find(db: Database, uc_code: str, day: date, version: int | None = None) -> Submission:
    """A submission by UC and day: the version given, or the last. Raises: OperatorFault: there is none."""
    frame = read_frame(
        db,
        "SELECT s.id AS submission_id, a.code AS sent_agent_code, s.uc_id, s.uc_code AS sent_uc_code, "
        "s.version, "
        "s.series_version AS sent_series_version, s.profile AS sent_format, s.body_sha256, s.state, "
        "(SELECT max(attempt) FROM submission_attempt t WHERE t.submission_id = s.id) AS attempts, "
        "NULL::text AS receipt "
        "FROM submission_state s JOIN uc u ON u.id = s.uc_id JOIN agent a ON a.id = s.agent_id "
        "WHERE (u.code = $1 OR $1 = ANY(u.aliases)) AND s.day = $2 ORDER BY s.version DESC",
        [uc_code, day],
    )
    if version is not None:
        frame = frame.filter(pl.col("version") == version)
    if frame.is_empty():
        which = "nothing" if version is None else f"no version {version}"
        raise OperatorFault(
            f"{which} was submitted",
            where=f"UC {uc_code}, {day}",
            remedy=f"see `smf ccee ledger --day {day}`; `smf ccee deliver --day {day}` submits what is due",
        )
    return submissions_of(frame.head(1), day)[0]


def body_of(db: Database, profile: Profile, item: Submission) -> bytes:
    """The exact bytes of a submission. Raises: DeveloperFault, OperatorFault: they cannot be had again."""
    profile = profile.for_sealed()
    ((_, body),) = bodies(db, profile, [item])
    if body is not None:
        return body.content
    where = f"UC {item.uc_code}, {item.day}, version {item.version}"
    if not_in_force(profile, item.body_format):
        raise OperatorFault(why_not(profile, item), where=where, remedy=NAME_THE_CONTRACT)
    raise DeveloperFault(
        why_not(profile, item),
        where=where,
        remedy="a sealed series was changed: compare with the audit trail",
    )


def _with_series(source: Database | Any, day: date, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the values of the CCEE layer in their `series_version`, in the same order."""
    found = read_frame(
        source,
        "SELECT uc_id, version AS series_version, denominator, numerators, origin, reason FROM series_day "
        "WHERE quantity = $1 AND layer = $2 AND day = $3 AND uc_id = ANY($4::text::bigint[])",
        [ACTIVE_ENERGY, int(Layer.CCEE), day, array_literal(rows["uc_id"].unique())],
    )
    joined = rows.join(found, on=["uc_id", "series_version"], how="inner", maintain_order="left")
    return joined.with_columns(day=pl.lit(day))


def _problems(profile: Profile, rows: pl.DataFrame, day: date) -> list[str]:
    """For each row why it cannot become a body; empty where it can."""
    slots = slots_per_day(day, profile.send.offset)
    lengths = rows["numerators"].list.len().to_list()
    found = [
        f"{length} intervals stored, the day has {slots}"
        if length != slots
        else ("" if denominator == MILLI else f"denominator {denominator}, the CCEE layer has {MILLI}")
        for length, denominator in zip(lengths, rows["denominator"].to_list(), strict=True)
    ]
    good = [row for row, problem in enumerate(found) if not problem]
    matrix = to_matrix(rows[good])
    for row, problem in refusals(profile, matrix.numerators, ~matrix.known).items():
        found[good[row]] = problem
    return found


def _rendered(profile: Profile, rows: pl.DataFrame, day: date) -> Iterator[Body]:
    matrix = to_matrix(rows)
    return render_batch(
        profile,
        day,
        rows["uc_code"].to_list(),
        rows["agent_code"].to_list(),
        matrix.numerators,
        matrix.origin != Origin.MEASURED,
        ~matrix.known,
    )


def drafts(db: Database, profile: Profile, day: date, due: pl.DataFrame) -> Iterator[tuple[str, Body]]:
    """What would be sent for rows of a survey, without recording it."""
    for start in range(0, due.height, CHUNK_UCS):
        rows = _with_series(db, day, due.slice(start, CHUNK_UCS))
        rows = rows.filter(pl.Series(_problems(profile, rows, day), dtype=pl.String) == "")
        if rows.height:
            yield from zip(rows["uc_code"].to_list(), _rendered(profile, rows, day), strict=True)
