"""The words of a trace in Portuguese and in English, side by side where they are used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from decimal import Decimal
from fractions import Fraction

from documents import Language
from documents.wording import day, instant, number

# A range in the database's text form: its two ends, each may be empty.
_SPAN = re.compile(r'[\[(]"?([^",]*)"?,"?([^",)\]]*)"?[)\]]')


@dataclass(frozen=True)
class Words:
    """Writes in one language, and instants in one zone.

    Args: zone: of all instants of a document; the document names it once.
    """

    language: Language
    zone: tzinfo

    def __call__(self, portuguese: str, english: str) -> str:
        return portuguese if self.language is Language.PORTUGUESE else english

    def at(self, moment: datetime | None) -> str:
        """An aware instant in the document's zone, to the second."""
        if moment is None:
            return ""
        local = moment.astimezone(self.zone)
        return instant(local.replace(microsecond=0), self.language)

    def milli(self, value: Fraction) -> str:
        """A value that is whole thousandths, with its three decimals."""
        return number(Decimal(int(value * 1000)).scaleb(-3), self.language, 3)

    def span(self, text: str) -> str:
        """A range as the database writes it, in words: `["2026-01-01 00:00:00+00",)`.

        >>> from datetime import UTC
        >>> Words(Language.ENGLISH, UTC).span("[2026-01-01,2026-02-01)")
        'from 2026-01-01 until 2026-02-01'
        """
        match = _SPAN.fullmatch(text)
        if match is None:
            return text
        since, until = (self._moment(side) for side in match.groups())
        parts = [
            self(f"desde {since}", f"from {since}") if since else "",
            self(f"até {until}", f"until {until}") if until else "",
        ]
        return " ".join(filter(None, parts)) or self("sempre", "always")

    def _moment(self, text: str) -> str:
        if not text or text in ("infinity", "-infinity"):
            return ""
        if len(text) == len("2026-01-01"):
            return day(date.fromisoformat(text), self.language)
        local = datetime.fromisoformat(text).astimezone(self.zone)
        return day(local.date(), self.language) if local.time() == time() else instant(local, self.language)

    def exact(self, value: Fraction) -> str:
        """An exact number: as a decimal where it has an end, else as a fraction beside twelve digits.

        >>> from datetime import UTC
        >>> Words(Language.ENGLISH, UTC).exact(Fraction(29672, 5000))
        '5.9344'
        """
        rest = value.denominator
        for prime in (2, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            digits = 0
            while (value * 10**digits).denominator != 1:
                digits += 1
            return number(Decimal(int(value * 10**digits)).scaleb(-digits), self.language, digits)
        near = number(Decimal(round(value * 10**12)).scaleb(-12), self.language, 12)
        return f"{value.numerator}/{value.denominator} ({near}…)"
