"""A real month with 200 injected faults of 13 kinds: what changes a day by over 1 % is not sent as read.

    .venv/bin/python -m tests.benchmarks.bench_faults [--faults 200] [--seed 1] [--clean 200]

Each fault is a UC of its own with the month of the recording (../shared/data, absent: not run), one day of
which is spoiled as the kind says; its registers, read each morning at 06:02, count the truth. The layers are
computed as `derive` computes them, and each interval that was sent as measured is compared with the truth: a
day whose energy is wrong by over 1 % must be held, or the spoiled intervals estimated. Which rule held it is
told by kind. Then false holds: UC-days of the clean month, and of a simulated fleet of 60 days, that a rule
holds (at most 0.1 %).

Three kinds never reach a rule: a session whose clock is hours off, or in which another meter answers, brings
no readings, since the gates of collection hold them. They are told as `gate`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from derivation.judging import RuleFacts
from derivation.layers import DerivationParameters, DerivationSettings, Facts, Layers, compute
from simulator.load.curves import GeneratedLoad
from simulator.load.shapes import SHAPES
from vee.calendars import MARKET_ZONE, day_start, load_calendars
from vee.frames import empty_series
from vee.rules.inputs import CONSTANT_SCHEMA, REGISTER_SCHEMA
from vee.validation import INCIDENT_SCHEMA, OUTAGE_SCHEMA, PHASE_LOSS_SCHEMA, REGISTRY_SCHEMA

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"
FIRST_DAY, DAYS, SLOTS = date(2016, 9, 28), 30, 288
NUM, DEN = 72, 10_000
# The recording's largest quarter of an hour is 38 kW.
MUSD_KW = 60
READ_SLOT, READ_S = 72, 120  # registers are read at 06:02
I64 = npt.NDArray[np.int64]
Rng = np.random.Generator


@dataclass
class Case:
    """One UC's month: what was consumed, what the memory gave, and what else is known of the day.

    Attributes:
        read: what came, -1 where nothing came. counted: what the registers counted.
        constant: the registry's, in ten-thousandths of a kWh; told: the meter's own.
    """

    truth: I64
    read: I64
    day: int
    kind: str
    counted: I64 = field(init=False)
    constant: int = NUM
    told: int | None = None
    phase_loss: tuple[int, int] | None = None
    is_gated: bool = False

    def __post_init__(self) -> None:
        self.counted = self.truth.copy()

    @property
    def spoiled(self) -> I64:
        return self.read[self.day]

    def keep(self, other: I64) -> None:
        self.read[self.day] = other


def span(rng: Rng, low: int, high: int) -> slice:
    length = int(rng.integers(low, high + 1))
    first = int(rng.integers(0, SLOTS - length))
    return slice(first, first + length)


def spike(case: Case, rng: Rng) -> None:
    at = span(rng, 1, 3)
    case.spoiled[at] = case.spoiled[at] * int(rng.integers(8, 200))


def freeze(case: Case, rng: Rng) -> None:
    at = span(rng, 12, 200)
    case.spoiled[at] = case.spoiled[at.start]


def zeros(case: Case, rng: Rng) -> None:
    case.spoiled[span(rng, 4, 200)] = 0


def constant(times: int) -> Callable[[Case, Rng], None]:
    def apply(case: Case, rng: Rng) -> None:
        case.constant, case.told = NUM * times, NUM

    return apply


def clock_slow_1h(case: Case, rng: Rng) -> None:
    flat = case.truth.ravel()
    start = case.day * SLOTS
    case.keep(flat[start + 12 : start + 12 + SLOTS].copy())
    case.is_gated = True


def clock_fast_30d(case: Case, rng: Rng) -> None:
    case.keep(case.truth[(case.day + 15) % DAYS].copy())
    case.is_gated = True


def swapped_channels(case: Case, rng: Rng) -> None:
    tangent = rng.uniform(0.3, 0.7)
    case.keep(np.rint(case.spoiled * tangent * rng.normal(1, 0.05, SLOTS)).astype(np.int64))


def lost_phase(case: Case, rng: Rng) -> None:
    at = span(rng, 12, SLOTS - 1)
    case.spoiled[at] = case.spoiled[at] * 2 // 3
    # The registers miss the phase, too.
    case.counted[case.day] = case.spoiled
    case.phase_loss = (at.start, at.stop - 1)


def unregistered_swap(case: Case, rng: Rng) -> None:
    case.spoiled[int(rng.integers(0, SLOTS - 12)) :] //= int(rng.integers(2, 9))
    case.is_gated = True


def duplicate_block(case: Case, rng: Rng) -> None:
    at = span(rng, 12, 140)
    length = min(at.stop - at.start, SLOTS - at.stop)
    case.spoiled[at.stop : at.stop + length] = case.spoiled[at.start : at.start + length]


def negative(case: Case, rng: Rng) -> None:
    at = span(rng, 1, 40)
    case.spoiled[at] = -case.spoiled[at] - 1


def all_ones(case: Case, rng: Rng) -> None:
    case.spoiled[span(rng, 1, 40)] = int(rng.choice([4095, 65535]))


KINDS: dict[str, Callable[[Case, Rng], None]] = {
    "spike": spike,
    "freeze": freeze,
    "zeros": zeros,
    "constant x2": constant(2),
    "constant x10": constant(10),
    "clock -1 h": clock_slow_1h,
    "clock +30 d": clock_fast_30d,
    "swapped channels": swapped_channels,
    "lost phase": lost_phase,
    "swap without registry": unregistered_swap,
    "duplicate block": duplicate_block,
    "negative": negative,
    "all ones": all_ones,
}


def inject(month: I64, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    case = Case(month.copy(), month.copy(), int(rng.integers(1, DAYS - 2)), kind)
    KINDS[kind](case, rng)
    return case


# --- facts, as the database would have them -----------------------------------------------------------------


class NoReader:
    """Nothing outside the month is known."""

    def __init__(self, known: Facts) -> None:
        self._nothing = Facts(
            **{
                name: getattr(known, name).clear()
                for name in (
                    "registry", "readings", "installations", "losses", "outages", "incidents",
                    "strategies", "approvals", "collection_causes",
                )
            }
        )  # fmt: skip

    def facts(self, uc_ids: list[int], days: list[date]) -> Facts:
        return self._nothing

    def history(self, needs: pl.DataFrame) -> pl.DataFrame:
        return empty_series()

    def prior(self, uc_ids: list[int]) -> pl.DataFrame:
        return self.history(pl.DataFrame())


def days_of(first: date, count: int) -> list[date]:
    return [first + timedelta(n) for n in range(count)]


def facts(cases: list[Case], days: list[date], musd_kw: float, *, with_registers: bool = True) -> Facts:
    ucs = range(1, len(cases) + 1)
    rows = [
        (uc, 1, day, 1, 1, 300, [int(v) if v != -1 else None for v in case.read[n]], [0], [1])
        for uc, case in zip(ucs, cases, strict=True)
        for n, day in enumerate(days)
        if not (case.is_gated and n == case.day)
    ]
    schema = {
        "meter_id": pl.Int64, "channel": pl.Int16, "day": pl.Date, "version": pl.Int32,
        "quantity_code": pl.Int16, "interval_s": pl.Int32, "pulses": pl.List(pl.Int32),
        "source_starts": pl.List(pl.Int16), "source_sessions": pl.List(pl.Int64),
    }  # fmt: skip
    instant = pl.Datetime("us", "UTC")
    installations = pl.DataFrame(
        {
            "uc_id": ucs, "meter_id": ucs, "role": "main", "valid_from": None, "valid_to": None,
            "active_channel": 1, "pulse_energy_num": [case.constant for case in cases],
            "pulse_energy_den": DEN, "tp_ratio": "1", "tc_ratio": "1", "constant_includes_ratios": True,
        },
        schema_overrides={"valid_from": instant, "valid_to": instant},
    ).with_columns(pl.col("uc_id", "meter_id").cast(pl.Int64))  # fmt: skip
    registry = pl.DataFrame(
        [(uc, day, "001347925802810", 1, "active", Decimal(str(musd_kw)), day) for uc in ucs for day in days],
        schema=REGISTRY_SCHEMA,
        orient="row",
    )
    tables = {
        "constants": pl.DataFrame(
            [
                (uc, day, "pulse_energy", f"{case.constant}/{DEN}", f"{case.told}/{DEN}")
                for uc, case in zip(ucs, cases, strict=True)
                if case.told is not None
                for day in days
            ],
            schema=CONSTANT_SCHEMA,
            orient="row",
        ),
        "phase_loss": pl.DataFrame(
            [
                (uc, days[case.day], *case.phase_loss, 3, 1, False, "")
                for uc, case in zip(ucs, cases, strict=True)
                if case.phase_loss
            ],
            schema=PHASE_LOSS_SCHEMA,
            orient="row",
        ),
    }
    if with_registers:
        tables["registers"] = registers(cases, days)
    key = {"uc_id": pl.Int64, "day": pl.Date}
    return Facts(
        registry=registry,
        readings=pl.DataFrame(rows, schema=schema, orient="row"),
        installations=installations,
        losses=pl.DataFrame(
            schema={
                "uc_id": pl.Int64, "kind": pl.String, "valid_from": pl.Date, "valid_to": pl.Date,
                "percent": pl.String, "compensated_at": pl.String,
            }
        ),
        outages=pl.DataFrame(schema=OUTAGE_SCHEMA),
        incidents=pl.DataFrame(schema=INCIDENT_SCHEMA),
        strategies=pl.DataFrame(schema={**key, "strategy": pl.String}),
        approvals=pl.DataFrame(schema={**key, "method": pl.String, "approved_by": pl.String}),
        collection_causes=pl.DataFrame(schema={**key, "cause": pl.String}),
        rules=RuleFacts(tables={name: frame for name, frame in tables.items() if frame.height}),
    )  # fmt: skip


def registers(cases: list[Case], days: list[date]) -> pl.DataFrame:
    """What the registers gained from one morning's reading to the next, beside what was read."""
    rows = []
    for uc, case in enumerate(cases, 1):
        counted, read = case.counted.ravel(), case.read.copy()
        if case.is_gated:
            read[case.day] = -1
        flat = read.ravel()
        for n in range(len(days) - 1):
            cut, until = n * SLOTS + READ_SLOT, (n + 1) * SLOTS + READ_SLOT
            share = Fraction(READ_S, 300)
            gained = int(counted[cut + 1 : until].sum()) + counted[cut] - int(counted[cut] * share)
            gained += int(counted[until] * share)
            inner, edges = flat[cut + 1 : until], flat[[cut, until]]
            before_at = day_start(days[n], MARKET_ZONE) + timedelta(seconds=READ_SLOT * 300 + READ_S)
            sums = (
                int(gained), int(inner[inner != -1].sum()), int((inner == -1).sum()),
                int(edges[edges != -1].sum()), int((edges == -1).sum()),
            )  # fmt: skip
            at = before_at + timedelta(days=1)
            rows.append((uc, days[n], READ_SLOT, SLOTS - 1, before_at, at, *sums))
            rows.append((uc, days[n + 1], 0, READ_SLOT, before_at, at, *sums))
    return pl.DataFrame(rows, schema=REGISTER_SCHEMA, orient="row").sort("uc_id", "day", "first_slot")


def layers(known: Facts, days: list[date]) -> Layers:
    now = datetime.combine(days[-1] + timedelta(2), datetime.min.time(), UTC)
    settings = DerivationSettings(load_calendars(), now, now.date(), DerivationParameters())
    return compute(known, days, settings, NoReader(known))


# --- judging the outcome ------------------------------------------------------------------------------------


def measured_error(case: Case, uc: int, made: Layers, days: list[date]) -> float:
    """Share of the day's true energy by which what would be sent as measured is wrong; 0 where nothing is."""
    row = made.ccee.filter(pl.col("uc_id") == uc, pl.col("day") == days[case.day]).row(0, named=True)
    state = made.outcomes.filter(pl.col("uc_id") == uc, pl.col("day") == days[case.day])["state"][0]
    if state != "ready":
        return 0.0
    truth = case.truth[case.day] * NUM / DEN
    values = np.array([np.nan if v is None else v / row["denominator"] for v in row["numerators"]])
    sent_as_measured = np.frombuffer(row["origin"], np.uint8) == 1
    wrong = np.where(sent_as_measured, values - truth, 0.0)
    return float(abs(np.nansum(wrong)) / truth.sum())


def matters(case: Case) -> bool:
    """Whether the fault changes the day's energy by over 1 %."""
    truth = case.truth[case.day].sum() * NUM
    return bool(abs(int(case.read[case.day].sum()) * case.constant - truth) > truth / 100)


def report_faults(month: I64, faults: int, seed: int) -> int:
    days = days_of(FIRST_DAY, DAYS)
    seeds = [seed * 1000 + n for n in range(faults)]
    cases = [inject(month, one) for one in seeds]
    made = layers(facts(cases, days, MUSD_KW), days)
    caught_by: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    mattered, missed = Counter[str](), []
    for uc, (case, one) in enumerate(zip(cases, seeds, strict=True), 1):
        if not matters(case):
            continue
        mattered[case.kind] += 1
        of_day = made.suspects.filter(pl.col("uc_id") == uc, pl.col("day") == days[case.day])
        rules = of_day["rule"].unique().sort().to_list()
        if case.is_gated:
            rules = ["gate"]
        elif not rules and measured_error(case, uc, made, days) <= 0.01:
            rules = ["refused, estimated"]
        for rule in rules:
            caught_by[case.kind][rule] += 1
        if measured_error(case, uc, made, days) > 0.01:
            missed.append(f"seed {one}: {case.kind} on {days[case.day]}")
    print(f"{faults} faults of {len(KINDS)} kinds in the real month, seeds {seeds[0]} to {seeds[-1]}")
    print(f"{'kind':24}{'over 1 %':>9}  held or estimated by")
    for kind in KINDS:
        by = ", ".join(f"{rule} {count}" for rule, count in caught_by[kind].most_common())
        print(f"{kind:24}{mattered[kind]:9}  {by}")
    print(f"delivered as measured and wrong by over 1 %: {len(missed)} of {sum(mattered.values())} (limit 0)")
    for line in missed:
        print(f"  {line}")
    blind = layers(facts(cases, days, MUSD_KW, with_registers=False), days)
    passed = Counter(
        case.kind
        for uc, case in enumerate(cases, 1)
        if matters(case) and not case.is_gated and measured_error(case, uc, blind, days) > 0.01
    )
    words = ", ".join(f"{kind} {count}" for kind, count in passed.most_common()) or "none"
    print(f"of a meter without registers would pass: {sum(passed.values())} ({words})")
    return len(missed)


def report_clean(month: I64, points: int) -> bool:
    days = days_of(FIRST_DAY, DAYS)
    clean = Case(month, month.copy(), 0, "none")
    made = layers(facts([clean], days, MUSD_KW), days)
    print(f"real month, clean: {made.suspects.height} suspects in {DAYS} UC-days (limit 0)")
    is_silent = made.suspects.is_empty()
    held = total = 0
    fleet_days = days_of(date(2026, 9, 1), 60)
    kinds = sorted(SHAPES)
    for first in range(0, points, 50):
        cases = []
        for index in range(first, min(first + 50, points)):
            load = GeneratedLoad(kinds[index % len(kinds)], 0.82 * MUSD_KW, NUM / DEN, 7_000 + index)
            counts = fleet_counts(load, fleet_days)
            cases.append(Case(counts, counts.copy(), 0, "none"))
        made = layers(facts(cases, fleet_days, MUSD_KW, with_registers=False), fleet_days)
        held += made.outcomes.filter(pl.col("state") == "held").height
        total += made.outcomes.height
    share = held / total
    print(f"simulated fleet, clean: {held} of {total:,} UC-days held, {share:.3%} (limit 0.1 %)")
    return is_silent and share <= 0.001


def fleet_counts(load: GeneratedLoad, days: list[date]) -> I64:
    # Interval 1 of a quantity's column is the first of the local day.
    first = (days[0] - date(1970, 1, 1)).days * SLOTS
    return np.asarray(load.pulses(first, len(days) * SLOTS)[:, 0], np.int64).reshape(len(days), SLOTS)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clean", type=int, default=200, help="points of the simulated fleet")
    chosen = parser.parse_args()
    if not RECORDING.is_file():
        print("NOT RUN: the recording is absent (../shared/data)")
        return 0
    pulses = pl.read_csv(RECORDING)["pulses"].to_numpy().astype(np.int64)
    # The first label is the last interval of the day before.
    month = pulses[1:].reshape(DAYS, SLOTS)
    missed = report_faults(month, chosen.faults, chosen.seed)
    return 0 if report_clean(month, chosen.clean) and not missed else 1


if __name__ == "__main__":
    raise SystemExit(main())
