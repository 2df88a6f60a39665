"""A real month with 200 injected faults of 13 kinds: what changes a day by over 1 % is not sent as read.

    .venv/bin/python -m tests.benchmarks.bench_faults [--faults 200] [--seed 1] [--clean 200]

Each fault is a UC of its own with the month of the recording (../shared/data, absent: not run), one day of
which is spoiled as the kind says. Each morning at 06:02 a session brings the day before: active and reactive
energy, the voltages of three phases, the registers (which count the truth), the clock, the constant and the
serial number, and goes through the gates of collection (`collector.judging`); what passes is derived as
`derive` does it. Each interval that was sent as measured is compared with the truth: a day whose energy is
wrong by over 1 % must be held, or the spoiled intervals estimated. What held it is told by kind; `gate` is
the collection's. The same for meters without registers, and without registers and voltages. Then false
holds: UC-days of the clean month, and of a simulated fleet of 60 days, that are held (at most 0.1 %).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from collector.decoded import ClockReading, DayVector, Decoded, MeterContext
from collector.judging import judge
from derivation.judging import RuleFacts
from derivation.layers import DerivationParameters, DerivationSettings, Facts, Layers, compute
from protocols.acquisition import Holds, StatedColumn, Statement
from protocols.nbr14522.profile import DEFAULT
from simulator.load.curves import GeneratedLoad
from simulator.load.shapes import SHAPES
from storage.sessions import Installation
from storage.settings import AcquisitionSettings
from tests.benchmarks.fault_injection import (
    DAYS,
    DEN,
    I64,
    KINDS,
    NUM,
    SERIAL,
    SLOTS,
    Case,
    inject,
    reactive_of,
)
from vee.calendars import MARKET_ZONE, day_start, load_calendars
from vee.frames import empty_series
from vee.layers.validation import INCIDENT_SCHEMA, OUTAGE_SCHEMA, REGISTRY_SCHEMA
from vee.phase_losses import CHANNEL_SCHEMA
from vee.rules.inputs import REACTIVE_SCHEMA, REGISTER_SCHEMA
from vee.strategies.chain_e import POST_SCHEMA, Cycles

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"
FIRST_DAY = date(2016, 9, 28)
# The recording's largest quarter of an hour is 38 kW.
MUSD_KW = 60
READ_SLOT, READ_S = 72, 120  # each morning at 06:02
ACTIVE, REACTIVE, VOLTAGES = 1, 2, (4, 5, 6)
QUANTITIES = {ACTIVE: 1, REACTIVE: 10, **dict(zip(VOLTAGES, (17, 18, 19), strict=True))}
ZONE = timezone(timedelta(hours=-3))


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
        return empty_series()

    def cycles(self, wanted: pl.DataFrame) -> Cycles:
        return Cycles(empty_series(), pl.DataFrame(schema=POST_SCHEMA))


def days_of(first: date, count: int) -> list[date]:
    return [first + timedelta(n) for n in range(count)]


# --- what a session brings, through the gates of collection ------------------------------------------------


def collected(case: Case, day: int, date_: date, *, with_phases: bool) -> Decoded:
    """What of a day's session may become readings."""
    is_spoiled = day == case.day
    drift_s = case.drift_s if is_spoiled else 0.0
    serial = case.serial if is_spoiled else SERIAL
    moment = day_start(date_ + timedelta(1), MARKET_ZONE) + timedelta(seconds=READ_SLOT * 300 + READ_S)
    counts = {ACTIVE: case.read[day], REACTIVE: case.reactive[day]}
    if with_phases:
        counts |= {channel: voltage(case, day, channel) for channel in VOLTAGES}
    vectors = [
        DayVector(channel, date_, QUANTITIES[channel], 300, pulses.astype(np.int32), np.ones(SLOTS, np.bool_))
        for channel, pulses in counts.items()
    ]
    stated = StatedColumn(ACTIVE, 1, "channel 1", Holds.INCREMENT, "", constant=Fraction(NUM, DEN) * 1000)
    told = Decoded(
        vectors=tuple(vectors),
        meter_serial=serial,
        clock=ClockReading(moment + timedelta(seconds=drift_s), drift_s, 0.2),
        statement=Statement((stated,)),
        is_held=not DEFAULT.same_serial(SERIAL, serial),
    )
    installed = Installation(Fraction(case.constant, DEN), Fraction(1), True, 300, None)
    context = MeterContext(1, SERIAL, ACTIVE, ZONE, installed)
    passed, _, _ = judge(told, context, AcquisitionSettings(), moment)
    if is_spoiled:
        case.gates |= {one.rule for one in passed.held if one.vector.channel == ACTIVE}
    return passed


def voltage(case: Case, day: int, channel: int) -> I64:
    """Tenths of a volt, hour by hour a little other."""
    pulses = 1270 + 7 * np.sin(np.arange(SLOTS) / 23 + channel) + (np.arange(SLOTS) * 7919 + day) % 5
    volts = np.rint(pulses).astype(np.int64)
    if case.lost_phase is not None and day == case.day and channel == VOLTAGES[1]:
        volts[case.lost_phase] = 0
    return volts


def facts(
    cases: list[Case],
    days: list[date],
    musd_kw: float,
    *,
    with_registers: bool = True,
    with_phases: bool = True,
) -> Facts:
    ucs = range(1, len(cases) + 1)
    rows, phases, reactive = [], [], []
    for uc, case in zip(ucs, cases, strict=True):
        for n, day in enumerate(days):
            for vector in collected(case, n, day, with_phases=with_phases).vectors:
                pulses = vector.pulses.tolist()
                if vector.channel == ACTIVE:
                    rows.append((uc, ACTIVE, day, 1, 1, 300, pulses, [0], [1]))
                elif vector.channel == REACTIVE:
                    reactive.append((uc, day, sum(pulses)))
                else:
                    phases.append((uc, day, 3, vector.quantity_code, 300, pulses))
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
    tables = {"reactive": pl.DataFrame(reactive, schema=REACTIVE_SCHEMA, orient="row")}
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
        rules=RuleFacts(
            tables={name: frame for name, frame in tables.items() if frame.height},
            phase_channels=pl.DataFrame(phases, schema=CHANNEL_SCHEMA, orient="row"),
        ),
    )  # fmt: skip


def registers(cases: list[Case], days: list[date]) -> pl.DataFrame:
    """What the registers gained from one morning's reading to the next, beside what was read."""
    rows = []
    for uc, case in enumerate(cases, 1):
        counted, flat = case.counted.ravel(), case.read.copy().ravel()
        # What a held session told of the registers is not stored either; its day is the one before.
        mornings = [n for n in range(len(days)) if not case.gates or n != case.day + 1]
        if case.gates:
            flat[case.day * SLOTS : (case.day + 1) * SLOTS] = -1
        for n, last in pairwise(mornings):
            cut, until = n * SLOTS + READ_SLOT, last * SLOTS + READ_SLOT
            share = Fraction(READ_S, 300)
            gained = int(counted[cut + 1 : until].sum()) + counted[cut] - int(counted[cut] * share)
            gained += int(counted[until] * share)
            inner, edges = flat[cut + 1 : until], flat[[cut, until]]
            before_at = day_start(days[n], MARKET_ZONE) + timedelta(seconds=READ_SLOT * 300 + READ_S)
            sums = (
                int(gained), int(inner[inner != -1].sum()), int((inner == -1).sum()),
                int(edges[edges != -1].sum()), int((edges == -1).sum()),
            )  # fmt: skip
            at = before_at + timedelta(days=last - n)
            rows.append((uc, days[n], READ_SLOT, SLOTS - 1, before_at, at, *sums))
            rows += [(uc, days[k], 0, SLOTS - 1, before_at, at, *sums) for k in range(n + 1, last)]
            rows.append((uc, days[last], 0, READ_SLOT, before_at, at, *sums))
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
        is_wrong = measured_error(case, uc, made, days) > 0.01
        for word in caught(case, uc, made, days) or ([] if is_wrong else ["refused, estimated"]):
            caught_by[case.kind][word] += 1
        if is_wrong:
            missed.append(f"seed {one}: {case.kind} on {days[case.day]}")
    print(f"{faults} faults of {len(KINDS)} kinds in the real month, seeds {seeds[0]} to {seeds[-1]}")
    print(f"{'kind':24}{'over 1 %':>9}  held or estimated by")
    for kind in KINDS:
        by = ", ".join(f"{rule} {count}" for rule, count in caught_by[kind].most_common())
        print(f"{kind:24}{mattered[kind]:9}  {by}")
    print(f"delivered as measured and wrong by over 1 %: {len(missed)} of {sum(mattered.values())} (limit 0)")
    print(*(f"  {line}\n" for line in missed), sep="", end="")
    blind = report_without(cases, days, seeds, "registers", with_registers=False)
    report_without(cases, days, seeds, "registers and voltages", with_registers=False, with_phases=False)
    return len(missed) + blind


def caught(case: Case, uc: int, made: Layers, days: list[date]) -> list[str]:
    """What held the day, or corrected it."""
    of_day = (pl.col("uc_id") == uc) & (pl.col("day") == days[case.day])
    methods = made.estimates.filter(of_day)["method"].unique().to_list()
    words = made.suspects.filter(of_day)["rule"].unique().sort().to_list()
    return [f"gate {rule}" for rule in sorted(case.gates)] or words + (["rule C"] if "C" in methods else [])


def report_without(
    cases: list[Case], days: list[date], seeds: Sequence[int], what: str, **options: bool
) -> int:
    """How many would pass of meters that do not have something."""
    made = layers(facts(cases, days, MUSD_KW, **options), days)
    passed = [
        (case.kind, one)
        for uc, (case, one) in enumerate(zip(cases, seeds, strict=True), 1)
        if matters(case) and measured_error(case, uc, made, days) > 0.01
    ]
    words = ", ".join(f"{kind} {count}" for kind, count in Counter(kind for kind, _ in passed).most_common())
    print(f"of meters without {what} would pass: {len(passed)} ({words or 'none'})")
    print(*(f"  seed {one}: {kind}\n" for kind, one in passed[:20]), sep="", end="")
    return len(passed)


def report_clean(month: I64, points: int) -> bool:
    days = days_of(FIRST_DAY, DAYS)
    clean = Case(month, month.copy(), -1, "none", reactive_of(month, np.random.default_rng(0)))
    made = layers(facts([clean], days, MUSD_KW), days)
    print(f"real month, clean: {made.suspects.height} suspects in {DAYS} UC-days (limit 0)")
    for row in made.suspects.iter_rows(named=True):
        print(f"  {row['day']} {row['rule']} {row['first_slot']} to {row['last_slot']}: {row['evidence']}")
    is_silent = made.suspects.is_empty()
    held = total = 0
    by_rule = Counter[str]()
    fleet_days = days_of(date(2026, 9, 1), 60)
    kinds = sorted(SHAPES)
    for first in range(0, points, 50):
        cases = []
        for index in range(first, min(first + 50, points)):
            load = GeneratedLoad(kinds[index % len(kinds)], 0.82 * MUSD_KW, NUM / DEN, 7_000 + index)
            counts, reactive = fleet_counts(load, fleet_days)
            cases.append(Case(counts, counts.copy(), -1, "none", reactive))
        made = layers(facts(cases, fleet_days, MUSD_KW, with_registers=False), fleet_days)
        held += made.outcomes.filter(pl.col("state") == "held").height
        total += made.outcomes.height
        by_rule.update(made.suspects["rule"].to_list())
    share = held / total
    print(f"simulated fleet, clean: {held} of {total:,} UC-days held, {share:.3%} (limit 0.1 %)")
    if by_rule:
        print(f"  {', '.join(f'{rule} {count}' for rule, count in by_rule.most_common())}")
    return is_silent and share <= 0.001


def fleet_counts(load: GeneratedLoad, days: list[date]) -> tuple[I64, I64]:
    """Active and reactive counts."""
    # Interval 1 of a quantity's column is the first of the local day.
    first = (days[0] - date(1970, 1, 1)).days * SLOTS
    counts = np.asarray(load.pulses(first, len(days) * SLOTS), np.int64)
    return counts[:, 0].reshape(len(days), SLOTS), counts[:, 1:].sum(axis=1).reshape(len(days), SLOTS)


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
