"""A ciphered association takes nothing that an outsider could have said (dlms_cosem.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import pytest

from protocols.dlms.access import Credentials
from protocols.dlms.apdu import Attribute, Mechanism, tlv
from protocols.dlms.axdr import Data, OctetCursor
from protocols.dlms.client import DlmsClient
from protocols.dlms.errors import (
    AssociationRefused,
    AuthenticationBroken,
    LocalProtocolError,
    RemoteProtocolError,
)
from protocols.dlms.framing import WRAPPER, WrapperFraming
from protocols.dlms.security import MOST_COUNTER, Keys, gmac, protect, unprotect
from simulator.dlms.end import TITLE, WrapperEnd
from simulator.dlms.meter import CLOCK, DlmsMeter, DlmsSpec
from tests.collector.world import meter

NOW = datetime(2026, 11, 21, 6, 7, tzinfo=UTC)
KEYS = Keys(bytes(range(16)), bytes(range(16, 32)))
CLIENT, OUR_TITLE = 1, b"SMFTITLE"
TIME = Attribute(8, CLOCK, 2)

Tampering = Callable[[bytes], bytes]


def opened(answer: bytes) -> tuple[int, bytes]:
    """Invocation counter and plain text of the meter's ciphered answer."""
    reader = OctetCursor(answer)
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
    on_plain: Callable[[bool, bytes], None] | None = None

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
        self.client = DlmsClient(WrapperFraming(CLIENT), credentials, on_plain=self.on_plain)
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


def test_an_answer_is_taken_once() -> None:
    association, heard = Association(), []

    def heard_before(answer: bytes) -> bytes:
        heard.append(answer)
        return heard[0]

    association.read(heard_before)
    with pytest.raises(AuthenticationBroken, match="replay"):
        association.read(heard_before)


def proof_changed(change: Tampering) -> Tampering:
    """The meter's answer to our proof, sealed as it was, with another proof of its own."""

    def tamper(answer: bytes) -> bytes:
        if answer[0] != 0xCF:
            return answer
        counter, plain = opened(answer)
        return tlv(0xCF, protect(KEYS, TITLE, counter, 0x30, change(plain)))

    return tamper


@pytest.mark.parametrize("place", [-1, -12, -13, -16])
def test_a_meter_whose_proof_is_wrong_in_any_octet_is_none(place: int) -> None:
    def changed(plain: bytes) -> bytes:
        octets = bytearray(plain)
        octets[place] ^= 1
        return bytes(octets)

    with pytest.raises(AuthenticationBroken, match="proof is wrong"):
        Association(greeting=proof_changed(changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain[:4] + b"\0",
        lambda plain: plain[:6] + b"\0",
        lambda plain: plain[:6] + b"\x09\x10" + plain[8:-1],
        lambda plain: plain[:6] + b"\x09\x12" + plain[8:] + b"\0",
        lambda plain: plain[:6] + b"\x0a\x11" + plain[8:],
    ],
    ids=["none", "null", "cut", "longer", "text"],
)
def test_a_meter_that_proves_nothing_is_none(change: Tampering) -> None:
    with pytest.raises(AuthenticationBroken, match="no proof"):
        Association(greeting=proof_changed(change))


def test_a_meter_that_sends_our_own_challenge_back_is_none() -> None:
    """It would have us answer it ourselves."""

    def reflected(answer: bytes) -> bytes:
        return answer.replace(bytes(range(0x40, 0x50)), bytes(range(16)))

    with pytest.raises(AuthenticationBroken, match="own challenge"):
        Association(greeting=reflected)


def test_a_meter_that_refuses_our_proof_refuses_the_association() -> None:
    with pytest.raises(AssociationRefused, match="refuses our proof"):
        Association(greeting=proof_changed(lambda plain: plain[:3] + b"\3\0"))


def test_an_exception_is_taken_in_plain_text_and_ends_the_service() -> None:
    with pytest.raises(RemoteProtocolError, match="exception"):
        Association().read(lambda _: b"\xd8\1\2")


def test_nothing_is_asked_without_an_association() -> None:
    association = Association()
    association.run(association.client.release())
    with pytest.raises(LocalProtocolError, match="no association"):
        association.read()


@pytest.mark.parametrize(
    "lacking",
    [{"keys": None}, {"title": b""}, {"title": bytes(9)}, {"next_counter": None}, {"make_challenge": None}],
)
def test_a_proof_takes_keys_title_counter_and_challenge(lacking) -> None:
    whole = {"keys": KEYS, "title": OUR_TITLE, "next_counter": lambda: 1, "make_challenge": lambda: b"?"}
    assert Credentials(Mechanism.GMAC, **whole).title == OUR_TITLE
    with pytest.raises(LocalProtocolError, match="GMAC takes"):
        Credentials(Mechanism.GMAC, **(whole | lacking))


def test_evidence_is_the_plain_service_and_its_answer() -> None:
    told: list[tuple[bool, bytes]] = []
    association = Association(on_plain=lambda *one: told.append(one))
    told.clear()
    association.read()
    assert [(is_sent, apdu[:2].hex(), len(apdu)) for is_sent, apdu in told] == [
        (True, "c001", 13),
        (False, "c401", 18),
    ]


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
