"""What may be sent to a meter of a profile, and how a write is built from plain values.

A write goes out in a typed layout that a public source gives, in a layout that the meter's profile supplies,
or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faults import OperatorFault
from protocols.nbr14522.commands import (
    COMMANDS,
    CommandInfo,
    CommandKind,
    changes_meter,
    info_of,
    key_of,
    parse_command,
)
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.messages import (
    EXTENDED_REQUESTS,
    INFERRED_GENERIC_FLAGS,
    REQUESTS,
    GenericRequest,
    LimitUnit,
    OpaqueRequest,
    Request,
    SetMemoryIntervalRequest,
    WholeMemoryParametersRequest,
)
from protocols.nbr14522.profile import MeterProfile

_SAME_IN_DECIMAL_AND_BINARY = 9


def build_request(profile: MeterProfile, command: str, values: Mapping[str, Any]) -> Request:
    """A request for a command (`32`, `98/30`) from plain values: names and forms as in `Request.to_json`.

    A layout of the profile comes before the typed one: the model's manual knows better.

    Raises:
        OperatorFault: no layout is known, it is only inferred, or a value does not belong there.
    """
    try:
        code, sub_code = parse_command(command)
        layout = profile.layout_of(command)
        if layout is not None:
            return layout.request(values)
        kind = REQUESTS.get(code) if sub_code is None else EXTENDED_REQUESTS.get(sub_code)
        if kind is None:
            info = COMMANDS.get(command)
            if info is not None and info.kind is CommandKind.READ and not values:
                return OpaqueRequest(code=code)
            raise _no_layout(info, command, profile)
        request = kind.from_json(values)
        request.write()
    except LocalProtocolError as error:
        raise OperatorFault(
            error.message,
            where=f"command {command}, {error.where}",
            remedy="see the command's fields in docs/modelos_de_medidor.md",
        ) from error
    check_sendable(profile, request)
    return request


def check_sendable(profile: MeterProfile, request: Request) -> None:
    """Refuse what must not be sent to a meter of this profile. Reads pass, but for a limit of 51 in hours.

    Raises:
        OperatorFault: the command may change the meter, and its layout is unknown, or only inferred and not
            among the profile's `inferred_writes`; or 51 limited by hours, not trusted for this profile.
    """
    if (
        isinstance(request, WholeMemoryParametersRequest)
        and request.unit is LimitUnit.HOURS
        and not profile.hours_limit_is_trusted
    ):
        raise OperatorFault(
            "unit 01 of command 51 as hours is an inference",
            where=f"profile {profile.name}",
            remedy="limit by days, or set hours_limit_is_trusted in the model's entry after a test",
        )
    if not changes_meter(request):
        return
    key = key_of(request)
    if profile.layout_of(key) is not None:
        return
    info = info_of(request)
    if isinstance(request, OpaqueRequest):
        raise _no_layout(info, key, profile)
    if is_inferred(request) and key not in profile.inferred_writes:
        raise OperatorFault(
            f"the layout of command {key} ({info.name}) is inferred, no source shows it for these values",
            where=f"profile {profile.name}",
            remedy="test it on a meter of the model that is not in service, then name the command in the "
            "model's inferred_writes, or give a write layout from the maker's manual",
        )


def is_inferred(request: Request) -> bool:
    """Whether the layout of this very request rests on inference (confidence C)."""
    match request:
        case GenericRequest():
            return bool((request.flags or 0) & INFERRED_GENERIC_FLAGS)
        case SetMemoryIntervalRequest():
            return (
                (request.interval_min or 0) > _SAME_IN_DECIMAL_AND_BINARY
                or bool(request.extra_s)
                or bool(request.extra_hundredths)
            )
    return info_of(request).layout_confidence == "C"


def refusal(profile: MeterProfile, command: str) -> OperatorFault | None:
    """Why no request of this command can be built for the profile, or None where one can.

    For lists and previews: says the same as `build_request` would.
    """
    info = COMMANDS.get(command)
    if profile.layout_of(command) is not None or (info is not None and info.has_layout):
        return None
    return _no_layout(info, command, profile)


def _no_layout(info: CommandInfo | None, key: str, profile: MeterProfile) -> OperatorFault:
    name = "unknown" if info is None else info.name
    reads = info is not None and info.kind is CommandKind.READ
    return OperatorFault(
        f"no public source gives the layout of command {key} ({name})",
        where=f"profile {profile.name}",
        remedy="without parameters its answer is kept raw"
        if reads
        else "supply a write layout from the maker's manual in the model's entry of the catalogue",
    )
