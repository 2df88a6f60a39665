"""Meters that speak by themselves: what is fuzzed of their streams, stored sessions and recordings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from collector.decoded import Frame, MeterContext
from collector.drivers import decoder_of
from collector.streams.frames import head_row, pack_rows, portions, unpack_frames
from collector.streams.profiles import STREAM_PROFILES
from collector.streams.stored import listen
from protocols.captures import Capture, Chunk
from protocols.celesc import CelescStream, Packet, decode_grouped, encode_packet
from protocols.celesc.catalogue import meter_named
from protocols.celesc.inspection import judge_meter
from protocols.skipped import SkippedRun
from protocols.ssu import BlockFound, ExtendedBlock, Format, MixedBlock, NormalBlock, SsuStream

ZONE = timezone(timedelta(hours=-3))
NOW = datetime(2026, 11, 21, 3, 7, tzinfo=ZONE)
CONTEXT = MeterContext(1, "77", 1, ZONE)
METER = meter_named("27182")
_GAPS_S = (0.0, 0.01, 0.2, 0.6, 1.0, 5.0, 120.0, 900.0)
_MOST_KEPT = 2048


def chunks(data: bytes) -> list[Chunk]:
    """Octets as a line brings them: noise, good records, good ones cut; two octets steer each portion."""
    found: list[Chunk] = []
    now_s, place = NOW.timestamp(), 0
    while place + 2 < len(data):
        control, detail = data[place], data[place + 1]
        place += 2
        now_s += _GAPS_S[control >> 5]
        match control & 3:
            case 0:
                octets = data[place : place + detail]
                place += detail
            case 1:
                octets = _block(control >> 2 & 3, detail * 4 % 901, detail)
            case 2:
                octets = encode_packet(
                    "0000000077", 0x0A, (0x02, 0x07, 0x0C, 0x51)[detail % 4], bytes.fromhex(f"{detail:06d}")
                )
            case _:
                octets = encode_packet("0000000077", 0x0A, 0x02, bytes(detail % 62))[: 1 + detail % 20]
        if octets:
            found.append(Chunk(now_s, octets))
    return found


def _block(kind: int, left: int, detail: int) -> bytes:
    flags = left, False, False, False, True, "ponta"
    if kind == 0:
        return NormalBlock(*flags, "azul", True, 900 - left, detail).encode()
    if kind == 1:
        return ExtendedBlock(*flags, 1 + detail % 4, True, 900 - left, detail).encode()
    return MixedBlock(
        seconds_left=left,
        wiring="star",
        meter_time=datetime(2026, 11, 20) + timedelta(seconds=900 - left),
        rotating_field="serial_number",
        rotating_value=detail,
        voltages_v=(127.0, 127.0, 127.0),
        currents_a=(1.0, 1.0, 1.0, 0.0),
        active_powers_w=(100.0, 100.0, -100.0),
        reactive_powers_var=(0.0, 0.0, 0.0),
        frequency_hz=60.0,
        bill_toggle=False,
        reactive_toggle=False,
        is_capacitive=False,
        is_inductive=True,
        is_reactive_tariff=True,
        segment="ponta",
        counters=(900 - left, detail, 0, 0, 0, 0),
    ).encode()


def ssu(data: bytes) -> None:
    """Every octet is in a block or told as skipped, and what is kept is bounded."""
    for formats in ((Format.NORMAL, Format.EXTENDED), (Format.NORMAL,), (Format.EXTENDED,), (Format.MIXED,)):
        stream = SsuStream(None, formats)
        fed = 0
        for chunk in chunks(data):
            fed += len(chunk.octets)
            stream.receive(chunk.octets, chunk.at_s if fed % 3 else None)
            assert len(stream._buffer) <= _MOST_KEPT
        stream.close()
        used = 0
        while (event := stream.next_event()) is not None:
            if isinstance(event, BlockFound):
                used += len(event.octets)
            elif isinstance(event, SkippedRun):
                used += event.count
        assert used == fed


def celesc(data: bytes) -> None:
    """The same for packets; a grouped packet decodes or says why not."""
    stream = CelescStream()
    fed = used = 0
    for chunk in chunks(data):
        fed += len(chunk.octets)
        stream.receive(chunk.octets, chunk.at_s)
        assert len(stream._buffer) <= _MOST_KEPT
    stream.close()
    while (event := stream.next_event()) is not None:
        used += 12 + len(event.data) if isinstance(event, Packet) else event.count
    assert used == fed
    decode_grouped(data)
    decode_grouped(b"TAD" + data)


def session(data: bytes) -> None:
    """A stored session of any octets decodes; no count is below zero."""
    for name in ("ssu", "ssu-normal", "ssu-mixed", "celesc-35456"):
        head = head_row({"profile": name, "interval_s": 300})
        frames = [Frame(1, NOW, False, True, head), Frame(2, NOW, False, True, data)]
        decoded = decoder_of(STREAM_PROFILES[name].protocol).decode(frames, name, CONTEXT)
        assert all((vector.pulses >= 0).all() for vector in decoded.vectors)
    place_slots(data)


def place_slots(data: bytes) -> None:
    """Stored rows of good and bad records: what is said to carry a count does, wherever reads cut it."""
    for name in ("ssu", "ssu-normal", "ssu-mixed", "celesc-35456"):
        rows = [(NOW, head_row({"profile": name, "interval_s": 300})), *pack_rows(chunks(data))]
        frames = [Frame(seq, at, False, True, payload) for seq, (at, payload) in enumerate(rows, 1)]
        _, slots, _ = listen(unpack_frames(frames), name, CONTEXT)
        whole = b"".join(octets for row in rows[1:] for _, _, octets in portions(row[1]))
        for record in (one for slot in slots for one in slot.told_by):
            assert whole[record.offset : record.offset + len(record.octets)] == record.octets


def inspection(data: bytes) -> None:
    """Any recording is judged, and rules are judged once."""
    verdict = judge_meter(Capture(tuple(chunks(data))), METER)
    rules = [finding.rule for finding in verdict.findings]
    assert len(rules) == len(set(rules))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "ssu_stream": ssu,
    "celesc_stream": celesc,
    "stream_session": session,
    "serial_inspection": inspection,
}
