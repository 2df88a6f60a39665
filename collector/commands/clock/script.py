"""What every script that moves a clock shares: what it saw, when it may move it, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from collector.commands.clock.arithmetic import Method, plan_step, slots_between
from collector.commands.policy import ClockPolicy
from collector.commands.steps import CommandWork, Execution, Pending, Tools, Verdict
from faults import RetryFault

# Between choosing the instant at which a clock is moved and that instant: for the record to be committed.
LEAD_S = 1.5


@dataclass(frozen=True, slots=True)
class Seen:
    """A clock as a session sees it: naive market time. `interval_s`: of the memory, where it was told."""

    meter_time: datetime
    drift_s: float
    round_trip_s: float
    interval_s: int | None

    def to_json(self) -> dict[str, Any]:
        return {
            "meter_time": self.meter_time.isoformat(),
            "drift_s": round(self.drift_s, 3),
            "round_trip_s": round(self.round_trip_s, 3),
        }


def seen_at(told: datetime, asked: datetime, answered: datetime, interval_s: int | None) -> Seen:
    """A clock's answer between two instants of reference time: the middle is the meter's instant."""
    round_trip = answered - asked
    drift_s = (told - asked - round_trip / 2).total_seconds()
    return Seen(told, drift_s, round_trip.total_seconds(), interval_s)


def better(one: Seen, other: Seen) -> Seen:
    """The reading over the shorter round trip."""
    return one if one.round_trip_s <= other.round_trip_s else other


def needs_no_move(work: CommandWork, seen: Seen) -> bool:
    """Whether the clock is right already, or is not to be corrected by rule; then that is the verdict."""
    run, limits = work.execution, work.clock
    if abs(seen.drift_s) <= limits.tolerance_s:
        run.after = run.before
        run.end(Verdict.CONFIRMED, basis="read back", was_written=False)
        return True
    if abs(seen.drift_s) > limits.automatic_up_to_s or seen.round_trip_s > limits.max_round_trip_s:
        drift, way = round(seen.drift_s, 1), round(seen.round_trip_s, 1)
        run.end(Verdict.REFUSED, reason=f"drift {drift} s, round trip {way} s: not corrected by rule")
        return True
    return False


@dataclass(frozen=True, slots=True)
class Move:
    """A step of a correction and its instant, naive market time.

    Attributes:
        wait_s: from now until the command is to be under way.
        arrives: when it reaches the meter, a whole second in the safe part of an interval.
        before, target: the meter's clock then, and what it is to show instead.
    """

    step_s: int
    is_last: bool
    wait_s: float
    arrives: datetime
    before: datetime
    target: datetime

    def detail(self, seen: Seen, method: Method, interval_s: int) -> dict[str, Any]:
        """What goes on record with the write."""
        return {
            "drift_s": round(seen.drift_s, 3),
            "step_s": self.step_s,
            "is_last": self.is_last,
            "method": method.value,
            "touched": touched(self.before, self.before + timedelta(seconds=self.step_s), interval_s),
        }


def next_move(seen: Seen, interval_s: int, limits: ClockPolicy, local: datetime) -> Move:
    """The next step of a correction, with both its ends inside one interval; see `plan_step`."""
    shown = local + timedelta(seconds=seen.drift_s + LEAD_S)
    step = plan_step(shown, seen.drift_s, interval_s, limits.guard_s)
    arrives = whole_second_after(local + timedelta(seconds=LEAD_S + step.wait_s))
    return Move(
        step.step_s,
        step.is_last,
        step.wait_s,
        arrives,
        arrives + timedelta(seconds=seen.drift_s),
        arrives + timedelta(seconds=round(seen.drift_s + step.step_s)),
    )


def whole_second_after(moment: datetime) -> datetime:
    return moment.replace(microsecond=0) + timedelta(seconds=1)


async def wait_to_arrive(arrives: datetime, seen: Seen, tools: Tools, command: str) -> None:
    """Sleep until a command that leaves then arrives at the instant.

    Raises:
        RetryFault: the instant is over, since the record took so long.
    """
    early_s = (arrives - tools.local()).total_seconds() - seen.round_trip_s / 2
    if early_s < -1:
        raise RetryFault(
            f"the record took {LEAD_S - early_s:.1f} s: the instant for the clock is over",
            where=f"command {command}",
            remedy="it is tried again by itself",
        )
    await tools.sleep(max(0.0, early_s))


def judge_step(run: Execution, wrote: Mapping[str, Any], seen: Seen, tolerance_s: float) -> None:
    """Compare the clock that was read back with the step that was written."""
    left_s = seen.drift_s - wrote["drift_s"] - wrote["step_s"]
    verdict = Verdict.CONFIRMED if abs(left_s) <= tolerance_s + seen.round_trip_s else Verdict.MISMATCH
    run.end(verdict, basis="read back", drift_after_s=round(seen.drift_s, 3), **wrote)


def resolve_step(work: CommandWork, pending: Pending, seen: Seen) -> bool:
    """Find out by the clock about a step that was begun; True where that settles the command.

    A step too small to tell counts as done, so that its interval is flagged: what is left of the drift is
    seen by the next reading.
    """
    run, wrote = work.execution, pending.detail
    tolerance_s = work.clock.tolerance_s + seen.round_trip_s
    moved_s = seen.drift_s - wrote["drift_s"]
    off_s = abs(moved_s - wrote["step_s"])
    if abs(moved_s) <= tolerance_s and off_s > tolerance_s:
        return False
    run.before, run.after = dict(pending.before), seen.to_json()
    if off_s <= tolerance_s:
        judge_step(run, wrote, seen, work.clock.tolerance_s)
        run.detail["was_resolved"] = True
    else:
        run.end(Verdict.UNKNOWN, reason=f"the clock moved by {moved_s:.0f} s of {wrote['step_s']} s", **wrote)
    return True


def is_as_written(work: CommandWork, wrote: Mapping[str, Any], seen: Seen, local: datetime) -> bool:
    """Whether the clock shows the `value` that was written `at` an instant plus the time since then."""
    expected = datetime.fromisoformat(wrote["value"]) + (local - datetime.fromisoformat(wrote["at"]))
    shown = local + timedelta(seconds=seen.drift_s)
    return abs((shown - expected).total_seconds()) <= work.clock.tolerance_s + seen.round_trip_s


def touched(before: datetime, after: datetime, interval_s: int | None) -> dict[str, list[int]]:
    """First and last slot per day between two times of a clock, as `interval_flag` wants them."""
    if not interval_s:
        return {}
    return {day.isoformat(): list(span) for day, span in slots_between(before, after, interval_s).items()}
