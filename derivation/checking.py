"""What must be true of derived layers, judged over a window in chunks; it does not know Dagster.

What belongs here: statements about stored rows that hold whatever the rules of `vee` are: energy is conserved
from layer to layer, missing never became zero, registers and intervals agree. What does not: rules that judge
a meter's values (`vee.layers.validation`), what an auditor is shown (`expectations`).

Each function reads rows on its own and does the sums again; none asks the code that wrote them. What
registers gained beside intervals is one truth with rule V06 (`known.register_periods`), and stored nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import polars as pl

from derivation.known.register_periods import read_register_periods
from derivation.window import Window
from storage.bulk import array_literal, read_frame
from storage.database import Database
from storage.series import untrue_rows
from vee.calendars import ONE_DAY, day_start
from vee.frames import INT64_MAX, SeriesMatrix, max_abs, split_by_slots, to_matrix
from vee.layers.losses import MODES, loss_factor
from vee.quality import Origin, Reason
from vee.rules.meters import REGISTER_MODULUS

PRIMARY, VALIDATED, ESTIMATED, ADJUSTED, CCEE = 1, 2, 3, 4, 5
# UC-days whose five layers are in memory at once.
CHUNK_UC_DAYS = 2000
MILLI = 1000


@dataclass
class Finding:
    """What one statement came to.

    Args:
        judged: UC-days (or periods) looked at. broken: key of each that it does not hold for, and how.
        numbers: sums and counts worth showing.
    """

    judged: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.broken

    def add(self, name: str, value: float) -> None:
        self.numbers[name] = self.numbers.get(name, 0) + value


# --- completeness ---------------------------------------------------------------------------------------

_EXPECTED = """
    SELECT u.code AS uc_code, d.day::date AS day, o.state, o.cause,
           o.missing::bigint AS missing,
           (o.measured + o.backup + o.estimated + o.edited)::bigint AS present
    FROM generate_series($1::date, $2::date, INTERVAL '1 day') AS d (day)
    JOIN uc_status st ON is_submitted(st.status) AND st.valid @> d.day::date
    JOIN uc u ON u.id = st.uc_id AND u.id % $3::bigint = $4::bigint
    LEFT JOIN uc_day_outcome o ON o.uc_id = u.id AND o.day = d.day::date
"""


def completeness(db: Database, window: Window) -> Finding:
    """Every active UC has an outcome for every day, and a day that is ready lacks nothing.

    A day that is not ready is not a breach: it is counted, with its cause, and the closing follows it.
    """
    rows = read_frame(db, _EXPECTED, [window.first_day, window.last_day, window.shards, window.shard])
    finding = Finding(judged=rows.height)
    finding.add("expected_uc_days", rows.height)
    finding.add("ready_uc_days", rows.filter(pl.col("state") == "ready").height)
    finding.add("intervals_present", int(rows["present"].sum() or 0))
    finding.add("intervals_missing", int(rows["missing"].sum() or 0))
    for uc_code, day, state, missing in rows.select("uc_code", "day", "state", "missing").iter_rows():
        if state is None:
            finding.broken[f"{uc_code} {day}"] = "nothing says what became of it"
        elif state == "ready" and missing:
            finding.broken[f"{uc_code} {day}"] = f"ready with {missing} intervals missing"
    for cause, count in rows.filter(pl.col("state") != "ready")["cause"].value_counts().iter_rows():
        finding.add(f"cause {cause}", count)
    return finding


_CODES = "SELECT id, code FROM uc WHERE id = ANY (%s)"


def as_written(db: Database, window: Window) -> Finding:
    """The values of every layer and version still make the hash that was stored with them."""
    judged, changed = untrue_rows(db, window.first_day, window.last_day, window.shard, window.shards)
    finding = Finding(judged=judged)
    with db.connect() as conn:
        codes = dict(conn.execute(_CODES, [sorted({uc_id for uc_id, *_ in changed})]).fetchall())
    for uc_id, day, layer, version in changed:
        how = f"layer {layer} was changed after it was written"
        finding.broken[f"{codes[uc_id]} {day} version {version}"] = how
    return finding


# --- layers against each other --------------------------------------------------------------------------

Layers = Mapping[int, SeriesMatrix]

_LATEST = """
    SELECT s.uc_id, s.day, s.layer::int AS layer, s.denominator, s.numerators, s.origin, s.reason
    FROM series_day s
    WHERE s.day BETWEEN $1 AND $2 AND s.quantity = 1 AND s.uc_id = ANY($3::text::bigint[])
      AND NOT EXISTS (
        SELECT 1 FROM series_day n
        WHERE n.uc_id = s.uc_id AND n.quantity = 1 AND n.layer = s.layer AND n.day = s.day
          AND n.version > s.version
      )
    ORDER BY s.layer, s.uc_id, s.day
"""

_UCS = """
    SELECT DISTINCT uc_id FROM series_day
    WHERE layer = 5 AND quantity = 1 AND day BETWEEN $1 AND $2 AND uc_id % $3::bigint = $4::bigint
    ORDER BY uc_id
"""


def layer_chunks(db: Database, window: Window) -> Iterator[Layers]:
    """The latest version of all layers, some UCs at a time; rows of all layers in the same order."""
    parameters = [window.first_day, window.last_day]
    with db.connect_arrow() as connection:
        ucs = read_frame(connection, _UCS, [*parameters, window.shards, window.shard])["uc_id"].to_list()
        step = max(1, CHUNK_UC_DAYS // len(window.days))
        for start in range(0, len(ucs), step):
            literal = "{" + ",".join(map(str, ucs[start : start + step])) + "}"
            rows = read_frame(connection, _LATEST, [*parameters, literal])
            for part in split_by_slots(rows):
                yield {
                    layer: to_matrix(part.filter(pl.col("layer") == layer))
                    for layer in (PRIMARY, VALIDATED, ESTIMATED, ADJUSTED, CCEE)
                }


@dataclass(frozen=True)
class LayerFindings:
    """The statements that one pass over the layers judges."""

    never_zero: Finding
    by_losses: Finding
    by_rounding: Finding


def layers(db: Database, window: Window) -> LayerFindings:
    """Judge all statements about layers in one pass over the rows."""
    found = LayerFindings(Finding(), Finding(), Finding())
    percents = _percents(db, window)
    for chunk in layer_chunks(db, window):
        missing_never_zero(chunk, found.never_zero)
        conserved_by_losses(chunk, percents, found.by_losses)
        conserved_by_rounding(chunk, found.by_rounding)
    return found


def missing_never_zero(chunk: Layers, finding: Finding) -> None:
    """No value means origin MISSING, and a slot that had none has one only where a reason says so.

    Between layers a value may go (refused, held), and come only by a recorded outage (validated) or an
    estimate (estimated); losses and rounding neither make nor take one.
    """
    for matrix in chunk.values():
        _break(
            finding, matrix, matrix.known == (matrix.origin == Origin.MISSING), "value and origin disagree"
        )
    primary, validated, estimated = chunk[PRIMARY], chunk[VALIDATED], chunk[ESTIMATED]
    appeared = validated.known & ~primary.known & (validated.reason != Reason.ZERO_FROM_OUTAGE_LOG)
    _break(finding, validated, appeared, "a value appeared in validation")
    not_estimated = np.isin(estimated.origin, [Origin.BACKUP, Origin.ESTIMATED, Origin.EDITED])
    _break(
        finding, estimated, estimated.known & ~validated.known & ~not_estimated, "a value without an origin"
    )
    for below, above in ((ESTIMATED, ADJUSTED), (ADJUSTED, CCEE)):
        _break(finding, chunk[above], chunk[above].known & ~chunk[below].known, "a value appeared")
    finding.judged += len(primary)
    finding.add("intervals_missing_in_primary", int((~primary.known).sum()))
    finding.add("intervals_missing_in_ccee", int((~chunk[CCEE].known).sum()))


def conserved_by_losses(chunk: Layers, percents: Mapping[int, Sequence[_Percent]], finding: Finding) -> None:
    """Adjusted energy is estimated energy times the registry's factor, exactly, in every slot.

    Args:
        percents: of the registry, by UC; they may be combined in either way.
    """
    below, above = chunk[ESTIMATED], chunk[ADJUSTED]
    both = below.known & above.known
    finding.judged += len(below)
    for row in range(len(below)):
        for pair, where in _pairs_of_day(percents.get(int(below.uc_id[row]), ()), below, row):
            allowed = {loss_factor(*pair, mode) for mode in MODES}
            if not any(_is_times(below, above, row, both[row] & where, factor) for factor in allowed):
                times = " or ".join(map(str, sorted(allowed)))
                finding.broken[_key(above, row)] = f"not {times} times the layer below"
    finding.add("energy_estimated_kwh", _energy(below, both))
    finding.add("energy_adjusted_kwh", _energy(above, both))


def conserved_by_rounding(chunk: Layers, finding: Finding) -> None:
    """Each CCEE value is within half a milli-kWh of the adjusted one, half up, so a day within slots / 2."""
    below, above = chunk[ADJUSTED], chunk[CCEE]
    both = below.known & above.known
    finding.judged += len(below)
    _break(
        finding, above, np.broadcast_to((above.denominator != MILLI)[:, None], both.shape), "not in milli-kWh"
    )
    # 2 * denominator * (ccee - adjusted * 1000) in (-denominator, denominator]; wide integers where needed.
    wide = max_abs(below.numerators) > INT64_MAX // (4 * MILLI)
    wide |= max_abs(above.numerators) > INT64_MAX // (4 * np.maximum(below.denominator, 1))
    for rows, kind in ((~wide, np.int64), (wide, object)):
        denominator = below.denominator[rows].astype(kind)[:, None]
        twice = 2 * (
            above.numerators[rows].astype(kind) * denominator - below.numerators[rows].astype(kind) * MILLI
        )
        off = np.zeros(both.shape, np.bool_)
        off[rows] = ((twice <= -denominator) | (twice > denominator)) & both[rows]
        _break(finding, above, off, "further than half a milli-kWh")
    finding.add("energy_adjusted_kwh", _energy(below, both))
    finding.add("energy_ccee_kwh", _energy(above, both))


def _is_times(
    below: SeriesMatrix, above: SeriesMatrix, row: int, both: npt.NDArray[np.bool_], factor: Fraction
) -> bool:
    left_scale = int(below.denominator[row]) * factor.denominator
    right_scale = int(above.denominator[row]) * factor.numerator
    left, right = above.numerators[row, both], below.numerators[row, both]
    if not len(left):
        return True
    # In lowest terms, both scales are mostly small: 64 bits do.
    shared = np.gcd(left_scale, right_scale) if max(left_scale, right_scale) <= INT64_MAX else 1
    left_scale, right_scale = left_scale // int(shared), right_scale // int(shared)
    bound = max(int(np.abs(left).max()) * left_scale, int(np.abs(right).max()) * right_scale)
    if bound > INT64_MAX:
        left, right = left.astype(object), right.astype(object)
    return bool((left * left_scale == right * right_scale).all())


_LOSSES = """
    SELECT p.uc_id, l.kind, extract(epoch FROM lower(l.valid))::float8 AS since_s,
           extract(epoch FROM upper(l.valid))::float8 AS until_s, l.percent::text AS percent
    FROM point_loss l JOIN point p ON p.id = l.point_id
    WHERE l.compensated_at = 'platform'
      AND l.valid && tstzrange(market_day_start($1::date), market_day_start($2::date + 1))
      AND p.uc_id % $3::bigint = $4::bigint
      AND p.id = (SELECT q.id FROM point q WHERE q.uc_id = p.uc_id ORDER BY q.sign DESC, q.id LIMIT 1)
"""

# Kind, seconds since 1970 from which and until which it holds, percentage.
_Percent = tuple[str, float, float, str]


def _percents(db: Database, window: Window) -> dict[int, list[_Percent]]:
    """Percentages of each UC's reference point, whose level layers 1 to 3 have."""
    rows = read_frame(db, _LOSSES, [window.first_day, window.last_day, window.shards, window.shard])
    found: dict[int, list[_Percent]] = {}
    for uc_id, kind, since_s, until_s, percent in rows.iter_rows():
        span = (-math.inf if since_s is None else since_s, math.inf if until_s is None else until_s)
        found.setdefault(uc_id, []).append((kind, *span, percent))
    return found


def _pairs_of_day(
    percents: Sequence[_Percent], matrix: SeriesMatrix, row: int
) -> list[tuple[tuple[str, str], npt.NDArray[np.bool_]]]:
    """(transformation, line) percentages of a day, each with the slots that begin under it."""
    everywhere = np.ones(matrix.slots, np.bool_)
    if not percents:
        return [(("0", "0"), everywhere)]
    start = day_start(matrix.day_of(row)).timestamp()
    length_s = (day_start(matrix.day_of(row) + ONE_DAY).timestamp() - start) / matrix.slots
    begins = start + np.arange(matrix.slots) * length_s
    pairs = [(("0", "0"), everywhere)]
    for kind, since_s, until_s, percent in percents:
        inside = (begins >= since_s) & (begins < until_s)
        pairs = [
            (chosen, where)
            for (transformation, line), old in pairs
            for chosen, where in (
                ((percent, line) if kind == "transformation" else (transformation, percent), old & inside),
                ((transformation, line), old & ~inside),
            )
            if where.any()
        ]
    return pairs


def _energy(matrix: SeriesMatrix, where: npt.NDArray[np.bool_]) -> float:
    """kWh for display."""
    return float((np.where(where, matrix.numerators, 0) / matrix.denominator[:, None]).sum())


def _break(finding: Finding, matrix: SeriesMatrix, mask: npt.NDArray[np.bool_], how: str) -> None:
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        finding.broken[_key(matrix, row)] = f"{how}: {int(mask[row].sum())} intervals"


def _key(matrix: SeriesMatrix, row: int) -> str:
    return f"UC id {int(matrix.uc_id[row])} {matrix.day_of(row)}"


# --- what the auditors' suite looks at ------------------------------------------------------------------

_READY = """
    SELECT u.code AS uc_code, o.day::text AS day, s.version::bigint AS version, s.denominator,
           cardinality(s.numerators)::bigint AS slots,
           (extract(epoch FROM market_day_start(o.day + 1) - market_day_start(o.day))::bigint / s.interval_s)
               AS expected_slots,
           cardinality(array_positions(s.numerators, NULL))::bigint AS missing,
           o.measured::bigint AS measured,
           (o.backup + o.estimated + o.edited)::bigint AS adjusted,
           (o.measured + o.backup + o.estimated + o.edited)::bigint AS intervals_by_kind,
           v.smallest AS smallest_milli_kwh, v.total AS energy_milli_kwh,
           (o.energy_kwh * 1000)::bigint AS outcome_milli_kwh
    FROM uc_day_outcome o
    JOIN uc u ON u.id = o.uc_id
    JOIN LATERAL (
        SELECT * FROM series_day
        WHERE uc_id = o.uc_id AND quantity = 1 AND layer = 5 AND day = o.day
        ORDER BY version DESC LIMIT 1
    ) s ON true
    CROSS JOIN LATERAL (
        SELECT min(n) AS smallest, coalesce(sum(n), 0)::bigint AS total FROM unnest(s.numerators) AS n
    ) v
    WHERE o.state = 'ready' AND o.day BETWEEN $1 AND $2 AND o.uc_id % $3::bigint = $4::bigint
"""


def ready_days(db: Database, window: Window) -> pl.DataFrame:
    """One row per UC-day that is ready for CCEE: columns of `expectations.SCHEMA`."""
    return read_frame(db, _READY, [window.first_day, window.last_day, window.shards, window.shard])


# --- registers against intervals ------------------------------------------------------------------------


def registers(db: Database, window: Window) -> Finding:
    """What each meter's register gained between two readings is what its intervals add up to, in pulses.

    Registers count on within the interval that runs, so their difference lies between the intervals wholly
    between the two readings and those that touch the time between them. Only periods with every interval read
    are judged: with one missing, the difference says nothing.
    """
    finding = Finding()
    zone = db.settings.market.zone
    with db.connect_arrow() as connection:
        ucs = read_frame(connection, _SHARD, [window.shards, window.shard])["uc_id"].to_list()
        for start in range(0, len(ucs), CHUNK_UC_DAYS):
            chunk = ucs[start : start + CHUNK_UC_DAYS]
            periods = read_register_periods(
                connection, window.first_day, window.last_day, chunk, None, zone, ("main", "backup")
            ).unique(["meter_id", "before_at", "at"])
            meters = array_literal(periods["meter_id"].unique())
            serials = read_frame(connection, _SERIALS, [meters])
            _judge_periods(periods.join(serials, on="meter_id").sort("serial", "at"), finding)
    return finding


_SHARD = "SELECT id AS uc_id FROM uc WHERE id % $1::bigint = $2::bigint ORDER BY id"
_SERIALS = "SELECT id AS meter_id, serial FROM meter WHERE id IN (SELECT unnest($1::text::bigint[]))"


def _judge_periods(periods: pl.DataFrame, finding: Finding) -> None:
    whole = periods.filter(pl.col("inner_missing") == 0).with_columns(
        gained=pl.col("gained") % REGISTER_MODULUS, most=pl.col("inner") + pl.col("edge")
    )
    finding.judged += whole.height
    if whole.height < periods.height:
        finding.add("periods_with_missing_intervals", periods.height - whole.height)
    if whole.height:
        finding.add("register_pulses", int(whole["gained"].to_numpy().sum()))
        finding.add("interval_pulses", int(whole["inner"].to_numpy().sum()))
    is_too_much = (pl.col("edge_missing") == 0) & (pl.col("gained") > pl.col("most"))
    for row in whole.filter((pl.col("gained") < pl.col("inner")) | is_too_much).iter_rows(named=True):
        finding.broken[f"meter {row['serial']} until {row['at']:%Y-%m-%d %H:%M}"] = (
            f"register gained {row['gained']} pulses, intervals say {row['inner']} to {row['most']}"
        )
