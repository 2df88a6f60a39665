"""Which command comes next. Pure: a script is a generator that yields requests and is sent their answers.

A script knows nothing of lines and time; the session drives it. The standard ones are those of
nbr14522.md 2.2; `missing` adapts to what the meter answers, so that an old meter (39 to 80, 51 or 52) is read
in the same session by what it has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from collector.work.planning import (
    Goal,
    MemoryFacts,
    MemoryRead,
    MemoryStep,
    SequenceName,
    by_the_meters_clock,
    choose_memory,
)
from faults import OperatorFault, RetryFault
from protocols.nbr14522.frames import NOT_IMPLEMENTED, OCCURRENCE
from protocols.nbr14522.link import COMPOSITE_CODES
from protocols.nbr14522.messages import (
    ChangeLogRequest,
    CurrentMemoryRequest,
    CurrentParametersRequest,
    CurrentRegistersRequest,
    InstantaneousRequest,
    LimitUnit,
    MeasurementParametersRequest,
    OccurrenceAnswer,
    Parameters,
    Period,
    PowerFailuresRequest,
    PreviousMemoryRequest,
    PreviousParametersRequest,
    PreviousRegistersRequest,
    Request,
    Response,
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
    decode_response,
)
from protocols.nbr14522.profile import MeterProfile
from protocols.nbr14522.sequences import ReadSequence, group_count, requests_of


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a request. `content`: the single answer, 256 octets; None after a composite one.

    Decoding is left to the script that needs it: most answers are only stored while the session runs.
    """

    content: bytes | None
    blocks: int = 1

    @property
    def code(self) -> int | None:
        return None if self.content is None else self.content[0]

    def decode(self) -> Response | None:
        return None if self.content is None else decode_response(self.content)


@dataclass(frozen=True, slots=True)
class GuardedWrite:
    """A request that must be on record before it leaves, and is never sent twice by the link.

    `command` as operators write it (98/30). `prepare` puts it on record and returns it; it may wait for the
    right moment.
    """

    command: str
    prepare: Callable[[], Awaitable[Request]]


Script = Generator[Request | GuardedWrite, Answered, None]
_Ask = Generator[Request, Answered, Answered | None]


def script_for(goal: Goal, profile: MeterProfile) -> Script:
    """The script that serves a goal."""
    available = set(profile.commands) - goal.absent
    match goal.sequence:
        case SequenceName.MISSING:
            return _missing(goal, available)
        case SequenceName.VERIFICATION:
            return _verification(available)
        case SequenceName.RECOVERY:
            return _recovery(available)
        case SequenceName.CLOSING:
            return _closing(available)
        case SequenceName.FISCAL_PAGE:
            return _fiscal_page(available)
        case SequenceName.WHOLE:
            return _whole(available)


def fixed(requests: Sequence[Request]) -> Script:
    """Exactly these requests, whatever is answered: for a person who names commands."""
    for request in requests:  # noqa: UP028 -- a list's iterator cannot be sent the answers
        yield request


def _missing(goal: Goal, available: set[int]) -> Script:
    parameters = yield from _parameters(CurrentParametersRequest())
    if goal.with_records:
        yield from _records(available, parameters, Period.CURRENT)
    groups = group_count(parameters) if goal.with_records or goal.with_all_groups else 1
    facts = _facts(parameters)
    # A hundred decoded fields must not wait in each of some thousand sessions until its memory is read.
    del parameters
    spans = by_the_meters_clock(goal, facts)
    while steps := choose_memory(spans, facts, available):
        for step in steps:
            if not (yield from _memory(step, available, goal.with_records, groups)):
                break  # refused as not implemented: choose again from what is left
        else:
            return


def _verification(available: set[int]) -> Script:
    parameters = yield from _parameters(CurrentParametersRequest())
    yield from _records(available, parameters, Period.CURRENT)
    if parameters.words_current:
        yield from _ask(CurrentMemoryRequest(), available)
    yield from _further_groups(ReadSequence.VERIFICATION, parameters, available)


def _recovery(available: set[int]) -> Script:
    parameters = yield from _parameters(PreviousParametersRequest())
    yield from _records(available, parameters, Period.PREVIOUS)
    if parameters.words_previous:
        yield from _ask(PreviousMemoryRequest(), available)
    yield from _further_groups(ReadSequence.RECOVERY, parameters, available)


def _closing(available: set[int]) -> Script:
    yield from _recovery(available)
    yield from _parameters(CurrentParametersRequest())
    yield from _ask(CurrentRegistersRequest(), available)


def _fiscal_page(available: set[int]) -> Script:
    # The parameters first: they tell the meter's clock, by which the page is kept.
    yield from _parameters(CurrentParametersRequest())
    if (yield from _ask(InstantaneousRequest(), available)) is None:
        raise OperatorFault(
            "the meter has no fiscal page",
            where="command 14",
            remedy="read the registers: --sequence verification",
        )


def _whole(available: set[int]) -> Script:
    if {0x51, 0x52} <= available:
        request = WholeMemoryParametersRequest(unit=LimitUnit.EVERYTHING)
        answer = yield from _ask(request, available)
        parameters = None if answer is None else answer.decode()
        if isinstance(parameters, Parameters):
            if parameters.has_command_80:
                yield from _ask(MeasurementParametersRequest(), available)
            yield from _ask(WholeMemoryRequest(), available)
            if 0x52 in available:
                yield from _further_groups(ReadSequence.WHOLE_MEMORY, parameters, available)
                return
    # No whole reading: both periods are all that an old meter gives.
    yield from _recovery(available)
    yield from _verification(available)


def _further_groups(
    sequence: ReadSequence, parameters: Parameters, available: set[int]
) -> Generator[Request, Answered, None]:
    """The same for channels 4 to 6, 7 to 9, 10 to 12, where the meter has them."""
    has_words = sequence is ReadSequence.WHOLE_MEMORY or bool(parameters.memory_word_count)
    for group in range(1, group_count(parameters)):
        for request in requests_of(sequence, group):
            if has_words or request.code not in COMPOSITE_CODES:
                yield from _ask(request, available)


def _records(
    available: set[int], parameters: Parameters, period: Period
) -> Generator[Request, Answered, None]:
    # Command 80 only where the parameters announce it, as the makers' readers do (nbr14522.md 2.2).
    if parameters.has_command_80:
        yield from _ask(MeasurementParametersRequest(), available)
    registers = CurrentRegistersRequest() if period is Period.CURRENT else PreviousRegistersRequest()
    yield from _ask(registers, available)
    yield from _ask(PowerFailuresRequest(period=period), available)
    yield from _ask(ChangeLogRequest(), available)


def _memory(
    step: MemoryStep, available: set[int], with_records: bool, groups: int
) -> Generator[Request, Answered, bool]:
    """Read one memory of each channel group; False when the meter does not have the command."""
    for group in range(groups):
        for request in _memory_requests(step, with_records, group):
            yield from _ask(request, available)
            if request.code not in available and request.code != PreviousRegistersRequest.CODE:
                return False
    return True


def _memory_requests(step: MemoryStep, with_records: bool, group: int) -> Iterable[Request]:
    match step.read:
        case MemoryRead.CURRENT:
            # The parameters read at the start of the session made the first group the visible one.
            visible = [CurrentParametersRequest(group=group)] if group else []
            return [*visible, CurrentMemoryRequest()]
        case MemoryRead.PREVIOUS:
            registers = [PreviousRegistersRequest()] if with_records else []
            return [PreviousParametersRequest(group=group), *registers, PreviousMemoryRequest()]
        case MemoryRead.NEWEST_DAYS:
            limited = WholeMemoryParametersRequest(group=group, unit=LimitUnit.DAYS, amount=step.days)
            return [limited, *_proof(with_records, group), WholeMemoryRequest()]
        case MemoryRead.WHOLE:
            whole = WholeMemoryParametersRequest(group=group, unit=LimitUnit.EVERYTHING)
            return [whole, *_proof(with_records, group), WholeMemoryRequest()]


def _proof(with_records: bool, group: int) -> list[Request]:
    """Registers by which a whole memory's count of words is judged, where the session has not got them.

    26 and 27 have their period's calendar; 52 has nothing else that tells where its words begin.
    """
    return [] if with_records and not group else [CurrentRegistersRequest()]


def _parameters(request: Request) -> Generator[Request, Answered, Parameters]:
    """Parameters, without which nothing else can be given a time."""
    answer = (yield request).decode()
    if isinstance(answer, Parameters):
        if answer.meter_time is None:
            raise RetryFault(
                "the meter's clock cannot be read from its parameters",
                where=f"command {request.CODE:02X}",
                remedy="if it repeats, a field crew must look at the meter's clock and battery",
            )
        return answer
    code = None if answer is None else answer.code
    raise OperatorFault(
        f"the meter answers its parameters with {code:02X}"
        if code
        else "the meter does not give its parameters",
        where=f"command {request.CODE:02X}",
        remedy="check the meter's model and profile in the registry, and occurrences waiting at the meter",
    )


def _ask(request: Request, available: set[int]) -> _Ask:
    """Ask if the meter has it; a 39 is remembered for the rest of the session."""
    code = request.code
    if code not in available:
        return None
    answered = yield request
    if answered.code == NOT_IMPLEMENTED:
        available.discard(code)
        return None
    answer = answered.decode() if answered.code == OCCURRENCE else None
    if isinstance(answer, OccurrenceAnswer) and code in (0x26, 0x27, 0x51, 0x52):
        occurrence = answer.occurrence
        raise OperatorFault(
            f"the meter answers with occurrence {occurrence or 0:02X} instead of its memory",
            where=f"command {code:02X}",
            remedy="see the meter's manual for the occurrence; command 37 clears those that may be cleared",
        )
    return answered


def _facts(parameters: Parameters) -> MemoryFacts:
    interval_s, now = parameters.memory_interval_s, parameters.meter_time
    if interval_s is None or 86400 % interval_s or now is None or parameters.last_interval_end is None:
        raise OperatorFault(
            f"the meter's memory interval ({interval_s} s) or last interval cannot be used",
            where="command 21",
            remedy="check the meter's parameters with smf read",
        )
    return MemoryFacts(
        now=now,
        last_end=parameters.last_interval_end,
        last_reset=parameters.last_reset,
        words_current=parameters.words_current or 0,
        words_previous=parameters.words_previous or 0,
        interval_s=interval_s,
    )
