"""Registers and parameters that agree with a load."""

from __future__ import annotations

from datetime import date, datetime, time

import numpy as np
from numpy.typing import NDArray

from protocols.nbr14522.checks import OFF_PEAK, PEAK, RESERVED
from protocols.nbr14522.messages import ChannelRegisters, Parameters, Registers

LAST = datetime(2017, 1, 9, 7, 45)
INTERVALS = 9501  # the real file: reset to reset, 28,503 words
PARAMETERS = Parameters(
    code=0x22,
    last_reset=LAST,
    last_interval_end=LAST,
    words_previous=INTERVALS * 3,
    memory_interval_min=5,
    memory_interval_extra_s=0,
    demand_interval_min=15,
    peak_starts=(time(18), None, None, None),
    off_peak_starts=(time(6), time(21), None, None),
    reserved_starts=(time(0), None, None, None),
    holidays=(date(2016, 12, 26), *(None,) * 14),
    saturday_segments=6,
    sunday_segments=6,
    holiday_segments=6,
    second_set_flag=1,
)


def load(seed: int = 7, high: int = 700) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, high, size=(INTERVALS, 3))


def registers_of(counts: NDArray[np.int64]) -> Registers:
    """The maximum-demand registers, counted interval by interval as a meter does."""
    maxima: dict[tuple[int, int], int] = {}
    last = np.datetime64(LAST, "s")
    for end in range(len(counts)):
        when = (last - np.timedelta64(300 * (len(counts) - 1 - end), "s")).astype(datetime)
        if when.minute % 15 or end < 2:
            continue
        begin = (np.datetime64(when, "s") - np.timedelta64(900, "s")).astype(datetime)
        segment = RESERVED if begin.hour < 6 else PEAK if 18 <= begin.hour < 21 else OFF_PEAK
        if segment == PEAK and (begin.isoweekday() >= 6 or begin.date() == date(2016, 12, 26)):
            segment = OFF_PEAK
        for channel in range(3):
            value = int(counts[end - 2 : end + 1, channel].sum())
            maxima[channel, segment] = max(maxima.get((channel, segment), 0), value)
    return Registers(
        code=0x24,
        channels=tuple(
            ChannelRegisters(
                max_demand_peak_pulses=maxima[channel, PEAK],
                max_demand_off_peak_pulses=maxima[channel, OFF_PEAK],
                max_demand_reserved_pulses=maxima[channel, RESERVED],
            )
            for channel in range(3)
        ),
    )
