"""Day vectors of meters: merging what a session brought into what is stored, and reading it back."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import psycopg

from faults import DeveloperFault
from storage.bulk import array_literal, copy_frame, one_of, read_frame
from storage.database import Database
from storage.locks import lock_meters
from storage.review.quarantine import Quarantined, put

# The frame of readings, as every room knows it; `version` is only in what is read.
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "meter_id": pl.Int64,
    "channel": pl.Int16,
    "day": pl.Date,
    "version": pl.Int32,
    "quantity_code": pl.Int16,
    "interval_s": pl.Int32,
    "pulses": pl.List(pl.Int32),
    "source_starts": pl.List(pl.Int16),
    "source_sessions": pl.List(pl.Int64),
}
_COLUMNS = ", ".join(f"r.{name}" for name in SCHEMA)
_KEY = ("meter_id", "channel", "day")

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MergeResult:
    """What became of the meter-channel-days that were offered.

    Attributes:
        inserted: days that were not stored.
        extended: stored days in which missing slots were filled.
        unchanged: days that brought nothing new (those with only contradictions are among them).
        conflicts: days with a slot, or a shape, that contradicts what is stored; in quarantine, stored
        values kept. touched: (meter, day) pairs that changed.
    """

    inserted: int = 0
    extended: int = 0
    unchanged: int = 0
    conflicts: int = 0
    touched: tuple[tuple[int, dt.date], ...] = ()


@dataclass
class _Row:
    """One meter-channel-day, slots spread out. Slots marked `missing` have pulses 0 and session 0."""

    meter_id: int
    channel: int
    day: dt.date
    version: int
    quantity_code: int
    interval_s: int
    pulses: Integers
    missing: npt.NDArray[np.bool_]
    sessions: Integers

    @property
    def key(self) -> tuple[int, int, dt.date]:
        return self.meter_id, self.channel, self.day

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.quantity_code, self.interval_s, len(self.pulses)


def merge_readings(conn: psycopg.Connection[Any], frame: pl.DataFrame, at: dt.datetime) -> MergeResult:
    """Merge day vectors with the stored ones, slot by slot, in the caller's transaction.

    A missing slot is filled, an equal one kept. Where a slot contradicts the stored one, the stored value
    stays and both go to quarantine (stage `merge`), one row however often the same contradiction comes: the
    first told wins. A changed day is replaced in place while its UC-day has no submission, else it gets a
    new version. The same readings again change nothing. Writers of the same meter wait for each other.

    Args:
        frame: columns of `SCHEMA` except `version`; a day may come more than once.
        at: time of record.
    """
    if frame.is_empty():
        return MergeResult()
    frame = frame.with_columns(version=pl.lit(1, pl.Int32)).select(list(SCHEMA))
    lock_meters(conn, frame["meter_id"].unique())
    new, frame = _split_new(conn, frame)
    added = _append(conn, new, at)
    offered = _rows(frame)
    if not offered:
        return added
    stored = {row.key: row for row in _stored(conn, offered)}
    first_seen = set(stored)
    changed: set[tuple[int, int, dt.date]] = set()
    quarantined: list[Quarantined] = []
    for row in offered:
        if row.missing.all():
            continue
        kept = stored.get(row.key)
        if kept is None:
            stored[row.key] = row
            changed.add(row.key)
            continue
        contradiction, has_news = _merge(kept, row)
        if has_news:
            changed.add(row.key)
        if contradiction:
            quarantined.append(_quarantined(row, contradiction))
    sealed = _sealed(conn, changed & first_seen)
    _write(conn, [stored[key] for key in sorted(changed)], first_seen, sealed, at)
    put(conn, quarantined, at)
    offered_keys = {row.key for row in offered}
    return MergeResult(
        inserted=added.inserted + len(changed - first_seen),
        extended=len(changed & first_seen),
        unchanged=len(offered_keys - changed),
        conflicts=len({row.key for row in quarantined}),
        touched=tuple(sorted({(meter_id, day) for meter_id, _, day in changed} | set(added.touched))),
    )


def _split_new(conn: psycopg.Connection[Any], frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Days that are new and whose runs are written as they would be stored, and the rest.

    Most readings are of this kind, and need no merging slot by slot, which is twenty times slower.
    """
    keys = list(zip(*(frame[name].to_list() for name in _KEY), strict=True))
    often = Counter(keys)
    days = [day for _, _, day in often]
    cursor = conn.cursor(binary=True)
    cursor.execute(
        "SELECT DISTINCT r.meter_id, r.channel, r.day FROM reading_day r "
        "JOIN unnest(%s::bigint[], %s::smallint[], %s::date[]) AS k (meter_id, channel, day) "
        "USING (meter_id, channel, day) WHERE r.day BETWEEN %s AND %s",
        [[key[0] for key in often], [key[1] for key in often], days, min(days), max(days)],
    )
    known = set(cursor.fetchall())
    is_new = _are_canonical(frame) & np.array([often[key] == 1 and key not in known for key in keys])
    if is_new.all():
        return frame, frame.clear()
    return frame.filter(pl.Series(is_new)), frame.filter(pl.Series(~is_new))


def _are_canonical(frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Per row: something is there, and session 0 covers the missing slots and no other.

    Runs that do not cover their slots, or repeat a session, make it False for all rows: the careful way puts
    them right, or says what is wrong.
    """
    slots = frame["pulses"].list.len().to_numpy().astype(np.int64)
    runs = frame["source_starts"].list.len().to_numpy().astype(np.int64)
    nothing = np.zeros(frame.height, np.bool_)
    if not (slots.all() and runs.all() and (runs == frame["source_sessions"].list.len().to_numpy()).all()):
        return nothing
    starts = frame["source_starts"].explode(empty_as_null=False).to_numpy().astype(np.int64)
    sessions = frame["source_sessions"].explode(empty_as_null=False).to_numpy()
    firsts = np.cumsum(runs) - runs
    is_first = np.zeros(len(starts), np.bool_)
    is_first[firsts] = True
    ends = np.append(starts[1:], 0)
    ends[firsts + runs - 1] = slots
    repeated = np.append(False, sessions[1:] == sessions[:-1]) & ~is_first
    if (ends <= starts).any() or starts[firsts].any() or repeated.any():
        return nothing
    missing = frame["pulses"].explode(empty_as_null=False).is_null().to_numpy()
    fits = (np.repeat(sessions, ends - starts) == 0) == missing
    offsets = np.cumsum(slots) - slots
    return np.logical_and.reduceat(fits, offsets) & ~np.logical_and.reduceat(missing, offsets)


def _append(conn: psycopg.Connection[Any], new: pl.DataFrame, at: dt.datetime) -> MergeResult:
    """Write days that are not stored as they came."""
    if new.is_empty():
        return MergeResult()
    copy_frame(conn, "reading_day", new.with_columns(recorded_at=pl.lit(at, pl.Datetime("us", "UTC"))))
    touched = sorted(set(zip(new["meter_id"].to_list(), new["day"].to_list(), strict=True)))
    statement = "COPY touched_day (meter_id, day, touched_at) FROM STDIN"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for meter_id, day in touched:
            copy.write_row((meter_id, day, at))
    return MergeResult(inserted=new.height, touched=tuple(touched))


def read_reading_days(
    db: Database,
    first_day: dt.date,
    last_day: dt.date,
    shard: int = 0,
    shards: int = 1,
    *,
    meter_ids: list[int] | None = None,
    active_only: bool = True,
) -> pl.DataFrame:
    """Latest version of the day vectors of a shard's meters, in order of meter, channel and day.

    Args:
        shard, shards: UCs with `uc_id % shards == shard`; their meters by installation in those days.
        meter_ids: only these meters, whether or not they are installed (the shard is then left aside).
        active_only: only the channel that the installation names for active energy.
    Returns:
        Columns of `SCHEMA`.
    """
    wanted, parameters = _wanted_meters(first_day, last_day, shard, shards, meter_ids, active_only)
    frame = read_frame(
        db,
        f"SELECT {_COLUMNS} FROM reading_day r WHERE r.day BETWEEN $1 AND $2 AND {wanted} "
        "AND NOT EXISTS (SELECT 1 FROM reading_day n WHERE n.meter_id = r.meter_id AND n.channel = r.channel "
        "AND n.day = r.day AND n.day BETWEEN $1 AND $2 AND n.version > r.version)",
        [first_day, last_day, *parameters],
    )
    return frame.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items()).sort(_KEY)


@dataclass(frozen=True, slots=True)
class StoredDay:
    """The latest version of one meter channel and day; `pulses` None where missing."""

    quantity_code: int
    interval_s: int
    pulses: list[int | None]


def latest_days(
    conn: psycopg.Connection[Any], keys: Sequence[tuple[int, int, dt.date]]
) -> dict[tuple[int, int, dt.date], StoredDay]:
    """What is stored of these (meter, channel, day), in the caller's transaction."""
    if not keys:
        return {}
    rows = _latest(conn, sorted(set(keys)))
    return {row.key: StoredDay(row.quantity_code, row.interval_s, _with_nulls(row)) for row in rows}


def take_back(
    conn: psycopg.Connection[Any],
    taken: Mapping[tuple[int, int, dt.date], Mapping[int, tuple[int, int]]],
    at: dt.datetime,
) -> tuple[tuple[int, dt.date], ...]:
    """Make slots missing again that a decision had filled; (meter, day) pairs that changed.

    Args:
        taken: by (meter, channel, day) and slot, the pulses and the session that the slot must still have.
    """
    if not taken:
        return ()
    lock_meters(conn, {key[0] for key in taken})
    changed = []
    for row in _latest(conn, sorted(taken)):
        slots = [
            slot
            for slot, (pulses, session) in taken[row.key].items()
            if slot < len(row.pulses)
            and not row.missing[slot]
            and (row.pulses[slot], row.sessions[slot]) == (pulses, session)
        ]
        if slots:
            row.missing[slots] = True
            row.pulses[slots] = row.sessions[slots] = 0
            changed.append(row)
    keys = {row.key for row in changed}
    _write(conn, changed, keys, _sealed(conn, keys), at)
    return tuple(sorted({(meter_id, day) for meter_id, _, day in keys}))


def _wanted_meters(
    first_day: dt.date,
    last_day: dt.date,
    shard: int,
    shards: int,
    meter_ids: list[int] | None,
    active_only: bool,
) -> tuple[str, list[Any]]:
    if meter_ids is not None:
        return one_of("r.meter_id", "$3"), [array_literal(meter_ids)]
    column, compared = (
        ("i.active_channel", "(r.meter_id, r.channel)") if active_only else ("NULL", "r.meter_id")
    )
    selected = f"i.meter_id, {column}" if active_only else "i.meter_id"
    return (
        f"{compared} IN (SELECT {selected} FROM installation i JOIN point p ON p.id = i.point_id "
        "WHERE p.uc_id % $3 = $4 "
        "AND i.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1)))",
        [shards, shard],
    )


def _rows(frame: pl.DataFrame) -> list[_Row]:
    rows = []
    for values in frame.iter_rows():
        *key, pulses, starts, sessions = values
        meter_id, channel, day, version, quantity_code, interval_s = key
        missing = np.array([value is None for value in pulses], np.bool_)
        spread = _spread_sources(starts, sessions, len(pulses), key)
        spread[missing] = 0
        rows.append(
            _Row(
                meter_id=meter_id,
                channel=channel,
                day=day,
                version=version,
                quantity_code=quantity_code,
                interval_s=interval_s,
                pulses=np.array([0 if value is None else value for value in pulses], np.int64),
                missing=missing,
                sessions=spread,
            )
        )
    return rows


def _spread_sources(starts: list[int], sessions: list[int], slots: int, key: list[Any]) -> Integers:
    ends = [*starts[1:], slots]
    if (
        len(starts) != len(sessions)
        or (slots and starts[:1] != [0])
        or any(a >= b for a, b in zip(starts, ends, strict=False))
    ):
        raise DeveloperFault(
            f"runs {starts} with sessions {sessions} do not cover {slots} slots", where=f"readings of {key}"
        )
    return np.repeat(np.array(sessions, np.int64), np.diff([*starts, slots]))


def _stored(conn: psycopg.Connection[Any], offered: list[_Row]) -> list[_Row]:
    return _latest(conn, sorted({row.key for row in offered}))


def _latest(conn: psycopg.Connection[Any], keys: Sequence[tuple[int, int, dt.date]]) -> list[_Row]:
    days = [key[2] for key in keys]
    cursor = conn.cursor(binary=True)
    # The bounds on day let TimescaleDB leave out chunks.
    cursor.execute(
        f"SELECT DISTINCT ON (r.meter_id, r.channel, r.day) {_COLUMNS} FROM reading_day r "
        "JOIN unnest(%s::bigint[], %s::smallint[], %s::date[]) AS k (meter_id, channel, day) "
        "USING (meter_id, channel, day) WHERE r.day BETWEEN %s AND %s "
        "ORDER BY r.meter_id, r.channel, r.day, r.version DESC",
        [[key[0] for key in keys], [key[1] for key in keys], days, min(days), max(days)],
    )
    return _rows(pl.DataFrame(cursor.fetchall(), schema=SCHEMA, orient="row"))


def _merge(kept: _Row, row: _Row) -> tuple[dict[str, Any] | None, bool]:
    """Fill `kept` from `row`; returns the contradiction, if any, and whether something was filled."""
    if kept.shape != row.shape:
        return _shape_conflict(kept, row), False
    fills = kept.missing & ~row.missing
    differs = ~kept.missing & ~row.missing & (kept.pulses != row.pulses)
    contradiction = None
    if differs.any():
        slots = np.flatnonzero(differs)
        contradiction = {
            "channel": row.channel,
            "slots": slots.tolist(),
            "kept": kept.pulses[slots].tolist(),
            "kept_sessions": kept.sessions[slots].tolist(),
            "refused": row.pulses[slots].tolist(),
            "refused_sessions": row.sessions[slots].tolist(),
        }
    kept.pulses = np.where(fills, row.pulses, kept.pulses)
    kept.sessions = np.where(fills, row.sessions, kept.sessions)
    kept.missing = kept.missing & ~fills
    return contradiction, bool(fills.any())


def _shape_conflict(kept: _Row, row: _Row) -> dict[str, Any]:
    def told(side: _Row) -> dict[str, Any]:
        values = _with_nulls(side)
        quantity_code, interval_s, slots = side.shape
        return {"quantity_code": quantity_code, "interval_s": interval_s, "slots": slots, "pulses": values}

    return {
        "channel": row.channel,
        "kept_shape": told(kept),
        "kept_sessions": np.unique(kept.sessions[kept.sessions > 0]).tolist(),
        "refused_shape": told(row),
        "refused_sessions": np.unique(row.sessions[row.sessions > 0]).tolist(),
    }


def _with_nulls(row: _Row) -> list[int | None]:
    values: list[int | None] = row.pulses.tolist()
    for slot in np.flatnonzero(row.missing):
        values[slot] = None
    return values


def _quarantined(row: _Row, contradiction: dict[str, Any]) -> Quarantined:
    # The session is left out: the same contradiction read again is the same.
    told = {name: value for name, value in contradiction.items() if not name.endswith("_sessions")}
    mark = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()
    sessions = [number for number in contradiction["refused_sessions"] if number]
    if "slots" in contradiction:
        reason = f"{len(contradiction['slots'])} slots contradict what is stored; the stored values stay"
    else:
        reason = "quantity, interval or number of slots differ from what is stored; the stored day stays"
    return Quarantined(
        stage="merge",
        reason=reason,
        meter_id=row.meter_id,
        day=row.day,
        session_id=sessions[0] if sessions else None,
        detail=contradiction,
        dedup_key=f"merge:{row.meter_id}:{row.channel}:{row.day}:{mark}",
    )


def _sealed(conn: psycopg.Connection[Any], keys: set[tuple[int, int, dt.date]]) -> set[tuple[int, dt.date]]:
    """Meter-days whose UC-day has a submission: what was delivered must stay readable as it was."""
    pairs = sorted({(meter_id, day) for meter_id, _, day in keys})
    if not pairs:
        return set()
    found = conn.execute(
        "SELECT DISTINCT k.meter_id, k.day FROM unnest(%s::bigint[], %s::date[]) AS k (meter_id, day) "
        "JOIN installation i ON i.meter_id = k.meter_id "
        "AND i.valid && tstzrange(market_day_start(k.day), market_day_start(k.day + 1)) "
        "JOIN point p ON p.id = i.point_id JOIN submission s ON s.uc_id = p.uc_id AND s.day = k.day",
        [[meter_id for meter_id, _ in pairs], [day for _, day in pairs]],
    )
    return set(found.fetchall())


def _write(
    conn: psycopg.Connection[Any],
    rows: list[_Row],
    first_seen: set[tuple[int, int, dt.date]],
    sealed: set[tuple[int, dt.date]],
    at: dt.datetime,
) -> None:
    if not rows:
        return
    replaced = []
    for row in rows:
        if row.key not in first_seen:
            row.version = 1
        elif (row.meter_id, row.day) in sealed:
            row.version += 1
        else:
            replaced.append(row)
    if replaced:
        conn.execute(
            "DELETE FROM reading_day r "
            "USING unnest(%s::bigint[], %s::smallint[], %s::date[], %s::int[]) "
            "AS k (meter_id, channel, day, version) "
            "WHERE r.meter_id = k.meter_id AND r.channel = k.channel AND r.day = k.day "
            "AND r.version = k.version AND r.day BETWEEN %s AND %s",
            [
                [row.meter_id for row in replaced],
                [row.channel for row in replaced],
                [row.day for row in replaced],
                [row.version for row in replaced],
                min(row.day for row in replaced),
                max(row.day for row in replaced),
            ],
        )
    frame = pl.DataFrame([_values(row) for row in rows], schema=SCHEMA, orient="row")
    copy_frame(
        conn,
        "reading_day",
        frame.with_columns(recorded_at=pl.lit(at.astimezone(dt.UTC), pl.Datetime("us", "UTC"))),
    )
    touched = frame.select("meter_id", "day").unique().sort("meter_id", "day")
    copy_frame(
        conn,
        "touched_day",
        touched.with_columns(touched_at=pl.lit(at.astimezone(dt.UTC), pl.Datetime("us", "UTC"))),
    )


def _values(row: _Row) -> tuple[Any, ...]:
    starts = np.flatnonzero(np.diff(row.sessions, prepend=-1))
    return (
        *row.key,
        row.version,
        row.quantity_code,
        row.interval_s,
        _with_nulls(row),
        starts.tolist(),
        row.sessions[starts].tolist(),
    )
