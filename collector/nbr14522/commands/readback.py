"""What shows that a write took effect: where each field is read back, and how the two compare. Pure.

Sections 3.1, 5.5 and 6.2 of the reference. A command that is missing here, and a field that the meter does
not give, can only be judged by the meter's answer to the write, which returns what is now in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from protocols.nbr14522.commands import key_of
from protocols.nbr14522.messages import (
    CurrentParametersRequest,
    ExtendedHolidaysRequest,
    ExtendedMode,
    GenericFlags,
    GenericRequest,
    InstallationCodeRequest,
    MeasurementParameters,
    MeasurementParametersRequest,
    NominalFlags,
    NominalValuesRequest,
    OpaqueRequest,
    Parameters,
    Request,
)

Fields = dict[str, Any]
"""Values by field of the write, as `to_json` gives them, put into one form."""

READS: dict[str, Request] = {
    "21": CurrentParametersRequest(),
    "80": MeasurementParametersRequest(),
    "87": InstallationCodeRequest(is_read=True),
    "98/32": ExtendedHolidaysRequest(is_write=False),
    "98/95": NominalValuesRequest(flags=NominalFlags.NONE),
}

# Command -> field of the write -> where it is read back. One name where both are the same.
_PLACES: dict[str, dict[str, tuple[str, str]]] = {
    "31": {"interval_min": ("21", "demand_interval_min")},
    "32": {"holidays": ("21", "holidays")},
    "33": {"constants": ("21", "constants")},
    "35": {
        "peak_starts": ("21", "peak_starts"),
        "off_peak_starts": ("21", "off_peak_starts"),
        "reserved_starts": ("21", "reserved_starts"),
        "intermediate_starts": ("80", "intermediate_starts"),
        "segment_count": ("21", "segment_count"),
    },
    "36": {"is_on": ("21", "is_reserved_segment_on")},
    "64": {
        "is_on": ("21", "is_daylight_saving_on"),
        "winter_end": ("21", "winter_end"),
        "summer_end": ("21", "summer_end"),
    },
    "67": {
        "power_factor_composition": ("21", "power_factor_composition"),
        "energy_interval_min": ("21", "reactive_energy_interval_min"),
        "demand_interval_min": ("21", "reactive_demand_interval_min"),
        "reference_power_factor_inductive_pct": ("21", "reference_power_factor_inductive_pct"),
        "reference_power_factor_capacitive_pct": ("21", "reference_power_factor_capacitive_pct"),
        "inductive_starts": ("21", "inductive_starts"),
        "capacitive_starts": ("21", "capacitive_starts"),
        "inductive_starts_set_2": ("21", "inductive_starts_set_2"),
        "capacitive_starts_set_2": ("21", "capacitive_starts_set_2"),
        "validity": ("21", "reactive_validity"),
    },
    "73": {
        "interval_min": ("21", "memory_interval_min"),
        "extra_s": ("21", "memory_interval_extra_s"),
        "extra_hundredths": ("21", "memory_interval_extra_hundredths"),
    },
    "87": {"installation_code": ("87", "installation_code")},
    "90": {"modes": ("80", "presentation_modes")},
    "95": {
        name: ("80", name)
        for name in (
            "ke",
            "kh",
            "voltage_transformer",
            "current_transformer",
            "active_mode",
            "reactive_mode",
            "ke_reactive",
            "connection_type",
            "user_output",
            "kp",
        )
    },
    "98/32": {"holidays": ("98/32", "holidays")},
    "98/95": {"voltage_v": ("98/95", "voltage_v"), "frequency_hz": ("98/95", "frequency_hz")},
}

# Fields of the layouts that profiles give for commands without a public one, by the names they use.
# A number after a dot is a place in a list.
_LAYOUT_PLACES: dict[str, dict[str, tuple[str, str]]] = {
    "63": {
        "is_on": ("21", "is_automatic_reset_on"),
        "day": ("21", "automatic_reset_day"),
        "hour": ("21", "automatic_reset_hour"),
    },
    "66": {f"quantity_{place + 1}": ("21", f"quantities.{place}") for place in range(3)},
}

_ANSWER_FIELDS = {
    name: key
    for key, kind in (("80", MeasurementParameters), ("21", Parameters))
    for name in (field.name for field in fields(kind))
    if name not in ("code", "meter_serial", "octets", "problems")
}


def places(request: Request, values: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Where each field that the request changes is read back.

    Args:
        values: what the request was built from: for a layout of the profile they name the fields, and those
            named like a field of 21 or 80 are read there.
    """
    if isinstance(request, OpaqueRequest):
        named = {name: (_ANSWER_FIELDS[name], name) for name in values if name in _ANSWER_FIELDS}
        known = _LAYOUT_PLACES.get(key_of(request), {})
        return named | {name: place for name, place in known.items() if name in values}
    found = dict(_PLACES.get(key_of(request), {}))
    counting = _counting(request)
    return found if counting is None else {name: place for name, place in found.items() if name in counting}


def _counting(request: Request) -> set[str] | None:
    """The fields that the request's flags say to change; None where it has no flags and all count."""
    match request:
        case GenericRequest():
            set_flags = GenericFlags(request.flags or 0)
        case NominalValuesRequest():
            flags = request.flags or 0
            both = (("voltage_v", NominalFlags.VOLTAGE), ("frequency_hz", NominalFlags.FREQUENCY))
            return {name for name, flag in both if flags & flag}
        case _:
            return None
    return {flag.name.lower() for flag in set_flags if flag.name is not None}


def wanted(request: Request, values: Mapping[str, Any]) -> Fields:
    """The values wanted of the fields that can be read back."""
    told = dict(values) if isinstance(request, OpaqueRequest) else request.to_json()
    return {name: _form(name, told.get(name)) for name in places(request, values)}


def state(request: Request, values: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]) -> Fields:
    """What the fields are, of those that the answers give.

    Args:
        answers: by command of the read, as `to_json`.
    """
    found = {}
    for name, (command, path) in places(request, values).items():
        field, _, place = path.partition(".")
        if command in answers and field in answers[command]:
            value = answers[command][field]
            if place:
                value = value[int(place)]
            found[name] = _form(name, _swapped(value) if field == "presentation_modes" else value)
    return found


def differences(request: Request, want: Fields, have: Fields) -> list[dict[str, Any]]:
    """Fields that differ from what was wanted; one that could not be read is not among them."""
    is_adding = isinstance(request, ExtendedHolidaysRequest) and request.mode is ExtendedMode.ADD
    return [
        {"field": name, "wanted": want[name], "read": have[name]}
        for name in want
        if name in have
        and not (set(want[name]) <= set(have[name]) if is_adding else want[name] == have[name])
    ]


def _form(name: str, value: Any) -> Any:
    """One form for what may be written in several: order of holidays, filler dates, blanks of a code."""
    if name == "holidays":
        return sorted({day for day in value or () if day not in (None, "2001-01-01")})
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return round(value, 3)
    return value


def _swapped(modes: list[Any]) -> list[Any]:
    """80 gives (demand, total) of each channel, 90 takes (energy, demand) (sections 5.5, 6.2; order C)."""
    return [modes[index] for index in (1, 0, 3, 2, 5, 4)]
