"""One block: octets to fields and back (reference "ssu", sections 2, 3 and 4).

A block that verifies but carries a set unused bit is kept and says so in `suspects`; it must not close an
interval (section 5). A block that fails its check, or cannot be, is `Refused`, a value with the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import reduce
from operator import xor
from typing import ClassVar

from protocols.nbr14522.crc import crc16_arc


class Format(StrEnum):
    """Block formats by their length: normal 8 octets, extended 9, mixed 56."""

    NORMAL = "normal"
    EXTENDED = "extended"
    MIXED = "mixed"


LENGTH = {Format.NORMAL: 8, Format.EXTENDED: 9, Format.MIXED: 56}

NORMAL_SEGMENTS = {0b0001: "ponta", 0b0010: "fora_de_ponta", 0b1000: "reservado"}
EXTENDED_SEGMENTS = {0: "reservado", 1: "ponta", 2: "fora_de_ponta", 3: "intermediario"}
MIXED_SEGMENTS = {0: "ponta", 1: "fora_de_ponta", 2: "intermediario", 3: "reservado"}
TARIFFS = {0: "azul", 1: "verde", 2: "irrigantes", 3: "outra"}
# Section 3: 01 is the fourth quadrant and 10 the second, confirmed with field captures.
QUADRANTS = {0: 1, 1: 4, 2: 2, 3: 3}
WIRINGS = {0: "star", 1: "undefined", 2: "delta", 3: "two_phase_120", 4: "single_phase", 5: "series_parallel",
           6: "grounded_delta"}  # fmt: skip
MIXED_CODE = 0x01
# Section 4, octets 42-53: Wh+, its +varh and -varh, Wh-, its +varh and -varh.
MIXED_REGISTERS = ("R1", "R3", "R6", "R2", "R4", "R5")
_MIXED_PLACES = tuple(sorted((name, place) for place, name in enumerate(MIXED_REGISTERS)))
# What octets 6-9 of a mixed block hold, by the second of the meter's clock modulo six.
MIXED_ROTATION = (
    "serial_number",
    "tp_ratio_x10000",
    "tc_ratio_x10000",
    "ke_wh_per_pulse_x10000",
    "reserved_4",
    "reserved_5",
)
MIXED_EPOCH = datetime(1980, 1, 1)  # noqa: DTZ001 - the meter's local clock, without zone


@dataclass(frozen=True)
class Refused:
    """Octets that are not a block, and why."""

    reason: str


@dataclass(frozen=True)
class NormalBlock:
    """Eight octets (section 2). Pulses count from the start of the demand interval, 15 bits."""

    format: ClassVar[Format] = Format.NORMAL
    counter_modulus: ClassVar[int] = 1 << 15

    seconds_left: int
    bill_toggle: bool
    reactive_toggle: bool
    is_capacitive: bool
    is_inductive: bool
    segment: str
    tariff: str
    is_reactive_tariff: bool
    active_pulses: int
    reactive_pulses: int
    suspects: tuple[str, ...] = ()

    @property
    def registers(self) -> dict[str, int]:
        """Counters by register; without quadrants there is one active and one reactive."""
        return {"active": self.active_pulses, "reactive": self.reactive_pulses}

    def encode(self) -> bytes:
        """The eight octets on the line."""
        flags = self.bill_toggle << 4 | self.reactive_toggle << 5 | self.is_capacitive << 6
        flags |= self.is_inductive << 7
        third = _key(NORMAL_SEGMENTS, self.segment) | _key(TARIFFS, self.tariff) << 4
        third |= self.is_reactive_tariff << 7
        head = struct.pack(
            "<BBBHH",
            self.seconds_left & 0xFF,
            self.seconds_left >> 8 | flags,
            third,
            self.active_pulses,
            self.reactive_pulses,
        )
        return head + bytes([_complement(head)])


@dataclass(frozen=True)
class ExtendedBlock:
    """Nine octets (section 3). The two counters belong to the registers of the current quadrant."""

    format: ClassVar[Format] = Format.EXTENDED
    counter_modulus: ClassVar[int] = 1 << 16

    seconds_left: int
    bill_toggle: bool
    reactive_toggle: bool
    is_capacitive: bool
    is_inductive: bool
    segment: str
    quadrant: int
    is_reactive_tariff: bool
    active_pulses: int
    reactive_pulses: int
    suspects: tuple[str, ...] = ()

    @property
    def registers(self) -> dict[str, int]:
        """Counters by register R1..R6 (table of section 3)."""
        active = "R1" if self.quadrant in (1, 4) else "R2"
        return {active: self.active_pulses, f"R{self.quadrant + 2}": self.reactive_pulses}

    def encode(self) -> bytes:
        """The nine octets on the line."""
        flags = self.bill_toggle << 4 | self.reactive_toggle << 5 | self.is_capacitive << 6
        flags |= self.is_inductive << 7
        third = _key(EXTENDED_SEGMENTS, self.segment) | _key(QUADRANTS, self.quadrant) << 4
        third |= self.is_reactive_tariff << 7
        head = struct.pack(
            "<BBBHH",
            self.seconds_left & 0xFF,
            self.seconds_left >> 8 | flags,
            third,
            self.active_pulses,
            self.reactive_pulses,
        )
        return head + struct.pack("<H", crc16_arc(head))


@dataclass(frozen=True)
class MixedBlock:
    """Fifty-six octets at 600 baud (section 4, one source and one captured frame). Secondary values."""

    format: ClassVar[Format] = Format.MIXED
    counter_modulus: ClassVar[int] = 1 << 16

    seconds_left: int
    wiring: str
    meter_time: datetime
    rotating_field: str
    rotating_value: int
    voltages_v: tuple[float, float, float]
    currents_a: tuple[float, float, float, float]
    active_powers_w: tuple[float, float, float]
    reactive_powers_var: tuple[float, float, float]
    frequency_hz: float
    bill_toggle: bool
    reactive_toggle: bool
    is_capacitive: bool
    is_inductive: bool
    is_reactive_tariff: bool
    segment: str
    counters: tuple[int, int, int, int, int, int]
    suspects: tuple[str, ...] = ()

    @property
    def registers(self) -> dict[str, int]:
        """Counters by register: octets 42-53 in the order of section 4."""
        return {name: self.counters[place] for name, place in _MIXED_PLACES}

    def encode(self, hour_post: str = "own") -> bytes:
        """The fifty-six octets on the line; `hour_post`: see `SsuSettings.mixed_hour_post`."""
        control = self.is_reactive_tariff << 15 | self.is_inductive << 14 | self.is_capacitive << 13
        control |= self.reactive_toggle << 12 | self.bill_toggle << 2
        control |= _key(mixed_segments(hour_post), self.segment)
        head = _MIXED.pack(
            MIXED_CODE,
            _key(WIRINGS, self.wiring),
            (self.meter_time - MIXED_EPOCH) // timedelta(seconds=1),
            self.rotating_value,
            *(round(volts * 100) for volts in self.voltages_v),
            *(round(amps * 1000) for amps in self.currents_a),
            *(round(watts * 10) for watts in self.active_powers_w),
            *(round(var * 10) for var in self.reactive_powers_var),
            round(self.frequency_hz * 100),
            self.seconds_left,
            control,
            *self.counters,
            0,
        )[:-2]
        return head + struct.pack("<H", crc16_arc(head))


Block = NormalBlock | ExtendedBlock | MixedBlock


def counter_place(block: Block, register: str) -> tuple[int, int]:
    """First octet, from 0, and number of octets of a register's counter; low octet first."""
    if isinstance(block, MixedBlock):
        return 42 + 2 * MIXED_REGISTERS.index(register), 2
    return (3 if register in ("active", "R1", "R2") else 5), 2


def mixed_segments(hour_post: str) -> Mapping[int, str]:
    """The coding of the hour post in a mixed block; see `SsuSettings.mixed_hour_post`."""
    return MIXED_SEGMENTS if hour_post == "own" else EXTENDED_SEGMENTS


def decode_block(octets: bytes, mixed_hour_post: str = "own") -> Block | Refused:
    """Decode one block; the format is told by the length.

    Args:
        octets: 8, 9 or 56 octets.
        mixed_hour_post: see `SsuSettings.mixed_hour_post`.
    """
    if len(octets) == LENGTH[Format.NORMAL]:
        return _decode_normal(octets)
    if len(octets) == LENGTH[Format.EXTENDED]:
        return _decode_extended(octets)
    if len(octets) == LENGTH[Format.MIXED]:
        return _decode_mixed(octets, mixed_hour_post)
    return Refused(f"unsupported length {len(octets)}: no public layout")


def _decode_normal(octets: bytes) -> NormalBlock | Refused:
    if octets[7] != _complement(octets[:7]):
        return Refused("complement check fails")
    segment = NORMAL_SEGMENTS.get(octets[2] & 0x0F)
    if segment is None:
        return Refused(f"segment bits {octets[2] & 0x0F:04b} name no single tariff segment")
    active, reactive = struct.unpack_from("<HH", octets, 3)
    suspects = [
        name
        for name, bit in (("O3.6", octets[2] & 0x40), ("O5.7", active & 0x8000), ("O7.7", reactive & 0x8000))
        if bit
    ]
    return NormalBlock(
        seconds_left=octets[0] | (octets[1] & 0x0F) << 8,
        bill_toggle=bool(octets[1] & 0x10),
        reactive_toggle=bool(octets[1] & 0x20),
        is_capacitive=bool(octets[1] & 0x40),
        is_inductive=bool(octets[1] & 0x80),
        segment=segment,
        tariff=TARIFFS[octets[2] >> 4 & 0x03],
        is_reactive_tariff=bool(octets[2] & 0x80),
        active_pulses=active & 0x7FFF,
        reactive_pulses=reactive & 0x7FFF,
        suspects=tuple(suspects),
    )


def _decode_extended(octets: bytes) -> ExtendedBlock | Refused:
    if not any(octets):
        # The CRC starts from zero, so an idle line of zeros would pass (section 5, vector X1).
        return Refused("all zero: passes the CRC but is not a block")
    if crc16_arc(octets):
        return Refused("CRC fails")
    active, reactive = struct.unpack_from("<HH", octets, 3)
    suspects = [name for name, bit in (("O3.2-3", octets[2] & 0x0C), ("O3.6", octets[2] & 0x40)) if bit]
    return ExtendedBlock(
        seconds_left=octets[0] | (octets[1] & 0x0F) << 8,
        bill_toggle=bool(octets[1] & 0x10),
        reactive_toggle=bool(octets[1] & 0x20),
        is_capacitive=bool(octets[1] & 0x40),
        is_inductive=bool(octets[1] & 0x80),
        segment=EXTENDED_SEGMENTS[octets[2] & 0x03],
        quadrant=QUADRANTS[octets[2] >> 4 & 0x03],
        is_reactive_tariff=bool(octets[2] & 0x80),
        active_pulses=active,
        reactive_pulses=reactive,
        suspects=tuple(suspects),
    )


_MIXED = struct.Struct("<BBII7H6hHHH6HH")


def _decode_mixed(octets: bytes, hour_post: str) -> MixedBlock | Refused:
    if octets[0] != MIXED_CODE:
        return Refused(f"block code {octets[0]:02X} is not 01")
    if crc16_arc(octets):
        return Refused("CRC fails")
    fields = _MIXED.unpack(octets)
    wiring, seconds, rotating = fields[1:4]
    if wiring not in WIRINGS:
        return Refused(f"wiring {wiring} is unknown")
    control = fields[19]
    volts, amps, watts = fields[4:7], fields[7:11], fields[11:14]
    return MixedBlock(
        seconds_left=fields[18],
        wiring=WIRINGS[wiring],
        meter_time=MIXED_EPOCH + timedelta(seconds=seconds),
        rotating_field=MIXED_ROTATION[seconds % len(MIXED_ROTATION)],
        rotating_value=rotating,
        voltages_v=(volts[0] / 100, volts[1] / 100, volts[2] / 100),
        currents_a=(amps[0] / 1000, amps[1] / 1000, amps[2] / 1000, amps[3] / 1000),
        active_powers_w=(watts[0] / 10, watts[1] / 10, watts[2] / 10),
        reactive_powers_var=(fields[14] / 10, fields[15] / 10, fields[16] / 10),
        frequency_hz=fields[17] / 100,
        bill_toggle=bool(control & 0x0004),
        reactive_toggle=bool(control & 0x1000),
        is_capacitive=bool(control & 0x2000),
        is_inductive=bool(control & 0x4000),
        is_reactive_tariff=bool(control & 0x8000),
        segment=mixed_segments(hour_post)[control & 0x03],
        counters=fields[20:26],
    )


def _complement(octets: bytes) -> int:
    return ~reduce(xor, octets) & 0xFF


def _key(table: Mapping[int, object], value: object) -> int:
    return next(code for code, meaning in table.items() if meaning == value)
