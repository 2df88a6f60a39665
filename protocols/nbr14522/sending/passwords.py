"""How the tokens of command 11 are made of a password and the seed of command 13 (section 6.1).

Each meter model names its transform; a new one is a function in `TRANSFORMS`. No public source gives the
standard's own ("abnt"), and there is no test vector for the makers' ones (B): the tests show the formulas.
Nothing here keeps or shows a password.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from faults import OperatorFault
from protocols.nbr14522.frames import serial_octets
from protocols.nbr14522.messages import TOKEN_SIZE, OpenSessionRequest, Seed, SessionOpened, SessionResult
from protocols.nbr14522.profile import PasswordAnswer

PASSWORD_SIZE = 10


@dataclass(frozen=True, slots=True)
class TransformInput:
    """What a transform may use: meter serial 4 octets, seed 10 octets, password 10 octets."""

    meter_serial: bytes
    seed: bytes
    password: bytes


Transform = Callable[[TransformInput], bytes]


def _landis_residential(given: TransformInput) -> bytes:
    """First ten octets of MD5(serial, seed, password): the maker's rule for E430 and E450."""
    digest = hashlib.md5(given.meter_serial + given.seed + given.password, usedforsecurity=False)
    return digest.digest()[:TOKEN_SIZE]


def _landis_commercial(given: TransformInput) -> bytes:
    """Last ten octets, reversed, of SHA-256(password, seed): the maker's rule for E650 and E750."""
    return hashlib.sha256(given.password + given.seed).digest()[-TOKEN_SIZE:][::-1]


TRANSFORMS: dict[str, Transform] = {
    "landis-residential-md5": _landis_residential,
    "landis-commercial-sha256": _landis_commercial,
}
"""By the name that a model gives in `password_transform`."""

NO_PASSWORD = "none"
UNKNOWN_TRANSFORMS = {
    "abnt": "no public source gives the standard's own transform of the password",
    "star-hmac-sha256": "the maker's HMAC token is known by name only",
}
"""Named, so that a model can say what it uses; refused, because it cannot be computed."""

PASSWORD_TRANSFORMS = frozenset({NO_PASSWORD, *TRANSFORMS, *UNKNOWN_TRANSFORMS})


def open_session(
    transform: str,
    seed: Seed,
    meter_serial: str,
    *,
    write_password: bytes | None = None,
    read_password: bytes | None = None,
    user: int = 0,
) -> OpenSessionRequest:
    """Command 11 with the tokens of the passwords given; the other token stays zero.

    Args:
        transform: the profile's `password_transform`.
        seed: the meter's answer to 13 in this session.
        meter_serial: eight digits.

    Raises:
        OperatorFault: the transform cannot be computed, or a password has another length than 10 octets.
    """
    function = _transform_named(transform)
    if seed.seed is None:
        raise OperatorFault("the answer to 13 holds no seed", where="command 13", remedy="read it again")

    def token(password: bytes | None) -> bytes:
        if password is None:
            return bytes(TOKEN_SIZE)
        if len(password) != PASSWORD_SIZE:
            raise OperatorFault(
                f"a password has {PASSWORD_SIZE} octets, not {len(password)}",
                where="command 11",
                remedy="enter it as the maker's software shows it, filled up to its whole length",
            )
        given = TransformInput(serial_octets(meter_serial, 4, "meter serial"), seed.seed or b"", password)
        return function(given)

    return OpenSessionRequest(write_token=token(write_password), read_token=token(read_password), user=user)


def is_open(answer: PasswordAnswer, opened: SessionOpened, *, is_write: bool) -> bool:
    """Whether the answer to 11 says that the password sent was right.

    Args:
        answer: the profile's `password_answer`.
        is_write: the write password was sent, else the read password.
    """
    if answer is PasswordAnswer.STATUS:
        return opened.write_result == 1 and opened.read_result in (
            SessionResult.OK,
            SessionResult.NEAR_EXPIRY,
        )
    return (opened.write_result if is_write else opened.read_result) == SessionResult.OK


def _transform_named(name: str) -> Transform:
    known = TRANSFORMS.get(name)
    if known is not None:
        return known
    reason = UNKNOWN_TRANSFORMS.get(name, f"the meter's model has password transform {name!r}")
    raise OperatorFault(
        f"{reason}: no token can be made",
        where="password transform",
        remedy="protected commands need the maker's software, or a model whose transform is one of "
        + ", ".join(sorted(TRANSFORMS)),
    )
