"""Requests longer than the meter takes: SET and ACTION in blocks (dlms_cosem.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from protocols.dlms.access import AccessRefused, Credentials
from protocols.dlms.apdu import Attribute, Mechanism
from protocols.dlms.axdr import Data, octets
from protocols.dlms.client import DlmsClient
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.framing import WRAPPER, WrapperFraming
from protocols.dlms.security import Keys
from simulator.dlms.end import WrapperEnd
from simulator.dlms.meter import CLOCK, DlmsMeter, DlmsSpec
from simulator.load.grid import MARKET_ZONE
from tests.collector.world import meter

NOW = datetime(2026, 11, 21, 6, 7, tzinfo=UTC)
TIME = Attribute(8, CLOCK, 2)
LATER = NOW + timedelta(seconds=40)
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))


class Line:
    """A client and a meter without a network; counts requests, and may change answers."""

    def __init__(self, spec: DlmsSpec, client: int, credentials: Credentials | None = None) -> None:
        self.end = WrapperEnd(DlmsMeter(meter(now=NOW).meter, spec))
        self.client = DlmsClient(WrapperFraming(client), credentials)
        self.requests: list[bytes] = []
        self.run(self.client.open())

    def run(self, steps, change: Callable[[bytes], bytes] = lambda answer: answer):
        self.requests.clear()
        try:
            out = next(steps)
            while True:
                self.requests.append(out[WRAPPER.size :])
                heard = self.end.receive(out, NOW)
                answer = change(heard[WRAPPER.size :])
                out = steps.send(heard[: WRAPPER.size - 2] + len(answer).to_bytes(2, "big") + answer)
        except StopIteration as end:
            return end.value

    def clock(self) -> datetime:
        return decode_date_time(self.run(self.client.get(TIME)).value, MARKET_ZONE).at


def plain(max_apdu: int) -> Line:
    return Line(DlmsSpec(max_apdu=max_apdu), 16)


def later() -> Data:
    return octets(encode_date_time(LATER.astimezone(MARKET_ZONE)))


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize(("max_apdu", "requests"), [(0x400, 1), (40, 1), (26, 7), (25, 14)])
def test_a_set_goes_whole_or_in_as_many_blocks_as_it_takes(max_apdu: int, requests: int) -> None:
    line = plain(max_apdu)
    line.run(line.client.set(TIME, later()))
    assert len(line.requests) == requests
    assert all(len(request) <= max_apdu for request in line.requests)
    assert abs((line.clock() - LATER).total_seconds()) <= 1


def test_the_proof_of_an_association_goes_in_blocks_and_is_taken() -> None:
    counters = count(100)
    credentials = Credentials(
        Mechanism.GMAC,
        keys=KEYS,
        title=b"SMFTITLE",
        next_counter=lambda: next(counters),
        make_challenge=lambda: bytes(16),
    )
    line = Line(DlmsSpec(clients={1: Mechanism.GMAC}, keys=KEYS, max_apdu=52), 1, credentials)
    pieces = [request for request in line.requests if request[:1] == b"\xcb"]
    assert len(pieces) == 5
    assert all(len(piece) <= 52 for piece in pieces)
    assert abs((line.clock() - NOW).total_seconds()) <= 1


def test_a_meter_that_takes_no_block_is_told() -> None:
    line = plain(24)
    with pytest.raises(RemoteProtocolError, match="too few for a block"):
        line.run(line.client.set(TIME, later()))


def test_a_refusal_of_the_last_block_is_the_objects() -> None:
    line = plain(26)
    with pytest.raises(AccessRefused, match="read_write_denied"):
        line.run(line.client.set(Attribute(1, "0-0:96.1.0", 2), octets(bytes(20))))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (bytes.fromhex("C502C100000009"), RemoteProtocolError),
        (bytes.fromhex("C503C10B00000001"), AccessRefused),
        (bytes.fromhex("C502C1"), RemoteProtocolError),
        (bytes.fromhex("C400C100"), RemoteProtocolError),
    ],
    ids=["another block", "breaks off", "cut", "something else"],
)
def test_a_block_that_is_not_acknowledged_ends_it(answer: bytes, error: type[Exception]) -> None:
    line = plain(26)
    with pytest.raises(error):
        line.run(line.client.set(TIME, later()), lambda heard: answer)
    assert len(line.requests) == 1
    assert abs((line.clock() - NOW).total_seconds()) <= 1
