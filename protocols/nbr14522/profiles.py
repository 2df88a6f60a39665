"""Profiles by name: the general ones, and one for each model of the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from faults import OperatorFault
from protocols.catalogues import ModelRow, Models
from protocols.nbr14522.models import add_catalogue, models
from protocols.nbr14522.profile import DEFAULT, GENERIC, OLD_3CH, P2_GENERIC, P8_GENERIC, MeterProfile

__all__ = ["DEFAULT", "MODELS", "OLD_3CH", "P2_GENERIC", "P8_GENERIC", "PROFILES", "profile_named"]


class _Profiles(Mapping[str, MeterProfile]):
    """The general profiles and those of the catalogue in force, which may grow while the process runs."""

    def __getitem__(self, name: str) -> MeterProfile:
        return GENERIC[name] if name in GENERIC else models()[name].profile

    def __iter__(self) -> Iterator[str]:
        yield from GENERIC
        yield from models()

    def __len__(self) -> int:
        return len(GENERIC) + len(models())


PROFILES: Mapping[str, MeterProfile] = _Profiles()


def profile_named(name: str) -> MeterProfile:
    """The profile of that name.

    Raises:
        OperatorFault: there is none.
    """
    if name not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        raise OperatorFault(f"no meter profile {name!r}", where="profile", remedy=f"use one of: {known}")
    return PROFILES[name]


class _ProfileModels:
    """See `protocols.table.Models`."""

    def names(self) -> Collection[str]:
        return PROFILES

    def rows(self) -> Iterator[ModelRow]:
        for general in GENERIC.values():
            yield ModelRow(general.name, "", general.description, "")
        for model in models().values():
            yield ModelRow(model.name, model.maker, model.description, model.confidence)

    def add(self, source: str, text: str) -> None:
        add_catalogue(source, text)


MODELS: Models = _ProfileModels()
