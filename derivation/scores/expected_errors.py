"""The expected error of an estimate by the latest score: what stands beside a value where it is shown.

What belongs here: which row of the score speaks for an estimate, and its words. What does not: scoring
(`scoring`), where it is shown (`audit`, `exchange`, `pipelines.cli`).

The narrowest row with enough gaps speaks: this length and class, then this length, then the method alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from derivation.scores.scoring import MASKED, NEED_APPROVAL, REPLACED
from storage import scores as store
from storage.database import Database
from storage.scores import ScoreRun
from vee.scores.classes import ALL, length_name, uc_classes

NOT_SCORED = "not scored yet: smf scores run"
LENGTH_WORDS = {
    "under_1h": "gaps under 1 h",
    "1h_to_2h": "gaps of 1 h to under 2 h",
    "2h_to_6h": "gaps of 2 h to under 6 h",
    "6h_to_24h": "gaps of 6 h to under 24 h",
    "whole_day": "whole days",
    ALL: "gaps of any length",
}
LEVEL_WORDS = {
    "under_240_kwh": "under 240 kWh a day",
    "under_2400_kwh": "240 to 2,400 kWh a day",
    "under_24000_kwh": "2,400 to 24,000 kWh a day",
    "from_24000_kwh": "24,000 kWh a day and more",
}


def class_words(uc_class: str) -> str:
    """What a class is. `under_240_kwh/steady` is `under 240 kWh a day, steady`."""
    if uc_class == ALL:
        return "all classes"
    level, _, evenness = uc_class.partition("/")
    return f"{LEVEL_WORDS.get(level, level)}, {evenness}"


@dataclass(frozen=True)
class ExpectedError:
    """What a row of the score says.

    Attributes:
        share: mean absolute error as a share of the energy; None where nothing was used.
        gaps: how many it is the mean of. run: number of the score run.
        replaced_share, replaced_gaps: the same of real estimates that gave way to late readings; of no length
            and class.
    """

    method: str
    gap_length: str
    uc_class: str
    share: float | None
    bias_share: float | None
    p90_share: float | None
    gaps: int
    run: int
    made_on: str
    replaced_share: float | None = None
    replaced_gaps: int = 0

    @property
    def whose(self) -> str:
        """Which gaps and UCs it is the error of."""
        return f"{LENGTH_WORDS[self.gap_length]}, {class_words(self.uc_class)}"

    @property
    def words(self) -> str:
        """In one line."""
        error = "no energy" if self.share is None else f"±{self.share:.1%}".replace("%", " %")
        told = f"expected error of {self.method} for {self.whose}: {error} (n = {self.gaps})"
        if self.replaced_gaps and self.replaced_share is not None:
            real = f"±{self.replaced_share:.1%}".replace("%", " %")
            told += f"; of real gaps filled late: {real} (n = {self.replaced_gaps})"
        return told


class ExpectedErrors:
    """The scores of one run, and the classes of the UCs that are asked about."""

    def __init__(
        self, run: ScoreRun, scores: pl.DataFrame, classes: Mapping[int, str], least_gaps: int
    ) -> None:
        self.run, self._classes, self._least = run, classes, least_gaps
        key = ("source", "strategy", "method", "gap_length", "uc_class")
        self._rows = {tuple(row[name] for name in key): row for row in scores.iter_rows(named=True)}

    def of(
        self, uc_id: int, strategy: str, method: str, slots: int, slots_per_hour: int
    ) -> ExpectedError | None:
        """The expected error of an estimate, or None where the method was not met with.

        Args:
            method: as scored (`vee.scores.scored_method`). slots: of the gap in its day.
        """
        length = length_name(slots, slots_per_hour)
        return self._told(
            strategy, method, [(length, self._classes.get(uc_id, ALL)), (length, ALL), (ALL, ALL)]
        )

    def of_method(self, uc_id: int, method: str) -> list[ExpectedError]:
        """The expected error of a method in gaps of any length, by each strategy that has it."""
        places = [(ALL, self._classes.get(uc_id, ALL)), (ALL, ALL)]
        strategies = sorted({key[1] for key in self._rows if key[2] == method})
        return [told for strategy in strategies if (told := self._told(strategy, method, places))]

    def _told(self, strategy: str, method: str, places: list[tuple[str, str]]) -> ExpectedError | None:
        """What the narrowest of these rows with enough gaps says."""
        known = [row for place in places if (row := self._rows.get((MASKED, strategy, method, *place)))]
        if not known:
            return None
        row = next((row for row in known if row["gaps"] >= self._least), known[-1])
        real = self._rows.get((REPLACED, strategy, method, ALL, ALL))
        return ExpectedError(
            method=method,
            gap_length=row["gap_length"],
            uc_class=row["uc_class"],
            share=row["mae_share"],
            bias_share=row["bias_share"],
            p90_share=row["p90_share"],
            gaps=row["gaps"],
            run=self.run.id,
            made_on=self.run.made_at.date().isoformat(),
            replaced_share=real["mae_share"] if real else None,
            replaced_gaps=real["gaps"] if real else 0,
        )


def above_limit(
    scores: pl.DataFrame, strategies: Collection[str], least_gaps: int, share: float
) -> list[dict[str, Any]]:
    """Methods of these strategies and lengths that are expected to err by more than a share.

    Methods that need a person's word are left out: who gives it is shown the error.
    """
    found = scores.filter(
        pl.col("source") == MASKED,
        pl.col("uc_class") == ALL,
        pl.col("gap_length") != ALL,
        pl.col("strategy").is_in(list(strategies)),
        ~pl.col("method").is_in(list(NEED_APPROVAL)),
        pl.col("gaps") >= least_gaps,
        pl.col("mae_share") > share,
    )
    return found.sort("mae_share", descending=True).to_dicts()


def expected_errors(db: Database, uc_ids: Sequence[int]) -> ExpectedErrors | None:
    """Of the latest run; None where nothing was scored yet."""
    with db.connect() as conn:
        run = store.latest_run(conn)
        if run is None:
            return None
        found = store.scores_of(conn, run.id)
    classes = uc_classes(store.good_days(db, uc_ids, run.first_day, run.last_day))
    return ExpectedErrors(run, found, dict(classes.iter_rows()), db.settings.scores.least_gaps)
