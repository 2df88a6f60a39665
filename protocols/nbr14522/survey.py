"""A strange meter: which ways to try, what to ask, and the catalogue entry that its answers propose.

Only reads are asked. A driver runs the trials until one is answered, then the questions, and hands in what
was heard; nothing here knows the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocols.nbr14522.checks import PackingFit, packing_fit
from protocols.nbr14522.commands import COMMANDS, CommandKind, key_of
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.link import COMPOSITE_CODES
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.messages import (
    ChangeLogRequest,
    CurrentMemoryRequest,
    CurrentParametersRequest,
    CurrentRegistersRequest,
    ExtendedHolidaysRequest,
    InstallationCodeRequest,
    Instantaneous,
    InstantaneousRequest,
    LimitUnit,
    MeasurementParametersRequest,
    MemoryBlock,
    NotImplementedAnswer,
    OccurrenceAnswer,
    OpaqueRequest,
    Parameters,
    PowerFailuresRequest,
    PreviousMemoryRequest,
    PreviousParametersRequest,
    PreviousRegistersRequest,
    Registers,
    Request,
    Response,
    SeedRequest,
    WholeMemoryParametersRequest,
    WholeMemoryRequest,
    decode_response,
)
from protocols.nbr14522.models import models
from protocols.nbr14522.profile import DEFAULT, GENERIC, P2_GENERIC, P8_GENERIC, RELAXED, MeterProfile

# Shorter than in service: most trials are meant to fail, and a person waits.
_PATIENCE = replace(
    RELAXED,
    name="survey",
    synchronise_s=6.0,
    max_response_s=4.0,
    addressed_response_s=6.0,
    addressed_memory_response_s=6.0,
)
_SLOW_SHARE = 0.5


def trials(address: int = 1) -> tuple[MeterProfile, ...]:
    """Ways to speak, likeliest first: plain with two ENQ, one, none; by serial; by two-digit address."""
    plain = [replace(DEFAULT, timing=_PATIENCE, enq_required=count) for count in (2, 1, 0)]
    by_serial = replace(P8_GENERIC, timing=_PATIENCE)
    by_address = replace(P2_GENERIC, timing=_PATIENCE, address=address)
    return (plain[0], plain[1], by_serial, by_address, plain[2])


def first_question() -> Request:
    """What every meter of the standard answers."""
    return CurrentParametersRequest()


def questions() -> list[Request]:
    """Everything that only reads, ordered so that each memory follows the parameters that it needs."""
    partial = [OpaqueRequest(code=code) for code in (0x41, 0x42, 0x43, 0x44, 0x45, 0x46)]
    return [
        InstantaneousRequest(),
        MeasurementParametersRequest(),
        ChangeLogRequest(),
        PowerFailuresRequest(),
        SeedRequest(),
        InstallationCodeRequest(is_read=True),
        ExtendedHolidaysRequest(is_write=False),
        OpaqueRequest(code=0x88),
        *partial,
        PreviousParametersRequest(),
        PreviousRegistersRequest(),
        PreviousMemoryRequest(),
        CurrentParametersRequest(),
        CurrentRegistersRequest(),
        CurrentMemoryRequest(),
        WholeMemoryParametersRequest(unit=LimitUnit.DAYS, amount=1),
        WholeMemoryRequest(),
    ]


@dataclass(frozen=True, slots=True)
class Heard:
    """One question and what came of it.

    Attributes:
        contents: of each good block, 256 octets.
        seconds: from sending to the last block; None where nothing came.
    """

    request: Request
    contents: tuple[bytes, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What the answers say.

    Attributes:
        has, lacks: commands answered, and refused with 39 or met with silence.
        occurrences: commands met with answer 40, by occurrence.
        fits: of the packings, for each memory that came with its registers.
        slowest_s: longest wait for a single answer.
        blocks_per_s: of the memories; None where none came.
    """

    profile: MeterProfile
    parameters: Parameters
    has: frozenset[str]
    lacks: frozenset[str]
    silent: frozenset[str]
    occurrences: dict[str, int]
    fits: tuple[PackingFit, ...] = ()
    slowest_s: float = 0.0
    blocks_per_s: float | None = None
    instantaneous_filling: int = 0x00
    known_as: tuple[str, ...] = ()

    @property
    def packing(self) -> Packing | None:
        """The one packing that every comparison allows; None where they tell nothing or disagree."""
        possible = set(Packing)
        for fit in self.fits:
            if fit.made:
                possible &= set(fit.fitting)
        return possible.pop() if len(possible) == 1 else None

    @property
    def contradicts(self) -> bool:
        """Whether registers and words agree in no packing."""
        return any(fit.made and not fit.fitting for fit in self.fits)


def assess(profile: MeterProfile, heard: Sequence[Heard]) -> Survey | None:
    """Sum up a survey; None where the meter never gave its parameters.

    Args:
        profile: the trial that was answered.
    """
    answers = [(one, _first(one)) for one in heard]
    parameters = next((got for _, got in answers if isinstance(got, Parameters)), None)
    if parameters is None:
        return None
    refused = {key_of(one.request) for one, got in answers if isinstance(got, NotImplementedAnswer)}
    silent = {key_of(one.request) for one, got in answers if got is None}
    occurrences = {
        key_of(one.request): got.occurrence or 0 for one, got in answers if isinstance(got, OccurrenceAnswer)
    }
    asked = {key_of(one.request) for one, _ in answers}
    single = [one.seconds for one in heard if one.seconds and one.request.code not in COMPOSITE_CODES]
    memories = [(len(one.contents), one.seconds) for one in heard if one.seconds and len(one.contents) > 1]
    instantaneous = next((got for _, got in answers if isinstance(got, Instantaneous)), None)
    return Survey(
        profile=profile,
        parameters=parameters,
        has=frozenset(asked - refused - silent),
        lacks=frozenset(refused | silent),
        silent=frozenset(silent),
        occurrences=occurrences,
        fits=tuple(_fits(answers, profile)),
        slowest_s=max(single, default=0.0),
        blocks_per_s=max((count / seconds for count, seconds in memories), default=None),
        instantaneous_filling=0xFF if instantaneous and set(instantaneous.octets[246:]) == {0xFF} else 0x00,
        known_as=tuple(model.name for model in models().with_code(parameters.model or "")),
    )


def _first(heard: Heard) -> Response | None:
    if not heard.contents:
        return None
    try:
        return decode_response(heard.contents[0])
    except RemoteProtocolError:
        return None


def _fits(answers: Sequence[tuple[Heard, Response | None]], profile: MeterProfile) -> list[PackingFit]:
    fits = []
    parameters: Parameters | None = None
    registers: Registers | None = None
    for one, got in answers:
        if isinstance(got, Parameters):
            parameters, registers = got, None
        elif isinstance(got, Registers):
            registers = got
        elif isinstance(got, MemoryBlock) and got.code != 0x52 and parameters and registers:
            blocks = [decode_response(content) for content in one.contents]
            payloads = [block.payload for block in blocks if isinstance(block, MemoryBlock)]
            if isinstance(blocks[-1], MemoryBlock) and blocks[-1].is_last:
                octet = profile.second_set_active_octet
                fit = packing_fit(payloads, parameters, registers, second_set_octet=octet)
                whole = packing_fit(payloads, parameters, registers, second_set_octet=octet, by_segment=False)
                fits.append(fit if fit.fitting else whole)
    return fits


def proposal(survey: Survey) -> str:
    """The survey as an entry of the catalogue, TOML, with what a person must still decide as comments."""
    parameters, profile = survey.parameters, survey.profile
    base = next(name for name in ("default", "p8-generic", "p2-generic") if _is_like(name, profile))
    name = f"surveyed-{parameters.model or parameters.meter_serial}".lower()
    lines = [f"[models.{name}]", f'extends = "{base}"', 'maker = "?"']
    lines.append(f'description = "Proposed by a survey of meter {parameters.meter_serial}."')
    if parameters.model:
        lines.append(f'model_codes = ["{parameters.model}"]')
    lines.append('confidence = "B"')
    if profile.addressing is Addressing.P0 and profile.enq_required != DEFAULT.enq_required:
        lines.append(f"enq_required = {profile.enq_required}")
    if profile.addressing is Addressing.P2:
        lines.append(f"address = {profile.address}")
    lines.append(f"groups = {max(parameters.group_count or 1, 1)}")
    lines += _command_lines(survey)
    if survey.packing is not None:
        lines.append(f'packing = "{survey.packing}"  # told by the maximum-demand registers')
    elif survey.contradicts:
        lines.append(
            "# packing: words and maximum-demand registers agree in none of S, M, L; look at the capture"
        )
    else:
        lines.append("# packing: the registers could not tell; S until they do")
    if survey.instantaneous_filling:
        lines.append("instantaneous_filling = 0xFF")
    if survey.slowest_s > _SLOW_SHARE * RELAXED.max_response_s:
        slow = round(3 * survey.slowest_s)
        lines.append(f"timing = {{ max_response_s = {slow}, addressed_response_s = {slow} }}")
    if parameters.has_password:
        lines.append(
            '# password_transform: the meter says that it has a password; "none" until its maker tells'
        )
    lines += ["facts = [", *(f'    {{ text = "{text}", confidence = "B" }},' for text in _facts(survey)), "]"]
    return "\n".join(lines) + "\n"


def _is_like(name: str, profile: MeterProfile) -> bool:
    return GENERIC[name].addressing is profile.addressing


def _command_lines(survey: Survey) -> list[str]:
    codes = sorted({key.split("/")[0] for key in survey.has} | {"20"})
    listed = ", ".join(f'"{code}"' for code in codes)
    # Whether a meter has a write is not tried: that takes writing.
    lines = [
        "# 20 and all writes were not tried; add those that the maker's manual lists",
        f"commands = [{listed}]",
    ]
    extended = ", ".join(f'"{key}"' for key in sorted(survey.has) if "/" in key)
    if extended:
        lines.append(f"extended_commands = [{extended}]")
    return lines


def _facts(survey: Survey) -> list[str]:
    found = [f"Slowest single answer {survey.slowest_s:.1f} s."]
    if survey.blocks_per_s is not None:
        found.append(f"Memory at {survey.blocks_per_s:.1f} blocks a second.")
    if survey.lacks:
        found.append(f"Does not have {', '.join(sorted(survey.lacks))}.")
    if survey.silent:
        found.append(f"Left unanswered: {', '.join(sorted(survey.silent))}.")
    found += [
        f"Answers {key} with occurrence {code:02X}." for key, code in sorted(survey.occurrences.items())
    ]
    if survey.known_as:
        found.append(f"The catalogue knows its model code as {', '.join(survey.known_as)}.")
    interval = survey.parameters.memory_interval_s
    demand = survey.parameters.demand_interval_min
    found.append(f"Memory interval {interval} s, demand interval {demand} min, as found.")
    return found


def untried() -> list[str]:
    """Commands of the catalogue that a survey leaves alone because they may change the meter."""
    asked = {key_of(request) for request in (first_question(), *questions())}
    return [
        key
        for key, info in COMMANDS.items()
        if key not in asked and info.kind in (CommandKind.WRITE, CommandKind.READ_WRITE, CommandKind.RESET)
    ]
