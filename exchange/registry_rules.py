"""What a registry file may say that only other rooms can judge: codes, strategies, profiles, URLs."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from collector.lines.transports import parse_url
from faults import OperatorFault
from protocols.table import catalogues
from storage.registry import Rules
from vee.layers.estimation import STRATEGIES
from vee.layers.validation import has_valid_check_digits

_NATIONAL_DIGITS = 15


def _doubt_of_code(code: str) -> str | None:
    if len(code) != _NATIONAL_DIGITS:
        return f"{code!r} does not have the 15 digits of the national code"
    return None if has_valid_check_digits(code) else f"the check digits of {code!r} do not fit"


class MeterProfiles(Collection[str]):
    """Names of all protocols' profiles, looked up when asked: catalogues are loaded after this module."""

    def __contains__(self, name: object) -> bool:
        return any(name in models.names() for _, models in catalogues())

    def __iter__(self) -> Iterator[str]:
        return (name for _, models in catalogues() for name in models.names())

    def __len__(self) -> int:
        return sum(len(models.names()) for _, models in catalogues())


def _full_code(digits: str) -> str | None:
    """The national code that digits without their leading zeros stand for, where its check digits fit."""
    code = digits.zfill(_NATIONAL_DIGITS)
    return code if len(code) == _NATIONAL_DIGITS and has_valid_check_digits(code) else None


def fault_of_url(url: str) -> str | None:
    """Why the collector would refuse a unit's URL, or None."""
    try:
        parse_url(url)
    except OperatorFault as fault:
        return f"{fault.message} ({url}): {fault.remedy}"
    return None


RULES = Rules(
    known={"estimation.strategy": STRATEGIES, "meter_models.profile": MeterProfiles()},
    wrong={"units.url": fault_of_url},
    doubtful={"ucs.code": _doubt_of_code},
    completed={"ucs.code": _full_code},
)
