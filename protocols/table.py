"""Every protocol, and where each room has its part of it: the one place that a new protocol is entered.

An entry is names only. A room looks up its own part when it needs it, so nothing is loaded for a protocol
that nobody speaks, no core knows of this table, and no room imports one above it. Which interface a part
keeps is said by the room: `Models` in `protocols.catalogues`, `Driver` and `Decoder` in `collector.drivers`,
`Locator` in `audit.evidence`, `Explanation` in `pipelines.cli.explain`; the commands of
`smf read|decode|simulate` are added by functions that take the Typer application.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from faults import DeveloperFault, OperatorFault
from protocols.catalogues import Models


@dataclass(frozen=True, slots=True)
class ProtocolEntry:
    """A protocol. Each part is `module:name`.

    Attributes:
        name: as in the column `protocol` of sessions, and the key of its own catalogue in [catalogues].
        models: the meter models that speak it, see `Models`; None where files name the meter (public files).
        driver: has sessions with meters that are asked; None where they speak by themselves, or files do.
        decoder: what stored frames mean.
        evidence: where in the stored octets a count stands.
        explanation: how `smf trace` shows that place.
        simulator: serves a meter of a fleet, see `simulator.fleets.server`; None where no fleet has one.
        read, decode, simulate: functions that add the verbs' commands to their Typer application.
    """

    name: str
    decoder: str
    evidence: str
    explanation: str
    models: str | None = None
    driver: str | None = None
    simulator: str | None = None
    read: str | None = None
    decode: str | None = None
    simulate: str | None = None


PROTOCOLS: dict[str, ProtocolEntry] = {
    entry.name: entry
    for entry in (
        ProtocolEntry(
            name="nbr14522",
            models="protocols.nbr14522.profiles:MODELS",
            driver="collector.nbr14522.driver:DRIVER",
            decoder="collector.nbr14522.decoder:DECODER",
            evidence="audit.nbr14522_evidence:LOCATOR",
            explanation="pipelines.cli.explain.nbr14522:WORD",
            read="pipelines.cli.read.nbr14522:register",
            simulator="simulator.nbr14522.server:serve",
            decode="pipelines.cli.decode.nbr14522:register",
            simulate="pipelines.cli.simulate.nbr14522:register",
        ),
        ProtocolEntry(
            name="dlms",
            models="protocols.dlms.models:MODELS",
            driver="collector.dlms.driver:DRIVER",
            decoder="collector.dlms.decoder:DECODER",
            evidence="audit.dlms_evidence:LOCATOR",
            explanation="pipelines.cli.explain.dlms:ROW",
            read="pipelines.cli.read.dlms:register",
            simulator="simulator.dlms.server:serve",
            decode="pipelines.cli.decode.dlms:register",
            simulate="pipelines.cli.simulate.dlms:register",
        ),
        ProtocolEntry(
            name="ssu",
            models="protocols.ssu.catalogue:MODELS",
            decoder="collector.streams.stored:SSU_DECODER",
            evidence="audit.stream_evidence:SSU",
            explanation="pipelines.cli.explain.streams:RECORD",
            read="pipelines.cli.read.stream:register_ssu",
            decode="pipelines.cli.decode.serial:register_ssu",
            simulate="pipelines.cli.simulate.stream:register_ssu",
        ),
        ProtocolEntry(
            name="celesc",
            models="protocols.celesc.catalogue:MODELS",
            decoder="collector.streams.stored:CELESC_DECODER",
            evidence="audit.stream_evidence:CELESC",
            explanation="pipelines.cli.explain.streams:RECORD",
            read="pipelines.cli.read.stream:register_celesc",
            decode="pipelines.cli.decode.serial:register_celesc",
            simulate="pipelines.cli.simulate.stream:register_celesc",
        ),
        # What technicians bring: files of NBR 14522's public formats. A file is a session without a line.
        ProtocolEntry(
            name="fk7",
            decoder="collector.files.decode:FK7_DECODER",
            evidence="audit.file_evidence:FK7_LOCATOR",
            explanation="pipelines.cli.explain.files:FILE",
            decode="pipelines.cli.decode.public:register_fk7",
        ),
        ProtocolEntry(
            name="public-text",
            decoder="collector.files.decode:TEXT_DECODER",
            evidence="audit.file_evidence:TEXT_LOCATOR",
            explanation="pipelines.cli.explain.files:FILE",
            decode="pipelines.cli.decode.public:register_text",
        ),
        # Intervals that other systems wrote down.
        ProtocolEntry(
            name="pulse-csv",
            decoder="collector.files.pulse_lines:DECODER",
            evidence="audit.pulse_evidence:LOCATOR",
            explanation="pipelines.cli.explain.files:FILE",
        ),
    )
}


def entry_named(name: str) -> ProtocolEntry:
    """The protocol of a session.

    Raises:
        DeveloperFault: there is none; a session of a later version.
    """
    if name not in PROTOCOLS:
        raise DeveloperFault(
            f"no protocol {name!r}", where="session", remedy=f"this version knows: {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]


@cache
def part(reference: str) -> Any:
    """What `module:name` names, loaded now."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def models_of(entry: ProtocolEntry) -> Models | None:
    """The catalogue of a protocol that has one."""
    models: Models | None = None if entry.models is None else part(entry.models)
    return models


def catalogues() -> Iterable[tuple[ProtocolEntry, Models]]:
    """Of every protocol that has one, in the table's order."""
    for entry in PROTOCOLS.values():
        models = models_of(entry)
        if models is not None:
            yield entry, models


def protocol_of(profile: str) -> ProtocolEntry:
    """Which protocol the meters of a profile speak.

    Raises:
        OperatorFault: no catalogue has that profile.
    """
    for entry, models in catalogues():
        if profile in models.names():
            return entry
    known = ", ".join(sorted(profile_names()))
    raise OperatorFault(f"no meter profile {profile!r}", where="profile", remedy=f"use one of: {known}")


def profile_names() -> set[str]:
    """All that a meter model of the registry may name."""
    return {name for _, models in catalogues() for name in models.names()}


def unasked_profiles() -> list[str]:
    """Profiles of meters that speak by themselves: no session can be had with them."""
    return sorted(name for entry, models in catalogues() if entry.driver is None for name in models.names())
