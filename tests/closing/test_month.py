"""The closing of a month: what is missing and why, conflicts, dates, certificate."""

from __future__ import annotations

import datetime as dt

import pytest

from ccee.profile import load_profile
from closing.report import closing_report
from derivation.run import derive
from storage.database import Database
from tests.derivation.world import AGENT, DAY, NOW, add_points, curve, put_readings

pytestmark = pytest.mark.req("TR-2d")

MONTH = dt.date(2026, 11, 1)
PROFILE = load_profile()


def test_report_lists_every_missing_day_with_its_cause(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        delivered, unsent, unread, small = add_points(conn, 4)
        # In the market since yesterday only, so that the month is short.
        conn.execute("UPDATE uc_status SET valid = '[2026-11-19,)'")
        conn.execute("UPDATE uc_musd SET musd_kw = 10, confirmed_on = NULL WHERE uc_id = %s", [small.uc_id])
        conn.execute("UPDATE uc_musd SET musd_kw = 500, confirmed_on = NULL WHERE uc_id = %s", [unread.uc_id])
    put_readings(db, [(point.meter_id, DAY, curve(1)) for point in (delivered, unsent, small)])
    derive(db, DAY, DAY, as_of=NOW, run_id="r1")
    with db.connect() as conn:
        (submission,) = conn.execute(
            "INSERT INTO submission (agent_id, uc_id, day, version, series_version, profile, body_sha256, "
            "body_bytes, cause, run_id) "
            "SELECT agent_id, id, %s, 1, 1, 'p', '\\x00', 1, 'first', 'r1' FROM uc WHERE id = %s "
            "RETURNING id",
            [DAY, delivered.uc_id],
        ).fetchone()
        conn.execute(
            "INSERT INTO submission_event (submission_id, state) VALUES (%s, 'aceito')", [submission]
        )

    report = closing_report(db, MONTH, NOW, DAY, PROFILE)

    causes = {(row.uc_code, row.day.day): row.cause for row in report.missing}
    assert causes == {
        **{(point.uc_code, 19): "not_derived" for point in (delivered, unsent, unread, small)},
        (unsent.uc_code, 20): "not_delivered",
        (unread.uc_code, 20): "no_history_needs_approval",
        (small.uc_code, 20): "not_delivered",
    }
    assert all(row.text for row in report.missing)
    assert (report.days_due, report.days_delivered, report.is_complete) == (8, 1, False)
    first = report.ucs[0]
    assert (first.uc_code, first.agent_code) == (delivered.uc_code, AGENT)
    assert (first.figures.days_due, first.figures.days_delivered) == (2, 1)
    energy_kwh = sum(round(pulse * 9 * 1000 / 1250 + 1e-9) for pulse in curve(1)) / 1000
    assert float(first.figures.sent_kwh) == pytest.approx(energy_kwh)
    assert {row["uc_code"] for row in report.musd_conflicts} == {small.uc_code}
    assert {(row["musd_kw"], row["limit_kwh"]) for row in report.musd_conflicts} == {
        ("10.000000000", "12.500000000")
    }
    assert [row["uc_code"] for row in report.musd_unconfirmed] == [unread.uc_code]


def test_dates_of_the_month_count_down(embedded_db: Database) -> None:
    report = closing_report(embedded_db, MONTH, NOW, DAY, PROFILE)

    dates = {row.label: (row.day, row.days_left) for row in report.milestones}
    # vee_rules.md section 8, nacional: MS+3du is 2026-12-03, MS+7du 2026-12-09; today is 2026-11-21.
    assert dates["MS+3du"] == (dt.date(2026, 12, 3), 12)
    assert dates["MS+7du"] == (dt.date(2026, 12, 9), 18)
    assert report.is_complete, "nothing is due of an empty registry"
