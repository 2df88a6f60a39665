"""National codes of consumer units: 10 digits of sequence, 3 of distributor, 2 check digits.

Restated here (it is also a rule of `vee`) because the fleet invents codes and may not import the rules that
check them; the two are compared by a test.
"""

from __future__ import annotations

_FIRST = (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 10, 9, 8)
_SECOND = (11, *_FIRST)


def national_code(sequence: int, distributor: int) -> str:
    """The 15 digits.

    >>> national_code(13479258, 28)
    '001347925802810'
    """
    digits = f"{sequence:010d}{distributor:03d}"
    for weights in (_FIRST, _SECOND):
        rest = sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11
        digits += str(0 if rest < 2 else 11 - rest)
    return digits
