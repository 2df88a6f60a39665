"""The five layers of some UC-days, computed: `vee` in its order, with what each step needs handed to it.

What belongs here: which rule set runs on what, in which order, and what is set aside on the way; pure, in
memory, for one chunk of UCs. What does not: reading and writing (`derivation`), the rules (`vee`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Protocol

import polars as pl

from derivation import judging
from derivation.judging import RuleFacts
from derivation.register_bounds import register_bounds
from vee import musd, outcome, phase_losses
from vee.calendars import ONE_DAY, Calendars
from vee.frames import QUARANTINE_SCHEMA, VERDICT_SCHEMA, empty_series
from vee.layers import edits, estimation, losses, points, primary, rounding, validation
from vee.missing import with_causes
from vee.rules.base import RuleParams
from vee.rules.engine import Judged, RuleSet
from vee.rules.inputs import REGISTER_SCHEMA
from vee.rules.meters import BackupParams
from vee.rules.table import default_rules
from vee.strategies.chain_e import METHOD_CYCLE_MEAN, Cycles, cycle_means
from vee.strategies.filling import EstimationParams, Scope
from vee.strategies.shapes import SimilarDays

_KEY = ["uc_id", "day"]
# Missing intervals, and dead phases: what estimation acts on.
_ASKS_FOR_ESTIMATION = ("V01", "V22")


@dataclass(frozen=True)
class DerivationParameters:
    """All settings of the rules, as they are kept with what they made.

    Attributes:
        rules: of each rule that judges, by id (`vee.rules.table`).
        similar_days: which earlier days a day is compared with.
    """

    primary: primary.PrimaryParams = field(default_factory=primary.PrimaryParams)
    validation: validation.ValidationParams = field(default_factory=validation.ValidationParams)
    rules: dict[str, RuleParams] = field(default_factory=default_rules)
    similar_days: SimilarDays = field(default_factory=SimilarDays)
    estimation: EstimationParams = field(default_factory=EstimationParams)
    loss_mode: str = "product"
    musd: musd.MusdParams = field(default_factory=musd.MusdParams)

    def __post_init__(self) -> None:
        if self.loss_mode not in losses.MODES:
            raise ValueError(f"loss_mode {self.loss_mode!r} is none of {', '.join(losses.MODES)}")

    @property
    def rule_set(self) -> RuleSet:
        """What the rules are run with."""
        return RuleSet(self.rules, self.similar_days, self.primary.zone, self.primary.interval_s)


@dataclass(frozen=True)
class Facts:
    """What is known of some UCs and days before any rule runs. Frames as the `vee` functions name them.

    Args:
        registry: one row per UC-day wanted (`validation.REGISTRY_SCHEMA`).
        readings, installations: see `points.from_pulses`.
        losses: see `losses.adjust`.
        outages, incidents: see `validation.ValidationInput`.
        strategies, approvals: see `estimation.EstimationInput`.
        collection_causes: see `outcome.outcomes`.
        recovery_sessions: sessions that recovered mass memory late.
        rules: what the rules that judge look at besides.
        edits: what people decided about slots (`vee.layers.edits.EDIT_SCHEMA`).
    """

    registry: pl.DataFrame
    readings: pl.DataFrame
    installations: pl.DataFrame
    losses: pl.DataFrame
    outages: pl.DataFrame
    incidents: pl.DataFrame
    strategies: pl.DataFrame
    approvals: pl.DataFrame
    collection_causes: pl.DataFrame
    recovery_sessions: Collection[int] = ()
    rules: RuleFacts = field(default_factory=RuleFacts)
    edits: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=edits.EDIT_SCHEMA))


@dataclass(frozen=True)
class DerivationSettings:
    """What decides besides the facts.

    Args:
        as_of: now; later intervals are future.
        history_as_of: the date that decides which months are closed history.
    """

    calendars: Calendars
    as_of: datetime
    history_as_of: date
    parameters: DerivationParameters


class SeriesReader(Protocol):
    """Reads what only UCs with gaps need, and those are few."""

    def facts(self, uc_ids: list[int], days: list[date]) -> Facts:
        """Facts of neighbouring days."""

    def history(self, needs: pl.DataFrame) -> pl.DataFrame:
        """Earlier days of layer 3 for `uc_id, needed_day`: a series frame."""

    def prior(self, uc_ids: list[int]) -> pl.DataFrame:
        """Layer 3 of the days before these UCs' migration: a series frame."""

    def cycles(self, wanted: pl.DataFrame) -> Cycles:
        """Layer 3 of the cycles before, and tariff posts, of `uc_id, day`."""


@dataclass(frozen=True)
class Layers:
    """What a chunk came to: layers in order, each a series frame with the same UC-days in the same order.

    Args:
        input_version: version of the readings behind each UC-day, in the order of the layers.
        Other frames: as the `vee` functions return them.
    """

    primary: pl.DataFrame
    validated: pl.DataFrame
    estimated: pl.DataFrame
    adjusted: pl.DataFrame
    ccee: pl.DataFrame
    input_version: pl.Series
    verdicts: pl.DataFrame
    estimates: pl.DataFrame
    musd_hours: pl.DataFrame
    outcomes: pl.DataFrame
    quarantined: pl.DataFrame
    suspects: pl.DataFrame
    shapes: pl.DataFrame
    skipped: pl.DataFrame

    @property
    def in_order(self) -> tuple[pl.DataFrame, ...]:
        return self.primary, self.validated, self.estimated, self.adjusted, self.ccee


@dataclass(frozen=True)
class Collected:
    """What the meters said of some UC-days: layer 1, validated, main against backup meter (V12); dead phases,
    and the UC-days of which phases are known (V22, rule C)."""

    first: primary.PrimaryResult
    valid: validation.ValidationResult
    pairs: pl.DataFrame
    phase_loss: pl.DataFrame
    phases_told: pl.DataFrame


def collected(
    facts: Facts, days: list[date], settings: DerivationSettings, reader: SeriesReader
) -> Collected:
    """The first steps of `compute`, before anything is judged or filled."""
    first = _primary(facts, facts.registry, settings.parameters)
    lost, told = _phases(facts, days, settings.parameters)
    valid = _validate(first.main, facts.registry, facts, settings, lost)
    return Collected(first, valid, _pairs(first, facts, days, settings, reader), lost, told)


def compute(facts: Facts, days: list[date], settings: DerivationSettings, reader: SeriesReader) -> Layers:
    """All layers of the UC-days of `facts.registry`, which are of `days`."""
    chosen = settings.parameters
    known = collected(facts, days, settings, reader)
    first, valid, pairs = known.first, known.valid, known.pairs
    judged = judging.measured(
        # What a person replaced or set aside is not judged any more.
        edits.set_aside(valid.validated, facts.edits),
        facts.registry,
        facts.installations,
        facts.rules,
        {"pairs": pairs, "phase_loss": known.phase_loss, "phases_told": known.phases_told},
        settings.calendars,
        chosen.rule_set,
    )
    filled = fill_gaps(known, judged.series, _gapped(judged, valid, facts), facts, days, settings, reader)
    filled = _edited(filled, facts.edits)
    adjusted = losses.adjust(
        filled.estimated, points.reference_losses(facts.losses), chosen.loss_mode, zone=chosen.primary.zone
    )
    checked = musd.check(rounding.to_ccee(adjusted.adjusted), facts.registry, chosen.musd)
    final = judging.sent(
        checked.series,
        facts.registry,
        facts.rules,
        {"musd_hours": checked.hours},
        settings.calendars,
        chosen.rule_set,
    )
    counted = with_causes(valid.verdicts, judged.series, facts.rules.missing)
    verdicts = judging.merged(counted, judged.verdicts, filled.verdicts, final.verdicts)
    quarantined = pl.concat([first.quarantined, filled.quarantined, adjusted.quarantined])
    return Layers(
        primary=first.main.drop("input_version"),
        validated=judged.series,
        estimated=filled.estimated,
        adjusted=adjusted.adjusted,
        ccee=checked.series,
        input_version=first.main["input_version"],
        verdicts=verdicts,
        estimates=filled.estimates,
        musd_hours=checked.hours,
        outcomes=outcome.outcomes(
            checked.series,
            verdicts,
            filled.unresolved,
            quarantined,
            checked.held,
            facts.collection_causes,
            pl.concat([judged.waiting, final.waiting]),
        ),
        quarantined=quarantined,
        suspects=pl.concat([judged.suspects, final.suspects]),
        shapes=judged.shapes,
        skipped=pl.concat([judged.skipped, final.skipped]),
    )


def _primary(facts: Facts, wanted: pl.DataFrame, chosen: DerivationParameters) -> primary.PrimaryResult:
    return points.from_pulses(
        facts.readings,
        facts.installations,
        facts.losses,
        wanted.select(_KEY),
        chosen.primary,
        facts.recovery_sessions,
        chosen.loss_mode,
    )


def _pairs(
    first: primary.PrimaryResult,
    facts: Facts,
    days: list[date],
    settings: DerivationSettings,
    reader: SeriesReader,
) -> pl.DataFrame:
    """Main against backup meter (V12), for the few UCs that have one."""
    params = settings.parameters.rules["V12"]
    if first.backup.is_empty() or not isinstance(params, BackupParams):
        return pl.DataFrame(schema=judging.PAIRS_SCHEMA)
    uc_ids = first.backup["uc_id"].unique().sort().to_list()
    main, backup = first.main.drop("input_version"), first.backup.drop("input_version")
    before = [days[0] - ONE_DAY * n for n in range(params.days - 1, 0, -1)]
    if before:
        earlier = reader.facts(uc_ids, before)
        made = _primary(earlier, earlier.registry, settings.parameters)
        main = pl.concat([made.main.drop("input_version"), main.filter(pl.col("uc_id").is_in(uc_ids))])
        backup = pl.concat([made.backup.drop("input_version"), backup])
    return judging.pairs(main, backup, days, params.days)


def _phases(
    facts: Facts, days: list[date], chosen: DerivationParameters
) -> tuple[pl.DataFrame, pl.DataFrame]:
    market = chosen.primary
    return phase_losses.phase_losses(
        facts.rules.phase_channels,
        facts.rules.phase_samples,
        days,
        market.zone,
        market.interval_s,
        zero_current_proves=chosen.validation.zero_current_proves,
        loaded_share=chosen.validation.phase_loaded_share,
    )


def _validate(
    main: pl.DataFrame,
    registry: pl.DataFrame,
    facts: Facts,
    settings: DerivationSettings,
    phase_loss: pl.DataFrame | None = None,
) -> validation.ValidationResult:
    inputs = validation.ValidationInput(
        primary=main.drop("input_version"),
        registry=registry,
        outages=facts.outages,
        incidents=facts.incidents,
        phase_loss=pl.DataFrame(schema=validation.PHASE_LOSS_SCHEMA) if phase_loss is None else phase_loss,
    )
    return validation.validate(inputs, settings.as_of, settings.parameters.validation)


def _gapped(judged: Judged, valid: validation.ValidationResult, facts: Facts) -> list[int]:
    """UCs of which something is missing: not received, rejected, or set aside by a person."""
    asking = valid.verdicts.filter(pl.col("rule").is_in(_ASKS_FOR_ESTIMATION))
    aside = facts.edits.filter(pl.col("kwh").is_null())
    asked = pl.concat([asking["uc_id"], judged.rejected["uc_id"], aside["uc_id"]])
    return asked.unique().sort().to_list()


def fill_gaps(
    known: Collected,
    validated: pl.DataFrame,
    gapped: list[int],
    facts: Facts,
    days: list[date],
    settings: DerivationSettings,
    reader: SeriesReader,
) -> estimation.EstimationResult:
    """Layer 3 of these UC-days.

    Args:
        validated: layer 2. UC-days without a gap are passed by: their rows are these, untouched.
        gapped: UCs that have gaps.
    """
    chosen = settings.parameters.estimation
    if not gapped:
        return _nothing_to_estimate(validated)
    is_gapped = pl.col("uc_id").is_in(gapped)
    needs = estimation.history_needs(
        validated.filter(is_gapped),
        days,
        settings.calendars,
        settings.history_as_of,
        chosen,
        facts.strategies,
    )
    result = estimation.estimate(
        estimation.EstimationInput(
            validated=pl.concat([validated.filter(is_gapped), _neighbours(gapped, days, settings, reader)]),
            backup=known.first.backup.drop("input_version").filter(is_gapped),
            history=reader.history(needs) if needs.height else empty_series(),
            prior=reader.prior(gapped) if facts.approvals.height else empty_series(),
            registry=facts.registry.filter(is_gapped),
            strategies=facts.strategies,
            approvals=facts.approvals,
            phase_loss=known.phase_loss,
            registers=register_bounds(
                facts.rules.tables.get("registers", pl.DataFrame(schema=REGISTER_SCHEMA)),
                facts.readings,
                facts.installations,
                settings.parameters.primary.interval_s,
            ),
            cycle_means=_cycle_means(gapped, facts, settings, reader),
            backup_pairs=known.pairs,
        ),
        days,
        settings.calendars,
        settings.history_as_of,
        chosen,
    )
    both = pl.concat([validated.filter(~is_gapped), result.estimated])
    estimated = validated.select(_KEY).join(both, on=_KEY, how="left", maintain_order="left")
    return replace(result, estimated=estimated)


def _cycle_means(
    gapped: list[int], facts: Facts, settings: DerivationSettings, reader: SeriesReader
) -> pl.DataFrame:
    """What E5 spreads, of the UC-days for which somebody approved it."""
    approved = facts.approvals.filter(pl.col("method") == METHOD_CYCLE_MEAN, pl.col("uc_id").is_in(gapped))
    if approved.is_empty():
        return pl.DataFrame()
    scope = Scope(settings.calendars, settings.history_as_of, settings.parameters.estimation)
    interval_s = settings.parameters.primary.interval_s
    return cycle_means(approved, reader.cycles(approved.select(_KEY)), scope, interval_s)


def _edited(filled: estimation.EstimationResult, decided: pl.DataFrame) -> estimation.EstimationResult:
    """Layer 3 with what people set; a UC-day whose exact values do not fit is quarantined."""
    estimated, refused = edits.overlay(filled.estimated, decided)
    if refused.is_empty():
        return replace(filled, estimated=estimated)
    rows = refused.with_columns(
        stage=pl.lit("arithmetic"),
        reason=pl.lit("edited values do not fit 64 bits together with the others"),
        detail=pl.lit("{}"),
    )
    return replace(filled, estimated=estimated, quarantined=pl.concat([filled.quarantined, rows]))


def _neighbours(
    uc_ids: list[int], days: list[date], settings: DerivationSettings, reader: SeriesReader
) -> pl.DataFrame:
    """Validated series of the days just outside the window, where something was read."""
    facts = reader.facts(uc_ids, [days[0] - ONE_DAY, days[-1] + ONE_DAY])
    # A day nobody has read is not a neighbour with gaps: estimation must see it as not collected.
    read = facts.readings.select("meter_id", "day").unique()
    seen = read.join(facts.installations.select("uc_id", "meter_id"), on="meter_id")
    wanted = facts.registry.join(seen, on=_KEY, how="semi")
    if wanted.is_empty():
        return empty_series()
    first = _primary(facts, wanted, settings.parameters)
    return _validate(first.main, wanted, facts, settings).validated


def _nothing_to_estimate(validated: pl.DataFrame) -> estimation.EstimationResult:
    return estimation.EstimationResult(
        estimated=validated,
        estimates=pl.DataFrame(schema=estimation.ESTIMATE_SCHEMA),
        unresolved=pl.DataFrame(schema=estimation.UNRESOLVED_SCHEMA),
        verdicts=pl.DataFrame(schema=VERDICT_SCHEMA),
        quarantined=pl.DataFrame(schema=QUARANTINE_SCHEMA),
    )
