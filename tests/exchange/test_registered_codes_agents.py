"""A UC's code and agent change: one UC with its history, each day told to whom and as it belongs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from audit.trace import trace
from ccee import ledger
from exchange.registry_rules import RULES
from storage.database import Database
from storage.registry import RegistryFault, export_registry, load_registry
from tests.derivation.world import DAY, curve
from tests.exchange.registered import (
    AGENT,
    CODE,
    NEW_CODE,
    OTHER_AGENT,
    PROFILE,
    SHEETS,
    Operator,
    Sheets,
    derived,
    load,
    query,
    read,
)

EARLY = DAY - dt.timedelta(days=10)
CHANGE = DAY - dt.timedelta(days=5)
UCS = SHEETS["ucs"][0]


@pytest.fixture
def delivered(embedded_db: Database, tmp_path: Path) -> Operator:
    """EARLY is delivered, to AGENT under CODE."""
    load(embedded_db, tmp_path, SHEETS)
    read(embedded_db, {"00000001": curve(1)}, EARLY)
    derived(embedded_db, EARLY)
    operator = Operator(embedded_db)
    assert operator.deliver(EARLY).accepted == 1
    return operator


def send_again(operator: Operator, day: dt.date = EARLY, seed: int = 2) -> None:
    """Other readings come for a day, and it is delivered once more."""
    db = operator.db
    with db.connect() as conn:
        conn.execute("DELETE FROM reading_day WHERE day = %s", [day])
    read(db, {"00000001": curve(seed)}, day)
    derived(db, day)
    assert operator.deliver(day).accepted == 1


@pytest.mark.case("E10")
@pytest.mark.req("TR-2a", "X-preflight")
@pytest.mark.parametrize("way", ["timeline", "by hand"])
def test_a_day_goes_to_the_agent_it_had(delivered: Operator, tmp_path: Path, way: str) -> None:
    """E10: the agent changes on the 15th; the 10th is sent again."""
    db = delivered.db
    if way == "timeline":
        agents = [["uc_code", "agent_code", "valid_from", "valid_to"],
                  [CODE, str(AGENT), "", str(CHANGE)], [CODE, str(OTHER_AGENT), str(CHANGE), ""]]  # fmt: skip
        load(db, tmp_path, {"uc_agents": agents})
        assert query(db, "SELECT a.code FROM uc JOIN agent a ON a.id = uc.agent_id") == [(OTHER_AGENT,)]
    else:
        load(db, tmp_path, {"ucs": [UCS, [CODE, "Padaria", str(OTHER_AGENT), ""]]})
    send_again(delivered)
    assert delivered.held(CODE, EARLY)[0] == AGENT
    assert query(db, "SELECT a.code, s.version FROM submission s JOIN agent a ON a.id = s.agent_id "
                     "ORDER BY s.version") == [(AGENT, 1), (AGENT, 2)]  # fmt: skip
    if way == "timeline":
        read(db, {"00000001": curve(3)}, DAY)
        derived(db, DAY)
        assert delivered.deliver(DAY).accepted == 1
        assert delivered.held(CODE, DAY)[0] == OTHER_AGENT
    item = ledger.find(db, CODE, EARLY, 1)
    assert str(AGENT).encode() in ledger.body_of(db, PROFILE, item), "its bytes can be had again"


def test_a_day_sealed_for_the_wrong_agent_is_sent_to_the_right_one(
    delivered: Operator, tmp_path: Path
) -> None:
    agents = [["uc_code", "agent_code", "valid_from", "valid_to"],
              [CODE, str(AGENT), "", str(EARLY)], [CODE, str(OTHER_AGENT), str(EARLY), ""]]  # fmt: skip
    load(delivered.db, tmp_path, {"uc_agents": agents})
    assert delivered.deliver(EARLY).accepted == 1
    assert delivered.held(CODE, EARLY)[0] == OTHER_AGENT
    assert delivered.deliver(EARLY).unchanged == 1


def test_a_day_without_an_agent_waits(delivered: Operator, tmp_path: Path) -> None:
    agents = [["uc_code", "agent_code", "valid_from", "valid_to"], [CODE, str(AGENT), str(DAY), ""]]
    load(delivered.db, tmp_path, {"uc_agents": agents})
    read(delivered.db, {"00000001": curve(2)}, CHANGE)
    derived(delivered.db, CHANGE)
    assert delivered.deliver(CHANGE).sent == 0
    assert query(delivered.db, "SELECT state, cause FROM uc_day_outcome WHERE day = %s", CHANGE) == [
        ("held", "no_agent")
    ]


def test_the_file_cannot_name_two_agents_for_now(embedded_db: Database, tmp_path: Path) -> None:
    agents = [["uc_code", "agent_code", "valid_from"], [CODE, str(OTHER_AGENT), "2026-01-01"]]
    with pytest.raises(RegistryFault, match="uc_agents is 4712"):
        load(embedded_db, tmp_path, {**SHEETS, "uc_agents": agents})


RENAMED: Sheets = {"ucs": [UCS, [NEW_CODE, "Padaria", str(AGENT), CODE]]}
DATED: Sheets = {**RENAMED, "former_codes": [["code", "uc_code", "valid_to"], [CODE, NEW_CODE, str(CHANGE)]]}


@pytest.mark.case("B9")
@pytest.mark.req("TR-2a", "X-trace", "X-preflight")
@pytest.mark.parametrize("sheets", [RENAMED, DATED], ids=["undated", "dated"])
def test_a_new_code_keeps_the_uc_and_its_history(delivered: Operator, tmp_path: Path, sheets: Sheets) -> None:
    """B9: a new code with the old one as alias."""
    db = delivered.db
    load(db, tmp_path, sheets)
    assert query(db, "SELECT code, aliases FROM uc") == [(NEW_CODE, [CODE])]
    assert not load(db, tmp_path, sheets).has_changes
    assert query(db, "SELECT before, after FROM audit WHERE action = 'registry.rename'") == [
        ({"code": CODE}, {"code": NEW_CODE})
    ]
    # Either code finds what was delivered, and its very bytes.
    for code in (CODE, NEW_CODE):
        at = dt.datetime.combine(EARLY, dt.time(10), db.settings.market.tzinfo)
        found = trace(db, PROFILE, code, at)
        assert found.delivery is not None
        assert all(check.is_identical for check in found.checks)
        assert CODE.encode() in ledger.body_of(db, PROFILE, ledger.find(db, code, EARLY))
    # What CCEE has under the old code is corrected there: it would count a day of both twice.
    send_again(delivered)
    assert (NEW_CODE, EARLY) not in delivered.rules.days
    read(db, {"00000001": curve(3)}, DAY)
    derived(db, DAY)
    assert delivered.deliver(DAY).accepted == 1
    assert delivered.held(NEW_CODE, DAY)[0] == AGENT
    late = CHANGE - dt.timedelta(days=1)
    read(db, {"00000001": curve(4)}, late)
    derived(db, late)
    assert delivered.deliver(late).accepted == 1
    assert ((CODE if sheets is DATED else NEW_CODE), late) in delivered.rules.days


def test_codes_come_back_from_an_export(db: Database, embedded_db: Database, tmp_path: Path) -> None:
    load(db, tmp_path, SHEETS)
    load(db, tmp_path, DATED)
    export_registry(db, tmp_path / "out")
    kept = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert str(CHANGE) in kept["former_codes.csv"]
    load_registry(embedded_db, tmp_path / "out", rules=RULES)
    export_registry(embedded_db, tmp_path / "again")
    assert {path.name: path.read_text() for path in (tmp_path / "again").iterdir()} == kept


@pytest.mark.parametrize(
    ("ucs", "words"),
    [
        ([[NEW_CODE, "Nova", "4711", f"{CODE} 000000000000999"], [CODE, "Padaria", "4711", ""]],
         "UC of its own in the file"),
        ([["000000000000777", "Velha", "4711", ""]], "former code of UC"),
        ([[CODE, "Padaria", "4711", "000000000000888"]], "two UCs of the registry"),
        ([["000000000000555", "Nova", "4711", f"{CODE} 000000000000888"]], "two UCs of the registry"),
        ([["000000000000555", "Nova", "4711", "000000000000777"]], "is an alias of"),
    ],
)  # fmt: skip
def test_codes_that_two_ucs_would_have_are_refused(
    embedded_db: Database, tmp_path: Path, ucs: list[list[str]], words: str
) -> None:
    both = [SHEETS["ucs"][0], [CODE, "Padaria", "4711", "000000000000777"],
            ["000000000000888", "Escola", "4711", ""]]  # fmt: skip
    load(embedded_db, tmp_path, {**SHEETS, "ucs": both})
    with pytest.raises(RegistryFault, match=words):
        load(embedded_db, tmp_path, {"ucs": [UCS, *ucs]})


def test_another_sheet_may_use_the_former_code(delivered: Operator, tmp_path: Path) -> None:
    load(delivered.db, tmp_path, RENAMED)
    result = load(delivered.db, tmp_path, {"musd": [["uc_code", "musd_kw"], [CODE, "80"]]})
    assert query(delivered.db, "SELECT musd_kw::int FROM uc_musd") == [(80,)]
    assert any(f"is now {NEW_CODE}" in warning.message for warning in result.warnings)


@pytest.mark.req("TR-8.1")
@pytest.mark.parametrize(
    ("status", "is_sent", "outcome"),
    [
        ("suspended_open", True, ("ready", "")),
        ("suspended", False, ("not_expected", "suspended")),
        ("inactive", False, ("not_expected", "outside_active_period")),
    ],
)
def test_a_suspension_with_an_open_contract_is_sent(
    embedded_db: Database, tmp_path: Path, status: str, is_sent: bool, outcome: tuple[str, str]
) -> None:
    """Zeros of a UC whose supply is cut are measurements while its contract lives (PdC 1.8, 3.68)."""
    statuses = [["uc_code", "status", "valid_from", "valid_to"], [CODE, "active", "2026-01-01", "2026-11-01"],
                [CODE, status, "2026-11-01", ""]]  # fmt: skip
    load(embedded_db, tmp_path, {**SHEETS, "status": statuses})
    read(embedded_db, {"00000001": [0] * 288})
    derived(embedded_db)
    assert query(embedded_db, "SELECT state, cause FROM uc_day_outcome") == [outcome]
    operator = Operator(embedded_db)
    summary = operator.deliver()
    assert (summary.accepted, summary.suspended + summary.not_expected) == ((1, 0) if is_sent else (0, 1))
    if is_sent:
        assert operator.held(CODE) == (AGENT, [0] * 288)
