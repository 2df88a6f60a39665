"""What the collector does about the drift that a session saw: TR-5.6d, acting through the queue."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from collector.commands.clock.arithmetic import Action, ClockDecision, Method, decide
from collector.commands.clock.storage import (
    CLOCK_RULE,
    open_adjustment,
    put_before_person,
    settle_adjustment,
    was_refused,
)
from collector.commands.names import CLOCK
from collector.commands.policy import CLOCK_ROLE, Policy
from collector.commands.steps import CommandWork, Verdict
from collector.commands.store import Asked, Person, ask
from collector.drivers import driver_of
from collector.session import MergedSession
from collector.work.worklist import Connection, Target, targets, unreachable
from faults import OperatorFault
from storage.commands import clocks
from storage.settings import Settings


def consider_clock(
    conn: Connection,
    settings: Settings,
    policy: Policy,
    merged: MergedSession,
    target: Target,
    now: datetime,
    work: CommandWork | None = None,
) -> None:
    """Act on the drift that a session saw: queue a correction, or put it before a person (TR-5.6d).

    Args:
        work: the session's own command: after a step that left a rest, the next one is queued; what the meter
            refused is a person's matter.
    """
    clock = merged.decoded.clock
    drift_s = None if clock is None else clock.drift_s
    if work is not None:
        run = work.execution
        if work.command == CLOCK and run.verdict is Verdict.REFUSED and "answer" in run.detail:
            _tell_refusal(conn, settings, merged, work, drift_s or 0.0, now)
        if work.command != CLOCK or run.verdict is not Verdict.CONFIRMED or run.detail.get("is_last", True):
            return
        drift_s = run.detail["drift_after_s"]
    if clock is None or drift_s is None or merged.decoded.is_held:
        return
    way = driver_of(target.profile).clock_way(target.profile)
    if way is None:
        return
    zone = settings.market.tzinfo
    limits = policy.clock if work is None else replace(policy.clock, leave_below_s=policy.clock.tolerance_s)
    decision = decide(drift_s, clock.round_trip_s, limits, way)
    if way.method is Method.MICRO_ADJUST and decision.action is not Action.MANUAL:
        pending = open_adjustment(conn, merged.meter_id)
        if pending is not None:
            if decision.action is Action.LEAVE:
                settle_adjustment(conn, merged, pending, drift_s, target.interval_s, now, zone)
            elif (now - pending.at).total_seconds() > limits.micro_adjust_patience_h * 3600:
                refusal = "the micro adjustment did not bring the clock right in time"
                put_before_person(conn, merged, drift_s, now, zone, refusal)
            return
    if decision.action is Action.MANUAL:
        put_before_person(conn, merged, drift_s, now, zone, f"never corrected by rule: {decision.reason}")
    elif decision.action is Action.CORRECT and decision.method is not None:
        _queue_correction(conn, settings, policy, merged, decision, decision.method, drift_s, now)


def _tell_refusal(
    conn: Connection,
    settings: Settings,
    merged: MergedSession,
    work: CommandWork,
    drift_s: float,
    now: datetime,
) -> None:
    told = work.execution.detail.get("reason") or f"answer {work.execution.detail['answer']}"
    refusal = f"the meter refuses to have its clock corrected: {told}"
    put_before_person(conn, merged, drift_s, now, settings.market.tzinfo, refusal)


def _queue_correction(
    conn: Connection,
    settings: Settings,
    policy: Policy,
    merged: MergedSession,
    decision: ClockDecision,
    method: Method,
    drift_s: float,
    now: datetime,
) -> None:
    if was_refused(conn, merged.meter_id, now):
        return
    try:
        with conn.transaction():
            ask(
                conn,
                settings,
                policy,
                Person(CLOCK_RULE, frozenset({CLOCK_ROLE})),
                merged.meter_id,
                CLOCK,
                {"method": method.value, "drift_s": round(drift_s)},
                f"drift of {drift_s:.0f} s: {decision.reason}",
                now,
                dedup_key=f"clock:{merged.meter_id}",
                needs_approval=decision.needs_approval,
            )
    except OperatorFault as refusal:
        # A rule that may not act is a person's matter, and no reason to lose the session's readings.
        put_before_person(conn, merged, drift_s, now, settings.market.tzinfo, str(refusal))


def request_correction(
    conn: Connection,
    settings: Settings,
    policy: Policy,
    person: Person,
    meter_id: int,
    reason: str,
    now: datetime,
) -> Asked:
    """A person's request for a correction by the rule's own way, whatever the drift below 60 minutes.

    Raises:
        OperatorFault: the clock was last seen more than 60 minutes wrong, an adjustment is under way, or the
            policy does not allow it.
    """
    target = targets(conn, [meter_id]).get(meter_id)
    if target is None:
        raise unreachable(meter_id, target)
    way = driver_of(target.profile).clock_way(target.profile)
    if way is None:
        raise OperatorFault(
            "the protocol has no command that sets a clock",
            where=f"meter {target.serial}",
            remedy="set the clock at the meter",
        )
    drift_s = clocks.last_drift_s(conn, meter_id) or 0.0
    if abs(drift_s) > policy.clock.automatic_up_to_s:
        raise OperatorFault(
            f"the clock was last seen {drift_s:.0f} s wrong: above {policy.clock.automatic_up_to_s:.0f} s",
            where=f"meter {target.serial}",
            remedy=f"look at the meter first; then smf command request with {way.by_hand}, over intervals",
        )
    if way.method is Method.MICRO_ADJUST and open_adjustment(conn, meter_id) is not None:
        raise OperatorFault(
            "a micro adjustment is still being made up",
            where=f"meter {target.serial}",
            remedy="wait until a reading finds the clock right: smf clock status",
        )
    return ask(
        conn,
        settings,
        policy,
        person,
        meter_id,
        CLOCK,
        {"method": way.method.value, "drift_s": round(drift_s)},
        reason,
        now,
        dedup_key=f"clock:{meter_id}",
        needs_approval=way.closes_period,
    )
