"""Delivery runs against the stand-in: nothing lost, nothing twice, nothing overtaken.

Over 500 lines: one stand-in and one fleet of days for every way a delivery can break.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from ccee import delivery, ledger
from ccee.client import CceeClient, Credentials
from ccee.counting import month_view
from ccee.profile import load_profile
from closing.freeze import freeze_month
from faults import DeveloperFault, OperatorFault
from tests.ccee.conftest import (
    DAY,
    NOW,
    UCS,
    control,
    deliver,
    derive,
    month_of,
    quick,
    register,
    rows,
)
from vee.calendars import load_calendars

STATES = "SELECT version, state FROM submission_state ORDER BY uc_id, day, version"


def states(db):
    return rows(db, STATES)


@pytest.mark.req("TR-2a", "TR-2g", "X-trace")
def test_a_day_is_delivered_once_and_every_receipt_is_kept(db, standin):
    control(standin, reply_mode="created201_entity")
    ids = register(db)
    for number, uc_id in enumerate(ids.values()):
        derive(db, uc_id, values=1000 + number, adjusted={3})
    summary = deliver(db, standin)
    assert (summary.planned, summary.sent, summary.accepted, summary.receipts) == (6, 6, 6, 6)
    assert states(db) == [(1, "aceito")] * 6
    kept = rows(
        db,
        "SELECT u.code, t.http_status, t.receipt, t.reply_body, t.reply_headers FROM submission_attempt t "
        "JOIN submission s ON s.id = t.submission_id JOIN uc u ON u.id = s.uc_id ORDER BY u.code",
    )
    for code, status, receipt, body, headers in kept:
        assert status == 201
        assert receipt == json.loads(body)["id"]
        assert json.loads(body)["codigoUnidadeConsumidora"] == code
        assert headers["content-type"] == "application/json"

    again = deliver(db, standin)
    assert (again.planned, again.sent, again.unchanged) == (0, 0, 6)
    assert again.sentence() == "nothing to send: 6 UC-days are delivered already, nothing was sent twice"
    assert control(standin)["sends"] == 6


@pytest.mark.req("X-trace")
def test_the_exact_bytes_of_any_version_can_be_had_again(embedded_db, standin):
    db, profile = embedded_db, load_profile()
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id, values=range(288))
    deliver(db, standin)
    derive(db, uc_id, values=range(1, 289), version=2)
    summary = deliver(db, standin)
    assert summary.planned == 1
    for version, first in ((1, 0), (2, 1)):
        item = ledger.find(db, UCS[0], DAY, version)
        body = json.loads(ledger.body_of(db, profile, item), parse_float=Decimal)
        assert body["horas"][0]["medicoes"][0]["consumo"] == Decimal(first).scaleb(-3)
    assert ledger.find(db, UCS[0], DAY).version == 2
    with pytest.raises(OperatorFault, match="no version 3"):
        ledger.find(db, UCS[0], DAY, 3)
    # A sealed series that was changed behind the ledger's back is found out.
    with db.connect() as conn:
        conn.execute("UPDATE series_day SET numerators[1] = 77 WHERE version = 2")
    with pytest.raises(DeveloperFault, match="no longer gives the bytes"):
        ledger.body_of(db, profile, ledger.find(db, UCS[0], DAY))


def test_content_decides_about_sending_again(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id, values=5)
    assert deliver(db, standin).accepted == 1
    # Another version of the series with the same values: nothing new for CCEE.
    derive(db, uc_id, values=5, version=2)
    summary = deliver(db, standin)
    assert (summary.sent, summary.unchanged) == (0, 1)
    # The same values, one of them estimated now: that is another content.
    derive(db, uc_id, values=5, version=3, adjusted={7})
    assert deliver(db, standin).accepted == 1
    assert rows(db, "SELECT version, series_version, cause FROM submission ORDER BY version") == [
        (1, 1, "first"),
        (2, 3, "content_changed"),
    ]


@pytest.mark.req("TR-2a")
def test_what_is_not_ready_suspended_or_not_expected_is_not_sent(embedded_db, standin):
    db = embedded_db
    ids = list(register(db).values())
    derive(db, ids[0], state="incomplete", cause="memory_gap", values=[None] + [1] * 287)
    derive(db, ids[1], state="held", cause="held_conflict")
    derive(db, ids[2], state="not_expected")
    derive(db, ids[3])
    derive(db, ids[4])
    derive(db, ids[5])
    with db.connect() as conn:
        conn.execute("UPDATE uc_status SET status = 'suspended' WHERE uc_id = %s", [ids[3]])
        conn.execute("DELETE FROM uc_status WHERE uc_id = %s", [ids[5]])
    summary = deliver(db, standin)
    assert (summary.not_ready, summary.held, summary.not_expected, summary.suspended) == (1, 1, 1, 2)
    assert summary.accepted == 1
    assert list(standin.operator.days) == [(UCS[4], DAY)]


def test_a_partial_day_goes_only_as_the_profile_allows(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id, state="incomplete", cause="memory_gap", values=[None] + [1000] * 287)
    control(standin, allow_partial_day=True)
    base = load_profile()
    partial = replace(base, send=replace(base.send, allow_partial_day=True))
    assert deliver(db, standin).sent == 0
    assert deliver(db, standin, profile=partial).accepted == 1
    counted = month_of(standin, UCS[0])
    assert counted["totalKwh"] == "276.000"
    assert [hour["situacao"] for hour in counted["horas"] if hour["dia"] == "2026-11-20"][:2] == [
        "AUSENTE",
        "CONSISTIDA",
    ]
    sealed = ledger.find(db, UCS[0], DAY)
    body = ledger.body_of(db, base, sealed)
    assert hashlib.sha256(body).digest() == sealed.body_sha256, "whatever may be sent now"


def test_a_partial_day_in_doubt_waits_while_the_profile_forbids_it(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id, state="incomplete", cause="memory_gap", values=[None] + [1000] * 287)
    control(standin, allow_partial_day=True, failures=[{"kind": "drop_after"}])
    partial = quick(max_attempts=1)
    partial = replace(partial, send=replace(partial.send, allow_partial_day=True))
    deliver(db, standin, profile=partial)
    summary = deliver(db, standin)
    assert (summary.sent, len(summary.problems)) == (0, 1)
    assert "send.allow_partial_day does not let through now" in summary.problems[0]
    assert states(db) == [(1, "resultado_desconhecido")]
    assert deliver(db, standin, profile=partial).accepted == 1


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_an_unknown_outcome_makes_no_second_version(db, standin, kind):
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id)
    control(standin, failures=[{"kind": kind, "count": 2}])
    summary = deliver(db, standin, profile=quick(max_attempts=2))
    assert (summary.unknown, summary.accepted) == (1, 0)
    assert states(db) == [(1, "resultado_desconhecido")]
    # Newer content arrives while the old one is in doubt: first the old bytes again, then the new version.
    derive(db, uc_id, values=2000, version=2)
    sent = []
    store = standin.operator.store
    standin.operator.store = lambda agent, content: sent.append(content) or store(agent, content)
    summary = deliver(db, standin)
    assert (summary.resent, summary.planned, summary.accepted) == (1, 1, 2)
    assert states(db) == [(1, "aceito"), (2, "aceito")]
    assert sent == [
        ledger.body_of(db, load_profile(), ledger.find(db, UCS[0], DAY, version)) for version in (1, 2)
    ]
    assert standin.operator.days[UCS[0], DAY].hour_kwh(1) == 24


def test_newer_content_waits_while_the_doubt_lasts(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id)
    control(standin, failures=[{"kind": "drop_after", "count": 99}])
    deliver(db, standin, profile=quick(max_attempts=1))
    derive(db, uc_id, values=2000, version=2)
    deliver(db, standin, profile=quick(max_attempts=1))
    assert states(db) == [(1, "resultado_desconhecido")]
    # A failure known for sure does not settle what an earlier try may have done.
    control(standin, failures=[{"kind": "status", "status": 503, "count": 99}])
    deliver(db, standin, profile=quick(max_attempts=1))
    assert states(db) == [(1, "resultado_desconhecido")]


def test_a_known_failure_is_tried_again_as_the_same_version(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id)
    control(standin, failures=[{"kind": "status", "status": 503, "count": 2}])
    assert deliver(db, standin, profile=quick(max_attempts=2)).transient == 1
    assert states(db) == [(1, "falha_transitoria")]
    summary = deliver(db, standin)
    assert (summary.planned, summary.resent, summary.accepted) == (0, 1, 1)
    assert [row[0] for row in rows(db, "SELECT attempt FROM submission_attempt ORDER BY attempt")] == [
        1,
        2,
        3,
    ]


@pytest.mark.req("TR-2g")
def test_a_refused_body_waits_for_other_data_and_the_agent_is_told(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    standin.operator.units.pop(UCS[0])
    derive(db, uc_id)
    assert deliver(db, standin).rejected == 1
    assert states(db) == [(1, "rejeitado_dado")]
    summary = deliver(db, standin)
    assert (summary.sent, summary.refused) == (0, 1)
    ((subject, body),) = rows(db, "SELECT subject, body FROM notification")
    assert "recusou" in subject
    assert "ERR_MIGRACAO_CONCLUIDA_NAO_ENCONTRADA" in body
    # Another version of the series that says the same is as refused.
    derive(db, uc_id, version=2)
    summary = deliver(db, standin)
    assert (summary.sent, summary.unchanged) == (0, 1)
    derive(db, uc_id, values=7, version=3)
    assert deliver(db, standin).planned == 1


@pytest.mark.req("TR-2f")
def test_hours_above_the_limit_are_sent_and_the_agent_is_told_once(db, standin):
    uc_id = register(db)[UCS[0]]
    # 37.5 kWh is the limit of 30 kW; hour 3 has exactly that, hour 10 has 12 Wh more.
    values = [1000] * 288
    values[24:36] = [3125] * 12
    values[108:120] = [3126] * 12
    derive(db, uc_id, values=values)
    summary = deliver(db, standin)
    assert (summary.accepted, summary.musd_hours, summary.notices) == (1, 1, 1)
    ((kind, subject, body, day),) = rows(db, "SELECT kind, subject, body, day FROM notification")
    assert kind == "ccee_musd"
    assert subject == f"UC {UCS[0]}: consumo acima de 125% do MUSD em 20/11/2026"
    assert "hora 10: 37,512 kWh" in body
    assert "hora 3" not in body
    assert "limite de 37,5 kWh" in body
    assert "MUSD cadastrado de 30 kW" in body
    assert "até 03/12/2026" in body
    assert day == DAY
    assert deliver(db, standin).notices == 0
    counted = month_of(standin, UCS[0])
    assert counted["rejeitadoKwh"] == "37.512"
    assert counted == month_view(db, load_profile(), UCS[0], date(2026, 11, 1))


@pytest.mark.req("TR-2f")
def test_a_changed_musd_sends_the_same_bytes_again(embedded_db, standin):
    db = embedded_db
    ids = register(db)
    derive(db, ids[UCS[0]], values=4000)
    derive(db, ids[UCS[1]], values=1000)
    deliver(db, standin)
    assert month_of(standin, UCS[0])["horasRejeitadas"] == 24
    control(standin, musd={"uc": UCS[0], "month": "2026-11", "kw": 50})
    with db.connect() as conn:
        conn.execute("UPDATE uc_musd SET musd_kw = 50")
        conn.execute("DELETE FROM musd_hour")
    summary = deliver(db, standin)
    assert (summary.planned, summary.accepted) == (1, 1)
    assert rows(db, "SELECT uc_id, version, cause FROM submission WHERE version > 1") == [
        (ids[UCS[0]], 2, "musd_changed")
    ]
    assert month_of(standin, UCS[0])["horasRejeitadas"] == 0
    assert deliver(db, standin).sent == 0


@pytest.mark.req("TR-2f")
def test_a_unit_without_a_musd_has_ccees_until_it_is_told_its_own(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    # 720 kWh an hour, above 125% of CCEE's 500 kW.
    derive(db, uc_id, values=60_000, musd_kw=500)
    with db.connect() as conn:
        conn.execute("DELETE FROM uc_musd")
    assert deliver(db, standin).accepted == 1
    assert deliver(db, standin).sent == 0
    with db.connect() as conn:
        conn.execute("INSERT INTO uc_musd VALUES (%s, '[2025-01-01,)', 600, NULL)", [uc_id])
        conn.execute("DELETE FROM musd_hour")
    assert deliver(db, standin).accepted == 1
    assert rows(db, "SELECT version, cause FROM submission ORDER BY version") == [
        (1, "first"),
        (2, "musd_changed"),
    ]


@pytest.mark.req("TR-2f")
def test_a_musd_that_is_taken_back_gives_way_to_ccees(embedded_db, standin):
    db = embedded_db
    derive(db, register(db)[UCS[0]], values=4000)
    assert deliver(db, standin).accepted == 1
    with db.connect() as conn:
        conn.execute("DELETE FROM uc_musd")
        conn.execute("DELETE FROM musd_hour")
    assert deliver(db, standin).accepted == 1
    assert deliver(db, standin).sent == 0


def test_a_day_can_be_held_for_a_decision(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id, values=4000)
    base = load_profile()
    holding = replace(base, musd=replace(base.musd, on_violation="hold_day"))
    summary = deliver(db, standin, profile=holding)
    assert (summary.sent, summary.held, summary.notices) == (0, 1, 1)
    assert "retido" in rows(db, "SELECT body FROM notification")[0][0]


def test_a_body_refused_for_musd_has_its_own_state(embedded_db, standin):
    db = embedded_db
    uc_id = register(db)[UCS[0]]
    derive(db, uc_id, values=4000)
    control(standin, musd_mode="refuse")
    assert deliver(db, standin).rejected == 1
    assert states(db) == [(1, "rejeitado_musd")]
    control(standin, musd={"uc": UCS[0], "month": "2026-11", "kw": 50})
    with db.connect() as conn:
        conn.execute("UPDATE uc_musd SET musd_kw = 50")
    assert deliver(db, standin).accepted == 1


@pytest.mark.parametrize(("polls", "state"), [(1, "aceito"), (99, "em_processamento")])
def test_tickets_are_followed(embedded_db, standin, polls, state):
    db = embedded_db
    base = quick()
    ticketed = replace(base, protocol=replace(base.protocol, mode="ticket", status_path="/__protocolo/{id}"))
    control(standin, reply_mode="accepted202_ticket", ticket_polls=polls)
    derive(db, register(db)[UCS[0]])
    deliver(db, standin, profile=ticketed)
    assert states(db) == [(1, state)]
    if state == "em_processamento":
        # Newer content waits for it.
        derive(db, rows(db, "SELECT id FROM uc ORDER BY id")[0][0], values=3, version=2)
        summary = deliver(db, standin, profile=ticketed)
        assert (summary.sent, summary.processing) == (0, 1)
        standin.operator.by_entity[rows(db, "SELECT receipt FROM submission_attempt")[0][0]].polls_left = 0
        summary = deliver(db, standin, profile=ticketed)
        assert summary.accepted == 1
        assert [version for version, _ in states(db)] == [1, 2]


@pytest.mark.req("TR-2d")
def test_a_closed_month_is_not_sent_and_its_days_are_settled(embedded_db, standin):
    db, profile, calendars = embedded_db, load_profile(), load_calendars()
    ids = register(db)
    derive(db, ids[UCS[0]])
    # 23:59 of the closing day is in time.
    assert deliver(db, standin, now=datetime(2026, 12, 10, 2, 59, tzinfo=UTC)).accepted == 1
    derive(db, ids[UCS[1]])
    control(standin, failures=[{"kind": "status", "status": 503, "count": 9}])
    deliver(db, standin, profile=quick(max_attempts=1))
    derive(db, ids[UCS[2]])
    with pytest.raises(OperatorFault, match="open until 2026-12-09"):
        freeze_month(db, DAY, profile, calendars, now=datetime(2026, 12, 10, 2, tzinfo=UTC), run_id="early")
    after = datetime(2026, 12, 10, 3, tzinfo=UTC)
    summary = deliver(db, standin, now=after)
    assert (summary.sent, summary.after_deadline) == (0, 2)
    # All days of the units in the market, whatever was derived or told.
    for is_new in (True, False):
        frozen = freeze_month(db, DAY, profile, calendars, now=after, run_id="late")
        assert (frozen.final, frozen.lost, frozen.is_new) == (1, 30 * len(UCS) - 1, is_new)
    assert states(db) == [(1, "definitivo"), (1, "perdido")]
    assert (
        "a CCEE não aceitou 179 dias de UC"
        in rows(db, "SELECT body FROM notification WHERE kind = 'ccee_mes_perdido'")[0][0]
    )
    assert deliver(db, standin, now=after).after_deadline == 2
    derive(db, ids[UCS[3]])
    late = replace(profile, deadline=replace(profile.deadline, send_after_deadline=True))
    summary = deliver(db, standin, now=after, profile=late)
    assert (states(db)[-1], summary.after_deadline) == ((1, "aceito"), 0)


@pytest.mark.req("TR-2d")
def test_the_newest_day_goes_first_except_near_a_closing():
    days = [date(2026, 11, 5), date(2026, 12, 7), date(2026, 11, 30)]
    profile, calendars = load_profile(), load_calendars()
    before = delivery.in_order(days, profile, calendars, datetime(2026, 12, 7, 12, tzinfo=UTC))
    assert before == [date(2026, 12, 7), date(2026, 11, 30), date(2026, 11, 5)]
    closing = delivery.in_order(days, profile, calendars, datetime(2026, 12, 8, 12, tzinfo=UTC))
    assert closing == [date(2026, 11, 5), date(2026, 11, 30), date(2026, 12, 7)]
    last = delivery.in_order(days, profile, calendars, datetime(2026, 12, 10, 2, 59, tzinfo=UTC))
    assert last == closing
    closed = delivery.in_order(days, profile, calendars, datetime(2026, 12, 10, 3, tzinfo=UTC))
    assert closed == before


def test_a_stopped_agent_keeps_its_days_and_is_told(embedded_db, standin):
    db = embedded_db
    for uc_id in register(db).values():
        derive(db, uc_id)
    summary = deliver(db, standin, secret="wrong")
    assert summary.accepted == 0
    assert "stopped" in summary.problems[0]
    assert rows(db, "SELECT count(*) FROM notification WHERE kind = 'ccee_agente_parado'") == [(1,)]
    assert {state for _, state in states(db)} <= {"validado", "falha_transitoria"}
    assert deliver(db, standin).accepted == 6
    assert {version for version, _ in states(db)} == {1}


def test_one_agent_without_credentials_does_not_keep_the_others(embedded_db, standin):
    db = embedded_db
    derive(db, register(db)[UCS[0]])
    other = register(db, ["999"], agent=5)
    derive(db, other["999"])

    def make(agent_code):
        if agent_code == 5:
            raise OperatorFault("no credentials for this agent", where="agent 5", remedy="set them")
        environment = load_profile().environment("standin", standin.base_url)
        pair = Credentials(f"CONCESSIONARIA_{agent_code}", "not-a-real-secret")
        return CceeClient(load_profile(), environment, {agent_code: pair})

    summary = delivery.deliver_day(db, [DAY], load_profile(), make, load_calendars(), now=NOW, run_id="r")
    assert summary.accepted == 1
    assert "agent 5" in summary.problems[0]
    assert len(states(db)) == 1


def test_a_dry_run_writes_bodies_and_nothing_else(embedded_db, standin, tmp_path):
    db = embedded_db
    derive(db, register(db)[UCS[0]], values=6027)
    summary = deliver(db, standin, dry_run_dir=tmp_path)
    assert summary.dry_run == 1
    assert "nothing sent" in summary.sentence()
    written = (tmp_path / "2026-11-20" / f"{UCS[0]}.json").read_bytes()
    assert states(db) == []
    assert control(standin)["sends"] == 0
    deliver(db, standin)
    assert ledger.body_of(db, load_profile(), ledger.find(db, UCS[0], DAY)) == written


def test_a_uc_day_that_cannot_be_a_body_is_set_aside_and_the_others_flow(embedded_db, standin):
    db = embedded_db
    ids = register(db)
    derive(db, ids[UCS[0]], values=[-1] + [1] * 287)
    derive(db, ids[UCS[1]])
    summary = deliver(db, standin)
    assert summary.accepted == 1
    assert summary.blocked == {UCS[0]: "a value is negative"}
    assert rows(db, "SELECT stage, reason FROM quarantine") == [("body", "a value is negative")]


def test_a_contract_that_changed_while_in_doubt_makes_a_new_version(embedded_db, standin):
    db = embedded_db
    derive(db, register(db)[UCS[0]])
    control(standin, failures=[{"kind": "drop_after"}])
    deliver(db, standin, profile=quick(max_attempts=1))
    base = load_profile()
    other = replace(base, send=replace(base.send, decimals=4))
    standin.operator.profile = other
    summary = deliver(db, standin, profile=other)
    assert "contract" in summary.problems[0]
    assert states(db) == [(1, "falha_transitoria"), (2, "aceito")]
    with pytest.raises(OperatorFault, match="contract"):
        ledger.body_of(db, other, ledger.find(db, UCS[0], DAY, 1))


def test_the_ledger_refuses_to_be_rewritten(embedded_db, standin):
    derive(embedded_db, register(embedded_db)[UCS[0]])
    deliver(embedded_db, standin)
    for table in ("submission", "submission_event", "submission_attempt"):
        with embedded_db.connect() as conn, pytest.raises(psycopg.Error, match="append only"):
            conn.execute(f"DELETE FROM {table}")


def test_two_runs_at_once_send_each_day_once(embedded_db, standin):
    db = embedded_db
    for uc_id in register(db).values():
        derive(db, uc_id)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda name: deliver(db, standin, run_id=name), ["a", "b"]))
    assert sum(summary.accepted for summary in done) == 6
    assert control(standin)["sends"] == 6


KILLED = """
import sys
from tests.ccee.conftest import *
from storage.database import Database
from storage.settings import Settings, DatabaseSettings
from types import SimpleNamespace
db = Database(sys.argv[1], Settings(database=DatabaseSettings(url=sys.argv[1])))
deliver(db, SimpleNamespace(base_url=sys.argv[2]))
"""


@pytest.mark.req("TR-2a", "TR-2g")
@pytest.mark.parametrize("moment", [0, 1, 2, 3])
def test_killed_at_any_moment_and_run_again_ends_the_same(embedded_db, standin, moment):
    db = embedded_db
    ids = register(db)
    for number, uc_id in enumerate(ids.values()):
        derive(db, uc_id, values=1000 + number)
    # Replies that do not come hold the sender where we want it: after some were stored, some were not.
    control(standin, failures=[{"kind": "slow", "seconds": 1, "uc": uc, "count": 1} for uc in UCS[moment:]])
    child = subprocess.Popen([sys.executable, "-c", KILLED, db.url, standin.base_url])
    deadline = time.monotonic() + 120
    wanted = min(6, moment + 1)
    while control(standin)["sends"] < wanted:
        assert time.monotonic() < deadline, "it never sent what it is to be killed in the midst of"
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    control(standin, failures=[])
    found = {state for _, state in states(db)}
    assert found & {"enviando", "validado", "aceito"}
    deliver(db, standin)
    assert states(db) == [(1, "aceito")] * 6
    for number, uc in enumerate(UCS):
        assert standin.operator.days[uc, DAY].hour_kwh(1) == Decimal(12 * (1000 + number)) / 1000
        assert month_of(standin, uc) == month_view(db, load_profile(), uc, date(2026, 11, 1))
    assert deliver(db, standin).sent == 0


@pytest.mark.req("TR-2d")
def test_the_months_of_both_sides_agree(embedded_db, standin):
    db = embedded_db
    ids = register(db)
    for offset in range(5):
        day = DAY - timedelta(days=offset)
        derive(db, ids[UCS[0]], day=day, values=[(slot * 37 + offset) % 5000 for slot in range(288)])
    assert deliver(db, standin, days=[DAY - timedelta(days=offset) for offset in range(6)]).accepted == 5
    ours = month_view(db, load_profile(), UCS[0], date(2026, 11, 1))
    assert ours["diasRecebidos"] == 5
    assert ours["horasRejeitadas"] > 0
    assert ours == month_of(standin, UCS[0])
