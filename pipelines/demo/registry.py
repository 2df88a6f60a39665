"""The demonstration's registry as the files that a distributor would load: one CSV a sheet.

Written before it is loaded, in the ordinary way, so that a person can look at it, change it, load it again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from simulator.fleets.demo import DemoMeter, DemoPoint
from storage.registry.sheets import BY_NAME

_Row = Mapping[str, object]


def write_registry(points: Sequence[DemoPoint], meter_urls: Mapping[str, str], folder: Path) -> Path:
    """Write all sheets of the fleet; returns the folder.

    Args:
        meter_urls: meter serial to the address where it answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meters = [(point, meter) for point in points for meter in point.meters]
    sheets: dict[str, Iterable[_Row]] = {
        "distributors": ({"code": p.distributor_code, "name": p.distributor_name} for p in points),
        "agents": (
            {"code": p.agent_code, "name": p.agent_name, "distributor_code": p.distributor_code}
            for p in points
        ),
        "customers": ({"code": p.customer_code, "name": p.customer_name} for p in points),
        "ucs": (
            {
                "code": p.uc_code,
                "name": p.uc_name,
                "agent_code": p.agent_code,
                "customer_code": p.customer_code,
            }
            for p in points
        ),
        "status": (row for point in points for row in _status(point)),
        "contracts": (
            {
                "uc_code": p.uc_code,
                "tariff_subgroup": p.tariff_subgroup,
                "tariff_modality": p.tariff_modality,
                "contracted_demand_kw": p.contracted_demand_kw,
                "supply_voltage_kv": _decimal(p.supply_voltage_kv),
                "valid_from": p.registered_on,
            }
            for p in points
        ),
        "musd": (
            {
                "uc_code": p.uc_code,
                "musd_kw": p.musd_kw,
                "confirmed_on": p.registered_on,
                "valid_from": p.registered_on,
            }
            for p in points
        ),
        "estimation": (
            {"uc_code": p.uc_code, "strategy": p.strategy, "valid_from": p.registered_on} for p in points
        ),
        "points": ({"code": p.point_code, "uc_code": p.uc_code, "name": p.uc_name} for p in points),
        "losses": (
            {
                "point_code": p.point_code,
                "kind": loss.kind,
                "percent": _decimal(loss.percent),
                "compensated_at": loss.compensated_at,
                "valid_from": p.registered_on,
            }
            for p in points
            for loss in p.losses
        ),
        "schedules": (
            {"point_code": p.point_code, "kind": p.schedule, "valid_from": p.registered_on} for p in points
        ),
        "meter_models": (
            {"code": m.model_code, "maker": m.maker, "profile": m.profile_name} for _, m in meters
        ),
        "meters": ({"serial": m.serial, "model_code": m.model_code} for _, m in meters),
        "units": ({"code": m.unit_code, "url": meter_urls[m.serial], "cell": m.cell} for _, m in meters),
        "installations": (_installation(point, meter) for point, meter in meters),
    }
    for name, rows in sheets.items():
        _write(folder / f"{name}.csv", BY_NAME[name].names, rows)
    return folder


def _status(point: DemoPoint) -> Iterable[_Row]:
    """Active since the registration; another status from its own date on."""
    if point.status_since > point.registered_on:
        yield {
            "uc_code": point.uc_code,
            "status": "active",
            "valid_from": point.registered_on,
            "valid_to": point.status_since,
        }
    yield {"uc_code": point.uc_code, "status": point.status, "valid_from": point.status_since}


def _installation(point: DemoPoint, meter: DemoMeter) -> _Row:
    numerator, denominator = meter.pulse_energy
    return {
        "meter_serial": meter.serial,
        "point_code": point.point_code,
        "unit_code": meter.unit_code,
        "role": meter.role,
        "active_channel": 1,
        "pulse_energy_num": numerator,
        "pulse_energy_den": denominator,
        "tp_ratio": meter.tp_ratio,
        "tc_ratio": meter.tc_ratio,
        "constant_includes_ratios": str(meter.constant_includes_ratios).lower(),
        "element_count": meter.element_count,
        "interval_s": meter.spec.source.interval_s,
        "valid_from": meter.installed_on,
    }


def _decimal(value: Fraction) -> str:
    """A fraction of the registry, whose denominators are powers of ten."""
    thousandths, rest = divmod(value * 1000, 1)
    assert not rest  # The fleet gives voltages and percentages with at most three decimals.
    return f"{thousandths // 1000}.{thousandths % 1000:03d}"


def _write(path: Path, names: Sequence[str], rows: Iterable[_Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        # Points share a distributor, agents and models: each once, in order.
        writer.writerows(dict(unique) for unique in dict.fromkeys(tuple(row.items()) for row in rows))
