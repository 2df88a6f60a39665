"""The registry before a month opens: each finding with its place, and what CCEE would do with it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from ccee.profile import load_profile
from closing.preflight import Finding, Known, Preflight, Severity, preflight
from exchange.registry_rules import MeterProfiles, fault_of_url
from storage.database import Database
from tests.derivation.world import curve
from tests.exchange.registered import AGENT, CODE, SHEETS, Operator, Sheets, derived, load, read
from tests.pipelines.cli.command import smf
from vee.calendars import load_calendars
from vee.layers.estimation import STRATEGIES

pytestmark = pytest.mark.req("X-preflight")

MONTH = dt.date(2026, 11, 1)
KNOWN = Known(MeterProfiles(), STRATEGIES, fault_of_url, load_profile().musd.default_kw)
HEADINGS = {name: rows[0] for name, rows in SHEETS.items()}
# Nothing to find in it.
FLAWLESS: Sheets = {
    **SHEETS,
    "contracts": [["uc_code", "tariff_subgroup", "contracted_demand_kw"], [CODE, "A4", "900"]],
    "losses": [["point_code", "kind", "percent"], ["P1", "transformation", "2.5"]],
    "schedules": [["point_code", "kind"], ["P1", "daily"]],
    "units": [["code", "url"], ["U1", "tcp://10.0.0.7:9000"]],
    "installations": [[*HEADINGS["installations"], "unit_code"], [*SHEETS["installations"][1], "U1"]],
}


def looked_at(db: Database) -> Preflight:
    return preflight(db, MONTH, load_calendars(), KNOWN)


def found(db: Database) -> dict[str, Finding]:
    return {item.code: item for item in looked_at(db).findings}


def test_a_registry_without_a_flaw_has_nothing_to_tell(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, tmp_path, FLAWLESS)
    result = looked_at(embedded_db)
    assert (result.ucs, result.findings, result.needs_attention) == (1, (), False)
    assert result.register_closes == dt.date(2026, 12, 3), "MS+3du"


def installed(*cells: str) -> Sheets:
    return {"installations": [FLAWLESS["installations"][0], list(cells)]}


@pytest.mark.parametrize(
    ("sheets", "code", "severity", "where"),
    [
        ({"musd": [["uc_code", "musd_kw"], [CODE, ""]]}, "musd_absent", "attention", CODE),
        ({"musd": [["uc_code", "musd_kw"], [CODE, "500"]]}, "musd_default", "attention", CODE),
        ({"musd": [["uc_code", "musd_kw"], [CODE, "800"]]}, "musd_below_demand", "attention", CODE),
        ({"musd": [["uc_code", "musd_kw", "valid_to"], [CODE, "1000", "2026-11-10"]]}, "musd_absent",
         "attention", CODE),
        ({"contracts": [["uc_code", "tariff_subgroup", "valid_to"], [CODE, "A4", "2026-11-10"]]},
         "no_contract", "attention", CODE),
        ({"uc_agents": [["uc_code", "agent_code", "valid_to"], [CODE, str(AGENT), "2026-11-20"]]},
         "no_agent", "blocks", CODE),
        ({"points": [["code", "uc_code", "sign"], ["P1", CODE, "subtract"]]}, "no_point", "blocks", CODE),
        ({"points": [["code", "uc_code"], ["P1", CODE], ["P9", CODE]]}, "no_meter", "blocks", "P9"),
        ({"losses": [["point_code", "kind", "percent"], ["P1", "line", "0.025"]]}, "odd_loss",
         "attention", "P1"),
        (installed("00000001", "P1", "main", "1", "100", "2026-01-01", "2026-11-20 10:00", "U1"),
         "meter_gap", "attention", "P1"),
        (installed("00000001", "P1", "main", "1", "100", "2026-01-01", "", ""), "no_unit", "attention",
         "00000001"),
        ({"status": [["uc_code", "status", "valid_to"], [CODE, "active", "2026-10-01"]]}, "no_status",
         "attention", CODE),
        ({"status": [["uc_code", "status", "valid_from", "valid_to"], [CODE, "active", "", "2026-11-10"],
                     [CODE, "captive", "2026-11-10", ""]]}, "captive_in_mid_month", "attention", CODE),
        ({"ucs": [["code", "name", "agent_code", "cea_date"], [CODE, "Padaria", str(AGENT), "2025-12-01"]]},
         "late_inclusion", "attention", CODE),
        ({"ucs": [["code", "name", "agent_code", "aliases"], ["001347925802811", "P", str(AGENT), CODE]]},
         "check_digits", "attention", "001347925802811"),
        ({"ucs": [["code", "name", "agent_code", "aliases"], ["47925802", "P", str(AGENT), CODE]]},
         "code_length", "attention", "47925802"),
    ],
)  # fmt: skip
def test_each_flaw_is_named_with_its_place_and_its_fate(
    embedded_db: Database, tmp_path: Path, sheets: Sheets, code: str, severity: str, where: str
) -> None:
    load(embedded_db, tmp_path, FLAWLESS)
    load(embedded_db, tmp_path, sheets)
    result = looked_at(embedded_db)
    item = {item.code: item for item in result.findings}[code]
    assert (item.severity, where in item.where) == (severity, True)
    assert item.what
    assert item.ccee
    assert item.remedy
    assert result.needs_attention


def test_what_only_a_hand_can_have_written_is_found(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, tmp_path, FLAWLESS)
    with embedded_db.connect() as conn:
        conn.execute("UPDATE meter_model SET profile = 'nobody'")
        conn.execute("UPDATE unit SET url = 'tcp://10.0.0.7'")
        conn.execute(
            "INSERT INTO uc_estimation (uc_id, valid, strategy) SELECT id, '[2026-01-01,)', 'guess' FROM uc"
        )
    assert {"unknown_model", "bad_url", "unknown_strategy"} == {
        item.code for item in looked_at(embedded_db).findings if item.severity is Severity.BLOCKS
    }


def test_a_constant_that_the_meter_contradicts(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, tmp_path, FLAWLESS)
    told = {"columns": [{"channel": 1, "constant": "10", "refused": None}], "ratio": None}
    with embedded_db.connect() as conn:
        conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome, "
            "statement) SELECT id, 't', 'read', 'nbr14522', '', '2026-11-02Z', 'complete', %s FROM meter "
            "WHERE serial = '00000001'",
            [json.dumps(told)],
        )
    assert not looked_at(embedded_db).findings, "1/100 kWh is 10 Wh"

    def says(**changes: object) -> dict[str, Finding]:
        with embedded_db.connect() as conn:
            conn.execute("UPDATE session SET statement = %s", [json.dumps(told | changes)])
        return found(embedded_db)

    other = says(columns=[{"channel": 1, "constant": "20", "refused": None}])
    assert "the meter said 1/50 on 2026-11-0" in other["constant"].what
    assert "accept-constant 00000001" in other["constant"].remedy
    assert "the meter said 40" in says(ratio="40")["ratio"].what
    # Only the plate tells the constant of a serial output.
    assert says(columns=[]).keys() == {"constant_unstated"}


def test_what_it_says_of_ccee_is_what_the_stand_in_does(embedded_db: Database, tmp_path: Path) -> None:
    """A unit whose MUSD nobody declared: CCEE takes its default, and zeroes hours above 125 % of it."""
    load(embedded_db, tmp_path, {**FLAWLESS, "musd": [HEADINGS["musd"]]})
    assert "takes 500 kW" in found(embedded_db)["musd_absent"].ccee
    read(embedded_db, {"00000001": [5800 + (value or 0) for value in curve(5)]})
    derived(embedded_db)
    operator = Operator(embedded_db)
    assert operator.deliver().accepted == 1
    ((_, stored),) = operator.rules.days.items()
    assert len(stored.rejected) == 24, "720 kWh an hour, with losses 738, above 625"


def test_the_command_ends_with_one_where_somebody_must_look(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, tmp_path, FLAWLESS)
    url = embedded_db.url
    fine = smf("registry", "check", "--month", "2026-11", "--json", url=url, cwd=tmp_path)
    assert (fine.returncode, json.loads(fine.stdout)["findings"]) == (0, [])
    load(embedded_db, tmp_path, {"musd": [["uc_code", "musd_kw"], [CODE, ""]]})
    bad = smf("registry", "check", "--month", "2026-11", "--json", url=url, cwd=tmp_path)
    assert bad.returncode == 1, bad.stderr
    (item,) = json.loads(bad.stdout)["findings"]
    assert (item["code"], item["severity"], item["where"]) == ("musd_absent", "attention", f"UC {CODE}")
    shown = smf("registry", "check", "--month", "2026-11", url=url, cwd=tmp_path)
    assert "1 UCs are submitted" in shown.stdout
    assert smf("registry", "check", "--month", "soon", url=url, cwd=tmp_path).returncode == 11
