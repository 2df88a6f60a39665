"""The survey of a strange meter, for `smf read nbr14522 URL --survey`: one session after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from collector.nbr14522.sequences import fixed
from collector.nbr14522.session import Line, read_meter
from collector.session import SessionResult
from faults import Fault, OperatorFault, RetryFault
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import unwrap_response
from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.nbr14522.messages import Request
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.survey import Heard, Survey, assess, first_question, questions, trials

_MAX_SILENCES = 6
"""Questions that may go unanswered before the line, not the meter, is at fault."""


@dataclass
class _Visit:
    """The frames of one session, cut into questions and answers."""

    profile: MeterProfile
    requests: list[Request]
    heard: list[Heard] = field(default_factory=list)
    _asked_at: list[datetime] = field(default_factory=list)
    _begun_at: datetime | None = None

    def record(self, at: datetime, is_sent: bool, _command: int, crc_ok: bool | None, payload: bytes) -> None:
        if is_sent:
            self._asked_at.append(at)
            return
        if crc_ok is False or not self._asked_at:
            return
        try:
            content = unwrap_response(payload, self.profile.addressing)
        except RemoteProtocolError:
            return  # counted by the link as a bad frame; the survey goes by good ones
        if self.heard and self.heard[-1].contents[-1] == content:
            return  # our ACK was lost and the block came again
        if not self._goes_on(content):
            self.heard.append(Heard(self.requests[min(len(self.heard), len(self.requests) - 1)]))
            self._begun_at = self._asked_at[-1]
        last = self.heard[-1]
        seconds = (at - (self._begun_at or at)).total_seconds()
        self.heard[-1] = replace(last, contents=(*last.contents, content), seconds=seconds)

    def _goes_on(self, content: bytes) -> bool:
        """Whether a block belongs to the answer that is coming in: a composite one that has not ended."""
        if not self.heard or not self.heard[-1].contents:
            return False
        before = self.heard[-1].contents[-1]
        return content[0] == before[0] and content[0] in COMPOSITE_CODES and before[5] < 0x10


async def survey_meter(
    line: Callable[[MeterProfile], Line], address: int, say: Callable[[str], None]
) -> Survey:
    """Try the ways to speak until the meter answers, then ask everything that only reads.

    Args:
        line: the line for a profile. say: told what is going on.

    Raises:
        RetryFault: no way was answered, or nothing is at the address.
    """
    profile, first = await _find_way(line, address, say)
    heard = list(first)
    rest = questions()
    silences = 0
    while rest and silences < _MAX_SILENCES:
        visit = _Visit(profile, rest)
        say(f"asking {len(rest)} commands as {profile.addressing}")
        result = await _run(line(profile), visit)
        heard += visit.heard
        rest = rest[len(visit.heard) :]
        if rest and result.fault is not None:
            heard.append(Heard(rest.pop(0)))
            silences += 1
    found = assess(profile, heard)
    if found is None:
        raise RetryFault("the meter gave no parameters", where="survey", remedy="try again on a quiet line")
    return found


async def _find_way(
    line: Callable[[MeterProfile], Line], address: int, say: Callable[[str], None]
) -> tuple[MeterProfile, list[Heard]]:
    fault: Fault | None = None
    for profile in trials(address):
        say(f"trying {profile.addressing} with {profile.enq_required} ENQ")
        visit = _Visit(profile, [first_question()])
        result = await _run(line(profile), visit)
        if visit.heard:
            return profile, visit.heard
        fault = result.fault or fault
        if result.failed_stage == "connect":
            break
    if isinstance(fault, OperatorFault):
        raise fault
    raise RetryFault(
        f"no way to speak was answered: {fault.message if fault else 'silence'}",
        where="survey",
        remedy="check cable, gateway and baud rate; for a meter behind a remote give --serial or --address",
    )


async def _run(line: Line, visit: _Visit) -> SessionResult:
    return await read_meter(line, fixed(visit.requests), visit.record, lambda: datetime.now(UTC))
