"""Clocks of DLMS meters: corrected inside an interval by shift or SET, or set as a person asks.

Read, put on record, written once, read back and judged, as for NBR 14522; the octets are those of class 8
(reference "dlms_cosem", section 5 and section 6 "Clock").
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from collector.commands.clock.arithmetic import ClockWay, Method
from collector.commands.clock.script import (
    LEAD_S,
    Seen,
    better,
    is_as_written,
    judge_step,
    needs_no_move,
    next_move,
    resolve_step,
    seen_at,
    touched,
    wait_to_arrive,
    whole_second_after,
)
from collector.commands.names import CLOCK
from collector.commands.preview import Preview
from collector.commands.steps import CHECK_MODEL, NOW, CommandWork, Pending, Tools, Verdict, Writing
from collector.dlms.decode import text_of
from collector.dlms.script import CLOCK as CLOCK_CLASS
from collector.dlms.script import DATA
from collector.dlms.session import Talk, Work
from faults import FieldCrewFault, OperatorFault, RetryFault
from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute, action_request, numbered, result_name, set_request
from protocols.dlms.axdr import Data, Tag, octets
from protocols.dlms.client import DlmsClient, Steps
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.models import ClockDeviation, DlmsModel, FramingKind
from protocols.dlms.profile import PROFILE

SET_CLOCK = "set-clock"
"""A person's command: set the clock `at` a time, whatever intervals that crosses."""
_TIME, _SHIFT_TIME = 2, 6
_DAY_S = 86_400
_FIRST_YEAR, _LAST_YEAR = 2000, 2099


@dataclass(frozen=True, slots=True)
class Meter:
    """The meter as the registry has it. `interval_s` counts where it does not tell its own."""

    serial: str
    interval_s: int


def clock_way(model: DlmsModel) -> ClockWay:
    """How the clock rule corrects clocks of a model."""
    if model.clock_shift_up_to_s:
        return ClockWay(Method.SHIFT, "shifted (shift_time)", SET_CLOCK, model.clock_closes_period)
    reason = "no shift_time in the model: set"
    return ClockWay(Method.SET, reason, SET_CLOCK, model.clock_closes_period)


def clock_work(work: CommandWork, model: DlmsModel, tools: Tools, meter: Meter) -> Work:
    """What carries a clock command out in a session, and leaves what it found in `work.execution`."""

    async def do(talk: Talk) -> None:
        errand = _Errand(work, model, tools, meter, talk)
        await errand.check_meter()
        await (errand.set_as_asked() if work.command == SET_CLOCK else errand.correct())

    return do


# --- what is written ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Write:
    """SET of an attribute, or a call of a method."""

    target: Attribute
    value: Data
    is_call: bool

    @property
    def apdu(self) -> bytes:
        """The plain service, for the record: no frame, no cipher."""
        make = action_request if self.is_call else set_request
        return make(self.target, self.value)

    def by(self, client: DlmsClient) -> Steps[None]:
        if self.is_call:
            yield from client.action(self.target, self.value)
        else:
            yield from client.set(self.target, self.value)


def _shift(model: DlmsModel, step_s: int) -> _Write:
    return _Write(Attribute(CLOCK_CLASS, model.clock_object, _SHIFT_TIME), Data(Tag.INT16, step_s), True)


def _set(model: DlmsModel, local: datetime, zone: tzinfo) -> _Write:
    value = encode_date_time(
        local.replace(tzinfo=zone),
        with_deviation=model.clock_deviation is ClockDeviation.MARKET,
        with_weekday=model.clock_weekday,
        hundredths=model.clock_hundredths,
        status=model.clock_status,
        rules=model.clock_rules,
    )
    return _Write(Attribute(CLOCK_CLASS, model.clock_object, _TIME), octets(value), False)


class _Errand:
    """One clock command in one session."""

    def __init__(self, work: CommandWork, model: DlmsModel, tools: Tools, meter: Meter, talk: Talk) -> None:
        self._work = work
        self._model = model
        self._tools = tools
        self._meter = meter
        self._talk = talk

    async def check_meter(self) -> None:
        """Make sure who answers before anything is written (V10)."""
        told = text_of(await self._get(DATA, self._model.serial_object, 2))
        if told != self._meter.serial:
            raise OperatorFault(
                f"meter {told} answered, the registry names {self._meter.serial}: nothing is written (V10)",
                where="serial",
                remedy="if the meter was changed, register the new one; else correct the unit's address",
            )

    async def correct(self) -> None:
        """Bring the clock right, in steps that stay inside one interval; the rest is another command's."""
        work, tools = self._work, self._tools
        run, limits = work.execution, work.clock
        interval_s = await self._interval_s()
        seen = await self._look(interval_s)
        run.before = seen.to_json()
        if work.pending is not None and resolve_step(work, work.pending, seen):
            return
        if needs_no_move(work, seen):
            return
        move = next_move(seen, interval_s, limits, tools.local())
        if move.wait_s > limits.max_wait_s:
            run.postpone_s = move.wait_s - LEAD_S
            return
        is_shift = abs(move.step_s) <= self._model.clock_shift_up_to_s
        write = _shift(self._model, move.step_s) if is_shift else _set(self._model, move.target, tools.zone)
        wrote = move.detail(seen, Method.SHIFT if is_shift else Method.SET, interval_s)
        if await self._write(write, wrote, move.arrives, seen):
            after = await self._look(interval_s)
            run.after = after.to_json()
            judge_step(run, wrote, after, limits.tolerance_s)

    async def set_as_asked(self) -> None:
        """Set the clock; judged by the clock read back, which went on since."""
        work, tools = self._work, self._tools
        run = work.execution
        interval_s = await self._interval_s()
        seen = await self._look(interval_s)
        run.before = seen.to_json()
        if work.pending is not None and self._is_set(work.pending, seen):
            return
        arrives = whole_second_after(tools.local() + timedelta(seconds=LEAD_S))
        value = asked_time(work.values, arrives, tools.zone)
        before = arrives + timedelta(seconds=seen.drift_s)
        wrote: dict[str, Any] = {
            "at": arrives.isoformat(),
            "value": value.isoformat(),
            "drift_s": round(seen.drift_s, 3),
            "step_s": round((value - before).total_seconds()),
            "method": Method.SET.value,
            "touched": touched(before, value, interval_s),
        }
        if await self._write(_set(self._model, value, tools.zone), wrote, arrives, seen):
            seen = await self._look(interval_s)
            run.after = seen.to_json()
            good = is_as_written(work, wrote, seen, tools.local())
            run.end(Verdict.CONFIRMED if good else Verdict.MISMATCH, basis="read back", **wrote)

    def _is_set(self, pending: Pending, seen: Seen) -> bool:
        """Find out by the clock about a SET that was begun; True where that settles the command."""
        work, wrote = self._work, pending.detail
        run, tolerance_s = work.execution, work.clock.tolerance_s + seen.round_trip_s
        moved_s = seen.drift_s - wrote["drift_s"]
        is_set = is_as_written(work, wrote, seen, self._tools.local())
        if not is_set and abs(moved_s) <= tolerance_s:
            return False
        run.before, run.after = dict(pending.before), seen.to_json()
        if is_set:
            run.end(Verdict.CONFIRMED, basis="read back", was_resolved=True, **wrote)
        else:
            reason = f"the clock moved by {moved_s:.0f} s of {wrote['step_s']} s"
            run.end(Verdict.UNKNOWN, reason=reason, **wrote)
        return True

    async def _write(self, write: _Write, wrote: dict[str, Any], arrives: datetime, seen: Seen) -> bool:
        """Record, wait for the instant, send once; False where the meter refuses, which is the verdict."""
        run, tools = self._work.execution, self._tools
        asked = numbered(write.apdu, self._talk.client.next_invoke)
        await tools.commit(Writing(run.before, asked, wrote))
        await wait_to_arrive(arrives, seen, tools, self._work.command)
        try:
            async with asyncio.timeout(self._patience_s()):
                await self._talk.do(write.by(self._talk.client))
        except TimeoutError as error:
            raise RetryFault(
                "no answer to the write; sent again, it would come at another instant",
                where=f"command {self._work.command}",
                remedy="the next attempt reads the clock before anything else",
            ) from error
        except AccessRefused as refused:
            run.end(
                Verdict.REFUSED,
                reason=f"the meter refuses {refused}",
                answer=result_name(refused.code),
                remedy="nothing was changed; check the client's rights in the meter, and clock_shift_up_to_s "
                "and command_model of its model",
            )
            return False
        return True

    def _patience_s(self) -> float | None:
        """How long the write is waited for: HDLC sends again what a line loses, and a write may arrive late
        by half the guard at most. None: nothing is sent again.
        """
        if self._model.framing is not FramingKind.HDLC:
            return None
        return max(self._work.clock.guard_s / 2, 0.9 * self._model.repeat_s)

    async def _look(self, interval_s: int) -> Seen:
        """Read the clock twice; the reading over the shorter round trip counts."""
        best: Seen | None = None
        for _ in range(2):
            asked = self._tools.local()
            value = await self._get(CLOCK_CLASS, self._model.clock_object, _TIME)
            if not isinstance(value.value, bytes):
                raise OperatorFault(
                    "the meter's clock is no date-time", where=self._model.clock_object, remedy=CHECK_MODEL
                )
            answered = self._tools.local()
            told = self._moment(value.value)
            seen = seen_at(told, asked, answered, interval_s)
            best = seen if best is None else better(best, seen)
        assert best is not None
        return best

    def _moment(self, told: bytes) -> datetime:
        """What the clock shows, naive market time."""
        try:
            at = decode_date_time(told, self._tools.zone, self._model.clock_rules).at
        except RemoteProtocolError as error:
            raise FieldCrewFault(
                f"the meter's clock shows {told.hex(' ')}, which is no moment",
                where=self._model.clock_object,
                remedy="look at the meter's battery and set its clock there: no correction can be measured",
            ) from error
        return at.astimezone(self._tools.zone).replace(tzinfo=None)

    async def _interval_s(self) -> int:
        """Period of the load profile; that of the registry where this client may not see it."""
        try:
            value = (await self._get(PROFILE, self._model.load_profile, 4)).value
        except AccessRefused:
            value = self._meter.interval_s
        if not isinstance(value, int) or value <= 0 or _DAY_S % value:
            raise OperatorFault(
                f"the period of the load profile ({value} s) cannot be used",
                where=self._model.load_profile,
                remedy=CHECK_MODEL,
            )
        return value

    async def _get(self, class_id: int, obis: str, index: int) -> Data:
        return await self._talk.do(self._talk.client.get(Attribute(class_id, obis, index)))


# --- what is asked for -------------------------------------------------------------------------------------


def asked_time(values: Mapping[str, Any], arrives: datetime, zone: tzinfo) -> datetime:
    """The time that `at` asks for, naive market time; `now` is the instant at which the command arrives.

    Raises:
        OperatorFault: there is no such time, or another field.
    """
    asked = values.get("at")
    if asked == NOW and len(values) == 1:
        return arrives
    try:
        if set(values) != {"at"}:
            raise ValueError(f"the fields are {', '.join(values) or 'none'}")
        at = datetime.fromisoformat(str(asked)).replace(microsecond=0)
        if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
            raise ValueError(f"{asked} is of another century")
    except ValueError as error:
        raise OperatorFault(
            str(error), where=f"command {SET_CLOCK}", remedy="write at=now or at=2026-11-21T10:00:00"
        ) from error
    return at if at.tzinfo is None else at.astimezone(zone).replace(tzinfo=None)


def preview_clock(
    model: DlmsModel,
    command: str,
    values: Mapping[str, Any],
    *,
    meter_serial: str,
    local_now: datetime,
    zone: tzinfo,
) -> Preview:
    """What a clock command will do to a meter.

    Raises:
        OperatorFault: a value does not fit.
    """
    notes = [
        (
            "the octets are those of the plain service: number, frame and cipher are added on the line",
            "os octetos são os do serviço em claro: número, quadro e cifra entram na linha",
        )
    ]
    if command == SET_CLOCK:
        at = asked_time(values, local_now, zone)
        write = _set(model, at, zone)
        english, portuguese = f"set the clock to {values['at']}", f"acertar o relógio para {values['at']}"
        notes.append(
            (
                "may cross interval borders: smf clock correct does not",
                "pode cruzar fronteiras de intervalo: smf clock correct não cruza",
            )
        )
    else:
        drift_s = _drift(values)
        step_s = -round(drift_s)
        shifts = 0 < abs(step_s) <= model.clock_shift_up_to_s
        write = _shift(model, step_s) if shifts else _set(model, local_now, zone)
        how = "shift_time" if shifts else "SET"
        english = f"correct the clock (drift_s = {drift_s:.0f}, {how})"
        portuguese = f"corrigir o relógio (drift_s = {drift_s:.0f}, {how})"
        notes.append(
            (
                "sent in the safe part of an interval, in steps inside it; the interval touched is flagged",
                "enviado na parte segura de um intervalo, em passos que não saem dele; o tocado é marcado",
            )
        )
    notes.append(
        (
            "the octets show this moment; those sent carry what the clock shows then",
            "os octetos mostram este momento; os enviados levam o que o relógio mostrar então",
        )
    )
    return Preview(
        f"Meter {meter_serial}: {english}.",
        f"Medidor {meter_serial}: {portuguese}.",
        (write.apdu.hex(" ").upper(),),
        tuple(english for english, _ in notes),
        tuple(portuguese for _, portuguese in notes),
    )


def _drift(values: Mapping[str, Any]) -> float:
    drift_s = values.get("drift_s", 0)
    unknown = sorted(values.keys() - {"method", "drift_s"})
    if unknown or not isinstance(drift_s, int | float):
        raise OperatorFault(
            f"field {unknown[0]}" if unknown else f"drift_s = {drift_s!r} is no number",
            where=f"command {CLOCK}",
            remedy="ask with smf clock correct: the drift is measured again before anything is written",
        )
    return float(drift_s)
