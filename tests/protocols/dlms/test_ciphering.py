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
from protocols.dlms.errors import AuthenticationBroken, LocalProtocolError, RemoteProtocolError
from protocols.dlms.framing import WRAPPER, WrapperFraming
from protocols.dlms.security import MOST_COUNTER, Keys, gmac, protect, unprotect
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


# --- suite 0 by itself: the worked examples of the Green Book ---------------------------------------------

PUBLISHED = Keys(
    bytes.fromhex("000102030405060708090A0B0C0D0E0F"), bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
)
PUBLISHED_TITLE, PUBLISHED_COUNTER = bytes.fromhex("4D4D4D0000BC614E"), 0x01234567
GET_TIME = bytes.fromhex("C0010000080000010000FF0200")
PROTECTED = [
    (0x10, "C0010000080000010000FF0200 06725D910F9221D263877516"),
    (0x20, "411312FF935A47566827C467BC"),
    (0x30, "411312FF935A47566827C467BC 7D825C3BE4A77C3FCC056B6B"),
]


@pytest.mark.parametrize(("control", "text"), PROTECTED)
def test_a_request_is_protected_as_published(control: int, text: str) -> None:
    whole = bytes([control]) + PUBLISHED_COUNTER.to_bytes(4, "big") + bytes.fromhex(text)
    assert protect(PUBLISHED, PUBLISHED_TITLE, PUBLISHED_COUNTER, control, GET_TIME) == whole
    assert unprotect(PUBLISHED, PUBLISHED_TITLE, whole) == (control, PUBLISHED_COUNTER, GET_TIME)


@pytest.mark.parametrize(
    ("title", "counter", "challenge", "proof"),
    [
        ("4D4D4D0000000001", 1, b"P6wRJ21F", "1A52FE7DD3E72748973C1E28"),
        ("4D4D4D0000BC614E", 0x01234567, b"K56iVagY", "FE1466AFB3DBCD4F9389E2B7"),
    ],
)
def test_the_proof_of_a_challenge_is_the_published_one(title, counter, challenge, proof) -> None:
    assert gmac(PUBLISHED, bytes.fromhex(title), counter, 0x10, challenge) == bytes.fromhex(proof)


@pytest.mark.parametrize("control", [0x10, 0x30])
@pytest.mark.parametrize("place", range(5, 30))
def test_no_octet_of_an_authenticated_text_can_be_changed(control: int, place: int) -> None:
    whole = bytearray(protect(PUBLISHED, PUBLISHED_TITLE, 7, control, GET_TIME))
    whole[place] ^= 0x80
    with pytest.raises(AuthenticationBroken):
        unprotect(PUBLISHED, PUBLISHED_TITLE, bytes(whole))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x30\0\0\0",
        b"\x00\0\0\0\1" + bytes(20),
        b"\x31\0\0\0\1" + bytes(20),
        b"\x10\0\0\0\1" + bytes(11),
    ],
    ids=["nothing", "no counter", "no protection", "another suite", "no tag"],
)
def test_what_is_no_protected_text_is_refused(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unprotect(PUBLISHED, PUBLISHED_TITLE, text)


def test_no_secret_is_shown() -> None:
    shown = repr(
        Credentials(
            Mechanism.GMAC,
            b"sesamo-42",
            Keys(b"encryption key..", b"authentication.."),
            OUR_TITLE,
            lambda: 1,
            lambda: b"challenge",
        )
    )
    assert not any(secret in shown for secret in ("sesamo", "encryption key", "authentication."))


@pytest.mark.parametrize("octets", [0, 15, 17, 32])
def test_keys_have_sixteen_octets(octets: int) -> None:
    with pytest.raises(LocalProtocolError):
        Keys(bytes(octets), bytes(16))
    with pytest.raises(LocalProtocolError):
        Keys(bytes(16), bytes(octets))


def test_the_last_counter_is_the_largest_that_its_four_octets_hold() -> None:
    assert MOST_COUNTER == 0xFFFFFFFF
