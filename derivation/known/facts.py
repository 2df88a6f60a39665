"""What the database knows of some UCs and days, in the frames that the rules take.

What belongs here: reading for one chunk of UCs, so that memory follows the chunk. What does not: judging any
of it (`vee`), writing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import polars as pl

from derivation.judging import RuleFacts
from derivation.known.decided import with_decisions
from derivation.known.rule_facts import read_rule_facts
from derivation.layers import Facts
from storage.bulk import array_literal, read_frame
from storage.database import Database
from storage.registry import SUBMITTED, RegistrySnapshot, snapshot
from storage.review.decisions import in_force
from storage.series import Layer
from vee.frames import SERIES_SCHEMA, empty_series
from vee.layers.validation import (
    CLOCK_TOUCHED,
    DUPLICATE_CONFLICT,
    INCIDENT_SCHEMA,
    OUTAGE_SCHEMA,
    REGISTRY_SCHEMA,
)
from vee.strategies.chain_e import POST_SCHEMA, Cycles, cycles_of

_KEY = ["uc_id", "day"]
# Statuses that make a day expected; another day is looked at only where readings came for it.
_EXPECTED = (*SUBMITTED, "suspended")
# Sessions of this purpose went back for memory that the routine read had not brought.
RECOVERY = "recovery"
# The months before migration that the distributor keeps (PdC 1.8, annex 7.1).
PRIOR = timedelta(days=366)

# Driven from the UCs of the chunk, day by day through the key: never a scan of what the fleet has. The bounds
# on day let TimescaleDB leave out its chunks when it plans.
_UCS = "SELECT id AS uc_id FROM uc WHERE id % $1::bigint = $2::bigint ORDER BY id"

_READINGS = """
    SELECT r.meter_id, r.channel, r.day, r.version, r.quantity_code, r.interval_s, r.pulses,
           r.source_starts, r.source_sessions
    FROM (
        SELECT DISTINCT i.meter_id, i.active_channel
        FROM unnest($4::text::bigint[]) AS k (uc_id)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id
            AND i.valid && tstzrange(market_day_start($2::date), market_day_start($3::date + 1))
    ) m
    CROSS JOIN unnest($1::text::date[]) AS d (day)
    CROSS JOIN LATERAL (
        SELECT * FROM reading_day
        WHERE meter_id = m.meter_id AND channel = m.active_channel AND day = d.day
          AND day BETWEEN $2::date AND $3::date
        ORDER BY version DESC LIMIT 1
    ) r
"""

_OUTAGES = """
    SELECT DISTINCT p.uc_id, o.started_at, o.ended_at
    FROM unnest($3::text::bigint[]) AS k (uc_id)
    JOIN point p ON p.uc_id = k.uc_id
    JOIN installation i ON i.point_id = p.id AND i.role = 'main'
    JOIN outage o ON o.meter_id = i.meter_id AND i.valid && tstzrange(o.started_at, o.ended_at, '[]')
    WHERE o.ended_at > market_day_start($1::date) AND o.started_at < market_day_start($2::date + 1)
    ORDER BY p.uc_id, o.started_at
"""

# What the merge kept out because a slot already had another value (rule V03). Slots are the meter's.
_CONFLICTS = """
    SELECT DISTINCT p.uc_id, q.meter_id, q.day, s.slot::integer AS first_slot, s.slot::integer AS last_slot,
           q.id AS quarantine_id
    FROM quarantine q
    CROSS JOIN LATERAL jsonb_array_elements_text(q.detail -> 'slots') AS s (slot)
    JOIN installation i ON i.meter_id = q.meter_id AND i.role = 'main'
        AND i.active_channel = (q.detail ->> 'channel')::smallint
        AND i.valid && tstzrange(market_day_start(q.day), market_day_start(q.day + 1))
    JOIN point p ON p.id = i.point_id
    WHERE q.stage = 'merge' AND jsonb_typeof(q.detail -> 'slots') = 'array'
      AND q.day = ANY($1::text::date[]) AND p.uc_id = ANY($2::text::bigint[])
    ORDER BY p.uc_id, q.day, first_slot
"""

# Intervals in which the meter's clock was moved (rule V09). Slots are the meter's.
_CLOCK_FLAGS = """
    SELECT DISTINCT p.uc_id, f.meter_id, f.day, f.first_slot::integer AS first_slot,
           f.last_slot::integer AS last_slot, NULL::bigint AS quarantine_id
    FROM interval_flag f
    JOIN installation i ON i.meter_id = f.meter_id AND i.role = 'main'
        AND i.valid && tstzrange(market_day_start(f.day), market_day_start(f.day + 1))
    JOIN point p ON p.id = i.point_id
    WHERE f.day = ANY($1::text::date[]) AND p.uc_id = ANY($2::text::bigint[])
    ORDER BY p.uc_id, f.day, first_slot
"""

_RECOVERIES = "SELECT id FROM session WHERE purpose = $1 AND id = ANY($2::text::bigint[])"

_APPROVALS = """
    SELECT uc_id, day, method, approved_by FROM estimate_approval
    WHERE day = ANY($1::text::date[]) AND uc_id = ANY($2::text::bigint[])
    ORDER BY uc_id, day, method
"""

# The last word of the main meter since the day began; a session that failed explains an empty day.
_CAUSES = """
    SELECT DISTINCT k.uc_id, d.day, 'link_failed' AS cause
    FROM unnest($2::text::bigint[]) AS k (uc_id)
    CROSS JOIN unnest($1::text::date[]) AS d (day)
    CROSS JOIN LATERAL (
        SELECT i.meter_id FROM point p JOIN installation i ON i.point_id = p.id
        WHERE p.uc_id = k.uc_id AND i.role = 'main'
          AND i.valid && tstzrange(market_day_start(d.day), market_day_start(d.day + 1))
        OFFSET 0
    ) m
    CROSS JOIN LATERAL (
        SELECT outcome FROM session
        WHERE meter_id = m.meter_id AND started_at >= market_day_start(d.day) AND outcome IS NOT NULL
        ORDER BY started_at DESC LIMIT 1
    ) s
    WHERE s.outcome IN ('failed', 'aborted')
"""

_EARLIER = """
    SELECT s.uc_id, s.day, s.denominator, s.numerators, s.origin, s.reason
    FROM unnest($5::text::bigint[]) AS k (uc_id)
    CROSS JOIN unnest($2::text::date[]) AS d (day)
    CROSS JOIN LATERAL (
        SELECT * FROM series_day
        WHERE uc_id = k.uc_id AND quantity = 1 AND layer = $1 AND day = d.day
          AND day BETWEEN $3::date AND $4::date
        ORDER BY version DESC LIMIT 1
    ) s
    ORDER BY s.uc_id, s.day
"""

_BEFORE_MIGRATION = """
    SELECT s.uc_id, s.day, s.denominator, s.numerators, s.origin, s.reason
    FROM (
        SELECT st.uc_id, min(lower(st.valid)) AS since
        FROM uc_status st JOIN unnest($3::text::bigint[]) AS k (uc_id) ON k.uc_id = st.uc_id
        WHERE is_submitted(st.status) GROUP BY st.uc_id
    ) a
    JOIN series_latest s ON s.uc_id = a.uc_id AND s.layer = $1 AND s.quantity = 1
        AND s.day BETWEEN a.since - $2::int AND a.since - 1
    ORDER BY s.uc_id, s.day
"""

_CYCLES = """
    SELECT s.uc_id, s.day, s.denominator, s.numerators, s.origin, s.reason
    FROM unnest($4::text::bigint[]) AS k (uc_id)
    JOIN series_latest s ON s.uc_id = k.uc_id AND s.layer = $1 AND s.quantity = 1
        AND s.day BETWEEN $2::date AND $3::date
    ORDER BY s.uc_id, s.day
"""

# The post of peak as the main meter told it last (20, 21, 22, 51) before the day was over.
_POSTS = """
    SELECT m.uc_id, m.day, extract(epoch FROM t.peak_from)::bigint AS peak_from_s,
           extract(epoch FROM t.peak_to)::bigint AS peak_to_s
    FROM (
        SELECT DISTINCT ON (k.uc_id, d.day) k.uc_id, d.day, i.meter_id
        FROM unnest($2::text::bigint[]) AS k (uc_id)
        CROSS JOIN unnest($1::text::date[]) AS d (day)
        JOIN point p ON p.uc_id = k.uc_id
        JOIN installation i ON i.point_id = p.id AND i.role = 'main'
            AND i.valid && tstzrange(market_day_start(d.day), market_day_start(d.day + 1))
        ORDER BY k.uc_id, d.day, lower(i.valid) DESC
    ) m
    CROSS JOIN LATERAL (
        SELECT (values -> 'peak_starts' ->> 0)::time AS peak_from,
               (values -> 'off_peak_starts' ->> 0)::time AS peak_to
        FROM meter_parameters
        WHERE meter_id = m.meter_id AND command IN (32, 33, 34, 81) AND at < market_day_start(m.day + 1)
          AND values -> 'peak_starts' ->> 0 IS NOT NULL AND values -> 'off_peak_starts' ->> 0 IS NOT NULL
        ORDER BY at DESC LIMIT 1
    ) t
"""


class FactReader:
    """Reads through one Arrow connection; use `open_reader`. `interval_s`, `zone`: of the market."""

    def __init__(self, connection: Any, interval_s: int, zone: str) -> None:
        self._connection = connection
        self._interval_s = interval_s
        self._zone = zone

    def uc_ids(self, shard: int, shards: int) -> list[int]:
        """All UCs of a shard, in order."""
        return self._read(_UCS, shards, shard)["uc_id"].to_list()

    def facts(self, uc_ids: list[int], days: list[date], shape_days: Collection[date] | None = None) -> Facts:
        """What is known of these UCs on these days, as people decided.

        `registry` names the UC-days to be derived.

        Args:
            shape_days: earlier days that rules compare these with; None: no rule will judge them.
        """
        known = self._known(uc_ids, days, shape_days)
        return with_decisions(known, in_force(self._connection, uc_ids, days))

    def _known(self, uc_ids: list[int], days: list[date], shape_days: Collection[date] | None) -> Facts:
        ucs, dates, first, last = array_literal(uc_ids), _dates(days), min(days), max(days)
        registered = snapshot(self._connection, first, last, uc_ids=uc_ids)
        readings = self._read(_READINGS, dates, first, last, ucs).sort("meter_id", "channel", "day")
        conflicts = self._read(_CONFLICTS, dates, ucs).with_columns(kind=pl.lit(DUPLICATE_CONFLICT))
        moved = self._read(_CLOCK_FLAGS, dates, ucs).with_columns(kind=pl.lit(CLOCK_TOUCHED))
        incidents = _in_market_slots(pl.concat([conflicts, moved]), readings, self._interval_s)
        uc_days = _expected(registered, readings, days)
        with_gaps = _not_whole(uc_ids, registered.installations, readings, days)
        return Facts(
            registry=uc_days.select(list(REGISTRY_SCHEMA)),
            readings=readings,
            installations=registered.installations,
            losses=registered.losses,
            outages=self._read(_OUTAGES, first, last, ucs).cast(OUTAGE_SCHEMA),  # type: ignore[arg-type]  # polars names a narrower mapping
            incidents=incidents.cast(INCIDENT_SCHEMA),  # type: ignore[arg-type]  # as above
            strategies=uc_days.filter(pl.col("strategy").is_not_null()).select(*_KEY, "strategy"),
            approvals=self._read(_APPROVALS, dates, ucs),
            collection_causes=self._read(_CAUSES, dates, array_literal(with_gaps)),
            recovery_sessions=self._recoveries(readings),
            rules=RuleFacts()
            if shape_days is None
            else read_rule_facts(
                self._connection,
                uc_ids,
                days,
                registered.uc_days,
                readings,
                with_gaps,
                shape_days,
                self._zone,
                self._interval_s,
            ),
        )

    def history(self, needs: pl.DataFrame) -> pl.DataFrame:
        """Layer 3, latest version, of the UC-days in `needs` (`uc_id, needed_day`)."""
        wanted = needs.select("uc_id", pl.col("needed_day").alias("day")).unique()
        days = wanted["day"].unique().sort().to_list()
        ucs = array_literal(wanted["uc_id"].unique().sort())
        return self._series(_EARLIER, _dates(days), days[0], days[-1], ucs).join(
            wanted, on=_KEY, how="semi", maintain_order="left"
        )

    def prior(self, uc_ids: list[int]) -> pl.DataFrame:
        """Layer 3 of the days before these UCs became active."""
        return self._series(_BEFORE_MIGRATION, PRIOR.days, array_literal(uc_ids))

    def cycles(self, wanted: pl.DataFrame) -> Cycles:
        """Layer 3 of the cycles before, and tariff posts as the main meters said last, of `uc_id, day`."""
        spans = [cycles_of(day) for day in wanted["day"].unique().to_list()]
        ucs = array_literal(wanted["uc_id"].unique().sort())
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        told = self._read(_POSTS, _dates(wanted["day"].unique().sort().to_list()), ucs)
        return Cycles(
            self._series(_CYCLES, first, last, ucs),
            told.filter(pl.col("peak_from_s") < pl.col("peak_to_s")).select(
                pl.col(name).cast(kind) for name, kind in POST_SCHEMA.items()
            ),
        )

    def _series(self, query: str, *parameters: Any) -> pl.DataFrame:
        found = self._read(query, int(Layer.ESTIMATED), *parameters)
        if found.is_empty():
            return empty_series()
        return found.select(pl.col(name).cast(kind) for name, kind in SERIES_SCHEMA.items())

    def _recoveries(self, readings: pl.DataFrame) -> list[int]:
        sources = readings["source_sessions"].explode(empty_as_null=False).unique()
        if sources.is_empty():
            return []
        return self._read(_RECOVERIES, RECOVERY, array_literal(sources))["id"].to_list()

    def _read(self, query: str, *parameters: Any) -> pl.DataFrame:
        return read_frame(self._connection, query, parameters)


@contextmanager
def open_reader(db: Database, interval_s: int, zone: str) -> Iterator[FactReader]:
    with db.connect_arrow() as connection:
        yield FactReader(connection, interval_s, zone)


def _in_market_slots(found: pl.DataFrame, readings: pl.DataFrame, interval_s: int) -> pl.DataFrame:
    """Incidents by market interval, of those that meters keep by their own: a meter's may be longer.

    Args:
        found: `uc_id, meter_id, day, first_slot, last_slot, kind, quarantine_id`, slots of the memory as read
            that day; on a day without readings there is no value to tell about.
    """
    lengths = readings.group_by("meter_id", "day").agg(pl.col("interval_s").first().cast(pl.Int64))
    begins = pl.col("first_slot") * pl.col("interval_s") // interval_s
    ends = ((pl.col("last_slot") + 1) * pl.col("interval_s") - 1) // interval_s
    return (
        found.join(lengths, on=["meter_id", "day"])
        .select("uc_id", "day", pl.int_ranges(begins, ends + 1).alias("slot"), "kind", "quarantine_id")
        .explode("slot", empty_as_null=False)
        .select(*INCIDENT_SCHEMA, "quarantine_id")
        .unique()
        .sort("uc_id", "day", "kind", "slot")
    )


def _expected(registered: RegistrySnapshot, readings: pl.DataFrame, days: list[date]) -> pl.DataFrame:
    """The UC-days to be derived: by status, and those for which readings came all the same."""
    of_days = registered.uc_days.filter(pl.col("day").is_in(days))
    came = readings.select("meter_id", "day").unique()
    # One that ended before is there for the gap behind it alone.
    is_there = pl.col("gap_until").is_null() | (pl.col("valid_to").dt.date() >= min(days))
    installed = registered.installations.filter(is_there)
    with_readings = came.join(installed.select("uc_id", "meter_id"), on="meter_id")
    is_expected = pl.col("status").is_in(_EXPECTED).fill_null(False)
    unexpected = of_days.filter(~is_expected).join(with_readings, on=_KEY, how="semi")
    return pl.concat([of_days.filter(is_expected), unexpected]).sort("day", "uc_id")


def _not_whole(
    uc_ids: list[int], installations: pl.DataFrame, readings: pl.DataFrame, days: list[date]
) -> list[int]:
    """UCs of which something may be missing: all but those whose only meter was read whole on each day.

    Nearly all are whole, and asking the last session of each would cost more than reading their values.
    """
    pulses = pl.col("pulses")
    whole = readings.filter(pulses.list.drop_nulls().list.len() == pulses.list.len())
    per_meter = whole.group_by("meter_id").agg(pl.col("day").n_unique().alias("whole_days"))
    known = (
        installations.join(per_meter, on="meter_id", how="left")
        .group_by("uc_id")
        .agg(pl.len().alias("meters"), pl.col("whole_days").min())
        .filter((pl.col("meters") == 1) & (pl.col("whole_days") == len(days)))
    )
    is_whole = set(known["uc_id"].to_list())
    return [uc_id for uc_id in uc_ids if uc_id not in is_whole]


def _dates(days: list[date]) -> str:
    return "{" + ",".join(day.isoformat() for day in days) + "}"
