"""How a trace writes exact values and reads a time."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.parts import as_decimal, parse_interval_end
from faults import OperatorFault


@given(st.integers(-(10**30), 10**30), st.integers(0, 12), st.integers(0, 12))
def test_a_finite_decimal_is_written_in_full(numerator, twos, fives):
    value = Fraction(numerator, 2**twos * 5**fives)
    assert Fraction(Decimal(as_decimal(value))) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(1, 3), "0.333333333333…"),
        (Fraction(-2, 3), "-0.666666666666…"),
        (Fraction(12653625, 10**6), "12.653625"),
    ],
)
def test_shapes(value, text):
    assert as_decimal(value) == text


@pytest.mark.parametrize(
    "text", ["2026-11-20T10:05", "2026-11-20 10:05:00", "2026-11-20T10:05-03:00", "2026-11-20T13:05+00:00"]
)
def test_a_time_without_offset_is_market_time(text):
    assert parse_interval_end(text, "-03:00").isoformat() == "2026-11-20T10:05:00-03:00"


@pytest.mark.parametrize(
    "text", ["yesterday", "0001-01-01T00:00", "0001-01-01T00:05+05:00", "2026-11-20T24:05"]
)
def test_a_text_that_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(OperatorFault, match="2026-11-20T10:05"):
        parse_interval_end(text, "-03:00")
