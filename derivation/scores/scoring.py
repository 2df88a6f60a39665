"""The score of estimates: good days get gaps, are estimated as ever, and are compared with what was measured.

What belongs here: reading days and shapes, hiding readings, calling the production path (`layers.collected`,
`layers.fill_gaps`) once for each strategy, keeping what it came to. What does not: draw and arithmetic
(`vee.scores`), SQL (`storage.scores`), showing (`expected_errors`).

A gap hides the main meter's pulses, and the register periods around them say as much as they would have then.
Every strategy is scored on every gap, whichever the UC has; what none would fill without a person's word is
estimated again as if somebody had given it, so that whoever is asked for it sees the expected error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from derivation.known.facts import FactReader, open_reader
from derivation.layers import (
    Collected,
    DerivationParameters,
    DerivationSettings,
    Facts,
    SeriesReader,
    collected,
    fill_gaps,
)
from derivation.run import CODE_VERSION, history_as_of
from faults import OperatorFault
from faults.market_time import parse_zone
from storage import scores as store
from storage.database import Database
from storage.settings import ScoreSettings
from vee import calendars
from vee.calendars import Calendars
from vee.layers.estimation import STRATEGIES, EstimationResult
from vee.quality import Cause
from vee.scores.classes import uc_classes
from vee.scores.errors import ERROR_SCHEMA, gap_errors, scores_of
from vee.scores.gaps import Draw, draw_gaps, gap_shapes, shapes_of_words
from vee.scores.replaced import errors_of_replaced
from vee.strategies.ccee import METHOD_MUSD, METHOD_PRIOR_MONTHS
from vee.strategies.chain_e import METHOD_CYCLE_MEAN, Cycles

# Raised by hand when a change of the score changes what it finds.
SCORE_VERSION = "score-1"
MASKED, REPLACED = "masked", "replaced"
# In place of the person whose word these methods need.
NEED_APPROVAL = (METHOD_PRIOR_MONTHS, METHOD_MUSD, METHOD_CYCLE_MEAN)
_APPROVED_BY = "score"
# UCs looked at for each UC-day that is wanted: enough that most have good days on the days drawn.
_UCS_PER_UC_DAY = 4
_KEY = ["uc_id", "day"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScoreSummary:
    """What a run came to.

    Attributes:
        scores: `source` and the columns of `vee.scores.SCORE_SCHEMA`.
        errors: `vee.scores.ERROR_SCHEMA` of the masked gaps.
    """

    run: store.ScoreRun
    scores: pl.DataFrame
    errors: pl.DataFrame


def score_estimates(
    db: Database,
    *,
    as_of: datetime,
    run_id: str,
    chosen: ScoreSettings,
    parameters: DerivationParameters | None = None,
    progress: Progress = lambda done, total: None,
) -> ScoreSummary:
    """Score all methods on the good days of the window before today, and keep it as a new run.

    Args:
        as_of: now, aware: the window ends the day before.
        run_id: kept with the run.
        parameters: of the derivation; what is estimated with.
        progress: called with days done and days in all.

    Raises:
        OperatorFault: no good day in the window.
    """
    params = parameters or DerivationParameters()
    work = _Scoring(db, as_of, chosen, params)
    with open_reader(db, params.primary.interval_s, params.primary.zone) as reader:
        pieces = work.draw()
        found, not_filled = work.errors(reader, pieces, progress)
    gave_way = work.replaced()
    tables = {
        MASKED: scores_of(found),
        REPLACED: scores_of(gave_way),
    }
    with db.connect() as conn:
        number = store.write_run(
            conn,
            store.NewScoreRun(
                made_at=as_of,
                first_day=work.first,
                last_day=work.last,
                code_version=f"{SCORE_VERSION} {CODE_VERSION}",
                parameters={"draw": work.drawn, "estimation": asdict(params.estimation)},
                shapes_from=work.shapes_from,
                shapes=work.shapes.height,
                uc_days=pieces.select(_KEY).n_unique(),
                gaps=pieces["gap"].n_unique(),
                not_filled=not_filled,
                replaced=gave_way.height,
                run_id=run_id,
            ),
            tables,
        )
        run = store.latest_run(conn, number)
        assert run is not None
        return ScoreSummary(run, store.scores_of(conn, number), found)


class _OneReading:
    """Reads facts once for all strategies, which ask for the same neighbours one after the other."""

    def __init__(self, reader: FactReader) -> None:
        self._reader = reader
        self._known: dict[tuple[tuple[int, ...], tuple[date, ...]], Facts] = {}

    def facts(self, uc_ids: list[int], days: list[date]) -> Facts:
        key = tuple(uc_ids), tuple(days)
        if key not in self._known:
            self._known[key] = self._reader.facts(uc_ids, days)
        return self._known[key]

    def history(self, needs: pl.DataFrame) -> pl.DataFrame:
        return self._reader.history(needs)

    def prior(self, uc_ids: list[int]) -> pl.DataFrame:
        return self._reader.prior(uc_ids)

    def cycles(self, wanted: pl.DataFrame) -> Cycles:
        return self._reader.cycles(wanted)


class _Scoring:
    """One call of `score_estimates`."""

    def __init__(
        self, db: Database, as_of: datetime, chosen: ScoreSettings, parameters: DerivationParameters
    ) -> None:
        self.db, self.as_of, self.chosen, self.parameters = db, as_of, chosen, parameters
        self.calendars: Calendars = calendars.market_calendars(db.settings.market)
        self.today = as_of.astimezone(parse_zone(parameters.primary.zone)).date()
        self.last = self.today - timedelta(days=1)
        self.first = self.today - timedelta(days=chosen.window_days)
        self.interval_s = parameters.primary.interval_s
        self.slots_per_day = calendars.slots_per_day(self.last, parameters.primary.zone, self.interval_s)
        self.shapes, self.shapes_from = self._shapes()

    @property
    def drawn(self) -> dict[str, Any]:
        """Settings that decide what is found; the others decide what is shown of it."""
        named = ("window_days", "uc_days", "days", "seed", "default_gaps")
        return {name: getattr(self.chosen, name) for name in named}

    def _shapes(self) -> tuple[pl.DataFrame, str]:
        """Shapes of the window's own gaps; where it had none, those of the setting."""
        missing = store.stored_gaps(self.db, self.first, self.last)
        if missing.height:
            return gap_shapes(missing, self.slots_per_day), "stored"
        try:
            return shapes_of_words(self.chosen.default_gaps, self.interval_s), "setting"
        except ValueError as error:
            raise OperatorFault(
                str(error), where="[scores] default_gaps", remedy="write gaps such as 10:00+240 23:00+120"
            ) from error

    def draw(self) -> pl.DataFrame:
        """Gaps over good days, `vee.scores.PIECE_SCHEMA`."""
        rng = np.random.default_rng(self.chosen.seed)
        ucs = rng.permutation(store.uc_ids(self.db))[: _UCS_PER_UC_DAY * self.chosen.uc_days]
        good = store.good_days(self.db, sorted(ucs.tolist()), self.first, self.last)
        if good.is_empty():
            raise OperatorFault(
                f"no day from {self.first} to {self.last} was measured whole without a doubt",
                where="smf scores run",
                remedy="derive some days first (smf run daily), or widen [scores] window_days",
            )
        candidates = good.join(uc_classes(good), on="uc_id").select(*_KEY, "uc_class")
        chosen = Draw(self.chosen.uc_days, self.chosen.days, self.chosen.seed)
        return draw_gaps(candidates, self.shapes, chosen, self.slots_per_day)

    def errors(
        self, reader: FactReader, pieces: pl.DataFrame, progress: Progress
    ) -> tuple[pl.DataFrame, int]:
        """ERROR_SCHEMA of the gaps, and how many days' gaps some strategy did not fill."""
        found, not_filled = [pl.DataFrame(schema=ERROR_SCHEMA)], 0
        begun = pieces.with_columns(begin=pl.col("day").min().over("gap"))
        groups = begun.partition_by("begin", maintain_order=True, include_key=False)
        for done, group in enumerate(sorted(groups, key=_first_day), start=1):
            errors, missed = self._group(reader, group)
            found.append(errors)
            not_filled += missed
            progress(done, len(groups))
        return pl.concat(found), not_filled

    def _group(self, reader: FactReader, pieces: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """Gaps that begin on one day."""
        first, last = _first_day(pieces), _last_day(pieces)
        days = [first + timedelta(n) for n in range((last - first).days + 1)]
        settings = DerivationSettings(
            self.calendars, self.as_of, history_as_of(first, self.today, self.calendars), self.parameters
        )
        ucs = pieces["uc_id"].unique().sort().to_list()
        facts = reader.facts(ucs, days, ())
        once = _OneReading(reader)
        truth = collected(facts, days, settings, once).valid.validated
        hidden = _hidden(facts, pieces, self.interval_s)
        known = collected(hidden, days, settings, once)
        uc_days = pieces.select(_KEY)
        truth = truth.join(uc_days, on=_KEY, how="semi")
        errors, not_filled = [], 0
        per_hour = self.parameters.estimation.slots_per_hour
        for name in STRATEGIES:
            for made in _estimated(known, hidden, ucs, name, days, settings, once):
                estimated = made.estimated.join(uc_days, on=_KEY, how="semi")
                errors.append(gap_errors(pieces, truth, estimated, made.estimates, per_hour))
            not_filled += made.unresolved.join(uc_days, on=_KEY, how="semi").select(_KEY).n_unique()
        return pl.concat(errors), not_filled

    def replaced(self) -> pl.DataFrame:
        """ERROR_SCHEMA of the estimates that gave way in the window."""
        since = self.as_of - timedelta(days=self.chosen.window_days)
        rows = store.replaced_since(self.db, since, self.as_of)
        if rows.is_empty():
            return pl.DataFrame(schema=ERROR_SCHEMA)
        ucs = rows["uc_id"].unique().sort().to_list()
        classes = uc_classes(store.good_days(self.db, ucs, self.first, self.last))
        return errors_of_replaced(rows, classes, self.parameters.estimation.slots_per_hour)


def _estimated(
    known: Collected,
    facts: Facts,
    ucs: list[int],
    strategy: str,
    days: list[date],
    settings: DerivationSettings,
    reader: SeriesReader,
) -> Iterable[EstimationResult]:
    """Layer 3 by a strategy; and once more, as if approved, of the UCs that would need a person's word."""
    uc_days = facts.registry.select(_KEY)
    named = replace(
        facts,
        strategies=uc_days.with_columns(strategy=pl.lit(strategy)),
        approvals=facts.approvals.clear(),
    )
    made = fill_gaps(known, known.valid.validated, ucs, named, days, settings, reader)
    asking = made.unresolved.filter(cause=Cause.NO_HISTORY_NEEDS_APPROVAL.value)["uc_id"].unique()
    yield made
    if asking.is_empty():
        return
    methods = pl.DataFrame({"method": NEED_APPROVAL})
    given = uc_days.filter(pl.col("uc_id").is_in(asking.to_list())).join(methods, how="cross")
    approved = replace(named, approvals=given.with_columns(approved_by=pl.lit(_APPROVED_BY)))
    again = fill_gaps(
        known, known.valid.validated, sorted(asking.to_list()), approved, days, settings, reader
    )
    # What needed nobody's word was scored already.
    needed = again.estimates.filter(pl.col("approved_by") == _APPROVED_BY)
    yield replace(again, estimates=needed)


def _hidden(facts: Facts, pieces: pl.DataFrame, interval_s: int) -> Facts:
    """The facts without what the main meters measured in the gaps; registers say what they would then."""
    mains = facts.installations.filter(role="main").select("uc_id", "meter_id", "active_channel").unique()
    gaps = (
        pieces.join(mains, on="uc_id")
        .select(
            "uc_id", "meter_id", pl.col("active_channel").alias("channel"), "day", "first_slot", "last_slot"
        )
        .unique(["meter_id", "channel", "day"], maintain_order=True)
    )
    length = pl.col("interval_s").cast(pl.Int64)
    slots = (
        facts.readings.with_row_index("row")
        .join(gaps, on=["meter_id", "channel", "day"])
        .with_columns(slot=pl.int_ranges(pl.col("pulses").list.len()))
        .explode("pulses", "slot")
        .with_columns(
            # A meter's interval is hidden where any market interval within it is.
            is_hidden=(pl.col("slot") * length < (pl.col("last_slot").cast(pl.Int64) + 1) * interval_s)
            & ((pl.col("slot") + 1) * length > pl.col("first_slot").cast(pl.Int64) * interval_s)
        )
    )
    masked = slots.group_by("row", maintain_order=True).agg(
        pl.when(pl.col("is_hidden")).then(None).otherwise("pulses").alias("masked")
    )
    readings = (
        facts.readings.with_row_index("row")
        .join(masked, on="row", how="left", maintain_order="left")
        .with_columns(pulses=pl.coalesce("masked", "pulses"))
        .drop("row", "masked")
    )
    hidden = slots.filter("is_hidden").select(
        "uc_id", "day", slot=pl.col("slot") * length // interval_s, pulses="pulses"
    )
    tables = dict(facts.rules.tables)
    if "registers" in tables:
        tables["registers"] = _with_less_inside(tables["registers"], hidden)
    return replace(facts, readings=readings, rules=replace(facts.rules, tables=tables))


def _with_less_inside(registers: pl.DataFrame, hidden: pl.DataFrame) -> pl.DataFrame:
    """Register periods whose intervals are known less: the hidden ones are missing in their sums."""
    if registers.is_empty():
        return registers
    period = ["uc_id", "before_at", "at"]
    lost = (
        registers.select(*period, "day", "first_slot", "last_slot")
        .join(hidden, on=_KEY)
        .filter(pl.col("slot").is_between(pl.col("first_slot"), pl.col("last_slot")))
        .group_by(period)
        .agg(lost=pl.len().cast(pl.Int64), lost_pulses=pl.col("pulses").cast(pl.Int64).sum())
    )
    names = registers.columns
    return (
        registers.join(lost, on=period, how="left", maintain_order="left")
        .with_columns(
            inner=pl.col("inner") - pl.col("lost_pulses").fill_null(0),
            inner_missing=pl.col("inner_missing") + pl.col("lost").fill_null(0),
        )
        .select(names)
    )


def _first_day(pieces: pl.DataFrame) -> date:
    day: Any = pieces["day"].min()
    assert isinstance(day, date)
    return day


def _last_day(pieces: pl.DataFrame) -> date:
    day: Any = pieces["day"].max()
    assert isinstance(day, date)
    return day
