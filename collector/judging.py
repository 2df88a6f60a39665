"""What of a session may become readings, and what a person must see first. Pure; one for every source.

Rules V09 (clock), V10 (identity) and V11 (constant, quantity, interval against the registry), and that
nothing of the future is stored. A decoder judges values before; what it set aside passes through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.decoded import (
    ClockDoubt,
    ClockFacts,
    ClockReading,
    DayVector,
    Decoded,
    HeldVector,
    Issue,
    MeterContext,
    ParametersRow,
)
from collector.nbr14522.memories import ACTIVE_DIRECT
from protocols.acquisition import Action, Decision, Statement, contradiction
from storage.review.holds import HeldDay, HoldReason
from storage.sessions import Installation
from storage.settings import AcquisitionSettings

UNCHECKED = "V11: the source states no constant: cannot be checked against the registry's"
_WH = 1000
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class _Finding:
    """Why a whole session, or a channel of it, is held."""

    reason: HoldReason
    rule: str
    words: str
    evidence: Mapping[str, Any]
    remedy: str


def most_power_w(installed: Installation | None, settings: AcquisitionSettings) -> Fraction | None:
    """Average power above which no growth of a running total is believed, as the meter counts it, W."""
    if installed is None or installed.plant_kw is None:
        return None
    at_point_w = installed.plant_kw * 1000 * Fraction(settings.total_ceiling_times)
    return at_point_w if installed.includes_ratios else at_point_w / installed.ratio


def judge(
    decoded: Decoded,
    context: MeterContext,
    settings: AcquisitionSettings,
    moment: datetime,
    totals_before: Mapping[str, tuple[datetime, Fraction]] | None = None,
) -> tuple[Decoded, str, str]:
    """Move what must not become readings from `vectors` to `held`.

    Args:
        moment: now, by our clock; aware. Nothing that ends later is stored.
        totals_before: where the meter's running totals stood in the session before, by name.

    Returns:
        What the session brought, as it may be used; why none of its active energy may, in words, and what to
        do about it. Both are empty where some of it may, or where it brought none by a clock that is right.
    """
    findings = list(_findings(decoded, context, settings, totals_before or {}))
    by_clock = next((one for one in findings if one.reason is HoldReason.CLOCK), None)
    passed: list[DayVector] = []
    held: list[HeldVector] = [_with_shift(one, decoded, by_clock) for one in decoded.held]
    for vector in decoded.vectors:
        against = [one for one in findings if _is_against(one, vector, context)]
        if against:
            held.append(_held(vector, against, decoded))
        else:
            passed.append(vector)
    early = 0
    vectors: list[DayVector] = []
    for vector in passed:
        known, future, waits = _ended(vector, decoded.clock, context, moment)
        early += waits
        if known is not None:
            vectors.append(known)
        if future is not None:
            held.append(future)
    issues = [
        Issue("hold", f"{one.rule + ': ' if one.rule else ''}{one.words}; held", dict(one.evidence))
        for one in findings
        if one.reason is not HoldReason.IDENTITY  # the decoder says so itself
    ]
    issues += _of_the_future(held)
    result = replace(
        decoded,
        vectors=tuple(vectors),
        held=tuple(held),
        issues=(*decoded.issues, *issues),
        statement=_unchecked(_with_early(decoded.statement, early), decoded, context),
    )
    if by_clock is not None:
        result = _without_times(result, decoded.clock)
    has_active = any(vector.channel == context.active_channel for vector in vectors)
    is_unused = not has_active and any(one.vector.channel == context.active_channel for one in held)
    first = next(iter(findings), None)
    if not is_unused and by_clock is None:
        return result, "", ""
    if first is None:
        words = sorted({str(one.reason) for one in held})
        return result, f"all its intervals are held: {', '.join(words)}", "smf queue shows them"
    return result, f"{first.rule + ': ' if first.rule else ''}{first.words}; held", first.remedy


def held_days(decoded: Decoded, meter_id: int, session_id: int) -> Iterator[HeldDay]:
    """What waits for a person, as storage holds it."""
    for one in decoded.held:
        vector = one.vector
        slots = np.flatnonzero(vector.present).tolist()
        yield HeldDay(
            meter_id=meter_id,
            channel=vector.channel,
            day=vector.day,
            quantity_code=vector.quantity_code,
            interval_s=vector.interval_s,
            slots={slot: (int(vector.pulses[slot]), session_id) for slot in slots},
            reason=one.reason,
            rule=one.rule,
            evidence=one.evidence,
            likely_shift_s=one.likely_shift_s,
        )


# --- findings -----------------------------------------------------------------------------------------------


def _findings(
    decoded: Decoded,
    context: MeterContext,
    settings: AcquisitionSettings,
    totals_before: Mapping[str, tuple[datetime, Fraction]],
) -> Iterator[_Finding]:
    """Against the whole session or its active channel, the weightiest first."""
    if decoded.is_held:
        evidence = {"registered": context.serial, "answered": decoded.meter_serial}
        words = (
            f"meter {decoded.meter_serial or 'of no serial'} answered, the registry names {context.serial}"
        )
        remedy = "if the meter was changed, register the new one; else correct the unit's address"
        yield _Finding(HoldReason.IDENTITY, "V10", words, evidence, remedy)
    yield from _clock(decoded.clock, decoded.clock_facts, settings)
    if context.installed is not None:
        yield from _constant(decoded, context.active_channel, context.installed)
        yield from _ratio(decoded, context.active_channel, context.installed)
        yield from _intervals(decoded, context.active_channel, context.installed)
    yield from _quantity(decoded, context.active_channel)
    yield from _totals(decoded, context, totals_before)


def _clock(
    clock: ClockReading | None, facts: ClockFacts | None, settings: AcquisitionSettings
) -> Iterator[_Finding]:
    drift_s = 0.0 if clock is None else clock.drift_s
    size_s = abs(drift_s)
    beside_hour_s = abs(size_s - _HOUR_S * round(size_s / _HOUR_S))
    is_hours = size_s > _HOUR_S / 2 and beside_hour_s <= settings.clock_hour_tolerance_s
    doubts = [] if facts is None else [_DOUBTS[doubt] for doubt in facts.doubts]
    if not (size_s > settings.clock_ceiling_s or is_hours or doubts):
        return
    words = []
    if size_s > settings.clock_ceiling_s or is_hours:
        words.append(f"the meter's clock is {_span(size_s)} {'fast' if drift_s > 0 else 'slow'}")
    if doubts:
        words.append(f"the meter disagrees with itself or its site: {'; '.join(doubts)}")
    elif is_hours and size_s <= settings.clock_ceiling_s:
        words.append("near whole hours: a zone or summer time mistaken")
    evidence: dict[str, Any] = {"ceiling_s": settings.clock_ceiling_s, "doubts": doubts}
    if clock is not None:
        true_time = clock.meter_time - timedelta(seconds=drift_s)
        evidence |= {
            "drift_s": round(drift_s, 1),
            "meter_time": clock.meter_time.isoformat(),
            "true_time": true_time.isoformat(),
        }
    if facts is not None:
        evidence |= {
            "clock": facts.told,
            "deviation_min": facts.deviation_min,
            "zone_deviation_min": facts.zone_deviation_min,
            "row_deviations_min": list(facts.row_deviations_min),
        }
    remedy = "correct the clock (smf clock); release, shift or reject what is held (smf queue)"
    yield _Finding(HoldReason.CLOCK, "V09", ", ".join(words), evidence, remedy)


_DOUBTS = {
    ClockDoubt.DEVIATION: "another deviation from UTC than the site's",
    ClockDoubt.DAYLIGHT_SAVING: "summer time is on, and nothing tells whether its digits are",
    ClockDoubt.ROWS: "rows and clock state different deviations or summer times",
    ClockDoubt.INVALID: "the meter marks its clock as invalid",
}


def _span(seconds: float) -> str:
    """Seconds as people say them.

    >>> _span(2592010), _span(7200), _span(420), _span(3.0)
    ('30.0 days', '2.0 hours', '7.0 minutes', '3 s')
    """
    for name, size_s in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size_s or (name == "hours" and seconds > 3000):
            return f"{seconds / size_s:.1f} {name}"
    return f"{seconds:.0f} s"


def _constant(decoded: Decoded, channel: int, installed: Installation) -> Iterator[_Finding]:
    stated = _stated_constant(decoded.statement, channel)
    if stated is None or stated in installed.fitting_constants:
        return
    evidence = {
        "channel": channel,
        "registered_kwh_per_pulse": str(installed.kwh_per_pulse),
        "stated_kwh_per_pulse": str(stated),
        "factor": str(stated / installed.kwh_per_pulse),
        "ratio": str(installed.ratio),
        "proposed": {"pulse_energy_num": stated.numerator, "pulse_energy_den": stated.denominator},
    }
    words = (
        f"the meter states {stated} kWh a pulse on channel {channel}, "
        f"the registry {installed.kwh_per_pulse} (x {stated / installed.kwh_per_pulse})"
    )
    remedy = (
        f"find out which is right; the meter's own is {stated.numerator}/{stated.denominator}: correct "
        "the registry and release what is held (smf queue), or reject it and correct the meter"
    )
    yield _Finding(HoldReason.CONSTANT, "V11", words, evidence, remedy)


def _stated_constant(statement: Statement | None, channel: int) -> Fraction | None:
    """kWh a pulse as the source states it; None where it does not, or as meters do whose field is unused."""
    if statement is None:
        return None
    for column in statement.columns:
        if column.channel == channel and column.constant and not column.refused:
            return column.constant / _WH
    return None


def _ratio(decoded: Decoded, channel: int, installed: Installation) -> Iterator[_Finding]:
    """The transformers that the meter was told of; a ratio of 1 says that it was told of none."""
    stated = None if decoded.statement is None else decoded.statement.ratio
    if stated is None or stated in (1, installed.ratio):
        return
    evidence = {
        "channel": channel,
        "registered_ratio": str(installed.ratio),
        "stated_ratio": str(stated),
        "factor": str(stated / installed.ratio),
    }
    words = f"the meter states transformers of {stated}, TP x TC of the registry is {installed.ratio}"
    remedy = (
        "find out which is right: correct tp_ratio and tc_ratio in the registry and release what is held "
        "(smf queue), or reject it and correct the meter"
    )
    yield _Finding(HoldReason.CONSTANT, "V11", words, evidence, remedy)


def _unchecked(statement: Statement | None, decoded: Decoded, context: MeterContext) -> Statement | None:
    """What of the registry cannot be checked by this source is said, not passed over."""
    channel = context.active_channel
    if context.installed is None or _stated_constant(decoded.statement, channel) is not None:
        return statement
    if not any(vector.channel == channel for vector in decoded.vectors):
        return statement
    told = Decision(Action.MARKED, UNCHECKED, detail={"channel": channel})
    statement = statement or Statement()
    return replace(statement, decisions=(*statement.decisions, told))


def _totals(
    decoded: Decoded, context: MeterContext, before: Mapping[str, tuple[datetime, Fraction]]
) -> Iterator[_Finding]:
    """Running totals against where they stood in the session before, by span and ceiling."""
    for total in () if decoded.statement is None else decoded.statement.totals:
        stood = before.get(total.name)
        words = "" if stood is None else contradiction(stood, total, context.most_w)
        if stood is None or not words:
            continue
        evidence = {
            "channel": total.channel,
            "before": [stood[0].isoformat(), str(stood[1])],
            "first": [total.first[0].isoformat(), str(total.first[1])],
            "last": [total.last[0].isoformat(), str(total.last[1])],
            "most_w": None if context.most_w is None else str(context.most_w),
        }
        remedy = (
            "compare with the meter's display: release what is held if the total was set anew (smf queue), "
            "reject it where the register is wrong; doubt what the session before brought last, too"
        )
        yield _Finding(HoldReason.TOTAL, "", f"{words} from the session before", evidence, remedy)


def _intervals(decoded: Decoded, channel: int, installed: Installation) -> Iterator[_Finding]:
    found = sorted({vector.interval_s for vector in decoded.vectors if vector.channel == channel})
    for interval_s in found:
        if interval_s != installed.interval_s:
            evidence = {"registered_s": installed.interval_s, "brought_s": interval_s, "lengths_s": found}
            words = f"intervals of {interval_s} s, the registry has {installed.interval_s} s"
            remedy = (
                "correct the registry's interval_s, or the meter's; then release what is held (smf queue)"
            )
            yield _Finding(HoldReason.INTERVAL, "V11", words, evidence, remedy)


def _quantity(decoded: Decoded, channel: int) -> Iterator[_Finding]:
    codes = {vector.quantity_code for vector in decoded.vectors if vector.channel == channel}
    for code in sorted(codes - {ACTIVE_DIRECT}):
        evidence = {"channel": channel, "quantity": code, "registered": ACTIVE_DIRECT}
        words = f"channel {channel} should carry active energy, the meter says quantity {code}"
        remedy = "correct active_channel in the registry, or the meter's quantities"
        yield _Finding(HoldReason.QUANTITY, "V11", words, evidence, remedy)


def _is_against(finding: _Finding, vector: DayVector, context: MeterContext) -> bool:
    match finding.reason:
        case HoldReason.TOTAL:
            return bool(vector.channel == finding.evidence["channel"])
        case HoldReason.CONSTANT:
            # Older days were counted under an installation of their own.
            since = context.installed.since if context.installed else None
            is_older = since is not None and vector.day < since.astimezone(context.zone).date()
            return vector.channel == context.active_channel and not is_older
        case HoldReason.INTERVAL:
            return (
                vector.channel == context.active_channel
                and vector.interval_s == finding.evidence["brought_s"]
            )
        case HoldReason.QUANTITY:
            return (
                vector.channel == context.active_channel
                and vector.quantity_code == finding.evidence["quantity"]
            )
    return True


def _held(vector: DayVector, against: list[_Finding], decoded: Decoded) -> HeldVector:
    first, *rest = against
    evidence = {"words": first.words, **first.evidence}
    if rest:
        evidence["also"] = [{"rule": one.rule, "words": one.words, **one.evidence} for one in rest]
    shift_s = None
    if any(one.reason is HoldReason.CLOCK for one in against):
        shift_s = likely_shift_s(decoded, vector.interval_s)
    return HeldVector(vector, first.reason, evidence, first.rule, shift_s)


def _with_shift(held: HeldVector, decoded: Decoded, by_clock: _Finding | None) -> HeldVector:
    """What a decoder set aside, with what is wrong with its times, too."""
    if by_clock is None or held.likely_shift_s is not None:
        return held
    also = {"also": [{"rule": by_clock.rule, "words": by_clock.words, **by_clock.evidence}]}
    shift_s = likely_shift_s(decoded, held.vector.interval_s)
    return replace(held, evidence={**held.evidence, **also}, likely_shift_s=shift_s)


def likely_shift_s(decoded: Decoded, interval_s: int) -> int | None:
    """What added to the times would most likely put them right, in whole intervals; None: nothing tells."""
    told_s = None if decoded.clock_facts is None else decoded.clock_facts.likely_shift_s
    if told_s is None and decoded.clock is not None:
        told_s = -round(decoded.clock.drift_s)
    return None if told_s is None else round(told_s / interval_s) * interval_s or None


# --- what has not ended yet ---------------------------------------------------------------------------------


def _ended(
    vector: DayVector, clock: ClockReading | None, context: MeterContext, moment: datetime
) -> tuple[DayVector | None, HeldVector | None, int]:
    """The slots that have ended, those that are held, and how many only wait until they have.

    A clock that is a little fast is ahead by an interval now and then: that one is read again. Any other
    interval of the future is nothing that a meter can know.
    """
    midnight = datetime.combine(vector.day, datetime.min.time(), context.zone)
    over = int((moment - midnight).total_seconds() // vector.interval_s)
    if over >= len(vector.present):
        return vector, None, 0
    is_ended: NDArray[np.bool_] = np.arange(len(vector.present)) < over
    future = vector.present & ~is_ended
    if not future.any():
        return vector, None, 0
    known = replace(vector, present=vector.present & is_ended)
    last_end = midnight + timedelta(seconds=(int(np.flatnonzero(future)[-1]) + 1) * vector.interval_s)
    ahead_s = (last_end - moment).total_seconds()
    if clock is not None and ahead_s <= max(0.0, clock.drift_s) + vector.interval_s:
        return (known if known.present.any() else None), None, int(future.sum())
    evidence = {
        "words": "intervals that have not ended yet",
        "last_end": last_end.isoformat(),
        "moment": moment.isoformat(),
    }
    held = HeldVector(replace(vector, present=future), HoldReason.FUTURE, evidence, "V02")
    return (known if known.present.any() else None), held, 0


def _of_the_future(held: list[HeldVector]) -> list[Issue]:
    days = sorted({one.vector.day for one in held if one.reason is HoldReason.FUTURE})
    if not days:
        return []
    detail = {"first_day": days[0].isoformat(), "last_day": days[-1].isoformat(), "days": len(days)}
    return [Issue("hold", "V02: intervals that have not ended yet; held", detail)]


def _with_early(statement: Statement | None, early: int) -> Statement | None:
    if not early:
        return statement
    told = Decision(Action.MISSING, "intervals that have not ended yet by our clock: read again", early)
    statement = statement or Statement()
    return replace(statement, decisions=(*statement.decisions, told))


# --- records of a wrong clock -------------------------------------------------------------------------------


def _without_times(decoded: Decoded, clock: ClockReading | None) -> Decoded:
    """Without what a wrong clock would put where it does not belong: its frames keep it.

    A failure at a wrong time would make zeros measured, a register at one would accuse good intervals. What
    the meter says of itself is kept, under the true time.
    """
    off = timedelta(seconds=0.0 if clock is None else clock.drift_s)
    parameters = tuple(ParametersRow(row.command, row.at - off, row.values) for row in decoded.parameters)
    return replace(decoded, registers=(), outages=(), changes=(), parameters=parameters, sums=())
