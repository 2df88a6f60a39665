"""The registry as files: loaded whole or not at all, every error named, written back the same."""

from __future__ import annotations

import csv
import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from faults import OperatorFault
from storage import audit, registry
from storage.database import Database
from storage.registry import RegistryFault, Rules, export_registry, load_registry, snapshot
from storage.registry import files as registry_files
from tests.storage.factory import DAY
from tests.storage.registry_sheets import SHEETS, as_folder, as_workbook


def changed(**sheets: list[list[str]]) -> dict[str, list[list[str]]]:
    return {**SHEETS, **sheets}


def text(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("form", ["workbook", "folder", "semicolons"])
def test_load_is_idempotent_and_export_comes_back_the_same(db: Database, tmp_path: Path, form: str) -> None:
    if form == "workbook":
        path = as_workbook(tmp_path / "registry.xlsx", SHEETS)
    else:
        path = as_folder(tmp_path / "in", SHEETS, ";" if form == "semicolons" else ",")
    first = load_registry(db, path, actor="ana")
    assert {sheet.sheet: sheet.added for sheet in first.sheets} == {
        n: len(rows) - 1 for n, rows in SHEETS.items()
    }
    assert not load_registry(db, path).has_changes
    counts = export_registry(db, tmp_path / "one")
    assert counts["losses"] == 3
    assert not load_registry(db, tmp_path / "one").has_changes
    export_registry(db, tmp_path / "registry2.xlsx")
    assert not load_registry(db, tmp_path / "registry2.xlsx").has_changes
    export_registry(db, tmp_path / "two")
    assert text(tmp_path / "one") == text(tmp_path / "two")
    with db.connect() as conn:
        assert audit.verify(conn).is_whole
        assert conn.execute("SELECT DISTINCT actor, action FROM audit").fetchall() == [
            ("ana", "registry.import")
        ]


def test_an_export_fills_an_empty_database(db: Database, embedded_db: Database, tmp_path: Path) -> None:
    load_registry(db, as_folder(tmp_path / "in", SHEETS))
    export_registry(db, tmp_path / "one.xlsx")
    export_registry(db, tmp_path / "one")
    load_registry(embedded_db, tmp_path / "one.xlsx")
    export_registry(embedded_db, tmp_path / "two")
    assert text(tmp_path / "one") == text(tmp_path / "two")


def test_what_is_stored(db: Database, tmp_path: Path) -> None:
    load_registry(db, as_folder(tmp_path / "in", SHEETS))
    with db.connect() as conn:
        (aliases, cea) = conn.execute("SELECT aliases, cea_date FROM uc WHERE code LIKE '0013%'").fetchone()
        assert (aliases, cea) == (["0123", "456"], dt.date(2026, 10, 1))
        (removed,) = conn.execute("SELECT upper(valid) FROM installation WHERE tp_ratio = 120").fetchone()
        assert removed == dt.datetime(2026, 11, 20, 13, 30, tzinfo=dt.UTC), "market time is -03:00"
        assert conn.execute("SELECT contracted_demand_kw FROM uc_contract").fetchone() == (Decimal("150.5"),)


def test_differences_are_audited_and_the_rest_stays(db: Database, tmp_path: Path) -> None:
    load_registry(db, as_folder(tmp_path / "in", SHEETS))
    losses = [SHEETS["losses"][0], ["P1", "line", "1.2", "2026-01-01", ""]]
    only = as_folder(tmp_path / "later", {"losses": losses})
    (result,) = load_registry(db, only / "losses.csv", actor="bia").sheets
    assert (result.added, result.changed, result.removed) == (0, 1, 2)
    with db.connect() as conn:
        assert conn.execute("SELECT percent FROM point_loss").fetchall() == [(Decimal("1.2"),)]
        assert conn.execute("SELECT count(*) FROM uc").fetchone() == (2,)
        before, after = conn.execute("SELECT before, after FROM audit WHERE actor = 'bia'").fetchone()
    assert [row["percent"] for row in before] == ["1", "2.5", "3"]
    assert [row["percent"] for row in after] == ["1.2"]


def test_dry_run_stores_nothing(db: Database, tmp_path: Path) -> None:
    assert load_registry(db, as_folder(tmp_path / "in", SHEETS), dry_run=True).has_changes
    with db.connect() as conn:
        assert conn.execute("SELECT (SELECT count(*) FROM uc), (SELECT count(*) FROM audit)").fetchone() == (
            0,
            0,
        )


def find(fault: RegistryFault) -> set[tuple[str, int | None, str | None]]:
    return {(issue.source, issue.row, issue.column) for issue in fault.issues if not issue.is_warning}


def test_all_errors_at_once_by_row_and_column_and_nothing_loaded(db: Database, tmp_path: Path) -> None:
    bad = changed(
        agents=[["code", "name", "distributor_code"], ["47x", "Agente", "D1"]],
        status=[
            ["uc_code", "status", "valid_from", "valid_to"],
            ["001347925802810", "ativo", "2026-01-01", ""],
            ["999", "active", "2026-13-01", ""],
            ["", "", "", ""],
            ["000001000000471", "active", "2026-02-01", "2026-01-01"],
        ],
        losses=[
            ["point_code", "kind", "percent"],
            ["P1", "line", "100"],
            ["P9", "line", "-1"],
            ["P9", "line", "1"],
        ],
        meters=[["serial", "model_code", "colour"], ["00012345", "M", "red"]],
        units=[["code"], ["U1"]],
        uc=[["code"], ["1"]],
    )
    path = as_workbook(tmp_path / "registry.xlsx", bad)
    with pytest.raises(RegistryFault) as caught:
        load_registry(db, path)
    assert {
        ("registry.xlsx, sheet agents", 2, "code"),
        ("registry.xlsx, sheet ucs", 2, "agent_code"),
        ("registry.xlsx, sheet status", 2, "status"),
        ("registry.xlsx, sheet status", 3, "valid_from"),
        ("registry.xlsx, sheet status", 5, "valid_to"),
        ("registry.xlsx, sheet losses", 2, "percent"),
        ("registry.xlsx, sheet losses", 3, "percent"),
        ("registry.xlsx, sheet losses", 4, "point_code"),
        ("registry.xlsx, sheet meters", 1, "colour"),
        ("registry.xlsx, sheet units", 1, "url"),
        ("registry.xlsx, sheet uc", None, None),
    } <= find(caught.value)
    assert all(issue.message and issue.remedy for issue in caught.value.issues)
    assert "nothing was loaded" in str(caught.value)
    with db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM distributor").fetchone() == (0,)


@pytest.mark.parametrize(
    ("sheet", "row", "expected"),
    [
        (
            "losses",
            ["P1", "transformation", "4", "2026-06-01", "2026-07-01"],
            ("losses.csv", 5, "valid_from"),
        ),
        ("status", ["001347925802810", "inactive", "2027-01-01", ""], ("status.csv", 5, "valid_from")),
        ("meters", ["00012345", "M"], ("meters.csv", 5, "serial")),
        (
            "installations",
            ["00012347", "P2", "", "main", "9", "1250", "1", "1", "true", "2026-12-01", ""],
            ("installations.csv", 5, "valid_from"),
        ),
    ],
)
def test_two_at_once_is_named_by_row(
    embedded_db: Database, tmp_path: Path, sheet: str, row: list[str], expected: tuple
) -> None:
    with pytest.raises(RegistryFault) as caught:
        load_registry(embedded_db, as_folder(tmp_path / "in", changed(**{sheet: [*SHEETS[sheet], row]})))
    assert find(caught.value) == {expected}


def test_overlap_with_what_is_stored(db: Database, tmp_path: Path) -> None:
    """A meter that the file does not name is still at the point."""
    load_registry(db, as_folder(tmp_path / "in", SHEETS))
    more = {
        "meters": [["serial", "model_code"], ["00012399", "M"]],
        "installations": [
            SHEETS["installations"][0],
            ["00012399", "P1", "", "main", "9", "1250", "1", "1", "true", "2026-12-01", ""],
        ],
    }
    with pytest.raises(RegistryFault, match="00012346"):
        load_registry(db, as_folder(tmp_path / "more", more))


def test_rules_of_the_caller(embedded_db: Database, tmp_path: Path) -> None:
    rules = Rules(
        known={"estimation.strategy": {"chain-e"}},
        doubtful={"ucs.code": lambda code: "check digits do not fit" if code.endswith("1") else None},
    )
    with pytest.raises(RegistryFault) as caught:
        load_registry(embedded_db, as_folder(tmp_path / "in", SHEETS), rules=rules)
    assert find(caught.value) == {("estimation.csv", 2, "strategy")}
    fine = Rules(doubtful=rules.doubtful)
    (warning,) = load_registry(embedded_db, tmp_path / "in", rules=fine).warnings
    assert (warning.source, warning.row, warning.column) == ("ucs.csv", 3, "code")


def test_one_row_per_uc(db: Database, tmp_path: Path) -> None:
    """The simple case: one file, one row per UC; what repeats (agent, model) must repeat the same."""
    common = {
        "agent_code": "4711", "agent_name": "Agente", "distributor_code": "D1", "distributor_name": "D",
        "status": "active", "musd_kw": "100", "meter_model": "M", "meter_profile": "default",
        "pulse_energy_num": "9", "pulse_energy_den": "1250", "valid_from": "2026-01-01",
        "line_loss_percent": "1.5",
    }  # fmt: skip
    rows = [
        {
            **common,
            "uc_code": f"{n:015d}",
            "uc_name": f"UC {n}",
            "point_code": f"P{n}",
            "meter_serial": f"{n:08d}",
        }
        for n in (1, 2)
    ]
    path = tmp_path / "clientes.csv"

    def write(rows: list[dict[str, str]]) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write(rows)
    result = load_registry(db, path)
    assert {sheet.sheet: sheet.added for sheet in result.sheets if sheet.added == 1} == dict.fromkeys(
        ["distributors", "agents", "meter_models"], 1
    )
    assert not load_registry(db, path).has_changes
    shot = snapshot(db, DAY, DAY)
    assert shot.losses["percent"].to_list() == ["1.5", "1.5"]
    rows[1]["agent_name"] = "Outro"
    rows[1]["pulse_energy_den"] = "zero"
    write(rows)
    with pytest.raises(RegistryFault) as caught:
        load_registry(db, path)
    assert find(caught.value) == {("clientes.csv", 3, "agent_code"), ("clientes.csv", 3, "pulse_energy_den")}


@pytest.mark.parametrize("name", ["nothing.xlsx", "registry.pdf", "broken.xlsx", "latin.csv"])
def test_files_that_are_no_registry(embedded_db: Database, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name != "nothing.xlsx":
        path.write_bytes("não".encode("latin-1"))
    with pytest.raises(OperatorFault) as caught:
        load_registry(embedded_db, path)
    assert name in caught.value.where
    assert caught.value.remedy


def test_template_has_every_sheet_and_loads(embedded_db: Database, tmp_path: Path) -> None:
    registry_files.write(tmp_path / "template.xlsx", {}, dt.UTC)
    assert load_registry(embedded_db, tmp_path / "template.xlsx").sheets
    assert not load_registry(embedded_db, tmp_path / "template.xlsx").has_changes


@pytest.mark.req("TR-2c")
def test_snapshot_has_the_facts_of_each_day(db: Database, tmp_path: Path) -> None:
    load_registry(db, as_folder(tmp_path / "in", SHEETS))
    shot = snapshot(db, dt.date(2026, 10, 31), dt.date(2026, 11, 1))
    assert shot.uc_days.filter(pl.col("uc_code") == "001347925802810").select(
        "day", "status", "musd_kw", "strategy", "agent_code", "tariff_subgroup"
    ).rows() == [
        (dt.date(2026, 10, 31), "captive", Decimal("150.5"), "ccee-pdc-1.8-r1", 4711, "A4"),
        (dt.date(2026, 11, 1), "active", Decimal("150.5"), "ccee-pdc-1.8-r1", 4711, "A4"),
    ]
    assert shot.uc_days.filter(pl.col("uc_code") == "000001000000471")["musd_kw"].to_list() == [None, None]
    assert shot.losses.select("kind", "percent", "valid_to").rows() == [
        ("line", "1", None),
        ("transformation", "2.5", dt.datetime(2026, 11, 15, 3, tzinfo=dt.UTC)),
    ], "losses that do not hold in these days are left out"
    day = snapshot(db, DAY, DAY)
    assert day.losses["percent"].to_list() == ["1", "3"]
    assert day.installations.select("meter_serial", "role", "tp_ratio", "tc_ratio").rows() == [
        ("00012345", "main", "120", "20"),
        ("00012346", "main", "1", "1"),
        ("00012347", "backup", "1", "1"),
    ]
    parts = [snapshot(db, DAY, DAY, shard, 2).uc_days for shard in (0, 1)]
    assert sorted(part.height for part in parts) == [1, 1]


def test_a_whole_distributor(embedded_db: Database, tmp_path: Path) -> None:
    """Thousands of UCs go in at once, and the snapshot does not join them one by one."""
    count = 4_000
    numbers = [f"{n:08d}" for n in range(count)]
    sheets = {
        **{name: SHEETS[name] for name in ("distributors", "agents", "meter_models")},
        "ucs": [["code", "name", "agent_code"], *([n, f"UC {n}", "4711"] for n in numbers)],
        "status": [["uc_code", "status", "valid_from"], *([n, "active", "2026-01-01"] for n in numbers)],
        "points": [["code", "uc_code"], *([n, n] for n in numbers)],
        "meters": [["serial", "model_code"], *([n, "M"] for n in numbers)],
        "installations": [
            ["meter_serial", "point_code", "role", "pulse_energy_num", "pulse_energy_den", "valid_from"],
            *([n, n, "main", "9", "1250", "2026-01-01"] for n in numbers),
        ],
    }
    path = as_folder(tmp_path / "in", sheets)
    assert all(sheet.added for sheet in load_registry(embedded_db, path).sheets)
    assert not load_registry(embedded_db, path).has_changes
    assert registry.snapshot(embedded_db, DAY, DAY).uc_days.height == count
