"""The reader's side of an association: open, GET, SET, ACTION, release (reference, sections 3 and 4).

Sans-IO: an operation is a generator. It yields octets to send (perhaps none) and is resumed with octets
received (b"" is not an end, just nothing); its return value is the result. Time is the driver's: on silence
it asks the framing what to send (`timed_out`), and gives up when that does. One operation at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from hmac import compare_digest
from typing import TypeVar

from faults import Fault
from protocols.dlms import apdu as pdu
from protocols.dlms.access import AccessRefused, Credentials
from protocols.dlms.apdu import Attribute, Mechanism
from protocols.dlms.axdr import Data, OctetCursor, Tag, decode_first, encode, octets
from protocols.dlms.errors import (
    AssociationDelayed,
    AssociationRefused,
    AuthenticationBroken,
    CounterRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    ServiceRefused,
)
from protocols.dlms.framing import Framing
from protocols.dlms.security import (
    AUTHENTICATED,
    ENCRYPTED,
    gmac,
    protect,
    unprotect,
)

T = TypeVar("T")
Steps = Generator[bytes, bytes, T]

ASSOCIATION = "0-0:40.0.0.255"
# Twelve channels of 5-minute rows for half a year are some 7 MB; more is no honest answer.
MAX_ANSWER = 8 << 20
MAX_BLOCKS = 1 << 17
MAX_STRAY = 16

# A push, an event, and an event in cipher: a meter may send them at any time between answers.
NOTIFICATIONS = frozenset({0x0F, 0xC2, 0xCA})
_EXCEPTION = 0xD8
_GLO_REQUEST = {0xC0: 0xC8, 0xC1: 0xC9, 0xC3: 0xCB}
_GLO_RESPONSE = {0xCC: 0xC4, 0xCD: 0xC5, 0xCF: 0xC7}
# An exception names no request, so that two may be alike; in cipher it is a replay, which the counter tells.
_NEVER_DOUBLED = (*_GLO_RESPONSE, 0xDB, _EXCEPTION)
_TRANSIENT = 2
_DIAGNOSTICS = {
    0x02: "application context not supported",
    0x0B: "mechanism not recognised",
    0x0C: "mechanism required",
    0x0D: "authentication failed",
    0x0E: "authentication required",
}
# What a ciphered APDU has around a plain one, and what a block has around its piece, at most.
_CIPHER_OCTETS, _BLOCK_OCTETS = 24, 24
_CHECK_POLICY = "check the security policy of the meter, and who else is on its line"


class DlmsClient:
    """One association over one framing.

    Args:
        framing: wrapper or HDLC.
        credentials: mechanism and secrets.
        max_apdu: largest APDU that we take; small values force block transfer.
        tolerate_trailing: keep values with surplus octets after them (one public server sends such).
        on_surplus: with `tolerate_trailing`: gets the object, and how many octets came after its value.
        on_plain: with ciphering: gets each plain request (True) and answer (False): evidence without keys.

    What comes between an answer and the next is passed over and counted: `notifications` are kept for whoever
    wants them, `doubled` answers are those that came before, octet by octet.
    """

    def __init__(
        self,
        framing: Framing,
        credentials: Credentials | None = None,
        *,
        max_apdu: int = 0xFFFF,
        tolerate_trailing: bool = False,
        on_surplus: Callable[[Attribute, int], None] | None = None,
        on_plain: Callable[[bool, bytes], None] | None = None,
    ) -> None:
        self._on_surplus = on_surplus
        self._on_plain = on_plain
        self._framing = framing
        self._credentials = credentials or Credentials()
        self._max_apdu = max_apdu
        self._tolerate_trailing = tolerate_trailing
        self._meter_title = b""
        self._meter_counter = -1
        self._max_request = 0xFFFF
        self._is_associated = False
        self._invoke = 0
        self._heard = b""
        self.notifications: list[bytes] = []
        self.doubled = 0

    @property
    def next_invoke(self) -> int:
        """The invoke id that the next service will have."""
        return self._invoke % pdu.MOST_INVOKES + 1

    @property
    def _room(self) -> int:
        """Octets of the longest plain request that the meter takes."""
        is_ciphered = self._credentials.mechanism is Mechanism.GMAC
        return self._max_request - _CIPHER_OCTETS * is_ciphered

    def open(self) -> Steps[None]:
        """Open the link and the association.

        Raises:
            AssociationRefused: wrong password, client or context.
            AssociationDelayed: the meter cannot now.
            AuthenticationBroken: the meter's proof does not hold.
        """
        yield from self._agree(self._framing.connect())
        credentials = self._credentials
        initiate = pdu.initiate_request(self._max_apdu)
        secret, title = credentials.password, b""
        if credentials.mechanism is Mechanism.GMAC:
            assert credentials.make_challenge is not None
            secret, title = credentials.make_challenge(), credentials.title
            initiate = self._sealed(0x21, initiate)
        answered = yield from self._ask(pdu.aarq(credentials.mechanism, initiate, secret, title))
        if answered[0] == _EXCEPTION:
            raise self._refused(pdu.parse_exception(answered))
        answer = pdu.parse_aare(answered)
        goes_on = credentials.mechanism is Mechanism.GMAC and answer.diagnostic == 0x0E
        if answer.result != 0 and not goes_on:
            why = _DIAGNOSTICS.get(answer.diagnostic, f"diagnostic {answer.diagnostic:02X}")
            if answer.result == _TRANSIENT and answer.diagnostic not in _DIAGNOSTICS:
                raise AssociationDelayed(
                    f"the meter refuses the association for now: {why}",
                    where="association",
                    remedy="it is tried again by itself; if it goes on, see who else is at the meter",
                )
            raise AssociationRefused(
                f"the meter refuses the association: {why}",
                where="association",
                remedy="check client, mechanism and password of this meter",
            )
        if credentials.mechanism is Mechanism.GMAC and answer.title in (b"", credentials.title):
            # Under our own title what we say ourselves would hold as the meter's.
            raise AuthenticationBroken(
                "the meter names no system title of its own", where="association", remedy=_CHECK_POLICY
            )
        self._meter_title = answer.title
        self._note_limits(answer.user_information)
        self._is_associated = True
        if credentials.mechanism is Mechanism.GMAC:
            yield from self._prove(secret, answer.challenge)

    def get(self, attribute: Attribute, selector: int = 0, selection: Data | None = None) -> Steps[Data]:
        """Value of an attribute; blocks are joined and decoded once, since rows are cut in the middle.

        Raises:
            AccessRefused: the meter's data-access-result.
        """
        self._begin()
        answer = yield from self._service(pdu.get_request(attribute, selector, selection))
        if answer[:1] != b"\xc4" or len(answer) < 4:
            raise RemoteProtocolError(f"{answer[:4].hex(' ')} is no GET response", where=attribute.obis)
        if answer[1] == 0x01:
            if answer[3]:
                raise AccessRefused(attribute, _at(answer, 4))
            return self._decoded(answer[4:], attribute)
        raw = bytearray()
        for expected in range(1, MAX_BLOCKS):
            is_last, block = self._get_block(answer, expected, attribute)
            raw += block
            if len(raw) > MAX_ANSWER:
                break
            if is_last:
                return self._decoded(bytes(raw), attribute)
            answer = yield from self._service(pdu.get_next(expected))
        raise LimitExceeded(f"blocks without end: {len(raw)} octets", where=attribute.obis)

    def set(self, attribute: Attribute, value: Data) -> Steps[None]:
        """Write an attribute, in blocks where the meter's largest APDU asks for it."""
        self._begin()
        whole = pdu.set_request(attribute, value)
        if len(whole) <= self._room:
            self._check((yield from self._service(whole)), 0xC5, 0x01, attribute)
            return
        first = partial(pdu.set_first_block, attribute)
        answer = yield from self._send_blocks(encode(value), first, pdu.set_block, b"\xc5\x02", attribute)
        self._check(answer, 0xC5, 0x03, attribute)

    def action(self, method: Attribute, argument: Data | None = None) -> Steps[Data | None]:
        """Call a method; its return value, if it has one. Blocks both ways, as of `get` and `set`."""
        self._begin()
        request = pdu.action_request(method, argument)
        if argument is None or len(request) <= self._room:
            answer = yield from self._service(request)
        else:
            first = partial(pdu.action_first_block, method)
            answer = yield from self._send_blocks(
                encode(argument), first, pdu.action_block, b"\xc7\x04", method
            )
        if answer[:2] == b"\xc7\x02":
            raw = bytearray()
            for expected in range(1, MAX_BLOCKS):
                is_last, block = self._action_block(answer, expected, method)
                raw += block
                if is_last:
                    return self._decoded(bytes(raw), method)
                if len(raw) > MAX_ANSWER:
                    break
                answer = yield from self._service(pdu.action_next(expected))
            raise LimitExceeded("blocks without end", where=method.obis)
        self._check(answer, 0xC7, 0x01, method)
        if len(answer) > 5 and answer[4]:
            if answer[5]:
                raise AccessRefused(method, _at(answer, 6))
            return self._decoded(answer[6:], method)
        return None

    def _decoded(self, raw: bytes, about: Attribute) -> Data:
        value, left = decode_first(raw)
        if left and not self._tolerate_trailing:
            raise RemoteProtocolError(f"{left} surplus octets after the value", where=about.obis)
        if left and self._on_surplus is not None:
            self._on_surplus(about, left)
        return value

    def _send_blocks(
        self,
        raw: bytes,
        first: Callable[[bool, bytes], bytes],
        further: Callable[[int, bool, bytes], bytes],
        goes_on: bytes,
        about: Attribute,
    ) -> Steps[bytes]:
        """Send a long value piece by piece; the answer to the last. Each piece is acknowledged by number."""
        room = self._room - _BLOCK_OCTETS
        if room < 1:
            raise RemoteProtocolError(
                f"the meter takes APDUs of {self._max_request} octets: too few for a block", where=about.obis
            )
        pieces = [raw[place : place + room] for place in range(0, len(raw), room)]
        for number, piece in enumerate(pieces, start=1):
            is_last = number == len(pieces)
            answer = yield from self._service(
                first(is_last, piece) if number == 1 else further(number, is_last, piece)
            )
            if is_last:
                break
            if answer[:1] == goes_on[:1] and answer[:2] != goes_on and _at(answer, 3):
                raise AccessRefused(about, _at(answer, 3))  # the meter breaks off
            if answer[:2] != goes_on or answer[3:7] != number.to_bytes(4, "big"):
                raise RemoteProtocolError(
                    f"{answer[:7].hex(' ')} acknowledges no block {number}", where=about.obis
                )
        return answer

    def release(self) -> Steps[None]:
        """Release the association and close the link. Some meters refuse RLRQ: closing is then enough."""
        if self._is_associated:
            self._is_associated = False
            yield from self._ask(pdu.RELEASE_REQUEST)
        yield from self.hang_up()

    def hang_up(self) -> Steps[None]:
        """Close the link alone."""
        yield from self._agree(self._framing.disconnect())

    def _agree(self, request: bytes) -> Steps[None]:
        """Open or close the link, where there is one."""
        if not request:
            return
        received = yield request
        while True:
            self._framing.receive(received)
            if self._framing.next_apdu() is not None:
                return
            received = yield self._framing.data_to_send()

    def _prove(self, ours: bytes, theirs: bytes) -> Steps[None]:
        """Both sides show that they hold the keys: f(StoC) out, f(CtoS) back."""
        credentials = self._credentials
        assert credentials.keys is not None
        assert credentials.next_counter is not None
        if theirs == ours:
            raise AuthenticationBroken("the meter sends our own challenge back", where="association")
        counter = credentials.next_counter()
        tag = gmac(credentials.keys, credentials.title, counter, AUTHENTICATED, theirs)
        proof = bytes([AUTHENTICATED]) + counter.to_bytes(4, "big") + tag
        try:
            answer = yield from self.action(Attribute(15, ASSOCIATION, 1), octets(proof))
        except AccessRefused as refused:
            raise AssociationRefused(
                f"the meter refuses our proof: {pdu.result_name(refused.code)}",
                where="association",
                remedy="check the keys of this meter and that the invocation counter is above the meter's",
            ) from refused
        value = answer.value if answer is not None and answer.tag is Tag.OCTET_STRING else b""
        if len(value) != 17:
            raise AuthenticationBroken("the meter gives no proof", where="association")
        expected = gmac(
            credentials.keys, self._meter_title, int.from_bytes(value[1:5], "big"), AUTHENTICATED, ours
        )
        if not compare_digest(value[5:], expected):
            raise AuthenticationBroken(
                "the meter's proof is wrong: it does not hold the authentication key",
                where="association",
                remedy="check that this is the right meter",
            )

    def _note_limits(self, information: bytes) -> None:
        if not information:
            return
        if information[0] == 0x28:
            information = self._opened(information)
        limit = pdu.parse_initiate(information).max_apdu
        self._max_request = limit or 0xFFFF

    def _begin(self) -> None:
        """A new service: its number tells its answers from late or doubled ones of those before."""
        self._invoke = self.next_invoke

    def _service(self, request: bytes) -> Steps[bytes]:
        if not self._is_associated:
            raise LocalProtocolError("no association is open")
        request = pdu.numbered(request, self._invoke)
        if self._credentials.mechanism is Mechanism.GMAC:
            if self._on_plain is not None:
                self._on_plain(True, request)
            request = self._sealed(_GLO_REQUEST[request[0]], request)
        answer = yield from self._ask(request)
        if answer[:1] and (answer[0] in _GLO_RESPONSE or answer[0] == 0xDB):
            answer = self._opened(answer)
            if self._on_plain is not None:
                self._on_plain(False, answer)
        elif self._credentials.mechanism is Mechanism.GMAC and answer[:1] != b"\xd8":
            # Anybody on the line could have sent it.
            raise AuthenticationBroken(
                "an answer in plain text in a ciphered association", where="service", remedy=_CHECK_POLICY
            )
        if answer[0] == _EXCEPTION:
            raise self._refused(pdu.parse_exception(answer))
        if pdu.invoke_number(answer) != self._invoke:
            raise RemoteProtocolError(
                f"{answer[:3].hex(' ')} is no answer to request {self._invoke}", where="service"
            )
        return answer

    def _ask(self, request: bytes) -> Steps[bytes]:
        received = yield self._framing.wrap(request)
        strays = 0
        while True:
            self._framing.receive(received)
            while (answer := self._framing.next_apdu()) is not None:
                if not answer:
                    raise RemoteProtocolError("an answer without octets", where="service")
                is_doubled = answer == self._heard and answer[0] not in _NEVER_DOUBLED
                if answer[0] not in NOTIFICATIONS and not is_doubled:
                    self._heard = answer
                    return answer
                strays += 1
                if strays > MAX_STRAY:
                    raise LimitExceeded("notifications instead of an answer", where="service")
                if is_doubled:
                    self.doubled += 1
                else:
                    self.notifications.append(answer)
            received = yield self._framing.data_to_send()

    def _refused(self, answer: pdu.ExceptionAnswer) -> Fault:
        """The fault of an exception: of the keys, of the counter, or of the service."""
        told = f"the meter answers with an exception: {answer.words}"
        if answer.is_key_fault:
            return AssociationRefused(
                told,
                where="association",
                remedy="check the keys of this meter: it cannot decipher what we send; it is not tried again",
            )
        if answer.counter is not None:
            return CounterRefused(
                told,
                answer.counter,
                where="association",
                remedy="find out who else uses this key; with trusts_told_counter in the model the "
                "reader goes on from the counter that the meter states",
            )
        if answer.is_counter_fault:
            return AssociationRefused(
                told,
                where="association",
                remedy="give the model the counter_object of this meter, so that its counter is read first",
            )
        return ServiceRefused(told, where="service")

    def _sealed(self, tag: int, plain: bytes) -> bytes:
        credentials = self._credentials
        assert credentials.keys is not None
        assert credentials.next_counter is not None
        control = AUTHENTICATED | ENCRYPTED
        text = protect(credentials.keys, credentials.title, credentials.next_counter(), control, plain)
        return pdu.tlv(tag, text)

    def _opened(self, answer: bytes) -> bytes:
        keys = self._credentials.keys
        if keys is None:
            raise RemoteProtocolError("a ciphered answer without keys", where="security header")
        reader = OctetCursor(answer)
        title = self._meter_title
        if reader.octet() == 0xDB:
            title = reader.take(reader.length())
            if title != self._meter_title:
                # Our own request, sent back to us, would hold: its key is the same.
                raise AuthenticationBroken(
                    f"an answer of {title.hex()}, not of the meter",
                    where="security header",
                    remedy=_CHECK_POLICY,
                )
        control, counter, plain = unprotect(keys, title, reader.take(reader.length()))
        if not control & AUTHENTICATED:
            # Encryption alone lets anybody on the line change what it cannot read.
            raise AuthenticationBroken(
                "an answer without authentication", where="security header", remedy=_CHECK_POLICY
            )
        if counter <= self._meter_counter:
            raise AuthenticationBroken(
                f"the meter's invocation counter goes from {self._meter_counter} to {counter}: a replay",
                where="security header",
            )
        self._meter_counter = counter
        return plain

    def _get_block(self, answer: bytes, expected: int, attribute: Attribute) -> tuple[bool, bytes]:
        if answer[:2] != b"\xc4\x02":
            raise RemoteProtocolError(f"{answer[:2].hex(' ')} instead of a block", where=attribute.obis)
        reader = OctetCursor(answer)
        reader.take(3)
        is_last, number = bool(reader.octet()), int.from_bytes(reader.take(4), "big")
        if reader.octet():
            raise AccessRefused(attribute, reader.octet())
        if number != expected:
            raise RemoteProtocolError(f"block {number} instead of {expected}", where=attribute.obis)
        return is_last, self._whole_block(reader, attribute)

    def _whole_block(self, reader: OctetCursor, about: Attribute) -> bytes:
        """The piece that a block carries, and nothing behind it."""
        piece = reader.take(reader.length())
        if reader.left and not self._tolerate_trailing:
            raise RemoteProtocolError(f"{reader.left} surplus octets after a block", where=about.obis)
        if reader.left and self._on_surplus is not None:
            self._on_surplus(about, reader.left)
        return piece

    def _action_block(self, answer: bytes, expected: int, method: Attribute) -> tuple[bool, bytes]:
        if answer[:2] != b"\xc7\x02":
            raise RemoteProtocolError(f"{answer[:2].hex(' ')} instead of a block", where=method.obis)
        reader = OctetCursor(answer)
        reader.take(3)
        is_last, number = bool(reader.octet()), int.from_bytes(reader.take(4), "big")
        if number != expected:
            raise RemoteProtocolError(f"block {number} instead of {expected}", where=method.obis)
        return is_last, self._whole_block(reader, method)

    @staticmethod
    def _check(answer: bytes, tag: int, kind: int, attribute: Attribute) -> None:
        if len(answer) < 4 or answer[0] != tag or answer[1] != kind:
            raise RemoteProtocolError(
                f"{answer[:4].hex(' ')} is no answer to this request", where=attribute.obis
            )
        if answer[3]:
            raise AccessRefused(attribute, answer[3])


def _at(answer: bytes, place: int) -> int:
    return answer[place] if place < len(answer) else 250
