"""Fleets described in a file: groups of meters with their models, loads, clocks, lines and ways to them.

`docs/frota_simulada.md` describes the format for people. Everything follows from the file: the same file
gives the same fleet, each meter drawing its own values from a seed of its own.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast, get_args

from faults import OperatorFault
from protocols.nbr14522.commands import parse_command
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.models import add_catalogue
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.profiles import PROFILES
from protocols.nbr14522.sending.passwords import PASSWORD_SIZE, TRANSFORMS
from simulator.fleets.toml_reader import TomlTable
from simulator.load.channels import NAMES, channel_load
from simulator.load.clock import ClockModel
from simulator.load.curves import CHANNELS, GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.load.shapes import SHAPES
from simulator.nbr14522.passwords import USUALLY_PROTECTED, PasswordRules
from simulator.nbr14522.spec import MeterSpec, Outage, PhaseSequence
from simulator.wires.dialer import DialPlan
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan
from simulator.wires.impairment import QUALITIES, LinkQuality

MAX_METERS = 20_000
MAX_CHANNELS = 12
_STANDARD_CHANNELS = ["kwh", "kvarh-ind", "kvarh-cap"]
_YEAR_DAYS = 365.25


class Transport(StrEnum):
    """How a meter is reached."""

    TCP = "tcp"
    """Its address listens."""
    DIAL_IN = "dial_in"
    """Its unit calls the collector."""
    RFC2217 = "rfc2217"
    """A serial gateway with telnet and port control listens."""
    PTY = "pty"
    """A serial line of this machine."""


@dataclass(frozen=True)
class PlannedMeter:
    """One meter of a fleet."""

    group: str
    spec: MeterSpec
    faults: FaultPlan


@dataclass(frozen=True)
class PlannedUnit:
    """One address, or one unit that calls, with the meters behind it.

    `faults` are those of the common way; with a single meter they are its own.
    """

    name: str
    transport: Transport
    meters: tuple[PlannedMeter, ...]
    faults: FaultPlan
    link: str
    dial: DialPlan | None = None
    enq_period_s: float | None = None


@dataclass(frozen=True)
class FleetPlan:
    """A whole fleet. `now`: the simulated instant at which it starts; None: the time it really is."""

    name: str
    host: str
    first_port: int
    now: datetime | None
    units: tuple[PlannedUnit, ...]

    @property
    def meters(self) -> tuple[PlannedMeter, ...]:
        return tuple(meter for unit in self.units for meter in unit.meters)


def load_fleet(path: Path, real_now: datetime, collector: str | None = None) -> FleetPlan:
    """Read a fleet file, and the catalogues of models that it names (paths beside the file).

    Args:
        real_now: what `now = "system"` means; aware.
        collector: HOST:PORT that units call, in place of the file's.

    Raises:
        OperatorFault: names file, group and key, and what would be right. Nothing is half-loaded.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the fleet: {error}", where=str(path), remedy="name a readable UTF-8 TOML file"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise OperatorFault(f"not TOML: {error}", where=str(path), remedy="correct the line named") from error
    for name in TomlTable(document.get("fleet", {}), f"{path}, fleet,").value("catalogue", []):
        try:
            add_catalogue(str(name), (path.parent / str(name)).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorFault(
                f"cannot read the catalogue {name}: {error}",
                where=f"{path}, fleet, catalogue",
                remedy="name TOML files beside the fleet file",
            ) from error
    return plan_fleet(document, str(path), real_now, collector)


def plan_fleet(
    document: dict[str, Any], where: str, real_now: datetime, collector: str | None = None
) -> FleetPlan:
    """The fleet of a document already parsed; see `load_fleet`."""
    top = TomlTable(document, where)
    head = TomlTable(top.value("fleet", {}), f"{where}, fleet,")
    head.has("catalogue")
    planner = _Planner(head, _qualities(top, where), real_now, collector)
    tables = top.value("group", [])
    if not isinstance(tables, list) or not tables:
        raise top.wrong("group", "a fleet needs groups", "add a section [[group]] with name, count and model")
    top.finish()
    names: set[str] = set()
    for number, table in enumerate(tables, start=1):
        group = TomlTable(table, f"{where}, group {number},")
        name = group.text("name")
        group.where = f"{where}, group {name!r},"
        if name in names:
            raise group.wrong("name", "two groups have this name", "give each group a name of its own")
        names.add(name)
        planner.add(name, group)
    return planner.plan()


def _qualities(top: TomlTable, where: str) -> dict[str, LinkQuality]:
    """The named line qualities: the known ones, and those of `[link.NAME]`."""
    known = dict(QUALITIES)
    for name, own in top.table("link").items():
        table = TomlTable(own, f"{where}, link {name!r},")
        values: dict[str, Any] = {}
        for item in fields(LinkQuality):
            if not table.has(item.name):
                continue
            if item.name == "portion_octets":
                values[item.name] = table.whole(item.name, None, 1, 65_536)
            else:
                limit = 1.0 if item.name in _CHANCES else 1e9
                values[item.name] = table.number(item.name, 0.0, 0.0, limit)
                if item.name.startswith("mean_") and not values[item.name]:
                    raise table.wrong(item.name, "zero", "leave the key out for a line that never breaks")
        base = known[table.choice("extends", "perfect", known)]
        table.finish()
        known[name] = replace(base, **values)
    return known


_CHANCES = frozenset({"loss", "corruption", "connect_failure", "silent_breaks"})


class _Planner:
    """Builds meters group by group; serial numbers and ports run on through all groups."""

    def __init__(
        self,
        head: TomlTable,
        qualities: dict[str, LinkQuality],
        real_now: datetime,
        collector: str | None,
    ) -> None:
        self._qualities = qualities
        self._name = head.text("name", "fleet")
        self._seed = head.whole("seed", 0, 0, 2**31)
        self._host = head.text("host", "127.0.0.1")
        self._first_port = head.whole("first_port", 0, 0, 65_535)
        self._collector = collector or head.text("collector", "")
        self._now = _instant(head, "now")
        self._reference = self._now or real_now
        self._history_days = head.whole("history_days", 120, 1, 1_500)
        self._serial = head.whole("first_serial", 40_000_001, 1, 99_999_999)
        head.finish()
        self._head = head
        self._units: list[PlannedUnit] = []
        self._meters = 0

    def plan(self) -> FleetPlan:
        return FleetPlan(self._name, self._host, self._first_port, self._now, tuple(self._units))

    def add(self, name: str, table: TomlTable) -> None:
        """All meters of one group."""
        count = table.whole("count", 1, 1, MAX_METERS)
        self._meters += count
        if self._meters > MAX_METERS:
            raise table.wrong("count", f"more than {MAX_METERS} meters in all", "start several fleets")
        group = _Group(name, table, self._qualities, self._collector)
        table.finish()
        for first in range(0, count, group.per_unit):
            size = min(group.per_unit, count - first)
            self._units.append(self._unit(group, first, size))

    def _unit(self, group: _Group, first: int, size: int) -> PlannedUnit:
        name = f"{group.name}-{first // group.per_unit + 1:03d}"
        chance = random.Random(f"{self._seed}/{name}")
        faults = group.line_faults(chance)
        meters = tuple(self._meter(group, first + place, place) for place in range(size))
        if size == 1:
            own = replace(
                meters[0].faults,
                quality=faults.quality,
                silent=faults.silent,
                hello=faults.hello,
                seed=faults.seed,
            )
            meters, faults = (replace(meters[0], faults=own),), own
        return PlannedUnit(
            name=name,
            transport=group.transport,
            meters=meters,
            faults=faults,
            link=group.link,
            dial=group.dial_plan(name, meters[0].spec.serial, chance),
            enq_period_s=group.enq_period_s,
        )

    def _meter(self, group: _Group, index: int, place: int) -> PlannedMeter:
        chance = random.Random(f"{self._seed}/{group.name}/{index}")
        serial = f"{self._serial:08d}"
        self._serial += 1
        if len(serial) > 8:
            raise self._head.wrong("first_serial", "serial numbers run out", "begin with a smaller one")
        spec = group.meter(serial, place, chance, self._reference, self._history_days)
        return PlannedMeter(group.name, spec, group.meter_faults(chance))


class _Group:
    """The keys of one `[[group]]`, checked."""

    def __init__(
        self, name: str, table: TomlTable, qualities: dict[str, LinkQuality], collector: str
    ) -> None:
        self.name = name
        self.model = table.choice("model", "default", PROFILES)
        self.profile = PROFILES[self.model]
        self._read_line(table, qualities, collector)
        self._read_load(table)
        self._read_meter(table)
        self._read_faults(table.table("faults"))

    # --- keys -----------------------------------------------------------------------------------------

    def _read_line(self, table: TomlTable, qualities: dict[str, LinkQuality], collector: str) -> None:
        self.transport = Transport(table.choice("transport", "tcp", list(Transport)))
        self.per_unit = table.whole("per_unit", 1, 1, 99)
        if self.per_unit > 1 and self.profile.addressing is Addressing.P0:
            raise table.wrong(
                "per_unit",
                f"meters of model {self.model} have no address: only one fits on a line",
                "choose a model with addressing P8 or P2, or per_unit = 1",
            )
        if self.per_unit > 1 and self.transport is Transport.PTY:
            raise table.wrong(
                "per_unit", "a serial line here has one meter", "choose transport tcp or dial_in"
            )
        self.link = table.choice("link", "perfect", qualities)
        self.quality = qualities[self.link]
        self.enq_period_s = table.optional_number("enq_period_s", None, 0.022, 60.0)
        dial = table.table("dial")
        self._dial = None
        if self.transport is Transport.DIAL_IN:
            self._dial = _dial_plan(dial, table, collector, self.enq_period_s)
        dial.finish()

    def _read_load(self, table: TomlTable) -> None:
        self.loads = table.choices("loads", ["supermarket"], SHAPES)
        self.peak_kw = table.spread("peak_kw", 100.0, 0.1, 100_000.0)
        self.generation_kw = table.spread("generation_kw", 0.0, 0.0, 100_000.0)
        self.phase_voltage_v = table.number("phase_voltage_v", 127.0, 50.0, 300_000.0)
        self.phase_sequence = table.choice("phase_sequence", "ABC", get_args(PhaseSequence))
        minutes = table.whole("interval_min", 5, 1, 60)
        self.interval_s = 60 * minutes
        self.demand_interval_s = 60 * table.whole("demand_interval_min", 15, 1, 60)
        if 60 % minutes or self.demand_interval_s % self.interval_s or 3600 % self.demand_interval_s:
            raise table.wrong(
                "interval_min",
                f"{minutes} min of memory in {self.demand_interval_s // 60} min of demand",
                "choose numbers that divide each other and the hour: 5 and 15, or 15 and 15",
            )
        channels = table.choices("channels", _STANDARD_CHANNELS, NAMES)
        self.channels = tuple(NAMES[channel] for channel in channels)
        most = min(MAX_CHANNELS, CHANNELS * self.profile.groups)
        if len(channels) % CHANNELS or len(channels) > most:
            raise table.wrong(
                "channels",
                f"{len(channels)} channels, where model {self.model} has {CHANNELS} to {most} in threes",
                "fill up with 'off', or choose a model with more groups",
            )
        if self.generation_kw.high and self.channels == tuple(NAMES[c] for c in _STANDARD_CHANNELS):
            raise table.wrong(
                "generation_kw", "no channel counts reverse energy", "add 'kwh-rev' to channels"
            )

    def _read_meter(self, table: TomlTable) -> None:
        clock = table.table("clock")
        self.offset_s = clock.spread("offset_s", 0.0, -86_400.0 * 366, 86_400.0 * 366)
        self.drift_ppm = clock.spread("drift_ppm", 0.0, -10_000.0, 10_000.0)
        clock.finish()
        self.capacity_days = table.whole("capacity_days", 60, 1, 1_000)
        day = table.whole("automatic_reset_day", 1, 0, 28)
        self.automatic_reset_day = day or None
        self.reset_protection_s = 60 * table.whole("reset_protection_min", 0, 0, 100_000)
        self.micro_adjust_ppm = table.number("micro_adjust_ppm", 10_000.0, 1.0, 500_000.0)
        self.outages_per_year = table.number("outages_per_year", 0.0, 0.0, 2_000.0)
        self.outage_min = table.spread("outage_min", 30.0, 0.02, 100_000.0)
        self.occurrences = _codes(table, "occurrences")
        self.passwords = self._passwords(table.table("password"))

    def _passwords(self, table: TomlTable) -> PasswordRules | None:
        write, read = table.text("write", ""), table.text("read", "")
        table.finish()
        if not write and not read:
            return None
        for key, password in (("write", write), ("read", read)):
            if len(password) > PASSWORD_SIZE or not password.isascii():
                raise table.wrong(key, f"not {PASSWORD_SIZE} ASCII characters or fewer", "shorten it")
        if self.profile.password_transform not in TRANSFORMS:
            raise table.wrong(
                "write",
                f"model {self.model} has password transform {self.profile.password_transform!r}, "
                "which cannot be computed",
                f"choose a model with one of: {', '.join(sorted(TRANSFORMS))}",
            )
        codes = {parse_command(key)[0] for key in self.profile.password_commands}
        reads = frozenset(codes - USUALLY_PROTECTED)
        return PasswordRules(write, read, USUALLY_PROTECTED | codes, reads)

    def _read_faults(self, table: TomlTable) -> None:
        self.silent = table.number("silent", 0.0, 0.0, 1.0)
        self.bad_crc = table.spread("bad_crc", 0.0, 0.0, 1.0)
        self.wait_count = table.whole("wait_count", 0, 0, 12)
        self.refuse_first = table.whole("refuse_first", 0, 0, 1_000_000)
        self.drop_first = table.whole("drop_first", 0, 0, 1_000_000)
        self.drop_at_block = table.whole("drop_at_block", 2, 1, 1_000_000)
        self.memory_lost = table.number("memory_lost", 0.0, 0.0, 1.0)
        self.telnet = table.truth("telnet", False)
        baud = table.whole("baud", 0, 0, 10_000_000)
        if 0 < baud < 300:
            raise table.wrong("baud", f"{baud} is too slow for the link's times", "write baud = 300 or more")
        self.baud = baud or None
        table.finish()

    # --- what follows for one unit or meter -----------------------------------------------------------

    def line_faults(self, chance: random.Random) -> FaultPlan:
        """Of the way that a unit's meters share."""
        return FaultPlan(
            quality=self.quality,
            silent=chance.random() < self.silent,
            hello=TELNET_OPTIONS if self.telnet else b"",
            seed=chance.randrange(2**31),
        )

    def meter_faults(self, chance: random.Random) -> FaultPlan:
        return FaultPlan(
            bad_crc_probability=self.bad_crc.draw(chance),
            wait_count=self.wait_count,
            refuse_first=self.refuse_first,
            drop_first=self.drop_first,
            drop_at_block=self.drop_at_block,
            baud=self.baud,
            seed=chance.randrange(2**31),
        )

    def dial_plan(self, unit: str, serial: str, chance: random.Random) -> DialPlan | None:
        if self._dial is None:
            return None
        hello = self._dial.hello.replace(b"{unit}", unit.encode()).replace(b"{serial}", serial.encode())
        return replace(
            self._dial,
            hello=hello,
            seed=chance.randrange(2**31),
            first_after_s=chance.uniform(0.0, self._dial.back_off_s),
        )

    def meter(
        self, serial: str, place: int, chance: random.Random, now: datetime, history_days: int
    ) -> MeterSpec:
        local = now.astimezone(MARKET_ZONE).replace(tzinfo=None, second=0, microsecond=0)
        started_at = (local - timedelta(days=history_days)).replace(hour=9, minute=20)
        peak_kw = self.peak_kw.draw(chance)
        base = GeneratedLoad(
            chance.choice(self.loads), peak_kw, 1.0, chance.randrange(2**31), interval_s=self.interval_s
        )
        load = channel_load(
            base,
            self.channels,
            phase_voltage_v=self.phase_voltage_v,
            generation_kw=max(self.generation_kw.draw(chance), 0.0),
        )
        profile: MeterProfile = self.profile
        if profile.addressing is Addressing.P2 and self.per_unit > 1:
            profile = replace(profile, address=place + 1)
        active = load.per_pulse[self.channels.index(1)] if 1 in self.channels else load.per_pulse[0]
        return MeterSpec(
            serial=serial,
            source=load,
            started_at=started_at,
            clock=ClockModel(now, self.offset_s.draw(chance), self.drift_ppm.draw(chance)),
            pulse_constant=active,
            channel_constants=load.per_pulse,
            profile=profile,
            demand_interval_s=self.demand_interval_s,
            capacity_days=self.capacity_days,
            automatic_reset_day=self.automatic_reset_day,
            outages=self._outages(started_at, chance, history_days),
            memory_cleared=self._cleared(local, chance),
            reset_protection_s=self.reset_protection_s,
            occurrences=self.occurrences,
            phase_sequence=cast(PhaseSequence, self.phase_sequence),
            phase_voltage_v=self.phase_voltage_v,
            rated_kw=peak_kw,
            passwords=self.passwords,
            micro_adjust_ppm=self.micro_adjust_ppm,
        )

    def _outages(self, started_at: datetime, chance: random.Random, days: int) -> tuple[Outage, ...]:
        """Through the history and as long again after it, none overlapping."""
        outages: list[Outage] = []
        at, end = started_at, started_at + timedelta(days=2 * days)
        while self.outages_per_year:
            at += timedelta(days=chance.expovariate(self.outages_per_year / _YEAR_DAYS))
            if at >= end:
                break
            start = at.replace(microsecond=0)
            at += timedelta(minutes=max(self.outage_min.draw(chance), 0.02))
            outages.append(Outage(start, max(at.replace(microsecond=0), start + timedelta(seconds=1))))
        return tuple(outages)

    def _cleared(self, local: datetime, chance: random.Random) -> tuple[datetime, ...]:
        if chance.random() >= self.memory_lost:
            return ()
        return (local - timedelta(hours=chance.uniform(1.0, 72.0)),)


def _dial_plan(dial: TomlTable, group: TomlTable, collector: str, enq_period_s: float | None) -> DialPlan:
    host, _, port = dial.text("collector", collector).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise group.wrong(
            "transport",
            f"units that call need to know whom: {dial.text('collector', collector)!r} is not a HOST:PORT",
            'write collector = "127.0.0.1:17999" under [fleet], or give --collector',
        )
    hello = dial.text("hello", "").encode() + dial.octets("hello_hex")
    quiet_after_s = dial.optional_number("quiet_after_s", 60.0, 0.0, 1e9)
    return DialPlan(
        host=host,
        port=int(port),
        hello=hello,
        keep_alive=dial.octets("keep_alive_hex"),
        keep_alive_s=dial.optional_number("keep_alive_s", None, 1.0, 1e6),
        back_off_s=dial.number("back_off_s", 5.0, 0.1, 1e5),
        back_off_max_s=dial.number("back_off_max_s", 300.0, 0.1, 1e6),
        quiet_after_s=quiet_after_s or None,
        enq_period_s=enq_period_s,
    )


def _codes(table: TomlTable, key: str) -> tuple[int, ...]:
    value = table.value(key, [])
    try:
        return tuple(parse_command(str(one))[0] for one in value)
    except (LocalProtocolError, TypeError) as error:
        raise table.wrong(key, f"{value!r} is not a list of codes", f'write {key} = ["30"]') from error


def _instant(table: TomlTable, key: str) -> datetime | None:
    value = table.value(key, "system")
    if value == "system":
        return None
    if not isinstance(value, datetime):
        raise table.wrong(
            key, f"{value!r} is not an instant", f'write {key} = 2026-11-20T08:00:00-03:00, or "system"'
        )
    return value if value.tzinfo is not None else value.replace(tzinfo=MARKET_ZONE)
