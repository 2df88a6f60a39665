"""Times of the annex as functions of the rate (section 2)."""

from __future__ import annotations

# 2400 is the rule; the others are admitted, one fixed rate per meter. The order is that of a rate search.
RATES_BIT_S = (2400, 300, 600, 1200, 1800, 4800)
RATE_TOLERANCE = 0.03
BITS_PER_OCTET = 10
MAX_IDLE_BITS_INSIDE = 50
MIN_GAP_BITS_BETWEEN = 200
# Each mandatory packet repeats at least this often; also the least dwell of a rate search.
REPEAT_WITHIN_S = 5.0
DWELL_S = 6.5


def packet_idle_s(rate_bit_s: int) -> float:
    """Longest silence between two octets of one packet."""
    return MAX_IDLE_BITS_INSIDE / rate_bit_s


def packet_gap_s(rate_bit_s: int) -> float:
    """Shortest silence between two packets."""
    return MIN_GAP_BITS_BETWEEN / rate_bit_s
