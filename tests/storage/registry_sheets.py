"""The sheets of a small registry, as folder and as workbook."""

from __future__ import annotations

import csv
from pathlib import Path

import xlsxwriter

SHEETS: dict[str, list[list[str]]] = {
    "distributors": [["code", "name", "tax_id"], ["D1", "Distribuidora Um", "12345678000199"]],
    "agents": [["code", "name", "distributor_code"], ["4711", "Agente Conectado", "D1"]],
    "customers": [["code", "name"], ["C1", "Padaria São João"]],
    "ucs": [
        ["code", "name", "agent_code", "customer_code", "cea_date", "aliases"],
        ["001347925802810", "Padaria", "4711", "C1", "01/10/2026", "0123; 456"],
        ["000001000000471", "Escola", "4711", "", "", ""],
    ],
    "status": [
        ["uc_code", "status", "valid_from", "valid_to"],
        ["001347925802810", "captive", "", "2026-11-01"],
        ["001347925802810", "active", "2026-11-01", ""],
        ["000001000000471", "suspended", "2026-01-01", ""],
    ],
    "contracts": [
        ["uc_code", "tariff_subgroup", "contracted_demand_kw", "supply_voltage_kv", "valid_from"],
        ["001347925802810", "A4", "150,50", "13.8", "2026-01-01"],
    ],
    "musd": [["uc_code", "musd_kw", "confirmed_on"], ["001347925802810", "150.5", "2026-11-02"]],
    "estimation": [["uc_code", "strategy"], ["001347925802810", "ccee-pdc-1.8-r1"]],
    "points": [["code", "uc_code"], ["P1", "001347925802810"], ["P2", "000001000000471"]],
    "losses": [
        ["point_code", "kind", "percent", "valid_from", "valid_to"],
        ["P1", "transformation", "2.5", "2026-01-01", "2026-11-15"],
        ["P1", "transformation", "3.00", "2026-11-15", ""],
        ["P1", "line", "1", "2026-01-01", ""],
    ],
    "schedules": [["point_code", "kind"], ["P1", "quarter_hourly"]],
    "meter_models": [["code", "maker", "profile"], ["M", "Fabricante", "default"]],
    "meters": [["serial", "model_code"], ["00012345", "M"], ["00012346", "M"], ["00012347", "M"]],
    "units": [["code", "url", "cell"], ["U1", "tcp://127.0.0.1:9000", "cell-1"]],
    "installations": [
        ["meter_serial", "point_code", "unit_code", "role", "pulse_energy_num", "pulse_energy_den",
         "tp_ratio", "tc_ratio", "constant_includes_ratios", "valid_from", "valid_to"],
        ["00012345", "P1", "U1", "main", "9", "1250", "120", "20", "false", "2026-01-01", "2026-11-20 10:30"],
        ["00012346", "P1", "U1", "main", "9", "1250", "1", "1", "true", "2026-11-20 10:30", ""],
        ["00012347", "P1", "", "backup", "9", "1250", "1", "1", "sim", "2026-01-01", ""],
    ],
}  # fmt: skip


def as_folder(path: Path, sheets: dict[str, list[list[str]]], delimiter: str = ",") -> Path:
    path.mkdir(exist_ok=True)
    for name, rows in sheets.items():
        with (path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def as_workbook(path: Path, sheets: dict[str, list[list[str]]]) -> Path:
    with xlsxwriter.Workbook(path) as book:
        for name, rows in sheets.items():
            page = book.add_worksheet(name)
            for number, row in enumerate(rows):
                page.write_row(number, 0, row)
    return path
