"""The parameters that a derivation runs with: what the settings say, and what was kept with a row.

What belongs here: from settings, the file of rule parameters and CCEE's contract to `DerivationParameters`;
and back from what a stored row names, so that it can be made again as it was. What does not: what a
parameter means (`vee`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from derivation.layers import DerivationParameters
from faults import OperatorFault
from storage.settings import MarketSettings
from vee import musd
from vee.parameters import from_table, read

# Of the file's tables, those that something else decides.
_ELSEWHERE = {
    "musd": "write musd.factor, default_kw and on_violation in the contract profile (ccee.profile_path)",
}
_ZONED = ("primary", "validation", "estimation")


def parameters_in_force(market: MarketSettings, contract: musd.MusdParams) -> DerivationParameters:
    """What is derived with now.

    Args:
        contract: what CCEE's contract profile says of the MUSD.
    Raises:
        OperatorFault: the file of rule parameters cannot be read, or something in it does not fit.
    """
    path, chosen = market.rules_path, DerivationParameters()
    if path is not None:
        chosen = read(path, chosen)
        for name, remedy in _ELSEWHERE.items():
            if getattr(chosen, name) != getattr(DerivationParameters(), name):
                raise OperatorFault(f"[{name}] is not set here", where=str(path), remedy=remedy)
        for name in _ZONED:
            if getattr(chosen, name).zone != getattr(DerivationParameters(), name).zone:
                raise OperatorFault(
                    "the zone is not set here", where=f"{path} {name} zone", remedy="write [market] zone"
                )
    zoned: dict[str, Any] = {name: replace(getattr(chosen, name), zone=market.zone) for name in _ZONED}
    if contract.default_musd_kw is not None:
        zoned["validation"] = replace(zoned["validation"], default_musd_kw=contract.default_musd_kw)
    return replace(chosen, **zoned, musd=contract)


def parameters_kept(kept: Mapping[str, Mapping[str, Any]]) -> DerivationParameters:
    """The parameters that rows were made with, of what is kept with them.

    Args:
        kept: by layer's name (`primary` to `ccee`), as `run` registers them. What a later version added has
            its default; what it took away decides nothing any more.
    """
    validated = dict(kept.get("validated", {}))
    table = {
        "primary": kept.get("primary", {}),
        "rules": validated.pop("rules", {}),
        "similar_days": validated.pop("similar_days", {}),
        "validation": validated,
        "estimation": kept.get("estimated", {}),
        "musd": kept.get("ccee", {}),
    }
    known = _known(DerivationParameters(), table)
    known["loss_mode"] = kept.get("adjusted", {}).get("mode", DerivationParameters().loss_mode)
    return from_table(DerivationParameters(), known, "kept parameters")


def _known(default: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """What the present version still knows, in the words of a file."""
    names = (
        set(default) if isinstance(default, dict) else {item.name for item in fields(default) if item.init}
    )
    found: dict[str, Any] = {}
    for name, value in table.items():
        if name in names:
            now = default[name] if isinstance(default, dict) else getattr(default, name)
            if isinstance(value, Mapping):
                found[name] = _known(now, value)
            else:
                found[name] = "none" if value is None else value
    return found
