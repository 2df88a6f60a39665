"""Sessions with DLMS meters, as `drivers` has them; imported when the first such meter is met."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

from collector import dlms_counters, dlms_script
from collector.decoded import Decoded, Frame, MeterContext
from collector.dlms_decode import decode_dlms
from collector.dlms_secrets import secrets_for
from collector.dlms_session import DlmsLine, read_dlms, steps
from collector.drivers import Visit
from collector.planning import to_local
from collector.session import SessionResult
from collector.worklist import market_zone
from faults import OperatorFault
from protocols.dlms.models import model_named


class DlmsDriver:
    """See `dlms_session`, `dlms_script` and `dlms_decode`."""

    name = "dlms"
    takes_commands = False

    def check(self, profile: str) -> None:
        model_named(profile)

    async def read(self, visit: Visit) -> SessionResult:
        goal = visit.assignment.goal
        try:
            if goal is None:
                raise OperatorFault(
                    "no commands are sent to DLMS meters",
                    where=visit.target.serial,
                    remedy="cancel the request",
                )
            line = self._line(visit)
        except OperatorFault as fault:
            return SessionResult("failed", "registry", fault, 0, 0, 0, 0)
        zone = market_zone(visit.settings)
        expected = to_local(visit.now(), zone)
        work = steps(partial(dlms_script.visit, model=line.model, goal=goal, now=expected, zone=zone))
        return await read_dlms(line, work, visit.record, visit.now, visit.way)

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return decode_dlms(frames, model_named(profile), context)

    @staticmethod
    def _line(visit: Visit) -> DlmsLine:
        limits, writes = visit.settings.collector, visit.writes

        def reserve(key_id: str, title: str, above: int, count: int) -> Awaitable[int]:
            return writes.call(dlms_counters.reserve, key_id, title, above, count)

        def is_known(key_id: str, title: str) -> Awaitable[bool]:
            return writes.call(dlms_counters.is_known, key_id, title)

        model = model_named(visit.target.profile).at_address(visit.endpoint.address)
        return DlmsLine(
            endpoint=visit.endpoint,
            model=model,
            timeouts=visit.timeouts,
            secrets=secrets_for(limits.dlms_secrets_path, model, visit.target.serial),
            title=bytes.fromhex(limits.dlms_client_title),
            reserve=reserve,
            is_counter_known=is_known,
        )
