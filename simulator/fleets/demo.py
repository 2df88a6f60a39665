"""The demonstration fleet: consumer units with their meters, their registry facts and what to expect of each.

Everything follows from (points, day, seed). `day` is the day to be collected and delivered: what goes wrong,
goes wrong on it. Points come in a fixed order of scenarios, so a small fleet shows the first ones and a
large one repeats them in proportion.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from protocols.dlms.apdu import Mechanism
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import DEFAULT, OLD_3CH, P8_GENERIC
from simulator.dlms.meter import DlmsSpec
from simulator.fleets.uc_code import national_code
from simulator.load.clock import ClockModel
from simulator.load.curves import GeneratedLoad, LoadEvent
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.spec import MeterSpec, Outage
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan

DISTRIBUTOR_CODE = 28
HISTORY_DAYS = 200
MEMORY_DAYS = 140  # the official estimation looks back 84 days from the last closed month: 130 at worst
DEFAULT_STRATEGY = "ccee-pdc-1.8-r1"
OTHER_STRATEGY = "chain-e"
# Clients of ABNT NBR 16968 (reference "dlms_cosem", section 3).
DLMS_MODEL = "dlms-nbr16968"
DLMS_PUBLIC_CLIENT, DLMS_READING_CLIENT = 16, 3


class Scenario(StrEnum):
    """What is special about a point."""

    OLD_METER = "old_meter"
    MEMORY_GAP = "memory_gap"
    FLAKY_LINK = "flaky_link"
    SILENT = "silent"
    SLOW_CLOCK = "slow_clock"
    FAST_CLOCK = "fast_clock"
    LOSSES = "losses"
    MUSD_EXCEEDED = "musd_exceeded"
    BACKUP_METER = "backup_meter"
    SUSPENDED = "suspended"
    OUTAGE = "outage"
    NOISY_LINE = "noisy_line"
    ADDRESSED = "addressed"
    DLMS = "dlms"
    ORDINARY = "ordinary"


EXPECTATION: dict[Scenario, str] = {
    Scenario.OLD_METER: "Answers 39 to 14, 51, 52 and 80; read with 26 and 27, complete and measured.",
    Scenario.MEMORY_GAP: "Lost its memory at 03:10: what came before is estimated, the rest measured.",
    Scenario.FLAKY_LINK: "Two connections break in mid-block; the third brings the day, all measured.",
    Scenario.SILENT: "Takes the connection and never answers; no data and no history: nothing is delivered.",
    Scenario.SLOW_CLOCK: "Clock 95 s slow: measured, with a clock alarm.",
    Scenario.FAST_CLOCK: "Clock 140 s fast: measured, with a clock alarm.",
    Scenario.LOSSES: "Measured on the low side: every interval raised by transformation and line losses.",
    Scenario.MUSD_EXCEEDED: "14:00-15:00 is above 125 % of the MUSD, and only once losses are added.",
    Scenario.BACKUP_METER: "The main meter lacks 00:00-05:40; the backup meter fills it, marked as adjusted.",
    Scenario.SUSPENDED: "Suspended: read as always, not delivered.",
    Scenario.OUTAGE: "Real zeros from 09:20 to 11:05 under a recorded outage: measured, not estimated.",
    Scenario.NOISY_LINE: "Telnet octets, WAIT and damaged blocks on the line: repeated, then all measured.",
    Scenario.ADDRESSED: "Addressed by its eight-digit serial (P8): complete and measured.",
    Scenario.DLMS: "Speaks DLMS/COSEM by the Brazilian profile, with a password: complete and measured.",
    Scenario.ORDINARY: "Nothing unusual: complete and measured.",
}

# The order in which a fleet is built; it starts over after the last.
ORDER: tuple[Scenario, ...] = (*list(Scenario)[:-1], *[Scenario.ORDINARY] * 10)


@dataclass(frozen=True)
class Loss:
    """A loss percentage of a point: kind `transformation` or `line`; compensated by the platform."""

    kind: str
    percent: Fraction
    compensated_at: str = "platform"


@dataclass(frozen=True)
class DemoMeter:
    """One meter of a point: what it is, how it misbehaves, and what the registry says of it.

    `dlms`: how it speaks where it does not speak NBR 14522; `faults` are of NBR 14522 alone.
    `pulse_energy` is kWh per pulse as a fraction, as the registry and the meter state it; where
    `constant_includes_ratios` is false it is a secondary value and the ratios apply on top.
    """

    role: str
    spec: MeterSpec
    faults: FaultPlan
    model_code: str
    maker: str
    unit_code: str
    cell: str
    pulse_energy: tuple[int, int]
    tp_ratio: int
    tc_ratio: int
    constant_includes_ratios: bool
    element_count: int
    installed_on: date
    dlms: DlmsSpec | None = None

    @property
    def serial(self) -> str:
        return self.spec.serial

    @property
    def profile(self) -> MeterProfile:
        return self.spec.profile

    @property
    def profile_name(self) -> str:
        """As the registry has it."""
        return self.profile.name if self.dlms is None else DLMS_MODEL


@dataclass(frozen=True)
class DemoPoint:
    """One consumer unit, its metering point, its meters, its scenario."""

    scenario: Scenario
    expectation: str
    uc_code: str
    uc_name: str
    customer_code: str
    customer_name: str
    agent_code: int
    agent_name: str
    distributor_code: str
    distributor_name: str
    point_code: str
    status: str
    status_since: date
    registered_on: date
    tariff_subgroup: str
    tariff_modality: str
    supply_voltage_kv: Fraction
    contracted_demand_kw: int
    musd_kw: int
    losses: tuple[Loss, ...]
    schedule: str
    strategy: str
    load_shape: str
    meters: tuple[DemoMeter, ...] = field(default=())

    @property
    def main(self) -> DemoMeter:
        return self.meters[0]


# --- lifelike facts -------------------------------------------------------------------------------------

_TOWNS = (
    "Vale do Rio Claro",
    "Serra Azul",
    "Campo Alegre",
    "Boa Vista",
    "Santa Rita",
    "Lagoa Nova",
    "Pedra Branca",
    "Monte Belo",
    "São Bento",
    "Porto Feliz",
    "Três Barras",
    "Água Doce",
    "Nova Esperança",
    "Ribeirão Grande",
)

_KINDS: tuple[tuple[str, str], ...] = (
    ("industry_1_shift", "Metalúrgica"),
    ("supermarket", "Supermercado"),
    ("cold_storage", "Frigorífico"),
    ("industry_2_shifts", "Indústria Têxtil"),
    ("commerce", "Galeria Comercial"),
    ("school", "Colégio Estadual"),
    ("industry_3_shifts", "Cerâmica"),
    ("irrigation", "Fazenda Irrigada"),
    ("hospital", "Hospital"),
    ("pumping_station", "Estação de Bombeamento"),
    ("industry_1_shift", "Marcenaria"),
    ("supermarket", "Atacado"),
    ("industry_2_shifts", "Laticínio"),
)
_MUSD_KW = (60, 75, 80, 100, 110, 120, 150, 180, 200, 220, 250, 300, 350, 400, 450)
_LOW_SIDE_MUSD_KW = (60, 75, 80, 100, 110, 120, 150, 180, 200)
_AGENTS = ((4127, "Comercializadora Rio Claro Ltda"), (4390, "Varejista Serra Azul Energia S.A."))
_DISTRIBUTOR = "Cooperativa de Distribuição Vale do Rio Claro"

# Energy of one pulse on the secondary side: 0.3 Wh, the value behind the constants seen in the field.
_SECONDARY = Fraction(3, 10_000)
_TP_RATIO = 120  # 13.8 kV / 115 V
_HIGH_SIDE_TC = (1, 2, 3, 4, 5, 6, 8)  # 5/5 A and on
_LOW_SIDE_TC = (24, 40, 60, 80, 120)  # 120/5 A to 600/5 A
_PHASE_V = {True: 7_967.0, False: 220.0}


@dataclass(frozen=True)
class _Metering:
    """Instrument transformers for a load, and the constant that results."""

    high_side: bool
    tp_ratio: int
    tc_ratio: int

    @property
    def kwh_per_pulse(self) -> Fraction:
        return _SECONDARY * self.tp_ratio * self.tc_ratio

    def constant(self, includes_ratios: bool) -> tuple[int, int]:
        """Numerator over 10 000, as meters state it: 72/10000."""
        value = self.kwh_per_pulse if includes_ratios else _SECONDARY
        return int(value * 10_000), 10_000


def _metering(musd_kw: int, high_side: bool) -> _Metering:
    voltage_kv = 13.8 if high_side else 0.38
    primary_a = 1.25 * musd_kw / (3**0.5 * voltage_kv * 0.92)
    sizes = _HIGH_SIDE_TC if high_side else _LOW_SIDE_TC
    ratio = next((size for size in sizes if size * 5 >= primary_a), sizes[-1])
    return _Metering(high_side, _TP_RATIO if high_side else 1, ratio)


# --- building -------------------------------------------------------------------------------------------


def demo_fleet(points: int = 24, day: date = date(2026, 11, 20), seed: int = 0) -> list[DemoPoint]:
    """The fleet of `points` consumer units for one day.

    Args:
        points: at least 1. Below 11 the first scenarios only; above 24 they repeat in proportion.
        day: market day (-03:00) that will be collected and delivered.
        seed: other seeds give other names, sizes, loads and codes.
    """
    return [_build(index, day, seed) for index in range(points)]


@dataclass
class _Draft:
    """A point in the making, before its scenario has had its say."""

    point: DemoPoint
    meter: DemoMeter
    load: GeneratedLoad
    day: date
    chance: random.Random

    def at(self, hour: int, minute: int = 0, second: int = 0, days: int = 0) -> datetime:
        """Wall clock on the day."""
        return datetime.combine(self.day + timedelta(days=days), time(hour, minute, second))

    def instant(self, days: int = 0) -> datetime:
        """Aware 00:00 of the day, or of another."""
        return self.at(0, days=days).replace(tzinfo=MARKET_ZONE)

    def change_spec(self, **changes: Any) -> None:
        self.meter = replace(self.meter, spec=replace(self.meter.spec, **changes))

    def change_clock(self, offset_s: float, drift_ppm: float) -> None:
        self.change_spec(clock=ClockModel(self.instant(), offset_s, drift_ppm))


def _build(index: int, day: date, seed: int) -> DemoPoint:
    scenario = ORDER[index % len(ORDER)]
    draft = _ordinary(index, scenario, day, seed)
    backup = _SPECIAL[scenario](draft) if scenario in _SPECIAL else None
    meters = (draft.meter,) if backup is None else (draft.meter, backup)
    return replace(draft.point, meters=meters)


def _ordinary(index: int, scenario: Scenario, day: date, seed: int) -> _Draft:
    chance = random.Random(f"{seed}/{index}")
    shape, kind = _KINDS[index % len(_KINDS)]
    town = _TOWNS[(index * 5 + index // len(_KINDS)) % len(_TOWNS)]
    low_side = scenario in (Scenario.LOSSES, Scenario.MUSD_EXCEEDED)
    musd_kw = chance.choice(_LOW_SIDE_MUSD_KW if low_side else _MUSD_KW)
    metering = _metering(musd_kw, high_side=not low_side)
    includes_ratios = scenario is not Scenario.OLD_METER
    sequence = 1_200_000 + 1_000 * (seed % 1_000_000) + index
    number = f"{index + 1:05d}"
    registered_on = (day.replace(day=1) - timedelta(days=HISTORY_DAYS)).replace(day=1)
    agent_code, agent_name = _AGENTS[index % len(_AGENTS)]
    uc_code = national_code(sequence, DISTRIBUTOR_CODE)
    name = f"{kind} {town} {index + 1:03d}"
    load = GeneratedLoad(
        shape=shape,
        peak_kw=0.82 * musd_kw,
        kwh_per_pulse=float(metering.kwh_per_pulse),
        seed=seed * 1_000_003 + index,
    )
    spec = MeterSpec(
        serial=f"{10_000_000 + (seed % 800) * 100_000 + 2 * index + 1:08d}",
        source=load,
        started_at=datetime.combine(day - timedelta(days=HISTORY_DAYS), time(9, 20)),
        clock=ClockModel(
            datetime.combine(day, time(0), MARKET_ZONE), chance.uniform(-8, 8), chance.uniform(-4, 4)
        ),
        pulse_constant=metering.constant(includes_ratios),
        base_totals=_base_totals(chance),
        profile=DEFAULT,
        capacity_days=MEMORY_DAYS,
        tp_ratio=(metering.tp_ratio, 1),
        tc_ratio=(metering.tc_ratio, 1),
        connection_type=1,
        phase_voltage_v=_PHASE_V[metering.high_side],
        rated_kw=float(musd_kw),
        installation_code=uc_code[-14:],
    )
    meter = DemoMeter(
        role="main",
        spec=spec,
        faults=FaultPlan(),
        model_code="SIM-2000",
        maker="Medidores Simulados",
        unit_code=f"RM-{number}",
        cell=f"CEL-{index % 8 + 1:02d}",
        pulse_energy=metering.constant(includes_ratios),
        tp_ratio=metering.tp_ratio,
        tc_ratio=metering.tc_ratio,
        constant_includes_ratios=includes_ratios,
        element_count=3,
        installed_on=registered_on,
    )
    ordinary_number = index % len(ORDER)
    point = DemoPoint(
        scenario=scenario,
        expectation=EXPECTATION[scenario],
        uc_code=uc_code,
        uc_name=name,
        customer_code=f"C{number}",
        customer_name=f"{name} Ltda",
        agent_code=agent_code,
        agent_name=agent_name,
        distributor_code=f"{DISTRIBUTOR_CODE:03d}",
        distributor_name=_DISTRIBUTOR,
        point_code=f"PM-{number}",
        status="active",
        status_since=registered_on,
        registered_on=registered_on,
        tariff_subgroup="A4",
        tariff_modality="verde" if musd_kw < 300 else "azul",
        supply_voltage_kv=Fraction(138, 10),
        contracted_demand_kw=musd_kw,
        musd_kw=musd_kw,
        losses=(),
        schedule={15: "hourly", 17: "quarter_hourly"}.get(ordinary_number, "daily"),
        strategy=OTHER_STRATEGY if ordinary_number in (16, 20) else DEFAULT_STRATEGY,
        load_shape=shape,
    )
    return _Draft(point, meter, load, day, chance)


def _base_totals(chance: random.Random) -> tuple[tuple[int, int, int], ...]:
    """Registers of a meter that has already lived a while: peak, off-peak, reserved of each channel."""
    active = chance.randrange(2_000_000, 40_000_000)
    return tuple(
        (int(share * 0.12 * active), int(share * 0.63 * active), int(share * 0.25 * active))
        for share in (1.0, 0.2, 0.03)
    )


def _old_meter(draft: _Draft) -> None:
    draft.change_spec(profile=OLD_3CH, model_code=113, software_version=129, connection_type=2)
    draft.meter = replace(draft.meter, model_code="SIM-1990", element_count=2)


def _memory_gap(draft: _Draft) -> None:
    draft.change_spec(memory_cleared=(draft.at(3, 10),))


def _flaky_link(draft: _Draft) -> None:
    # Only from the collection of the day on, so that the history can be read before.
    plan = FaultPlan(
        drop_first=2, drop_at_block=3, drop_after_octets=120, effective_from=draft.instant(days=1)
    )
    draft.meter = replace(draft.meter, faults=plan)


def _silent(draft: _Draft) -> None:
    draft.meter = replace(draft.meter, faults=FaultPlan(silent=True))


def _slow_clock(draft: _Draft) -> None:
    draft.change_clock(-95.0, -3.0)


def _fast_clock(draft: _Draft) -> None:
    draft.change_clock(140.0, 5.0)


def _losses(draft: _Draft) -> None:
    draft.point = replace(
        draft.point, losses=(Loss("transformation", Fraction(25, 10)), Loss("line", Fraction(8, 10)))
    )


def _musd_exceeded(draft: _Draft) -> None:
    # 1.235 x 1.025 = 1.266: above 1.25 with losses, below it without.
    event = LoadEvent(draft.at(14), draft.at(15), 1.235 * draft.point.musd_kw)
    draft.change_spec(source=replace(draft.load, events=(event,)))
    draft.point = replace(draft.point, losses=(Loss("transformation", Fraction(25, 10)),))


def _backup_meter(draft: _Draft) -> DemoMeter:
    main = draft.meter
    draft.change_spec(memory_cleared=(draft.at(5, 40),))
    # The same load through another meter: its own rounding, and 0.15 % of difference.
    load = replace(draft.load, meter_seed=1, gain=0.9985)
    spec = replace(
        main.spec,
        serial=f"{int(main.spec.serial) + 1:08d}",
        source=load,
        clock=ClockModel(draft.instant(), 4.0, 1.0),
        base_totals=_base_totals(draft.chance),
    )
    return replace(main, role="backup", spec=spec, unit_code=f"{main.unit_code}-R")


def _suspended(draft: _Draft) -> None:
    draft.point = replace(draft.point, status="suspended", status_since=draft.day - timedelta(days=9))


def _outage(draft: _Draft) -> None:
    earlier = Outage(draft.at(2, 14, 37, days=-33), draft.at(2, 51, 9, days=-33))
    draft.change_spec(outages=(earlier, Outage(draft.at(9, 20, 0), draft.at(11, 5, 0))))


def _noisy_line(draft: _Draft) -> None:
    plan = FaultPlan(
        hello=TELNET_OPTIONS, wait_count=2, bad_crc_probability=0.02, seed=draft.chance.randrange(1000)
    )
    draft.meter = replace(draft.meter, faults=plan)


def _addressed(draft: _Draft) -> None:
    draft.change_spec(profile=P8_GENERIC)
    draft.meter = replace(draft.meter, model_code="SIM-2000-P8")


def _dlms(draft: _Draft) -> None:
    # One pulse is 1 Wh on the secondary side, as the model has it.
    meter = draft.meter
    constant = (1, 1000)
    per_pulse = meter.tp_ratio * meter.tc_ratio / 1000
    draft.change_spec(source=replace(draft.load, kwh_per_pulse=per_pulse), pulse_constant=constant)
    clients = {DLMS_PUBLIC_CLIENT: Mechanism.NONE, DLMS_READING_CLIENT: Mechanism.LLS}
    draft.meter = replace(
        draft.meter,
        model_code="SIM-COSEM",
        pulse_energy=constant,
        constant_includes_ratios=False,
        dlms=DlmsSpec(clients=clients, password=f"{draft.chance.randrange(10**8):08d}".encode()),
    )


_SPECIAL: dict[Scenario, Callable[[_Draft], DemoMeter | None]] = {
    Scenario.OLD_METER: _old_meter,
    Scenario.MEMORY_GAP: _memory_gap,
    Scenario.FLAKY_LINK: _flaky_link,
    Scenario.SILENT: _silent,
    Scenario.SLOW_CLOCK: _slow_clock,
    Scenario.FAST_CLOCK: _fast_clock,
    Scenario.LOSSES: _losses,
    Scenario.MUSD_EXCEEDED: _musd_exceeded,
    Scenario.BACKUP_METER: _backup_meter,
    Scenario.SUSPENDED: _suspended,
    Scenario.OUTAGE: _outage,
    Scenario.NOISY_LINE: _noisy_line,
    Scenario.ADDRESSED: _addressed,
    Scenario.DLMS: _dlms,
}
