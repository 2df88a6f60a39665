"""What the failures of a lot mean under the purchase's warranty. Pure.

The purchase (section 6 of its specifications): three years from delivery everything is the maker's; after
that a failure rate of up to 2 % a year is normal, above it the maker repairs until the end of the fifth year;
a systemic fault is the maker's at any time, with the whole lot replaced.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Protocol


class Lot(Protocol):
    """A lot as delivered; `storage.meter_lots` has the rows."""

    @property
    def code(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def delivered_on(self) -> dt.date: ...

    @property
    def supplier(self) -> str: ...


class Failure(Protocol):
    """A failed meter: `fault` is a kind of the utility's own list."""

    @property
    def serial(self) -> str: ...

    @property
    def failed_on(self) -> dt.date: ...

    @property
    def fault(self) -> str: ...


@dataclass(frozen=True, slots=True)
class WarrantyTerms:
    """Terms of a contract; the defaults are the purchase's.

    Attributes:
        normal_rate: failures a year, as a share of the lot, up to which they are normal after the warranty.
        maker_until_year: last year after delivery in which the maker repairs what is above that.
        systemic_failures, systemic_share: from so many failures of one kind, and from this share,
            a fault is shown as a suspect of being systemic. No document says when; ours, to get it looked at.
    """

    warranty_months: int = 36
    normal_rate: Fraction = Fraction(2, 100)
    maker_until_year: int = 5
    systemic_failures: int = 5
    systemic_share: Fraction = Fraction(1, 100)


class Liability(StrEnum):
    """Who bears a year's failures."""

    WARRANTY = "warranty"
    NORMAL = "normal"  # after the warranty, at most the normal rate: the utility
    ABOVE_NORMAL = "above_normal"  # after it, above: the maker, until the agreed year
    EXPIRED = "expired"  # above the normal rate, but after that year


@dataclass(frozen=True, slots=True)
class LotYear:
    """One year counted from delivery; `is_over` is False for the one that runs, whose rate can only rise."""

    number: int
    begins_on: dt.date
    ends_before: dt.date
    failures: int
    rate: Fraction
    liability: Liability
    is_flagged: bool
    is_over: bool


@dataclass(frozen=True, slots=True)
class FaultGroup:
    """Failures of one kind in a lot."""

    fault: str
    failures: int
    share: Fraction
    first_on: dt.date
    last_on: dt.date
    is_suspect: bool


@dataclass(frozen=True)
class LotReport:
    """How a lot stands on a day; `warranty_until` is the last day of the warranty."""

    lot: Lot
    as_of: dt.date
    warranty_until: dt.date
    in_warranty: bool
    failures: int
    years: tuple[LotYear, ...]
    faults: tuple[FaultGroup, ...]

    @property
    def is_flagged(self) -> bool:
        """Whether a year after the warranty was above the normal rate, or a fault is a suspect."""
        return any(year.is_flagged for year in self.years) or any(fault.is_suspect for fault in self.faults)


def term_ends_on(day: dt.date, months: int) -> dt.date:
    """Last day of a term of months that begins on a day.

    Civil Code, art. 132: the first day is not counted and the last one is; a term ends on the day of the same
    number, or on the next one where the month has none.
    """
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    first = dt.date(years, month + 1, 1)
    same = first + dt.timedelta(days=day.day - 1)
    return same if same.month == first.month else same.replace(day=1)


def lot_report(
    lot: Lot, failures: Sequence[Failure], as_of: dt.date, terms: WarrantyTerms | None = None
) -> LotReport:
    """Judge a lot's failures up to a day.

    A meter counts once in a year, however often it failed in it. Failures before delivery and after `as_of`
    are left out.
    """
    terms = terms or WarrantyTerms()
    known = [one for one in failures if lot.delivered_on <= one.failed_on <= as_of]
    until = term_ends_on(lot.delivered_on, terms.warranty_months)
    years = []
    number, begins = 1, lot.delivered_on
    while begins <= as_of:
        ends = term_ends_on(lot.delivered_on, 12 * number) + dt.timedelta(days=1)
        failed = len({one.serial for one in known if begins <= one.failed_on < ends})
        rate = Fraction(failed, lot.size)
        is_above = rate > terms.normal_rate
        if begins <= until:
            liability = Liability.WARRANTY
        elif not is_above:
            liability = Liability.NORMAL
        else:
            liability = Liability.ABOVE_NORMAL if number <= terms.maker_until_year else Liability.EXPIRED
        years.append(
            LotYear(
                number=number,
                begins_on=begins,
                ends_before=ends,
                failures=failed,
                rate=rate,
                liability=liability,
                is_flagged=is_above and begins > until,
                is_over=ends <= as_of,
            )
        )
        number, begins = number + 1, ends
    return LotReport(
        lot=lot,
        as_of=as_of,
        warranty_until=until,
        in_warranty=as_of <= until,
        failures=len({one.serial for one in known}),
        years=tuple(years),
        faults=_faults(lot, known, terms),
    )


def _faults(lot: Lot, failures: Sequence[Failure], terms: WarrantyTerms) -> tuple[FaultGroup, ...]:
    meters = {(one.fault, one.serial) for one in failures}
    counts = Counter(fault for fault, _ in meters)
    groups = []
    for fault, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        days = [one.failed_on for one in failures if one.fault == fault]
        share = Fraction(count, lot.size)
        is_suspect = count >= terms.systemic_failures and share >= terms.systemic_share
        groups.append(FaultGroup(fault, count, share, min(days), max(days), is_suspect))
    return tuple(groups)
