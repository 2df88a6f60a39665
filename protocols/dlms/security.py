"""Security suite 0: AES-GCM-128 of APDUs and the GMAC proof of an association (reference, section 3).

The initial vector is the sender's eight-octet title and a four-octet invocation counter, so a counter must
never be used twice with one key: it comes from a function that the caller makes transactional.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocols.dlms.errors import AuthenticationBroken, LocalProtocolError, RemoteProtocolError

TAG_OCTETS = 12
KEY_OCTETS = 16
MOST_COUNTER = (1 << 32) - 1
AUTHENTICATED = 0x10
ENCRYPTED = 0x20


@dataclass(frozen=True)
class Keys:
    """Keys of one client at one meter; never shown, in a log least of all."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, key in (("encryption", self.encryption), ("authentication", self.authentication)):
            if len(key) != KEY_OCTETS:
                raise LocalProtocolError(f"the {name} key has {len(key)} octets, not {KEY_OCTETS}")


def _gcm(key: bytes, title: bytes, counter: int, tag: bytes | None = None) -> Cipher[modes.GCM]:
    vector = title + counter.to_bytes(4, "big")
    return Cipher(algorithms.AES(key), modes.GCM(vector, tag, min_tag_length=TAG_OCTETS))


def gmac(keys: Keys, title: bytes, counter: int, control: int, text: bytes) -> bytes:
    """Twelve-octet tag over text that is authenticated and not encrypted."""
    worker = _gcm(keys.encryption, title, counter).encryptor()
    worker.authenticate_additional_data(bytes([control]) + keys.authentication + text)
    worker.finalize()
    return worker.tag[:TAG_OCTETS]


def protect(keys: Keys, title: bytes, counter: int, control: int, plain: bytes) -> bytes:
    """Security header, text and tag, as `control` asks: 10 authenticated, 20 encrypted, 30 both."""
    head = bytes([control]) + counter.to_bytes(4, "big")
    if not control & ENCRYPTED:
        return head + plain + gmac(keys, title, counter, control, plain)
    worker = _gcm(keys.encryption, title, counter).encryptor()
    if control & AUTHENTICATED:
        worker.authenticate_additional_data(bytes([control]) + keys.authentication)
    text = worker.update(plain) + worker.finalize()
    return head + text + (worker.tag[:TAG_OCTETS] if control & AUTHENTICATED else b"")


def unprotect(keys: Keys, title: bytes, octets: bytes) -> tuple[int, int, bytes]:
    """Security control, invocation counter and plain text of a protected one.

    Raises:
        RemoteProtocolError: too short, or an unknown security control.
        AuthenticationBroken: the tag does not hold.
    """
    if len(octets) < 5:
        raise RemoteProtocolError(f"protected text of {len(octets)} octets", where="security header")
    control, counter, rest = octets[0], int.from_bytes(octets[1:5], "big"), octets[5:]
    kind = control & 0x30
    if control & 0x0F or not kind:
        raise RemoteProtocolError(
            f"security control {control:02X} is not of suite 0", where="security header"
        )
    if kind == ENCRYPTED:
        # Not authenticated: CTR part of GCM alone, whose counter starts at 2.
        start = title + counter.to_bytes(4, "big") + b"\0\0\0\2"
        worker = Cipher(algorithms.AES(keys.encryption), modes.CTR(start)).decryptor()
        return control, counter, worker.update(rest) + worker.finalize()
    if len(rest) < TAG_OCTETS:
        raise RemoteProtocolError("no room for a tag", where="security header")
    text, tag = rest[:-TAG_OCTETS], rest[-TAG_OCTETS:]
    if kind == AUTHENTICATED:
        if not compare_digest(gmac(keys, title, counter, control, text), tag):
            raise AuthenticationBroken(
                "the meter's authentication tag is wrong", remedy="check the authentication key of this meter"
            )
        return control, counter, text
    decryptor = _gcm(keys.encryption, title, counter, tag).decryptor()
    decryptor.authenticate_additional_data(bytes([control]) + keys.authentication)
    try:
        return control, counter, decryptor.update(text) + decryptor.finalize()
    except InvalidTag:
        raise AuthenticationBroken(
            "the meter's authentication tag is wrong", remedy="check the keys of this meter"
        ) from None


CounterSource = Callable[[], int]
"""Gives the next invocation counter of a key, each value once for ever; stored before it is used."""
