"""The five layers of some UC-days, computed: `vee` in its order, with what each step needs handed to it.

What belongs here: which rule set runs on what, in which order, and what is set aside on the way; pure, in
memory, for one chunk of UCs. What does not: reading and writing (`derivation`), the rules (`vee`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from vee import estimation, losses, musd, outcome, primary, rounding, validation
from vee.calendars import Calendars
from vee.filling import EstimationParams
from vee.frames import QUARANTINE_SCHEMA, VERDICT_SCHEMA, empty_series

_KEY = ["uc_id", "day"]
# Missing intervals, and dead phases: what estimation acts on.
_ASKS_FOR_ESTIMATION = ("V01", "V22")


@dataclass(frozen=True)
class Parameters:
    """All settings of the rules, as they are kept with what they made."""

    primary: primary.PrimaryParams = field(default_factory=primary.PrimaryParams)
    validation: validation.ValidationParams = field(default_factory=validation.ValidationParams)
    estimation: EstimationParams = field(default_factory=EstimationParams)
    loss_mode: str = "product"
    musd: musd.MusdParams = field(default_factory=musd.MusdParams)


@dataclass(frozen=True)
class Facts:
    """What is known of some UCs and days before any rule runs. Frames as the `vee` functions name them.

    Args:
        registry: one row per UC-day wanted (`validation.REGISTRY_SCHEMA`).
        readings, installations: see `primary.from_pulses`.
        outages, incidents: see `validation.ValidationInput`.
        recovery_sessions: sessions that recovered mass memory late.
    """

    registry: pl.DataFrame
    readings: pl.DataFrame
    installations: pl.DataFrame
    outages: pl.DataFrame
    incidents: pl.DataFrame
    recovery_sessions: Collection[int] = ()


@dataclass(frozen=True)
class Lookups:
    """What estimation, losses and the outcome ask for besides, for the same UCs."""

    strategies: pl.DataFrame
    approvals: pl.DataFrame
    losses: pl.DataFrame
    collection_causes: pl.DataFrame


# Reads facts of neighbouring days for some UCs: (uc_ids, days) -> Facts.
ReadFacts = Callable[[list[int], list[date]], Facts]
# Reads earlier days of layer 3 for UC-days: frame `uc_id, needed_day` -> series frame.
ReadHistory = Callable[[pl.DataFrame], pl.DataFrame]
# Reads the days before migration of some UCs: uc_ids -> series frame.
ReadPrior = Callable[[list[int]], pl.DataFrame]


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

    @property
    def in_order(self) -> tuple[pl.DataFrame, ...]:
        return self.primary, self.validated, self.estimated, self.adjusted, self.ccee


def compute(
    facts: Facts,
    lookups: Lookups,
    days: list[date],
    *,
    calendars: Calendars,
    as_of: datetime,
    history_as_of: date,
    parameters: Parameters,
    read_facts: ReadFacts,
    read_history: ReadHistory,
    read_prior: ReadPrior,
) -> Layers:
    """All layers of the UC-days of `facts.registry`.

    Args:
        as_of: now; later intervals are future.
        history_as_of: the date that decides which months are closed history.
        read_facts, read_history, read_prior: called only for UCs with gaps, which are few.
    """
    first = primary.from_pulses(
        facts.readings,
        facts.installations,
        facts.registry.select(_KEY),
        parameters.primary,
        facts.recovery_sessions,
    )
    valid = _validate(first.main, facts, as_of, parameters)
    filled = _estimate(
        first,
        valid.validated,
        valid.verdicts,
        facts,
        lookups,
        days,
        calendars=calendars,
        as_of=as_of,
        history_as_of=history_as_of,
        parameters=parameters,
        read_facts=read_facts,
        read_history=read_history,
        read_prior=read_prior,
    )
    adjusted = losses.adjust(filled.estimated, lookups.losses, parameters.loss_mode)
    checked = musd.check(rounding.to_ccee(adjusted.adjusted), facts.registry, parameters.musd)
    verdicts = pl.concat([valid.verdicts, filled.verdicts])
    quarantined = pl.concat([first.quarantined, filled.quarantined, adjusted.quarantined])
    return Layers(
        primary=first.main.drop("input_version"),
        validated=valid.validated,
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
            lookups.collection_causes,
        ),
        quarantined=quarantined,
    )


def _validate(
    main: pl.DataFrame, facts: Facts, as_of: datetime, parameters: Parameters
) -> validation.ValidationResult:
    inputs = validation.ValidationInput(
        primary=main.drop("input_version"),
        registry=facts.registry,
        outages=facts.outages,
        incidents=facts.incidents,
    )
    return validation.validate(inputs, as_of, parameters.validation)


def _estimate(
    first: primary.PrimaryResult,
    validated: pl.DataFrame,
    verdicts: pl.DataFrame,
    facts: Facts,
    lookups: Lookups,
    days: list[date],
    *,
    calendars: Calendars,
    as_of: datetime,
    history_as_of: date,
    parameters: Parameters,
    read_facts: ReadFacts,
    read_history: ReadHistory,
    read_prior: ReadPrior,
) -> estimation.EstimationResult:
    """Fill gaps. UC-days without one are passed by: their rows are the validated ones, untouched."""
    gapped = verdicts.filter(pl.col("rule").is_in(_ASKS_FOR_ESTIMATION))["uc_id"].unique().sort().to_list()
    if not gapped:
        return _nothing_to_estimate(validated)
    is_gapped = pl.col("uc_id").is_in(gapped)
    around = _neighbours(gapped, days, as_of, parameters, read_facts)
    needs = estimation.history_needs(
        validated.filter(is_gapped),
        days,
        calendars,
        history_as_of,
        parameters.estimation,
        lookups.strategies,
    )
    result = estimation.estimate(
        estimation.EstimationInput(
            validated=pl.concat([validated.filter(is_gapped), around]),
            backup=first.backup.drop("input_version").filter(is_gapped),
            history=read_history(needs) if needs.height else empty_series(),
            prior=read_prior(gapped) if lookups.approvals.height else empty_series(),
            registry=facts.registry.filter(is_gapped),
            strategies=lookups.strategies,
            approvals=lookups.approvals,
        ),
        days,
        calendars,
        history_as_of,
        parameters.estimation,
    )
    both = pl.concat([validated.filter(~is_gapped), result.estimated])
    return estimation.EstimationResult(
        estimated=validated.select(_KEY).join(both, on=_KEY, how="left", maintain_order="left"),
        estimates=result.estimates,
        unresolved=result.unresolved,
        verdicts=result.verdicts,
        quarantined=result.quarantined,
    )


def _neighbours(
    uc_ids: list[int], days: list[date], as_of: datetime, parameters: Parameters, read_facts: ReadFacts
) -> pl.DataFrame:
    """Validated series of the days just outside the window, where something was read."""
    outside = [days[0] - timedelta(days=1), days[-1] + timedelta(days=1)]
    facts = read_facts(uc_ids, outside)
    # A day nobody has read is not a neighbour that has gaps: estimation must see it as not collected.
    read = facts.readings.select("meter_id", "day").unique()
    seen = read.join(facts.installations.select("uc_id", "meter_id"), on="meter_id").select(_KEY).unique()
    wanted = facts.registry.join(seen, on=_KEY, how="semi")
    if wanted.is_empty():
        return empty_series()
    first = primary.from_pulses(facts.readings, facts.installations, wanted.select(_KEY), parameters.primary)
    return _validate(
        first.main,
        Facts(wanted, facts.readings, facts.installations, facts.outages, facts.incidents),
        as_of,
        parameters,
    ).validated


def _nothing_to_estimate(validated: pl.DataFrame) -> estimation.EstimationResult:
    return estimation.EstimationResult(
        estimated=validated,
        estimates=pl.DataFrame(schema=estimation.ESTIMATE_SCHEMA),
        unresolved=pl.DataFrame(schema=estimation.UNRESOLVED_SCHEMA),
        verdicts=pl.DataFrame(schema=VERDICT_SCHEMA),
        quarantined=pl.DataFrame(schema=QUARANTINE_SCHEMA),
    )
