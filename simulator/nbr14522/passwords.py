"""Passwords as the meter's side checks them (commands 13 and 11, reference 6.1).

How a token is made of a password is the profile's `password_transform`; nothing here knows a formula.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from protocols.nbr14522.frames import serial_octets
from protocols.nbr14522.messages import TOKEN_SIZE, OpenSessionRequest
from protocols.nbr14522.sending.passwords import PASSWORD_SIZE, TRANSFORMS, TransformInput

# All commands of reference 6.2 and 6.3 that change a meter, but not the reset and the clearing of an
# occurrence, which billing needs. Which ones real meters protect is not public (C).
USUALLY_PROTECTED = frozenset(
    {0x12, 0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x38, 0x47, 0x63, 0x64, 0x65, 0x66, 0x67, 0x73}
    | {0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x87, 0x90, 0x92, 0x95, 0x98}
)


@dataclass(frozen=True)
class PasswordRules:
    """The passwords of one meter and what they guard.

    Args:
        write, read: the passwords; shorter ones are filled up with zero octets (C).
        protected: codes that need a session with the write password.
        protected_reads: codes that need one with either password.
        tries: wrong tokens after which the meter locks itself; how many real ones take is not public (C).
        seed: of the random strings.
    """

    write: str
    read: str = ""
    protected: frozenset[int] = USUALLY_PROTECTED
    protected_reads: frozenset[int] = frozenset()
    tries: int = 3
    seed: int = 0


class Guard:
    """One session's way through the passwords. It ends with the connection (C)."""

    def __init__(self, rules: PasswordRules, transform: str, serial: str) -> None:
        self._rules = rules
        self._transform = TRANSFORMS.get(transform)
        self._serial = serial_octets(serial, 4, "meter serial")
        self._chance = random.Random(f"{rules.seed}/{serial}/seed")
        self._seed: bytes | None = None
        self.may_write = False
        self.may_read = False

    def new_seed(self) -> bytes:
        """A fresh random string; each is good for one attempt."""
        self._seed = self._chance.randbytes(TOKEN_SIZE)
        return self._seed

    def open(self, request: OpenSessionRequest) -> tuple[bool, bool]:
        """Whether the tokens fit the write and the read password."""
        seed, self._seed = self._seed, None
        self.may_write = self._fits(self._rules.write, request.write_token, seed)
        self.may_read = self._fits(self._rules.read, request.read_token, seed)
        return self.may_write, self.may_read

    def _fits(self, password: str, token: bytes | None, seed: bytes | None) -> bool:
        if not password or seed is None or self._transform is None:
            return False
        octets = password.encode("ascii").ljust(PASSWORD_SIZE, b"\x00")
        return self._transform(TransformInput(self._serial, seed, octets)) == token
