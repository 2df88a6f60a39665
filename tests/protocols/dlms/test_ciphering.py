"""A ciphered association takes nothing that an outsider could have said (dlms_cosem.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import pytest

from protocols.dlms.apdu import Attribute, Mechanism, tlv
from protocols.dlms.axdr import Data, Reader
from protocols.dlms.client import Credentials, DlmsClient
from protocols.dlms.errors import AuthenticationBroken
from protocols.dlms.framing import WRAPPER, WrapperFraming
from protocols.dlms.security import Keys, protect, unprotect
from simulator.dlms import CLOCK, DlmsMeter, DlmsSpec
from simulator.dlms_end import TITLE, WrapperEnd
from tests.collector.world import meter

NOW = datetime(2026, 11, 21, 6, 7, tzinfo=UTC)
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
CLIENT, OUR_TITLE = 1, b"SMFTITLE"
TIME = Attribute(8, CLOCK, 2)

Tampering = Callable[[bytes], bytes]


def opened(answer: bytes) -> tuple[int, bytes]:
    """Invocation counter and plain text of the meter's ciphered answer."""
    reader = Reader(answer)
    reader.octet()
    _, counter, plain = unprotect(KEYS, TITLE, reader.take(reader.length()))
    return counter, plain


def sealed(counter: int, plain: bytes, control: int) -> bytes:
    return tlv(0xCC, protect(KEYS, TITLE, counter, control, plain))


def _untouched(apdu: bytes) -> bytes:
    return apdu


@dataclass
class Association:
    """A client that has opened an association with a meter, and a line that somebody may sit on."""

    keys: Keys = KEYS
    greeting: Tampering = _untouched

    def __post_init__(self) -> None:
        spec = DlmsSpec(clients={CLIENT: Mechanism.GMAC}, keys=KEYS)
        self.meter = DlmsMeter(meter().meter, spec)
        self.end = WrapperEnd(self.meter)
        counters = count(100)
        credentials = Credentials(
            Mechanism.GMAC,
            keys=self.keys,
            title=OUR_TITLE,
            next_counter=lambda: next(counters),
            make_challenge=lambda: bytes(range(16)),
        )
        self.client = DlmsClient(WrapperFraming(CLIENT), credentials)
        self.run(self.client.open(), self.greeting)

    def run(self, steps, tamper: Tampering = _untouched):
        try:
            out = next(steps)
            while True:
                heard = self.end.receive(out, NOW)
                apdu = tamper(heard[WRAPPER.size :])
                out = steps.send(heard[: WRAPPER.size - 2] + len(apdu).to_bytes(2, "big") + apdu)
        except StopIteration as end:
            return end.value

    def read(self, tamper: Tampering = _untouched) -> Data:
        return self.run(self.client.get(TIME), tamper)


@pytest.mark.parametrize("title", [OUR_TITLE, b""])
def test_a_meter_under_our_own_title_or_none_is_refused(title: bytes) -> None:
    """What we said ourselves would hold as its answer."""

    def renamed(answer: bytes) -> bytes:
        named = tlv(0xA4, tlv(0x04, TITLE))
        content = answer[2:].replace(named, tlv(0xA4, tlv(0x04, title)))
        return tlv(0x61, content) if named in answer else answer

    with pytest.raises(AuthenticationBroken, match="no system title of its own"):
        Association(greeting=renamed)


def test_an_honest_answer_is_taken() -> None:
    assert len(Association().read().value) == 12


@pytest.mark.parametrize("control", [0x10, 0x30])
def test_authenticated_answers_are_taken_encrypted_or_not(control: int) -> None:
    def other_control(answer: bytes) -> bytes:
        counter, plain = opened(answer)
        return sealed(counter, plain, control)

    assert len(Association().read(other_control).value) == 12


def in_plain_text(answer: bytes) -> bytes:
    return opened(answer)[1]


def only_encrypted(answer: bytes) -> bytes:
    counter, plain = opened(answer)
    return sealed(counter, plain, 0x20)


def of_another_key(answer: bytes) -> bytes:
    counter, plain = opened(answer)
    return tlv(0xCC, protect(replace(KEYS, authentication=bytes(16)), TITLE, counter, 0x30, plain))


def changed_in_one_bit(answer: bytes) -> bytes:
    return answer[:-1] + bytes([answer[-1] ^ 1])


def under_our_title(answer: bytes) -> bytes:
    counter, plain = opened(answer)
    return b"\xdb\x08" + OUR_TITLE + tlv(0, protect(KEYS, OUR_TITLE, counter, 0x30, plain))[1:]


def under_its_title(answer: bytes) -> bytes:
    counter, plain = opened(answer)
    return b"\xdb\x08" + TITLE + tlv(0, protect(KEYS, TITLE, counter, 0x30, plain))[1:]


def test_an_answer_may_carry_the_meters_title() -> None:
    assert len(Association().read(under_its_title).value) == 12


def with_a_counter_of_before(answer: bytes) -> bytes:
    return sealed(1, opened(answer)[1], 0x30)


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (in_plain_text, "plain text"),
        (only_encrypted, "without authentication"),
        (of_another_key, "tag is wrong"),
        (changed_in_one_bit, "tag is wrong"),
        (with_a_counter_of_before, "replay"),
        (under_our_title, "not of the meter"),
    ],
)
def test_an_outsiders_answer_is_refused(tamper: Tampering, why: str) -> None:
    with pytest.raises(AuthenticationBroken, match=why):
        Association().read(tamper)
