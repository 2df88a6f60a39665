"""Profiles of meters that speak by themselves: what the registry writes as a meter model's profile. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from faults import OperatorFault
from protocols.celesc import catalogue as celesc
from protocols.ssu import catalogue as ssu

SSU, CELESC = "ssu", "celesc"


@dataclass(frozen=True, slots=True)
class StreamProfile:
    """One way of speaking.

    Attributes:
        rate_bit_s: of a serial port whose URL names none.
        ssu: the model of a meter with user output; meter: the one in CELESC's catalogue.
    """

    name: str
    protocol: str
    rate_bit_s: int
    ssu: ssu.SsuModel | None = None
    meter: celesc.CelescMeter | None = None


class _Profiles(Mapping[str, StreamProfile]):
    """Those of the catalogues in force, which may grow while the process runs."""

    def __getitem__(self, name: str) -> StreamProfile:
        if name in ssu.models():
            model = ssu.models()[name]
            return StreamProfile(name, SSU, model.rate_bit_s, ssu=model)
        meter = celesc.meters()[name.removeprefix(celesc.PREFIX)]
        if meter.profile != name:
            raise KeyError(name)
        return StreamProfile(name, CELESC, meter.rate_bit_s, meter=meter)

    def __iter__(self) -> Iterator[str]:
        yield from ssu.models()
        yield from (meter.profile for meter in celesc.meters().values())

    def __len__(self) -> int:
        return len(ssu.models()) + len(celesc.meters())


STREAM_PROFILES: Mapping[str, StreamProfile] = _Profiles()


def stream_profile(name: str) -> StreamProfile:
    """The profile of that name.

    Raises:
        OperatorFault: there is none.
    """
    if name not in STREAM_PROFILES:
        raise OperatorFault(
            f"no profile {name!r} of a meter that speaks by itself",
            where="profile",
            remedy=f"use one of: {', '.join(STREAM_PROFILES)}; or add a model, see docs/saida_serial.md",
        )
    return STREAM_PROFILES[name]
