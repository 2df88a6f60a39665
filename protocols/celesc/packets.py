"""Packets: octets to values and back (sections 3, 4 and 5).

`AA 55 | number 5 BCD | size | scope, index | data | CRC-16/ARC low first`, one quantity a packet. A false
start is abandoned one octet after its AA, so that a good packet inside is never lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from protocols.nbr14522.crc import crc16_arc
from protocols.skipped import SkippedRun

PREAMBLE = b"\xaa\x55"
HEAD = 8  # preamble, number, size
MIN_SIZE = 2
MAX_SIZE = 64  # section 4: above this it is a false preamble
# A partial packet whose rest does not come within this is abandoned (section 5: real receivers use 500 ms).
ABANDON_S = 0.5


class Quantity(Enum):
    """Codes with a known meaning, as (scope, index)."""

    ACTIVE_ENERGY_KWH = (0x0A, 0x02)
    INDUCTIVE_ENERGY_KVARH = (0x0A, 0x07)
    CAPACITIVE_ENERGY_KVARH = (0x0A, 0x0C)
    # Exists on meters elsewhere; for CELESC's bidirectional meters the code is not published (section 4).
    ACTIVE_ENERGY_REVERSE_KWH = (0x0A, 0x51)
    PHASE_A_VOLTAGE_X10 = (0x0B, 0x01)


_QUANTITIES = {quantity.value: quantity for quantity in Quantity}


@dataclass(frozen=True)
class Packet:
    """One packet with a good CRC.

    Attributes:
        meter_number: ten digits.
        scope, index: the code; `quantity` is its meaning, None when unknown.
        data: raw octets, always kept.
        value: the BCD number; None when the data is not BCD or the code is unknown.
        is_absent: all data octets are FF: the register does not exist (section 4).
        arrived_at_s: arrival of the first octet, None without stamps.
    """

    meter_number: str
    scope: int
    index: int
    data: bytes
    value: int | None
    is_absent: bool
    problem: str
    arrived_at_s: float | None
    offset: int

    @property
    def quantity(self) -> Quantity | None:
        """Meaning of the code, None when it is unknown or custom."""
        return _QUANTITIES.get((self.scope, self.index))

    @property
    def digits(self) -> int:
        """Number of BCD digits sent."""
        return 2 * len(self.data)


@dataclass(frozen=True)
class GroupedPacket:
    """Packet that a remote builds from a meter's (section 4, one source): another format, never guessed."""

    version: int
    signal: int
    meter_number: str
    groups: tuple[tuple[int, int, bytes], ...]


def encode_packet(meter_number: str, scope: int, index: int, data: bytes) -> bytes:
    """Octets of one packet on the line."""
    body = bytes.fromhex(meter_number) + bytes([len(data) + 2, scope, index]) + data
    return PREAMBLE + body + crc16_arc(body).to_bytes(2, "little")


class CelescStream:
    """Push octets in, take packets and skipped runs out; `next_event()` is None when more is needed."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stamps: list[float | None] = []
        self._base = 0
        self._last_at: float | None = None
        self._events: deque[Packet | SkippedRun] = deque()

    def receive(self, octets: bytes, at_s: float | None = None) -> None:
        """Take octets that arrived together; `at_s` is the arrival of the first one, if known."""
        if (
            self._buffer
            and at_s is not None
            and self._last_at is not None
            and at_s - self._last_at > ABANDON_S
        ):
            # The rest of this packet will not come; what follows its AA may still hold a good one.
            self._pass_over(1, "packet cut off")
            self._search()
        if at_s is not None:
            self._last_at = at_s
        self._buffer += octets
        self._stamps.extend([at_s] * len(octets))
        self._search()

    def next_event(self) -> Packet | SkippedRun | None:
        """Oldest event not yet taken."""
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """The stream has ended: what is left is not a packet."""
        self._pass_over(len(self._buffer), "end of stream")

    def _search(self) -> None:
        while True:
            place = self._buffer.find(0xAA)
            if place < 0:
                self._pass_over(len(self._buffer), "noise")
                return
            self._pass_over(place, "noise")
            if len(self._buffer) < HEAD:
                if not PREAMBLE.startswith(bytes(self._buffer[:2])):
                    self._pass_over(1, "noise")
                    continue
                return
            reason = self._implausible()
            if not reason:
                total = HEAD + self._buffer[7] + 2
                if len(self._buffer) < total:
                    inner = self._whole_packet_inside()
                    if not inner:
                        return
                    # A damaged size would make us wait past several good packets; one of them says so.
                    self._pass_over(inner, "false or damaged preamble")
                    continue
                if crc16_arc(bytes(self._buffer[2:total])) == 0:
                    self._deliver(total)
                    continue
                reason = "CRC fails"
            self._pass_over(1, reason)

    def _whole_packet_inside(self) -> int:
        """Place of a later, whole packet with a good CRC inside what is waited for; 0 if there is none."""
        place = self._buffer.find(PREAMBLE, 1)
        while place > 0:
            if len(self._buffer) >= place + HEAD:
                total = HEAD + self._buffer[place + 7] + 2
                window = bytes(self._buffer[place : place + total])
                if (
                    len(window) == total
                    and MIN_SIZE <= window[7] <= MAX_SIZE
                    and _is_bcd(window[2:7])
                    and crc16_arc(window[2:]) == 0
                ):
                    return place
            place = self._buffer.find(PREAMBLE, place + 1)
        return 0

    def _implausible(self) -> str:
        if self._buffer[1] != 0x55:
            return "noise"
        if not _is_bcd(bytes(self._buffer[2:7])):
            return "meter number is not BCD"
        if not MIN_SIZE <= self._buffer[7] <= MAX_SIZE:
            return "size out of range"
        return ""

    def _deliver(self, total: int) -> None:
        octets = bytes(self._buffer[:total])
        scope, index, data = octets[8], octets[9], octets[10 : total - 2]
        known = (scope, index) in _QUANTITIES
        absent = bool(data) and all(octet == 0xFF for octet in data)
        problem = ""
        if known and not absent and not _is_bcd(data):
            problem = "data is not BCD"
        value = int(data.hex()) if known and data and not absent and not problem else None
        self._events.append(
            Packet(octets[2:7].hex(), scope, index, data, value, absent, problem, self._stamps[0], self._base)
        )
        self._pop(total)

    def _pass_over(self, count: int, reason: str) -> None:
        if not count:
            return
        last = self._events[-1] if self._events else None
        if isinstance(last, SkippedRun) and last.reason == reason and last.offset + last.count == self._base:
            self._events[-1] = SkippedRun(last.count + count, reason, last.offset)
        else:
            self._events.append(SkippedRun(count, reason, self._base))
        self._pop(count)

    def _pop(self, count: int) -> None:
        del self._buffer[:count]
        del self._stamps[:count]
        self._base += count


REMOTE_MARK = bytes.fromhex("544144")


def decode_grouped(octets: bytes) -> GroupedPacket | str:
    """Decode a remote's grouped packet; a string tells why it is none.

    There is no total length: size, code and data groups follow each other until the CRC, which here covers
    the preamble, fits (section 4).
    """
    if octets[:3] != REMOTE_MARK:
        return "no remote's mark 54 41 44 at the start"
    start = octets.find(PREAMBLE, 3)
    if start < 0 or len(octets) < start + 7:
        return "no preamble AA 55 with a meter number"
    number = octets[start + 2 : start + 7]
    if not _is_bcd(number):
        return "meter number is not BCD"
    groups: list[tuple[int, int, bytes]] = []
    place = start + 7
    while place + 2 <= len(octets):
        if groups and crc16_arc(octets[start : place + 2]) == 0:
            return GroupedPacket(octets[3], octets[5], number.hex(), tuple(groups))
        size = octets[place]
        if not MIN_SIZE <= size <= MAX_SIZE or place + 1 + size > len(octets):
            return f"group at octet {place}: size {size} out of range"
        groups.append((octets[place + 1], octets[place + 2], octets[place + 3 : place + 1 + size]))
        place += 1 + size
    return "no CRC fits after the groups"


def _is_bcd(octets: bytes) -> bool:
    return octets.hex().isdigit()
