"""Octets of each format into words or counts, against a loop that only checks what the format has to check.

The peer goes through the same octets and does the least that any reader must: it computes the CRC of each
packet, frame or answer, the XOR of each SSU block, and for the public files, which have neither, reads each
block or line and adds its octets. Ours gives day vectors (files, DLMS), blocks (SSU) and packets (CELESC). A
ratio of 1 would mean that finding, checking and explaining cost nothing. Each time is the best of a few; no
limit is judged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import reduce
from operator import xor
from typing import Any

import numpy as np

from collector.decoded import Frame, MeterContext
from collector.dlms import script as dlms_script
from collector.dlms.decode import decode_dlms
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.files.decode import FK7, TEXT, decode_file
from collector.lines.transports import Timeouts, open_stream, parse_url
from collector.work.planning import Span
from protocols.celesc import CelescStream, Packet, encode_packet
from protocols.dlms.client import DlmsClient
from protocols.dlms.framing import crc16_x25
from protocols.dlms.models import model_named
from protocols.nbr14522.crc import crc16_arc
from protocols.nbr14522.frames import Addressing, unwrap_response
from protocols.nbr14522.memory import payloads_to_words, split_channels, words_to_payloads
from protocols.nbr14522.messages import Parameters, block_mark, memory_blocks
from protocols.nbr14522.profile import DEFAULT
from protocols.public_format import TextFile, read_text, write_fk7, write_text
from protocols.public_format.scan import scan_fk7
from protocols.ssu import BlockFound, NormalBlock, SsuStream, decode_block
from simulator.dlms.meter import DlmsMeter, DlmsSpec
from simulator.dlms.server import DlmsServer
from tests.collector.world import DAY, MARKET, NOW, meter

ROUNDS = 5
INTERVALS = 8_928  # a month of 5 minutes
LINE_COUNT = 20_000  # blocks or packets of a serial output
SERIAL = "10000001"
LAST_END = datetime(2026, 11, 1)
CONTEXT = MeterContext(1, SERIAL, 1, timezone(timedelta(hours=-3)))


@dataclass(frozen=True)
class Case:
    """A format: what it is fed, our decoding, the peer; `check` fails where ours did not bring all."""

    name: str
    octets: int
    ours: Callable[[], object]
    peer: Callable[[], object]
    check: Callable[[], bool]


def best_s(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def parts(octets: bytes, size: int) -> list[bytes]:
    return [octets[place : place + size] for place in range(0, len(octets), size)]


def month() -> tuple[np.ndarray, Parameters]:
    """The words of a month and the parameters that give them their times."""
    words = np.random.default_rng(14522).integers(0, 4096, INTERVALS * 3)
    return words, Parameters(
        code=0x51,
        meter_time=LAST_END,
        last_interval_end=LAST_END,
        words_current=len(words),
        words_previous=0,
        memory_interval_min=5,
        memory_interval_extra_s=0,
        memory_interval_extra_hundredths=0,
        quantities=(1, 2, 3),
    )


def public_cases() -> list[Case]:
    words, parameters = month()
    blocks = memory_blocks(0x52, SERIAL, words_to_payloads(words))
    fk7 = write_fk7([parameters.encode(SERIAL), *blocks])
    answer = replace(parameters, code=0x21).encode(SERIAL)[:-2]
    text = write_text(TextFile("000000", {"parameters": answer}, current_words=tuple(words.tolist())))

    def is_whole(format_name: str, octets: bytes) -> bool:
        vectors = decode_file(format_name, octets, DEFAULT, CONTEXT).vectors
        return sum(int(vector.present.sum()) for vector in vectors) == len(words)

    wire = b"".join(blocks)

    def memory() -> np.ndarray:
        contents = [unwrap_response(block, Addressing.P0) for block in parts(wire, 258)]
        assert all(block_mark(content) for content in contents)
        return split_channels(payloads_to_words([content[7:] for content in contents], len(words)))

    return [
        Case(
            "nbr14522 memory: words",
            len(wire),
            memory,
            lambda: [crc16_arc(block) for block in parts(wire, 258)],
            lambda: np.array_equal(memory().ravel(), words),
        ),
        Case(
            "fk7: blocks",
            len(fk7),
            lambda: scan_fk7(fk7),
            lambda: [sum(block) for block in parts(fk7, 256)],
            lambda: not scan_fk7(fk7).damages,
        ),
        Case(
            "fk7: day vectors",
            len(fk7),
            lambda: decode_file(FK7, fk7, DEFAULT, CONTEXT),
            lambda: [sum(block) for block in parts(fk7, 256)],
            lambda: is_whole(FK7, fk7),
        ),
        Case(
            "public-text: words",
            len(text),
            lambda: read_text(text),
            lambda: [sum(line) for line in parts(text, 302)],
            lambda: len(read_text(text).current_words) == len(words),
        ),
        Case(
            "public-text: day vectors",
            len(text),
            lambda: decode_file(TEXT, text, DEFAULT, CONTEXT),
            lambda: [sum(line) for line in parts(text, 302)],
            lambda: is_whole(TEXT, text),
        ),
    ]


def serial_cases() -> list[Case]:
    template = decode_block(bytes.fromhex("838382000000007D"))
    assert isinstance(template, NormalBlock)
    ssu = b"".join(
        replace(template, seconds_left=899 - second % 900, active_pulses=second % 900 * 3).encode()
        for second in range(LINE_COUNT)
    )
    celesc = b"".join(
        encode_packet("0123456789", 0x0A, 0x02, bytes.fromhex(f"{number:06d}"))
        for number in range(LINE_COUNT)
    )
    size = len(celesc) // LINE_COUNT

    def stream(decoder: SsuStream | CelescStream, octets: bytes, wanted: type) -> int:
        found = 0
        for piece in parts(octets, 256):
            decoder.receive(piece)
            while (event := decoder.next_event()) is not None:
                found += isinstance(event, wanted)
        return found

    return [
        Case(
            "ssu: blocks of a stream",
            len(ssu),
            lambda: stream(SsuStream(), ssu, BlockFound),
            lambda: [reduce(xor, block) for block in parts(ssu, 8)],
            lambda: stream(SsuStream(), ssu, BlockFound) >= LINE_COUNT - 60,
        ),
        Case(
            "celesc: packets of a stream",
            len(celesc),
            lambda: stream(CelescStream(), celesc, Packet),
            lambda: [crc16_arc(packet[2:]) for packet in parts(celesc, size)],
            lambda: stream(CelescStream(), celesc, Packet) == LINE_COUNT,
        ),
    ]


def dlms_case() -> Case:
    """A week of load profile over HDLC, as the session with a simulated meter left it in the database."""
    model, frames = model_named("dlms-generic-hdlc"), list[Frame]()

    def record(at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes) -> None:
        frames.append(Frame(len(frames) + 1, at, is_sent, crc_ok is not False, payload))

    begin = datetime.combine(DAY - timedelta(days=6), datetime.min.time())
    span = Span(begin + timedelta(minutes=5), begin + timedelta(days=7))

    def work(client: DlmsClient) -> Iterator[Any]:
        yield from dlms_script.identity(client, model)
        yield from dlms_script.load_profile(
            client, model, [span], NOW.astimezone(MARKET).replace(tzinfo=None), MARKET
        )

    async def visit() -> str:
        async with DlmsServer(DlmsMeter(meter().meter, DlmsSpec()), lambda: NOW, is_hdlc=True) as way:
            line = DlmsLine(parse_url(way.url), model, Timeouts(2, 5, 60), Secrets(), b"12345678", None)
            return (await read_dlms(line, steps(work), record, lambda: NOW, open_stream)).outcome

    outcome = asyncio.run(visit())
    heard = [frame.payload for frame in frames if not frame.is_sent]

    def values() -> int:
        # The row before the week is asked for as well, for totals need it; it belongs to the day before.
        week = [
            vector for vector in decode_dlms(frames, model, CONTEXT).vectors if vector.day >= begin.date()
        ]
        return sum(int(vector.present.sum()) for vector in week if vector.channel == 1)

    return Case(
        "dlms: profile over hdlc",
        sum(map(len, heard)),
        values,
        lambda: [crc16_x25(payload) for payload in heard],
        lambda: outcome == "complete" and values() == 7 * 288,
    )


def main() -> None:
    """Print a line for each format; end with 1 where one did not decode what it was fed."""
    is_good = True
    print(f"{'format':<28}{'octets':>9}{'ours MB/s':>11}{'peer MB/s':>11}{'ratio':>8}")
    for case in [*public_cases(), *serial_cases(), dlms_case()]:
        is_good &= case.check()
        ours, peer = best_s(case.ours), best_s(case.peer)
        print(
            f"{case.name:<28}{case.octets:>9}{case.octets / ours / 1e6:>11.2f}"
            f"{case.octets / peer / 1e6:>11.2f}{ours / peer:>8.1f}"
        )
    raise SystemExit(0 if is_good else 1)


if __name__ == "__main__":
    main()
