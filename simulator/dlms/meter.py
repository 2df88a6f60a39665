"""The meter's side of DLMS, small: the load of a `SimulatedMeter` as COSEM objects, over wrapper or HDLC.

Pure, as the NBR meter's side: octets in and out, time as an argument. It serves what the collector reads
(serial, clock, registers, load profile, object list, an event log) to clients without security, with a
password or with GMAC, answers in blocks, and refuses what a test wants refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from protocols.dlms import apdu as pdu
from protocols.dlms.apdu import AccessResult, Mechanism, obis_octets
from protocols.dlms.axdr import Data, Tag, array, octets, structure
from protocols.dlms.clock import SHIFT_MOST_S, decode_date_time, encode_date_time
from protocols.dlms.security import Keys
from simulator.load.grid import MARKET_ZONE, local_seconds, wall_clock
from simulator.nbr14522.meter import NO_READER, SimulatedMeter, Stretch

CLOCK, SERIAL, LOAD_PROFILE = "0-0:1.0.0.255", "0-0:96.1.0.255", "1-0:99.1.0.255"
STATUS, EVENTS, COUNTER = "0-0:96.10.7.255", "0-0:99.98.0.255", "0-0:43.1.5.255"
ASSOCIATION = "0-0:40.0.0.255"
ENERGIES = ("1-0:{}.29.0.255", "1-0:{}.8.0.255")
# Group C by quantity code of the NBR channels: active, inductive, capacitive.
GROUP_C = {1: 1, 10: 5, 11: 8, 14: 2}
# The same of phase voltages and currents; they are averages of each period.
PHASE_C = {17: 32, 18: 52, 19: 72, 20: 31, 21: 51, 22: 71}
_UNIT_WH, _UNIT_VARH, _UNIT_A, _UNIT_V = 30, 32, 33, 35
_PHASE_SCALER = -2


class AccessRefusal(Exception):
    """A data-access-result."""

    def __init__(self, code: AccessResult) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(frozen=True)
class DlmsSpec:
    """How a meter speaks DLMS.

    Args:
        clients: mechanism by client SAP. password: of LLS; keys: of GMAC.
        pulse_wh: energy of one pulse of the load, Wh; the scaler is -3, so it may have three decimals.
        with_totals: the profile holds running totals instead of the increments of each period.
        phase_group_d: group D of the columns of voltages and currents; 7 is the instant.
        with_null_clocks: rows after the first of an answer have a null clock.
        is_newest_first: rows of the load profile are sorted, and counted, from the newest on.
        block_octets: largest piece of an answer. max_apdu: largest request that it takes.
        refuses_ranges, refuses_entries: selectors that are answered with "other reason".
        refuses_shift, refuses_set: what shift_time, and a SET of the clock, are answered with.
        statuses: status word by the end of a period, naive.
        ratios: of its transformers, by object. total_offset: pulses that its totals begin at.
    """

    clients: dict[int, Mechanism] = field(default_factory=lambda: {16: Mechanism.NONE})
    password: bytes = field(default=b"", repr=False)
    keys: Keys | None = field(default=None, repr=False)
    pulse_wh: Fraction = Fraction(1)
    with_totals: bool = False
    phase_group_d: int = 49
    with_null_clocks: bool = True
    is_newest_first: bool = False
    block_octets: int = 512
    max_apdu: int = 0x0400
    refuses_ranges: bool = False
    refuses_entries: bool = False
    refuses_shift: AccessResult | None = None
    refuses_set: AccessResult | None = None
    statuses: dict[datetime, int] = field(default_factory=dict)
    ratios: dict[str, int] = field(default_factory=dict)
    total_offset: int = 0
    counter: int = 0


class DlmsMeter:
    """A meter's objects, whatever association asks. `clock_moves`: seconds by which its clock was moved."""

    def __init__(self, meter: SimulatedMeter, spec: DlmsSpec) -> None:
        self.meter = meter
        self.spec = spec
        self.counter_seen = spec.counter
        self.clock_moves: list[int] = []

    def get(self, attribute: pdu.Attribute, selector: int, selection: Data | None, now: datetime) -> Data:
        """Value of an attribute at an instant.

        Raises:
            AccessRefusal: there is no such object, or it may not be read so.
        """
        key = (attribute.class_id, attribute.obis, attribute.index)
        simple: dict[tuple[int, str, int], Callable[[], Data]] = {
            (1, SERIAL, 2): lambda: octets(self.meter.spec.serial.encode()),
            (1, COUNTER, 2): lambda: Data(Tag.UINT32, self.counter_seen),
            (8, CLOCK, 2): lambda: octets(self._clock(now)),
            (7, LOAD_PROFILE, 3): self._columns,
            (7, LOAD_PROFILE, 4): lambda: Data(Tag.UINT32, self.meter.interval_s),
            (7, LOAD_PROFILE, 5): lambda: Data(Tag.ENUM, 2 if self.spec.is_newest_first else 1),
            (7, LOAD_PROFILE, 7): lambda: Data(Tag.UINT32, len(self._stretch(now))),
            (7, EVENTS, 3): lambda: array(_column(8, CLOCK), _column(1, "0-0:96.11.0.255")),
            (7, EVENTS, 2): lambda: self._events(now),
            (15, ASSOCIATION, 2): self._objects,
        }
        if key in simple:
            return simple[key]()
        if key[0] == 1 and key[2] == 2 and key[1] in self.spec.ratios:
            return Data(Tag.UINT16, self.spec.ratios[key[1]])
        if key == (7, LOAD_PROFILE, 2):
            return self._buffer(selector, selection, now)
        return self._register(attribute, now)

    def set_clock(self, at: datetime, now: datetime) -> None:
        """Attribute 2 of the clock is written.

        Raises:
            AccessRefusal: as the specification says.
        """
        self._refuse(self.spec.refuses_set)
        self._move_clock(int(local_seconds(at)), now)

    def shift_clock(self, seconds: int, now: datetime) -> None:
        """Method 6 of the clock.

        Raises:
            AccessRefusal: as the specification says, or it is more than the method takes.
        """
        self._refuse(self.spec.refuses_shift)
        if abs(seconds) > SHIFT_MOST_S:
            raise AccessRefusal(AccessResult.OTHER_REASON)
        self._move_clock(self.meter.meter_seconds(now) + seconds, now)

    @staticmethod
    def _refuse(code: AccessResult | None) -> None:
        if code is not None:
            raise AccessRefusal(code)

    def _move_clock(self, meter_seconds: int, now: datetime) -> None:
        self.clock_moves.append(meter_seconds - self.meter.meter_seconds(now))
        self.meter.set_clock(meter_seconds, now, NO_READER)

    # --- objects -------------------------------------------------------------------------------------

    def _clock(self, now: datetime) -> bytes:
        return encode_date_time(self.meter.meter_now(now).replace(tzinfo=MARKET_ZONE))

    def _energies(self) -> list[tuple[int, str]]:
        """Channel index and OBIS code of each energy column."""
        shape = ENERGIES[self.spec.with_totals]
        codes = self.meter.settings.quantities
        return [(place, shape.format(GROUP_C[code])) for place, code in enumerate(codes) if code in GROUP_C]

    def _phases(self) -> list[tuple[int, str, Fraction]]:
        """Channel index, OBIS code, and hundredths of a volt or ampere a pulse of each phase column."""
        constants, hours = self.meter.spec.channel_constants, Fraction(self.meter.interval_s, 3600)
        return [
            (
                place,
                f"1-0:{PHASE_C[code]}.{self.spec.phase_group_d}.0.255",
                Fraction(*constants[place]) / hours * 100,
            )
            for place, code in enumerate(self.meter.settings.quantities)
            if code in PHASE_C and constants
        ]

    def _columns(self) -> Data:
        captured = [obis for _, obis in self._energies()] + [obis for _, obis, _ in self._phases()]
        return array(_column(8, CLOCK), _column(1, STATUS), *(_column(3, obis) for obis in captured))

    def _stretch(self, now: datetime) -> Stretch:
        return self.meter.whole_memory(now)

    def _buffer(self, selector: int, selection: Data | None, now: datetime) -> Data:
        stretch = self._stretch(now)
        if selection is not None:
            stretch = self._selected(selector, selection, stretch)
        step_s = self.meter.interval_s
        counts = self.meter.pulses(stretch).astype(object)
        if self.spec.with_totals:
            before = self.meter.pulses(Stretch(self._stretch(now).first, stretch.first)).sum(axis=0)
            counts = counts.cumsum(axis=0) + before.astype(object) + self.spec.total_offset
        unit = self.spec.pulse_wh * 1000
        rows: list[Data] = []
        ends = [wall_clock((stretch.first + number + 1) * step_s) for number in range(len(counts))]
        told = list(zip(ends, counts, strict=True))
        for end, values in reversed(told) if self.spec.is_newest_first else told:
            is_null = self.spec.with_null_clocks and bool(rows)
            clock = Data(Tag.NULL) if is_null else octets(encode_date_time(end.replace(tzinfo=MARKET_ZONE)))
            status = Data(Tag.UINT8, self.spec.statuses.get(end, 0))
            energies = [Data(Tag.UINT64, int(values[place] * unit)) for place, _ in self._energies()]
            phases = [Data(Tag.UINT32, round(values[place] * scale)) for place, _, scale in self._phases()]
            rows.append(structure(clock, status, *energies, *phases))
        return array(*rows)

    def _selected(self, selector: int, selection: Data, stretch: Stretch) -> Stretch:
        step_s = self.meter.interval_s
        if selector == 1 and not self.spec.refuses_ranges:
            ends = [decode_date_time(part.value, MARKET_ZONE).at for part in selection.value[1:3]]
            first, last = (
                int((at.astimezone(MARKET_ZONE).replace(tzinfo=None) - wall_clock(0)).total_seconds())
                for at in ends
            )
            return _within(stretch, -(-first // step_s) - 1, last // step_s)
        if selector == 2 and not self.spec.refuses_entries:
            first, last = selection.value[0].value, selection.value[1].value or len(stretch)
            if self.spec.is_newest_first:
                first, last = len(stretch) + 1 - last, len(stretch) + 1 - first
            return _within(stretch, stretch.first + first - 1, stretch.first + last)
        raise AccessRefusal(AccessResult.OTHER_REASON)

    def _register(self, attribute: pdu.Attribute, now: datetime) -> Data:
        parts = obis_octets(attribute.obis)
        if attribute.index == 3 and attribute.obis in {obis for _, obis, _ in self._phases()}:
            unit = _UNIT_V if parts[2] in (32, 52, 72) else _UNIT_A
            return structure(Data(Tag.INT8, _PHASE_SCALER), Data(Tag.ENUM, unit))
        codes = {
            GROUP_C[code]: place
            for place, code in enumerate(self.meter.settings.quantities)
            if code in GROUP_C
        }
        if attribute.class_id != 3 or parts[2] not in codes or parts[3] not in (8, 29):
            raise AccessRefusal(AccessResult.OBJECT_UNDEFINED)
        if attribute.index == 3:
            unit = _UNIT_WH if parts[2] in (1, 2) else _UNIT_VARH
            return structure(Data(Tag.INT8, -3), Data(Tag.ENUM, unit))
        total = int(self.meter.pulses(self._stretch(now))[:, codes[parts[2]]].sum())
        return Data(Tag.UINT64, int(total * self.spec.pulse_wh * 1000))

    def _events(self, now: datetime) -> Data:
        rows = [
            structure(
                octets(encode_date_time(wall_clock(change.at_s).replace(tzinfo=MARKET_ZONE))),
                Data(Tag.UINT8, change.code),
            )
            for change in self.meter.changes(now)
        ]
        return array(*rows)

    def _objects(self) -> Data:
        listed = [(1, SERIAL), (1, COUNTER), (8, CLOCK), (7, LOAD_PROFILE), (7, EVENTS), (15, ASSOCIATION)]
        listed += [(3, obis) for _, obis in self._energies()]
        return array(
            *(
                structure(
                    Data(Tag.UINT16, class_id),
                    Data(Tag.UINT8, 0),
                    octets(obis_octets(obis)),
                    structure(array(), array()),
                )
                for class_id, obis in listed
            )
        )


def _column(class_id: int, obis: str) -> Data:
    return structure(
        Data(Tag.UINT16, class_id),
        octets(obis_octets(obis)),
        Data(Tag.INT8, 2),
        Data(Tag.UINT16, 0),
    )


def _within(stretch: Stretch, first: int, stop: int) -> Stretch:
    low = min(max(first, stretch.first), stretch.stop)
    return Stretch(low, max(low, min(stop, stretch.stop)))
