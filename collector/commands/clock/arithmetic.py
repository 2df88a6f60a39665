"""Meters' clocks: how wrong, how fast they go wrong, and how to set one without breaking an interval. Pure.

Drift is meter minus reference, seconds, positive when fast, the round trip taken out (`decode.ClockReading`).
Meter times are naive, in fixed market time: a correction ignores daylight saving (TR-5.6d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

import numpy as np

from collector.commands.policy import ClockPolicy

HISTORY = 60
"""So many observations tell a clock's rate, the newest."""
_LEAST_SPAN = timedelta(hours=20)
_LEAST_COUNT = 3
_HORIZON = timedelta(days=3650)
# A step never fills an interval: so much of it is left as the span in which the step may begin.
_BEGIN_S = 30


@dataclass(frozen=True, slots=True)
class Observation:
    """A clock as one session saw it. `at` is aware."""

    at: datetime
    drift_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where a clock is going. None: not known yet, or never at this rate.

    Attributes:
        ppm: microseconds gained in a second, since the last correction.
        minute_at, hour_at: when it will be 1 and 60 minutes wrong; in the past where it is already.
    """

    drift_s: float
    ppm: float | None = None
    minute_at: datetime | None = None
    hour_at: datetime | None = None


def rate_ppm(observations: Sequence[Observation]) -> float | None:
    """Drift rate by Theil and Sen: the median of all slopes, which bears a third of wrong observations.

    Args:
        observations: since the clock was last set, in any order; the newest 60 count.

    Returns:
        None with fewer than three, or within less than a day: a clock tells whole seconds only.
    """
    newest = sorted(observations, key=lambda one: one.at)[-HISTORY:]
    if len(newest) < _LEAST_COUNT or newest[-1].at - newest[0].at < _LEAST_SPAN:
        return None
    at_s = np.array([(one.at - newest[0].at).total_seconds() for one in newest])
    drifts_s = np.array([one.drift_s for one in newest])
    earlier, later = np.triu_indices(len(newest), 1)
    spans_s, gained_s = at_s[later] - at_s[earlier], drifts_s[later] - drifts_s[earlier]
    return float(np.median(gained_s[spans_s > 0] / spans_s[spans_s > 0])) * 1e6


def forecast(observations: Sequence[Observation], policy: ClockPolicy | None = None) -> Forecast | None:
    """Drift now, rate, and when the limits of the policy are crossed; None without observations."""
    if not observations:
        return None
    limits = policy or ClockPolicy()
    last = max(observations, key=lambda one: one.at)
    ppm = rate_ppm(observations)
    return Forecast(
        last.drift_s,
        ppm,
        _crossing(last, ppm, limits.leave_below_s),
        _crossing(last, ppm, limits.automatic_up_to_s),
    )


def _crossing(last: Observation, ppm: float | None, limit_s: float) -> datetime | None:
    if abs(last.drift_s) >= limit_s:
        return last.at
    if not ppm:
        return None
    wait_s = (math.copysign(limit_s, ppm) - last.drift_s) / (ppm * 1e-6)
    # Later than any meter is in use: no forecast, and no reason to look at it.
    return last.at + timedelta(seconds=wait_s) if wait_s < _HORIZON.total_seconds() else None


# --- what to do about it -----------------------------------------------------------------------------------


class Action(StrEnum):
    LEAVE = "leave"
    CORRECT = "correct"
    MANUAL = "manual"


class Method(StrEnum):
    """How a clock is moved: little by little (98/30), to a time (30; SET), by some seconds (shift_time)."""

    MICRO_ADJUST = "micro_adjust"
    SET = "set"
    SHIFT = "shift"


@dataclass(frozen=True, slots=True)
class ClockWay:
    """How the clocks of a model are corrected.

    Attributes:
        why: for the record, in words.
        closes_period: moving the clock at once closes the billing period.
        by_hand: the commands of a person who sets the clock regardless of intervals.
    """

    method: Method
    why: str
    by_hand: str
    closes_period: bool = False


@dataclass(frozen=True, slots=True)
class ClockDecision:
    """What the policy says of a drift. `method` and `needs_approval` only with CORRECT."""

    action: Action
    reason: str
    method: Method | None = None
    needs_approval: bool = False


def decide(drift_s: float, round_trip_s: float, policy: ClockPolicy, way: ClockWay) -> ClockDecision:
    """What to do about a drift (TR-5.6d). A clock that jumps needs what `set_clock` of the policy says."""
    size = abs(drift_s)
    if size < policy.leave_below_s:
        return ClockDecision(Action.LEAVE, f"{size:.0f} s is below {policy.leave_below_s:.0f} s")
    if size > policy.automatic_up_to_s:
        return ClockDecision(Action.MANUAL, f"{size:.0f} s is above {policy.automatic_up_to_s:.0f} s")
    if round_trip_s > policy.max_round_trip_s:
        return ClockDecision(Action.LEAVE, f"measured over a round trip of {round_trip_s:.1f} s")
    if way.method is Method.MICRO_ADJUST:
        return ClockDecision(Action.CORRECT, way.why, way.method)
    needs_approval = way.closes_period or policy.set_clock == "approval"
    reason = way.why + ("; setting closes the billing period" if way.closes_period else "")
    return ClockDecision(Action.CORRECT, reason, way.method, needs_approval)


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a clock inside one interval.

    Attributes:
        step_s: what the clock is moved by, whole seconds; negative: back.
        wait_s: until the safe part of an interval.
        is_last: the drift is gone after it; else another step follows.
    """

    step_s: int
    wait_s: float
    is_last: bool


def plan_step(meter_time: datetime, drift_s: float, interval_s: int, guard_s: int) -> Step:
    """The next move of a clock: as far as one interval allows, when both ends of it lie inside that interval.

    No border is crossed in either direction: none is passed twice, none is left out, the interval is only
    longer or shorter than it says. A drift larger than an interval takes several moves, an interval each.

    Args:
        meter_time: the meter's clock now, naive.
        interval_s: of the mass memory; the others (demand, reactive) are multiples of it.
        guard_s: seconds kept free at both ends of the interval.
    """
    most = interval_s - 2 * guard_s - _BEGIN_S
    if most < 1:
        raise ValueError(f"guards of {guard_s} s leave nothing of an interval of {interval_s} s")
    wanted = -round(drift_s)
    step_s = max(-most, min(most, wanted))
    midnight = meter_time.replace(hour=0, minute=0, second=0, microsecond=0)
    offset = (meter_time - midnight).total_seconds() % interval_s
    low, high = guard_s + max(0, -step_s), interval_s - guard_s - max(0, step_s)
    if offset < low:
        wait_s = low - offset
    elif offset <= high:
        wait_s = 0.0
    else:
        wait_s = interval_s - offset + low
    return Step(step_s, wait_s, step_s == wanted)


def slot_of(moment: datetime, interval_s: int) -> tuple[date, int]:
    """Day and 0-based slot of the interval that is running at a meter time.

    >>> slot_of(datetime(2026, 11, 21, 0, 4, 59), 300), slot_of(datetime(2026, 11, 21, 0, 5), 300)
    ((datetime.date(2026, 11, 21), 0), (datetime.date(2026, 11, 21), 1))
    """
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.date(), int((moment - midnight).total_seconds()) // interval_s


def slots_between(first: datetime, last: datetime, interval_s: int) -> dict[date, tuple[int, int]]:
    """First and last slot per day that a change of a clock between two of its times touches.

    More than a day apart, only the two ends are named: what lies between was not measured by this meter.
    """
    low, high = sorted((first, last))
    moments = [low, high]
    if high - low <= timedelta(days=1):
        count = int((high - low).total_seconds()) // interval_s
        moments += [low + timedelta(seconds=interval_s * n) for n in range(count + 1)]
    found: dict[date, tuple[int, int]] = {}
    for moment in moments:
        day, slot = slot_of(moment, interval_s)
        known = found.get(day, (slot, slot))
        found[day] = (min(known[0], slot), max(known[1], slot))
    return found
