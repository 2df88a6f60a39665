"""The rules on the layers: what each stage is shown, and the seven days of main and backup meter.

What belongs here: turning facts into `RuleInput`s and calling the engine. What does not: the rules
(`vee.rules`), reading the facts (`known.rule_facts`), the order of the layers (`layers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction

import polars as pl

from vee.calendars import Calendars
from vee.frames import Mask, SeriesMatrix, split_by_slots, to_matrix
from vee.missing import KNOWN_SCHEMA
from vee.phase_losses import CHANNEL_SCHEMA, SAMPLE_SCHEMA
from vee.quality import Origin
from vee.rules.base import Stage
from vee.rules.engine import Judged, RuleSet, judge
from vee.rules.inputs import DECIDED_SCHEMA, OVERRIDE_SCHEMA, PAIR_SCHEMA, RuleInput
from vee.strategies.shapes import SHAPE_SCHEMA

_KEY = ["uc_id", "day"]


def _empty(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame(schema=schema)


@dataclass(frozen=True)
class RuleFacts:
    """What rules look at besides values and registry, see `vee.rules.inputs`. Empty frames: nothing known.

    Attributes:
        contracts: `uc_id, day, contracted_demand_kw, supply_voltage_kv, tariff_subgroup, agent_code`.
        missing: what collection knows of missing slots (`vee.missing.KNOWN_SCHEMA`).
        tables: `registers`, `constants`, `engineering`, `reactive`, `month_counts`, `months`.
        phase_channels, phase_samples: what main meters tell of their phases (`vee.phase_losses`).
    """

    contracts: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"uc_id": pl.Int64, "day": pl.Date})
    )
    shapes: pl.DataFrame = field(default_factory=lambda: _empty(SHAPE_SCHEMA))
    missing: pl.DataFrame = field(default_factory=lambda: _empty(KNOWN_SCHEMA))
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    phase_channels: pl.DataFrame = field(default_factory=lambda: _empty(CHANNEL_SCHEMA))
    phase_samples: pl.DataFrame = field(default_factory=lambda: _empty(SAMPLE_SCHEMA))
    decided: pl.DataFrame = field(default_factory=lambda: _empty(DECIDED_SCHEMA))
    overrides: pl.DataFrame = field(default_factory=lambda: _empty(OVERRIDE_SCHEMA))


def measured(
    validated: pl.DataFrame,
    registry: pl.DataFrame,
    installations: pl.DataFrame,
    facts: RuleFacts,
    more: Mapping[str, pl.DataFrame],
    calendars: Calendars,
    rules: RuleSet,
) -> Judged:
    """What rules say of validated values. `more`: tables that were made on the way."""
    inputs = _inputs(registry, installations, facts, more)
    return judge(validated, inputs, calendars, rules)


def sent(
    ccee: pl.DataFrame,
    registry: pl.DataFrame,
    facts: RuleFacts,
    more: Mapping[str, pl.DataFrame],
    calendars: Calendars,
    rules: RuleSet,
) -> Judged:
    """What rules say of what would be delivered."""
    inputs = _inputs(registry, pl.DataFrame(), facts, more)
    return judge(ccee, inputs, calendars, rules, Stage.SENT)


def _inputs(
    registry: pl.DataFrame, installations: pl.DataFrame, facts: RuleFacts, more: Mapping[str, pl.DataFrame]
) -> RuleInput:
    known = registry.select(*_KEY, "musd_kw", "agent_code")
    extra = facts.contracts.drop("musd_kw", "agent_code", strict=False)
    return RuleInput(
        registry=known.join(extra, on=_KEY, how="left"),
        installations=installations,
        shapes=facts.shapes,
        tables={**facts.tables, **more},
        decided=facts.decided,
        overrides=facts.overrides,
    )


def merged(*parts: pl.DataFrame) -> pl.DataFrame:
    """All verdicts; where two say the same of the same slots, the first said stands."""
    every = pl.concat(parts)
    return every.unique(["uc_id", "day", "rule", "first_slot"], keep="first", maintain_order=True)


PAIRS_SCHEMA = PAIR_SCHEMA | {"difference": pl.String()}


def pairs(main: pl.DataFrame, backup: pl.DataFrame, days: list[date], span: int) -> pl.DataFrame:
    """Main against backup meter for each of `days`, over the `span` days that end with it: PAIRS_SCHEMA.

    Args:
        main, backup: primary series of `days` and of the `span` - 1 days before, as far as they are known.
    """
    sums: dict[tuple[int, date], tuple[Fraction, Fraction, int]] = {}
    for part in split_by_slots(backup):
        theirs = to_matrix(part)
        same = main.filter(pl.col("numerators").list.len() == theirs.slots)
        ours = to_matrix(same.join(part.select(_KEY), on=_KEY, how="semi")) if same.height else None
        for at in range(len(theirs) if ours is not None else 0):
            uc_id, day = int(theirs.uc_id[at]), theirs.day_of(at)
            row = None if ours is None else ours.row_of(uc_id, day)
            if ours is not None and row is not None:
                both = (ours.origin[row] == Origin.MEASURED) & theirs.known[at]
                sums[uc_id, day] = (_sum(ours, row, both), _sum(theirs, at, both), int(both.sum()))
    rows = []
    for uc_id in sorted({uc_id for uc_id, _ in sums}):
        for day in days:
            window = [
                sums.get((uc_id, day - timedelta(n)), (Fraction(0), Fraction(0), 0)) for n in range(span)
            ]
            ours_kwh = sum((entry[0] for entry in window), Fraction(0))
            theirs_kwh = sum((entry[1] for entry in window), Fraction(0))
            slots = sum(entry[2] for entry in window)
            if slots and (ours_kwh or theirs_kwh):
                share = abs(ours_kwh - theirs_kwh) / ours_kwh if ours_kwh else Fraction(1)
                rows.append((uc_id, day, float(ours_kwh), float(theirs_kwh), slots, str(share)))
    return pl.DataFrame(rows, schema=PAIRS_SCHEMA, orient="row")


def _sum(matrix: SeriesMatrix, row: int, where: Mask) -> Fraction:
    total = int(matrix.numerators[row, where].astype(object).sum())
    return Fraction(total, int(matrix.denominator[row]))
