"""Sessions with DLMS meters, as `collector.drivers` has them.

Imported when the first such meter is met: with its cryptography it weighs 7 MB, as much as hundreds of
sessions of a collector that needs none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial

from collector.commands.clock.arithmetic import ClockWay
from collector.commands.preview import Preview
from collector.commands.steps import Tools
from collector.dlms import counters as dlms_counters
from collector.dlms import script as dlms_script
from collector.dlms.clock import SET_CLOCK, Meter, clock_way, clock_work, preview_clock
from collector.dlms.secrets import secrets_for
from collector.dlms.session import DlmsLine, Work, read_dlms, steps
from collector.drivers import CLOCK_OFFERED, Asking, Driver, Offered, Visit
from collector.session import SessionResult
from faults import OperatorFault
from faults.market_time import to_local
from protocols.dlms.models import DlmsModel, model_named


class DlmsDriver:
    """See `session`, `script` and `clock`."""

    async def read(self, visit: Visit) -> SessionResult:
        try:
            line = self._line(visit)
        except OperatorFault as fault:
            return SessionResult("failed", "registry", fault, 0, 0, 0, 0)
        return await read_dlms(line, self._work(visit, line.model), visit.record, visit.now, visit.way)

    @staticmethod
    def _work(visit: Visit, model: DlmsModel) -> Work:
        zone, goal, command = (
            visit.settings.market.tzinfo,
            visit.assignment.goal,
            visit.assignment.command,
        )
        if command is not None:
            reader_serial = visit.settings.collector.reader_serial
            tools = Tools(visit.now, zone, asyncio.sleep, visit.commit, reader_serial)
            return clock_work(command, model, tools, Meter(visit.target.serial, visit.target.interval_s))
        assert goal is not None
        expected = to_local(visit.now(), zone)
        return steps(partial(dlms_script.visit, model=model, goal=goal, now=expected, zone=zone))

    def offers(self, profile: str) -> Sequence[Offered]:
        confidence = _sender(profile).confidence
        return [CLOCK_OFFERED, Offered(SET_CLOCK, "set the clock", "clock", confidence)]

    def preview(self, profile: str, asking: Asking) -> Preview:
        return preview_clock(
            _sender(profile),
            asking.command,
            asking.values,
            meter_serial=asking.meter_serial,
            local_now=asking.local_now,
            zone=asking.zone,
        )

    def clock_way(self, profile: str) -> ClockWay:
        return clock_way(_sender(profile))

    @staticmethod
    def _line(visit: Visit) -> DlmsLine:
        limits, writes = visit.settings.collector, visit.writes

        def reserve(key_id: str, title: str, above: int, count: int) -> Awaitable[int]:
            return writes.call(dlms_counters.reserve, key_id, title, above, count)

        profile = visit.target.profile
        model = model_named(profile) if visit.assignment.command is None else _sender(profile)
        model = model.at_address(visit.endpoint.address)
        return DlmsLine(
            endpoint=visit.endpoint,
            model=model,
            timeouts=visit.timeouts,
            secrets=secrets_for(limits.dlms_secrets_path, model, visit.target.serial),
            title=bytes.fromhex(limits.dlms_client_title),
            reserve=reserve,
        )


def _sender(profile: str) -> DlmsModel:
    """The model by which commands are sent to meters of a profile."""
    own = model_named(profile)
    return own if own.command_model is None else model_named(own.command_model)


DRIVER: Driver = DlmsDriver()
