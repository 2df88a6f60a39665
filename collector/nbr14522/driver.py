"""Sessions with meters of NBR 14522, as `collector.drivers` has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from collector.commands.clock.arithmetic import ClockWay, Method
from collector.commands.preview import Preview
from collector.commands.steps import Tools
from collector.drivers import CLOCK_OFFERED, Asking, Driver, Offered, Visit
from collector.nbr14522.commands import scripts as commands
from collector.nbr14522.commands.asking import MICRO_ADJUST, ON_DEMAND
from collector.nbr14522.commands.preview import preview
from collector.nbr14522.password_session import Desk, guarded
from collector.nbr14522.passwords import find_passwords, permit_attempt
from collector.nbr14522.sequences import Script, script_for
from collector.nbr14522.session import Line, read_meter
from collector.session import SessionResult
from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.profile import ClockChange, MeterProfile
from protocols.nbr14522.profiles import profile_named
from protocols.nbr14522.sending.building import refusal


class Nbr14522Driver:
    """See `session`, `sequences` and the commands of `nbr14522.commands`."""

    async def read(self, visit: Visit) -> SessionResult:
        profile = visit.endpoint.applied_to(profile_named(visit.target.profile))
        line = Line(
            endpoint=visit.endpoint,
            profile=profile,
            meter_serial=profile.addressed_serial(visit.target.serial),
            reader_serial=visit.settings.collector.reader_serial,
            timeouts=visit.timeouts,
        )
        script = guarded(self._script(visit, profile), profile, self._desk(visit))
        return await read_meter(line, script, visit.record, visit.now, way=visit.way)

    def offers(self, profile: str) -> Sequence[Offered]:
        meters = profile_named(profile)
        listed = [
            Offered(
                key,
                info.name,
                info.kind.value,
                "profile" if meters.layout_of(key) else info.layout_confidence,
                refusal(meters, key),
            )
            for key, info in COMMANDS.items()
            if key in ON_DEMAND or info.may_change_meter
        ]
        return [*listed, CLOCK_OFFERED]

    def preview(self, profile: str, asking: Asking) -> Preview:
        return preview(
            profile_named(profile),
            asking.command,
            asking.values,
            meter_serial=asking.meter_serial,
            reader_serial=asking.reader_serial,
            local_now=asking.local_now,
        )

    def clock_way(self, profile: str) -> ClockWay:
        meters = profile_named(profile)
        if meters.layout_of(MICRO_ADJUST) is not None:
            return ClockWay(Method.MICRO_ADJUST, "the model has the micro adjustment", "29 and 30")
        return ClockWay(
            Method.SET,
            "no micro adjustment in the model's profile: set with 30",
            "29 and 30",
            meters.clock_change is ClockChange.CLOSE_PERIOD,
        )

    @staticmethod
    def _desk(visit: Visit) -> Desk:
        target, path = visit.target, visit.settings.collector.meter_passwords_path

        async def permit(since: datetime) -> None:
            await visit.writes.call(permit_attempt, target.meter_id, since, visit.now())

        return Desk(target.serial, partial(find_passwords, path, target.serial, target.profile), permit)

    @staticmethod
    def _script(visit: Visit, profile: MeterProfile) -> Script:
        work, goal = visit.assignment.command, visit.assignment.goal
        if work is None:
            assert goal is not None
            return script_for(goal, profile)
        reader_serial = visit.settings.collector.reader_serial
        tools = Tools(visit.now, visit.settings.market.tzinfo, asyncio.sleep, visit.commit, reader_serial)
        return commands.script(work, profile, tools)


DRIVER: Driver = Nbr14522Driver()
