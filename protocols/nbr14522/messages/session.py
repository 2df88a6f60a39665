"""Commands 13 and 11: the string (seed) for a password, and the session it opens (section 6.1).

Tokens are kept out of `repr` and JSON; `protocols.nbr14522.sending.secrets` keeps them out of stored frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from protocols.nbr14522.messages.base import Request, Response
from protocols.nbr14522.messages.codecs import Bcd, Octet, Raw
from protocols.nbr14522.messages.layout import at

TOKEN_SIZE = 10
MAKER_TOKEN_SIZE = 32


class PasswordMode(IntEnum):
    """One maker's o256 of the answer to 13 (B)."""

    ABNT = 0
    MD5 = 1
    INTERNAL = 2
    HMAC_SHA256 = 3


class SessionResult(IntEnum):
    """One maker's o7 of the answer to 11 (B)."""

    OK = 0
    NEAR_EXPIRY = 1
    EXPIRED = 2
    PROTECTION_TIME = 3
    WRONG = 4
    COMMUNICATION_ERROR = 5
    MODE_NOT_SUPPORTED = 6


@dataclass(frozen=True, kw_only=True)
class SeedRequest(Request):
    """13: the random string from which the token is made."""

    CODE: ClassVar[int] = 0x13


@dataclass(frozen=True, kw_only=True)
class Seed(Response):
    """Answer to 13. What follows the seed is one maker's (B): length, longer string, mode at the end."""

    seed: bytes | None = at(6, Raw(TOKEN_SIZE))
    long_seed_length: int | None = at(16, Octet())
    long_seed: bytes | None = at(17, Raw(239))
    mode: int | None = at(256, Octet())


@dataclass(frozen=True, kw_only=True)
class OpenSessionRequest(Request):
    """11: open a session with tokens made of the password (never the password itself)."""

    CODE: ClassVar[int] = 0x11

    write_token: bytes | None = at(5, Raw(TOKEN_SIZE), default=bytes(TOKEN_SIZE), secret=True)
    read_token: bytes | None = at(15, Raw(TOKEN_SIZE), default=bytes(TOKEN_SIZE), secret=True)
    user: int | None = at(25, Bcd(1), default=0)
    maker_token: bytes | None = at(26, Raw(MAKER_TOKEN_SIZE), default=bytes(MAKER_TOKEN_SIZE), secret=True)
    """One maker's token of 32 octets (B)."""


@dataclass(frozen=True, kw_only=True)
class SessionOpened(Response):
    """Answer to 11: o6 and o7 are the results for the write and the read password.

    One maker puts there whether it authenticated and a `SessionResult` (B).
    """

    write_result: int | None = at(6, Octet())
    read_result: int | None = at(7, Octet())
    user: int | None = at(8, Octet())
