"""Judging a recorded output by the rules of the annex (sections 2, 3, 4, 7). Pure: capture in, findings out.

A rule that the capture cannot decide, because its stamps are too coarse or it is too short, is inconclusive
and never passed: the meter is recorded again. What is wrong outside the packets seen (the cut ones at both
ends of the recording) is nobody's fault.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

from protocols.captures import DEFAULT_RESOLUTION_S, Capture
from protocols.celesc.catalogue import CelescMeter, Need
from protocols.celesc.packets import HEAD, CelescStream, Packet, Quantity
from protocols.celesc.timing import (
    BITS_PER_OCTET,
    MAX_IDLE_BITS_INSIDE,
    MIN_GAP_BITS_BETWEEN,
    RATE_TOLERANCE,
    RATES_BIT_S,
    REPEAT_WITHIN_S,
)
from protocols.skipped import SkippedRun

_CRC_OCTETS = 2
_STANDARD_SIZE = 5  # scope, index and three BCD octets
_REACTIVE = (Quantity.INDUCTIVE_ENERGY_KVARH.value, Quantity.CAPACITIVE_ENERGY_KVARH.value)
_STANDARD = (Quantity.ACTIVE_ENERGY_KWH.value, *_REACTIVE)


class Rule(StrEnum):
    """The rules of the annex, in the order of a report."""

    RATE = "rate"
    GAP_INSIDE = "gap_inside"
    GAP_BETWEEN = "gap_between"
    PERIOD = "period"
    PACKETS = "packets"
    NUMBER = "number"
    BCD = "bcd"
    CRC = "crc"


class Status(StrEnum):
    """What became of a rule, or of a meter."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Remark(StrEnum):
    """Why; the words are the report's."""

    NO_PACKETS = "no_packets"
    RATE_NOT_ADMITTED = "rate_not_admitted"
    RATE_BY_STAMPS = "rate_by_stamps"
    RATE_BY_INSTRUMENT = "rate_by_instrument"
    RATE_OR_PAUSES = "rate_or_pauses"
    STAMPS_TOO_COARSE = "stamps_too_coarse"
    TOO_SHORT = "too_short"
    PACKET_MISSING = "packet_missing"
    PACKET_EXPECTED = "packet_expected"
    PACKET_NOT_OWNED = "packet_not_owned"
    PACKET_UNKNOWN = "packet_unknown"
    NUMBER_OTHER = "number_other"
    NUMBER_CHANGES = "number_changes"
    NUMBER_NOT_BCD = "number_not_bcd"
    NUMBER_NOT_GIVEN = "number_not_given"
    DATA_NOT_BCD = "data_not_bcd"
    DATA_SIZE = "data_size"
    CRC_FAILS = "crc_fails"
    STRAY_OCTETS = "stray_octets"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's outcome.

    Attributes:
        measured, uncertainty, limit: of the rule's quantity, in `unit`; None where it has none.
        remarks: (remark, what it is about).
    """

    rule: Rule
    status: Status
    measured: float | None = None
    uncertainty: float | None = None
    limit: float | None = None
    unit: str = ""
    remarks: tuple[tuple[Remark, str], ...] = ()


@dataclass(frozen=True)
class Criteria:
    """What the annex leaves to whoever inspects, with our reasons.

    Attributes:
        crc_failures_allowed: packets with a bad CRC; on an inspection bench there is no noise to excuse any.
        repeats_wanted: of each mandatory packet, so that a period can be told; fewer are inconclusive.
        seconds_wanted: of a recording; a shorter one cannot show that a period of five seconds is kept.
    """

    crc_failures_allowed: int = 0
    repeats_wanted: int = 3
    seconds_wanted: float = REPEAT_WITHIN_S


@dataclass(frozen=True)
class MeterVerdict:
    """One meter's inspection.

    Attributes:
        plate: number that its plate says, where the recording or the inspector told it.
        registers: last value seen by code.
    """

    source: str
    meter_number: str
    model: str
    duration_s: float
    packets: int
    rate_bit_s: int
    findings: tuple[Finding, ...]
    registers: dict[str, int] = field(default_factory=dict)
    plate: str = ""

    @property
    def status(self) -> Status:
        """A single failure fails the meter; what is undecided keeps it from passing."""
        found = {finding.status for finding in self.findings}
        for status in (Status.FAIL, Status.INCONCLUSIVE):
            if status in found:
                return status
        return Status.PASS


class _Recording:
    """Packets and skipped runs of a capture, and the arrival of each octet.

    That of octets that came together is no better known than when something handed them on.
    """

    def __init__(self, capture: Capture, rate_bit_s: int) -> None:
        self.octet_s = BITS_PER_OCTET / rate_bit_s
        self.rate_bit_s = rate_bit_s
        self.resolution_s = capture.number("resolution_s", DEFAULT_RESOLUTION_S)
        self.stamps: list[float] = []
        self.came_alone: list[bool] = []
        stream = CelescStream()
        for chunk in capture.chunks:
            # Without stamps: a packet with an illegal pause is judged here, not dropped as a reader would.
            stream.receive(chunk.octets)
            self.stamps += [chunk.at_s + place * self.octet_s for place in range(len(chunk.octets))]
            self.came_alone += [len(chunk.octets) == 1] * len(chunk.octets)
        stream.close()
        events: list[Packet | SkippedRun] = []
        while (event := stream.next_event()) is not None:
            events.append(event)
        self.packets = [event for event in events if isinstance(event, Packet)]
        self.skipped = self._inner(event for event in events if isinstance(event, SkippedRun))

    def _inner(self, skipped: Iterable[SkippedRun]) -> list[SkippedRun]:
        if not self.packets:
            return list(skipped)
        first, last = self.packets[0].offset, self.packets[-1].offset
        return [one for one in skipped if first < one.offset < last]

    def end(self, packet: Packet) -> int:
        """Offset after the packet's last octet."""
        return packet.offset + HEAD + 2 + len(packet.data) + _CRC_OCTETS

    def is_measured(self, place: int) -> bool:
        """Whether the silence before an octet is: both sides of it came alone."""
        return self.came_alone[place - 1] and self.came_alone[place]

    def idle_bits(self, place: int) -> float:
        """Silence before an octet, in bit times."""
        return (self.stamps[place] - self.stamps[place - 1] - self.octet_s) * self.rate_bit_s

    @property
    def uncertainty_bits(self) -> float:
        """Of a silence: both its stamps."""
        return 2 * self.resolution_s * self.rate_bit_s


def judge_meter(
    capture: Capture,
    model: CelescMeter,
    source: str = "capture",
    number: str | None = None,
    criteria: Criteria | None = None,
) -> MeterVerdict:
    """Judge one meter's recording.

    Args:
        capture: head facts used: rate_bit_s (the receiver's setting), resolution_s, measured_rate_bit_s (by
            an instrument, with measured_rate_uncertainty), meter (the number that the plate says).
        number: the number expected; wins over the capture's `meter`.

    Raises:
        OperatorFault: a fact of the head is not a number.
    """
    criteria = criteria or Criteria()
    rate = round(capture.number("rate_bit_s", model.rate_bit_s))
    recording = _Recording(capture, rate)
    expected = _plate(number or capture.facts.get("meter", ""))
    packets = recording.packets
    if packets:
        findings: tuple[Finding, ...] = (
            _rate(recording, capture),
            _gap_inside(recording),
            _gap_between(recording),
            _period(recording, capture, model, criteria),
            _mandatory(recording, model),
            _number(recording, expected),
            _bcd(recording),
            _crc(recording, criteria),
        )
    else:
        nothing = ((Remark.NO_PACKETS, str(capture.octet_count)),)
        # Silence is proof only after longer than every packet is due.
        status = Status.FAIL if capture.duration_s > REPEAT_WITHIN_S else Status.INCONCLUSIVE
        findings = (
            Finding(Rule.PACKETS, status, remarks=nothing),
            _crc(recording, criteria),
        )
    return MeterVerdict(
        source=source,
        meter_number=packets[0].meter_number if packets else expected,
        model=model.code,
        duration_s=capture.duration_s,
        packets=len(packets),
        rate_bit_s=rate,
        findings=findings,
        registers={_code(packet): packet.value for packet in packets if packet.value is not None},
        plate=expected,
    )


def _plate(text: str) -> str:
    """A number as packets tell it, with all ten digits; "" where none is known."""
    return text.strip().rjust(10, "0") if text.strip() else ""


def _code(packet: Packet) -> str:
    return f"{packet.scope:02X}{packet.index:02X}"


def _within(measured: float, uncertainty: float, low: float, high: float) -> Status:
    """Pass or fail only if the whole range of what may be true says so."""
    if low <= measured - uncertainty and measured + uncertainty <= high:
        return Status.PASS
    if measured + uncertainty < low or measured - uncertainty > high:
        return Status.FAIL
    return Status.INCONCLUSIVE


def _rate(recording: _Recording, capture: Capture) -> Finding:
    nominal = recording.rate_bit_s
    limit = 100 * RATE_TOLERANCE
    if nominal not in RATES_BIT_S:
        return Finding(Rule.RATE, Status.FAIL, remarks=((Remark.RATE_NOT_ADMITTED, str(nominal)),))
    if "measured_rate_bit_s" in capture.facts:
        measured = capture.number("measured_rate_bit_s", nominal)
        uncertainty = capture.number("measured_rate_uncertainty", 0.0)
        remark = Remark.RATE_BY_INSTRUMENT
    else:
        estimate = _rate_by_stamps(recording)
        if estimate is None:
            return Finding(
                Rule.RATE,
                Status.INCONCLUSIVE,
                limit=limit,
                unit="%",
                remarks=((Remark.STAMPS_TOO_COARSE, ""),),
            )
        measured, uncertainty = estimate
        remark = Remark.RATE_BY_STAMPS
    deviation = 100 * (measured - nominal) / nominal
    spread = 100 * uncertainty / nominal
    status = _within(deviation, spread, -limit, limit)
    remarks = [(remark, f"{measured:.1f}")]
    if status is Status.FAIL and remark is Remark.RATE_BY_STAMPS and deviation < 0:
        # Legal pauses of a bit or less between octets look the same: an instrument decides.
        status = Status.INCONCLUSIVE
        remarks.append((Remark.RATE_OR_PAUSES, ""))
    elif status is Status.INCONCLUSIVE:
        remarks.append((Remark.STAMPS_TOO_COARSE, ""))
    return Finding(Rule.RATE, status, deviation, spread, limit, "%", tuple(remarks))


def _rate_by_stamps(recording: _Recording) -> tuple[float, float] | None:
    """Rate from the stamps of octets that follow each other without a pause, and its uncertainty.

    Whole packets are measured, from first octet to last: the stamps' error is divided by their length.
    Packets with a visible pause are left out.
    """
    octet_times = []
    lengths = []
    for packet in recording.packets:
        first, last = packet.offset, recording.end(packet) - 1
        stamped = recording.came_alone[first] and recording.came_alone[last]
        pauses = any(
            recording.idle_bits(place) > BITS_PER_OCTET / 2 + recording.uncertainty_bits
            for place in range(first + 1, last + 1)
        )
        if stamped and not pauses:
            octet_times.append((recording.stamps[last] - recording.stamps[first]) / (last - first))
            lengths.append(last - first)
    if len(octet_times) < 2:
        return None
    octet_s = statistics.median(octet_times)
    if octet_s <= 0:
        return None
    error_s = max(
        2 * recording.resolution_s / statistics.mean(lengths), 2 * statistics.stdev(octet_times)
    ) / math.sqrt(len(octet_times))
    rate = BITS_PER_OCTET / octet_s
    return rate, rate * error_s / octet_s


def _gap_inside(recording: _Recording) -> Finding:
    places = [
        place for packet in recording.packets for place in range(packet.offset + 1, recording.end(packet))
    ]
    known = list(filter(recording.is_measured, places))
    longest = max(map(recording.idle_bits, known), default=0.0)
    found = _gap(Rule.GAP_INSIDE, recording, longest, -math.inf, MAX_IDLE_BITS_INSIDE)
    return found if len(known) == len(places) else _unproven(found)


def _gap_between(recording: _Recording) -> Finding:
    places = [
        after.offset for before, after in pairwise(recording.packets) if recording.end(before) == after.offset
    ]
    if not places:
        return Finding(Rule.GAP_BETWEEN, Status.INCONCLUSIVE, remarks=((Remark.TOO_SHORT, ""),))
    known = list(filter(recording.is_measured, places))
    if not known:
        return Finding(Rule.GAP_BETWEEN, Status.INCONCLUSIVE, remarks=((Remark.STAMPS_TOO_COARSE, ""),))
    shortest = min(map(recording.idle_bits, known))
    found = _gap(Rule.GAP_BETWEEN, recording, shortest, MIN_GAP_BITS_BETWEEN, math.inf)
    return found if len(known) == len(places) else _unproven(found)


def _unproven(found: Finding) -> Finding:
    """Octets that came together hide the pauses between them: what would pass is undecided."""
    if found.status is not Status.PASS:
        return found
    return replace(found, status=Status.INCONCLUSIVE, remarks=((Remark.STAMPS_TOO_COARSE, ""),))


def _gap(rule: Rule, recording: _Recording, measured: float, low: float, high: float) -> Finding:
    uncertainty = recording.uncertainty_bits
    status = _within(measured, uncertainty, low, high)
    remarks = ((Remark.STAMPS_TOO_COARSE, ""),) if status is Status.INCONCLUSIVE else ()
    limit = low if math.isinf(high) else high
    return Finding(rule, status, max(0.0, measured), uncertainty, limit, "bit", remarks)


def _period(recording: _Recording, capture: Capture, model: CelescMeter, criteria: Criteria) -> Finding:
    """The longest time from one packet of a mandatory code to the next, the recording's ends counted in."""
    ends = capture.chunks[0].at_s, capture.chunks[-1].at_s
    longest = 0.0
    too_few = []
    if capture.duration_s < criteria.seconds_wanted:
        too_few.append((Remark.TOO_SHORT, ""))
    for packet in model.packets:
        starts = [
            recording.stamps[one.offset]
            for one in recording.packets
            if (one.scope, one.index) == packet.code and packet.need is Need.REQUIRED
        ]
        if not starts:
            continue  # the rule of mandatory packets tells
        if len(starts) < criteria.repeats_wanted:
            too_few.append((Remark.TOO_SHORT, packet.code_text))
        # To the ends of the recording at least so much time passed without this packet.
        longest = max(longest, starts[0] - ends[0], ends[1] - starts[-1])
        longest = max([longest, *(b - a for a, b in pairwise(starts))])
    uncertainty = 2 * recording.resolution_s
    status = _within(longest, uncertainty, -math.inf, REPEAT_WITHIN_S)
    if status is Status.PASS and (too_few or not longest):
        status = Status.INCONCLUSIVE
    return Finding(Rule.PERIOD, status, longest, uncertainty, REPEAT_WITHIN_S, "s", tuple(too_few))


def _mandatory(recording: _Recording, model: CelescMeter) -> Finding:
    seen = {(packet.scope, packet.index) for packet in recording.packets}
    remarks = []
    status = Status.PASS
    for packet in model.packets:
        if packet.code in seen:
            continue
        if packet.need is Need.REQUIRED:
            remarks.append((Remark.PACKET_MISSING, packet.code_text))
            status = Status.FAIL
        else:
            remarks.append((Remark.PACKET_EXPECTED, packet.code_text))
    named = {packet.code for packet in model.packets}
    for scope, index in sorted(seen - named):
        code = f"{scope:02X}{index:02X}"
        if (scope, index) in _REACTIVE:
            # Section 8 of the annex: a meter without reactive registers does not send these packets.
            remarks.append((Remark.PACKET_NOT_OWNED, code))
            status = Status.FAIL
        else:
            remarks.append((Remark.PACKET_UNKNOWN, code))
    return Finding(Rule.PACKETS, status, remarks=tuple(remarks))


def _number(recording: _Recording, expected: str) -> Finding:
    numbers = sorted({packet.meter_number for packet in recording.packets})
    remarks = []
    status = Status.PASS
    if len(numbers) > 1:
        remarks.append((Remark.NUMBER_CHANGES, ", ".join(numbers)))
        status = Status.FAIL
    if any(one.reason == "meter number is not BCD" for one in recording.skipped):
        remarks.append((Remark.NUMBER_NOT_BCD, ""))
        status = Status.FAIL
    if not expected:
        remarks.append((Remark.NUMBER_NOT_GIVEN, ""))
    elif numbers != [expected]:
        remarks.append((Remark.NUMBER_OTHER, expected))
        status = Status.FAIL
    return Finding(Rule.NUMBER, status, remarks=tuple(remarks))


def _bcd(recording: _Recording) -> Finding:
    remarks = set()
    for packet in recording.packets:
        if packet.problem or ((packet.scope, packet.index) in _STANDARD and packet.is_absent):
            remarks.add((Remark.DATA_NOT_BCD, f"{_code(packet)} {packet.data.hex().upper()}"))
        if (packet.scope, packet.index) in _STANDARD and len(packet.data) + 2 != _STANDARD_SIZE:
            remarks.add((Remark.DATA_SIZE, f"{_code(packet)} {packet.digits}"))
    return Finding(Rule.BCD, Status.FAIL if remarks else Status.PASS, remarks=tuple(sorted(remarks)))


def _crc(recording: _Recording, criteria: Criteria) -> Finding:
    reasons: Sequence[SkippedRun] = recording.skipped
    # One bad packet gives one run that begins with its false start and goes on as noise.
    failed = sum(
        one.reason in ("CRC fails", "size out of range", "false or damaged preamble") for one in reasons
    )
    stray = sum(one.count for one in reasons)
    remarks = []
    if failed:
        remarks.append((Remark.CRC_FAILS, str(failed)))
    if stray:
        remarks.append((Remark.STRAY_OCTETS, str(stray)))
    is_good = failed <= criteria.crc_failures_allowed
    if not recording.packets and not failed:
        return Finding(Rule.CRC, Status.INCONCLUSIVE, remarks=((Remark.NO_PACKETS, ""),))
    return Finding(
        Rule.CRC,
        Status.PASS if is_good else Status.FAIL,
        float(failed),
        limit=float(criteria.crc_failures_allowed),
        unit="packet",
        remarks=tuple(remarks),
    )
