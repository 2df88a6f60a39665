"""From stored readings to the five stored layers, some UCs at a time; it does not know Dagster.

What belongs here: reading what `layers.compute` needs, in chunks, writing what it made in one transaction a
chunk, and what to do when a UC cannot be computed. What does not: the rules (`vee`), their order (`layers`),
SQL of the layers (`storage.series`).

Memory grows with the chunk, not with the fleet. While two chunks are being written, the next one is computed
and the facts of the one after it are read.
Nothing is written where nothing changed, so a run that was killed is simply run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import groupby, zip_longest
from typing import Any

import orjson
import polars as pl
import psycopg

from derivation.known.facts import FactReader, open_reader
from derivation.layers import DerivationParameters, DerivationSettings, Facts, Layers, compute
from faults import DeveloperFault, Fault, RetryFault
from faults.market_time import parse_zone
from storage import series
from storage.database import Database
from storage.locks import lock_ucs
from storage.review import quarantine
from storage.review.suspects import write_suspects
from storage.review.verdict_periods import update_periods
from storage.scores import note_replaced
from storage.series import Layer, Prepared, UcDays, write_uc_days
from vee import calendars
from vee.periods import join_periods
from vee.quality import Cause
from vee.scores.replaced import differences, is_now_measured
from vee.strategies.shapes import compared_days

# Raised by hand when a change of rules changes what is made; part of what each row refers to.
CODE_VERSION = "vee-3"
# UC-days of a chunk: five layers of them in memory are about 50 MB.
CHUNK_UCS = 3000
# Chunks being stored at once.
WRITERS = 2
# UCs of a chunk (or a tenth of it) that may fail before the fault is taken to be ours.
MOST_FAILED = 20

Progress = Callable[[int, int], None]


@dataclass
class LayerSummary:
    """One layer of a run. Energy exact, kWh; `written` counts UC-days with a new or changed row."""

    uc_days: int = 0
    written: int = 0
    intervals: int = 0
    missing: int = 0
    energy_kwh: Fraction = Fraction(0)


@dataclass
class DeriveSummary:
    """What a run came to. Counts are of UC-days unless they say otherwise.

    Args:
        layers: in order, primary to CCEE.
        outcomes, causes: by state, and by cause where not ready. not_ready: the
            first of those: id of the UC, day, cause.
        verdicts: by rule. suspects: those that wait, by rule. skipped: by rule and reason.
        methods: estimated runs of slots by method. estimated: intervals.
        musd_hours: hours that CCEE will count as zero.
        quarantined: UC-days set aside.
    """

    layers: list[LayerSummary] = field(default_factory=lambda: [LayerSummary() for _ in Layer])
    outcomes: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    not_ready: list[tuple[int, date, str]] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    suspects: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    methods: dict[str, int] = field(default_factory=dict)
    estimated: int = 0
    musd_hours: int = 0
    quarantined: int = 0

    @property
    def written(self) -> int:
        return self.layers[-1].written

    @classmethod
    def total(cls, parts: Iterable[DeriveSummary]) -> DeriveSummary:
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def add(self, other: DeriveSummary) -> None:
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.uc_days += theirs.uc_days
            mine.written += theirs.written
            mine.intervals += theirs.intervals
            mine.missing += theirs.missing
            mine.energy_kwh += theirs.energy_kwh
        for mine_counts, their_counts in (
            (self.outcomes, other.outcomes),
            (self.causes, other.causes),
            (self.verdicts, other.verdicts),
            (self.suspects, other.suspects),
            (self.skipped, other.skipped),
            (self.methods, other.methods),
        ):
            for key, count in their_counts.items():
                mine_counts[key] = mine_counts.get(key, 0) + count
        # Enough to begin looking; the table of outcomes has all.
        self.not_ready = (self.not_ready + other.not_ready)[:100]
        self.estimated += other.estimated
        self.musd_hours += other.musd_hours
        self.quarantined += other.quarantined


def history_as_of(day: date, now: date, known: calendars.Calendars) -> date:
    """The date that decides which months are closed history for a day.

    The day after it while its month runs, and the first day of the closing (MS+1du) from then on: so a day
    derived twice has the same history, and all gaps of a closed month use one window (vee_rules.md 4.6 [C]).
    """
    closing = known.date_of(calendars.GAPS_KNOWN, calendars.Period.month(day))
    return closing if now >= closing else day + timedelta(days=1)


def derive(
    db: Database,
    first_day: date,
    last_day: date,
    shard: int = 0,
    shards: int = 1,
    *,
    as_of: datetime,
    run_id: str,
    parameters: DerivationParameters | None = None,
    chunk_ucs: int = CHUNK_UCS,
    progress: Progress | None = None,
) -> DeriveSummary:
    """Derive and store all layers of the UC-days of a window.

    Args:
        first_day, last_day: both included, market days.
        shard, shards: UCs with `uc_id % shards == shard`.
        as_of: now, aware: later intervals are future, and it decides which months are closed history.
        run_id: kept with each row that is written.
        chunk_ucs: UC-days at once; fewer UCs are taken where the window has more days.
        progress: called with UCs done and UCs in all.
    """
    work = _Derivation(db, as_of, run_id, parameters or DerivationParameters())
    return work.run(first_day, last_day, shard, shards, chunk_ucs, progress)


def derive_ucs(
    db: Database,
    uc_ids: Sequence[int],
    days: tuple[date, date],
    *,
    as_of: datetime,
    run_id: str,
    parameters: DerivationParameters | None = None,
) -> DeriveSummary:
    """Derive and store days of these UCs only, first to last. Other arguments as of `derive`."""
    work = _Derivation(db, as_of, run_id, parameters or DerivationParameters())
    return work.run(*days, 0, 1, CHUNK_UCS, None, uc_ids)


def recompute(
    db: Database,
    uc_id: int,
    day: date,
    *,
    as_of: datetime,
    parameters: DerivationParameters | None = None,
    amend: Callable[[Facts], Facts] = lambda facts: facts,
) -> Layers:
    """The layers of one UC-day made anew from what is stored now; nothing is written.

    Args:
        amend: changes the facts first: what would be, were they otherwise.
        as_of: when the rows to compare with were made: later intervals were future then, and it decides
            which months were closed history.
    """
    work = _Derivation(db, as_of, "", parameters or DerivationParameters())
    chunk = _Chunk([uc_id], [day], history_as_of(day, work.today, work.calendars))
    with work.reader() as reader:
        return work._compute(reader, amend(work._facts(reader, chunk.uc_ids, chunk.days)), chunk)


@dataclass(frozen=True)
class _Chunk:
    """Some UCs, and days that share one date of closed history."""

    uc_ids: list[int]
    days: list[date]
    history_as_of: date


@dataclass
class _Made:
    """What a chunk came to: parts ready to be written; UCs that could not be computed, and why."""

    chunk: _Chunk
    parts: list[tuple[Layers, Prepared]] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


class _Derivation:
    """One call of `derive`."""

    def __init__(self, db: Database, as_of: datetime, run_id: str, parameters: DerivationParameters) -> None:
        self.db, self.as_of, self.run_id, self.parameters = db, as_of, run_id, parameters
        self.calendars = calendars.market_calendars(db.settings.market)
        self.today = as_of.astimezone(parse_zone(parameters.primary.zone)).date()
        self.derivations: dict[Layer, int] = {}

    def run(
        self,
        first_day: date,
        last_day: date,
        shard: int,
        shards: int,
        size: int,
        progress: Progress | None,
        only: Sequence[int] | None = None,
    ) -> DeriveSummary:
        summary = DeriveSummary()
        groups = self._day_groups(first_day, last_day)
        with (
            self.reader() as reader,
            # Read one chunk ahead, on a connection of its own.
            self.reader() as ahead,
            self.db.connect(autocommit=True) as conn,
            self.db.connect(autocommit=True) as other,
            ThreadPoolExecutor(1, "derive-read") as early,
            ThreadPoolExecutor(WRITERS, "derive-write") as writers,
        ):
            self.derivations = _register(conn, self.parameters)
            ucs = reader.uc_ids(shard, shards) if only is None else sorted(only)
            for number, (known_as_of, days) in enumerate(groups):
                chunks = [
                    _Chunk(part, days, known_as_of) for part in _parts(ucs, shards, max(1, size // len(days)))
                ]
                pending: deque[Future[DeriveSummary]] = deque()
                done = number * len(ucs)
                facts = [early.submit(self._facts, ahead, chunk.uc_ids, days) for chunk in chunks[:1]]
                for at, chunk in enumerate(chunks):
                    facts += [
                        early.submit(self._facts, ahead, later.uc_ids, days)
                        for later in chunks[at + 1 : at + 2]
                    ]
                    made = self._compute_or_split(reader, chunk, facts.pop(0))
                    if len(pending) == WRITERS:
                        # The oldest one used the connection that comes next.
                        summary.add(pending.popleft().result())
                    pending.append(writers.submit(self._write, (conn, other)[at % WRITERS], made))
                    done += len(chunk.uc_ids)
                    if progress is not None:
                        progress(done, len(groups) * len(ucs))
                # Its days may be history of the next group: they must be stored first.
                for written in pending:
                    summary.add(written.result())
        return summary

    def reader(self) -> AbstractContextManager[FactReader]:
        """A reader of facts on a connection of its own."""
        market = self.parameters.primary
        return open_reader(self.db, market.interval_s, market.zone)

    def _facts(self, reader: FactReader, uc_ids: list[int], days: list[date]) -> Facts:
        """Facts of a chunk, with the shapes of the days before that its days are compared with."""
        earlier = compared_days(days, self.calendars, self.parameters.similar_days)
        return reader.facts(uc_ids, days, earlier)

    def _day_groups(self, first_day: date, last_day: date) -> list[tuple[date, list[date]]]:
        """Days in order, together where they share one date of closed history: the days of a closed month."""
        days = [first_day + timedelta(n) for n in range((last_day - first_day).days + 1)]
        grouped = groupby(days, key=lambda day: history_as_of(day, self.today, self.calendars))
        return [(known_as_of, list(group)) for known_as_of, group in grouped]

    def _compute_or_split(self, reader: FactReader, chunk: _Chunk, known: Future[Facts]) -> _Made:
        """Compute a chunk; where it fails, its halves, down to the UC that cannot be computed.

        Args:
            known: the facts of the whole chunk, read ahead.
        """
        made = _Made(chunk)
        waiting = [chunk.uc_ids]
        while waiting:
            uc_ids = waiting.pop()
            try:
                is_whole = uc_ids == chunk.uc_ids
                facts = known.result() if is_whole else self._facts(reader, uc_ids, chunk.days)
                part = self._compute(reader, facts, chunk)
                made.parts.append((part, series.prepare(self._rows(part))))
            except (Fault, ArithmeticError, ValueError, pl.exceptions.PolarsError) as error:
                if isinstance(error, RetryFault):
                    raise
                if len(uc_ids) > 1:
                    half = len(uc_ids) // 2
                    waiting += [uc_ids[half:], uc_ids[:half]]
                    continue
                made.failed[uc_ids[0]] = f"{type(error).__name__}: {error}"
                if len(made.failed) > max(MOST_FAILED, len(chunk.uc_ids) // 10):
                    raise DeveloperFault(
                        f"{len(made.failed)} UCs could not be computed, the last for: {error}",
                        where=f"{chunk.days[0]} to {chunk.days[-1]}",
                        remedy="so many at once are a fault of the rules or the registry, not of a UC",
                    ) from error
        return made

    def _compute(self, reader: FactReader, facts: Facts, chunk: _Chunk) -> Layers:
        settings = DerivationSettings(self.calendars, self.as_of, chunk.history_as_of, self.parameters)
        return compute(facts, chunk.days, settings, reader)

    def _write(self, conn: psycopg.Connection[Any], made: _Made) -> DeriveSummary:
        """Store a chunk in one transaction."""
        summary = DeriveSummary()
        with conn.transaction():
            # All at once and before anything else, so that two writers never wait for each other.
            lock_ucs(conn, made.chunk.uc_ids)
            for part, rows in made.parts:
                note_replaced(
                    conn,
                    part.estimated,
                    is_now_measured,
                    differences,
                    run_id=self.run_id,
                    at=self.as_of,
                )
                result = write_uc_days(conn, rows, run_id=self.run_id, at=self.as_of)
                _quarantine(conn, part.quarantined, self.as_of)
                write_suspects(
                    conn,
                    part.outcomes.select("uc_id", "day"),
                    part.suspects,
                    run_id=self.run_id,
                    at=self.as_of,
                )
                update_periods(
                    conn,
                    part.outcomes.select("uc_id", "day"),
                    part.verdicts,
                    join_periods,
                    at=self.as_of,
                )
                summary.add(summarise(part, result.written))
            if made.failed:
                self._set_aside(conn, made, summary)
        return summary

    def _rows(self, part: Layers) -> UcDays:
        frames = {}
        for layer, frame in zip(Layer, part.in_order, strict=True):
            frames[layer] = frame.with_columns(
                interval_s=pl.lit(self.parameters.primary.interval_s, pl.Int32),
                derivation_id=pl.lit(self.derivations[layer], pl.Int64),
            )
        frames[Layer.PRIMARY] = frames[Layer.PRIMARY].with_columns(input_version=part.input_version)
        return UcDays(frames, part.outcomes, part.estimates, part.verdicts, part.musd_hours, part.shapes)

    def _set_aside(self, conn: psycopg.Connection[Any], made: _Made, summary: DeriveSummary) -> None:
        """UCs that could not be computed: held, with the reason in quarantine; no series of theirs stays."""
        rows = [(uc_id, day, reason) for uc_id, reason in made.failed.items() for day in made.chunk.days]
        frame = pl.DataFrame(
            rows, schema={"uc_id": pl.Int64, "day": pl.Date, "reason": pl.String}, orient="row"
        )
        _quarantine(conn, frame.with_columns(stage=pl.lit("arithmetic"), detail=pl.lit("{}")), self.as_of)
        outcomes = frame.select(
            "uc_id",
            "day",
            pl.lit("held").alias("state"),
            pl.lit(Cause.ARITHMETIC.value).alias("cause"),
            *(pl.lit(0, pl.Int16).alias(name) for name in ("measured", "backup", "estimated", "edited")),
            pl.Series("missing", [self._slots(day) for day in frame["day"]], pl.Int16),
            pl.lit(0, pl.Decimal(38, 3)).alias("energy_kwh"),
            pl.Series(
                "detail",
                [orjson.dumps({"error": reason}).decode() for reason in frame["reason"]],
                pl.String,
            ),
        )
        write_uc_days(conn, UcDays({}, outcomes), run_id=self.run_id, at=self.as_of)
        count_outcomes(outcomes, summary)
        summary.quarantined += frame.height

    def _slots(self, day: date) -> int:
        chosen = self.parameters.primary
        return calendars.slots_per_day(day, chosen.zone, chosen.interval_s)


def _parts(uc_ids: list[int], shards: int, size: int) -> list[list[int]]:
    """UCs in chunks of at most `size`; chunks that are stored side by side share no lock (`storage.locks`).

    Locks go by the UC's number modulo a power of two, and a shard's numbers are `shards` apart.
    """
    if len(uc_ids) <= size:
        return [uc_ids] if uc_ids else []
    lanes = [[uc_id for uc_id in uc_ids if uc_id // shards % WRITERS == lane] for lane in range(WRITERS)]
    cut = [[lane[n : n + size] for n in range(0, len(lane), size)] for lane in lanes]
    return [part for together in zip_longest(*cut) for part in together if part]


def _register(conn: psycopg.Connection[Any], parameters: DerivationParameters) -> dict[Layer, int]:
    """Ids under which this code and these settings are kept, by layer."""
    settings: dict[Layer, dict[str, Any]] = {
        Layer.PRIMARY: asdict(parameters.primary),
        Layer.VALIDATED: {
            **asdict(parameters.validation),
            "rules": {rule: asdict(params) for rule, params in parameters.rules.items()},
            "similar_days": asdict(parameters.similar_days),
        },
        Layer.ESTIMATED: asdict(parameters.estimation),
        Layer.ADJUSTED: {"mode": parameters.loss_mode},
        Layer.CCEE: asdict(parameters.musd),
    }
    with conn.transaction():
        return {
            layer: series.derivation(conn, layer.name.lower(), CODE_VERSION, settings[layer])
            for layer in Layer
        }


def _quarantine(conn: psycopg.Connection[Any], frame: pl.DataFrame, at: datetime) -> None:
    rows = [
        quarantine.Quarantined(
            stage=stage,
            reason=reason,
            uc_id=uc_id,
            day=day,
            detail=orjson.loads(detail),
            dedup_key=f"{stage}:uc:{uc_id}:{day}:{reason}",
        )
        for uc_id, day, stage, reason, detail in frame.select(
            "uc_id", "day", "stage", "reason", "detail"
        ).iter_rows()
    ]
    quarantine.put(conn, rows, at)


def summarise(part: Layers, written: int) -> DeriveSummary:
    """Count what a chunk holds."""
    summary = DeriveSummary()
    for layer, frame in zip(summary.layers, part.in_order, strict=True):
        values = frame["numerators"].explode(empty_as_null=False)
        layer.uc_days, layer.written = frame.height, written
        layer.intervals, layer.missing = len(values), values.null_count()
        layer.energy_kwh = energy_kwh(frame)
    count_outcomes(part.outcomes, summary)
    summary.verdicts = dict(part.verdicts["rule"].value_counts().iter_rows())
    summary.suspects = dict(part.suspects["rule"].value_counts().iter_rows())
    for rule, reason, uc_days in part.skipped.iter_rows():
        key = f"{rule} {reason}"
        summary.skipped[key] = summary.skipped.get(key, 0) + uc_days
    summary.methods = dict(part.estimates["method"].value_counts().iter_rows())
    summary.estimated = int((part.estimates["last_slot"] - part.estimates["first_slot"] + 1).sum())
    summary.musd_hours = int(part.musd_hours["is_rejected"].sum())
    summary.quarantined = part.quarantined.select("uc_id", "day").n_unique()
    return summary


def count_outcomes(outcomes: pl.DataFrame, summary: DeriveSummary) -> None:
    for state, count in outcomes["state"].value_counts().iter_rows():
        summary.outcomes[state] = summary.outcomes.get(state, 0) + count
    unready = outcomes.filter(pl.col("state").is_in(["incomplete", "held"]))
    for cause, count in unready["cause"].value_counts().iter_rows():
        summary.causes[cause] = summary.causes.get(cause, 0) + count
    summary.not_ready += unready.head(100).select("uc_id", "day", "cause").rows()


def energy_kwh(frame: pl.DataFrame) -> Fraction:
    """Exact sum of a series frame."""
    sums = frame.select(
        "denominator", total=pl.col("numerators").list.sum(), largest=pl.col("numerators").list.max()
    )
    whole = Fraction(0)
    totals: dict[int, int] = {}
    for row, (denominator, total, largest) in enumerate(sums.iter_rows()):
        # A row's sum in 64 bits is exact while its largest value leaves room for all its slots.
        if largest is not None and largest >= 2**63 // 2**9:
            total = sum(value for value in frame["numerators"][row] if value is not None)
        totals[denominator] = totals.get(denominator, 0) + total
    for denominator, total in totals.items():
        whole += Fraction(total, denominator)
    return whole
