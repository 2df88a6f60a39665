"""Warnings before MS+3du and MS+7du: when, to whom, and not twice."""

from __future__ import annotations

import datetime as dt

import pytest

from ccee.profile import load_profile
from closing.report import closing_report
from closing.warnings import near_deadlines, warn
from storage.database import Database
from tests.derivation.world import add_points
from vee.calendars import load_calendars

pytestmark = pytest.mark.req("TR-2d")

NOVEMBER = dt.date(2026, 11, 1)
KNOWN = load_calendars()
PROFILE = load_profile()


# vee_rules.md section 8, nacional: for November MS+3du is 2026-12-03, MS+7du 2026-12-09.
@pytest.mark.parametrize(
    ("today", "near"),
    [
        (dt.date(2026, 11, 25), []),
        (dt.date(2026, 11, 26), [("musd_change", 7)]),
        (dt.date(2026, 12, 1), [("musd_change", 2)]),
        (dt.date(2026, 12, 2), [("musd_change", 2), ("measurement", 7)]),
        (dt.date(2026, 12, 3), [("musd_change", 0), ("measurement", 7)]),
        (dt.date(2026, 12, 7), [("measurement", 2)]),
        (dt.date(2026, 12, 9), [("measurement", 0)]),
        (dt.date(2026, 12, 10), []),
    ],
)
def test_a_deadline_is_near_a_week_two_days_and_on_the_day(
    today: dt.date, near: list[tuple[str, int]]
) -> None:
    found = near_deadlines(today, KNOWN)
    assert [(one.code, one.lead_days) for one in found] == near
    assert all(one.month == NOVEMBER for one in found)


def test_each_agent_is_told_what_is_open_once_per_lead_time(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        first, second = add_points(conn, 2)
        conn.execute("UPDATE uc_status SET valid = '[2026-11-29,)'")
        conn.execute("UPDATE uc_musd SET musd_kw = 500, confirmed_on = NULL WHERE uc_id = %s", [second.uc_id])
    now = dt.datetime(2026, 12, 3, 12, tzinfo=dt.UTC)
    report = closing_report(db, NOVEMBER, now, dt.date(2026, 12, 2), PROFILE)
    musd, data = near_deadlines(dt.date(2026, 12, 3), KNOWN)

    told = [warn(db, near, report) for near in (musd, data, data)]

    # Two UCs with two days each that nobody has derived; one MUSD that nobody confirmed.
    assert [(one.open_items, one.messages) for one in told] == [(1, 1), (4, 1), (4, 0)]
    with db.connect() as conn:
        notices = conn.execute("SELECT subject, body FROM notification ORDER BY id").fetchall()
    assert [subject for subject, _ in notices] == [
        "Mês 11/2026: alteração do MUSD até 03/12/2026, 1 pendências",
        "Mês 11/2026: envio da medição até 09/12/2026, 4 pendências",
    ]
    assert f"UC {second.uc_code}: MUSD ausente ou padrão sem confirmação" in notices[0][1]
    assert f"UC {first.uc_code}: Dia ainda não processado (2)" in notices[1][1]
    later = near_deadlines(dt.date(2026, 12, 8), KNOWN)
    assert [warn(db, near, report).messages for near in later] == [1], "insists two days before"


def test_nobody_is_told_when_nothing_is_open(embedded_db: Database) -> None:
    report = closing_report(
        embedded_db,
        NOVEMBER,
        dt.datetime(2026, 12, 3, 12, tzinfo=dt.UTC),
        dt.date(2026, 12, 2),
        PROFILE,
    )
    told = [warn(embedded_db, near, report) for near in near_deadlines(dt.date(2026, 12, 3), KNOWN)]
    assert [(one.open_items, one.messages) for one in told] == [(0, 0), (0, 0)]
