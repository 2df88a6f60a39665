"""Traffic against the plan, connectivity, monitoring for a time, and memories about to be overwritten."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from collector.work import worklist
from collector.work.monitoring import end_monitoring, monitor, monitored_points, raised
from collector.work.planning import PlannedRead, ScheduleKind, due_reads
from collector.work.planning import Windows as _Windows
from collector.work.points import points_status
from collector.work.traffic import forecast_month, unit_traffic
from collector.work.urgency import MemoryOutlook, outlooks, priority_with, raise_waiting
from faults import OperatorFault
from faults.market_time import to_local
from pipelines.cli.collector import app
from storage import queue
from storage.queue import Priority
from tests.collector.world import (
    DAY,
    MARKET,
    NOW,
    collect,
    meter,
    query,
    quick,
    register,
    served,
)

PLAN = 20 * 2**20
HOUR = timedelta(hours=1)


def read_once(db, days=(DAY,), **changes):
    """One meter, read; its id."""
    ready = quick(db)

    async def work():
        async with served(meter(**changes)) as servers:
            ids = register(ready, servers)
            await collect(ready, days)
            return ids["10000001"]

    return ready, asyncio.run(work())


@pytest.mark.req("TR-5.5b")
class TestTraffic:
    def test_an_even_pace_fills_the_month_evenly(self):
        by_day = {date(2026, 11, day): 700_000 for day in range(1, 16)}
        told = forecast_month(by_day, PLAN, datetime(2026, 11, 16))
        assert told.used_bytes == 15 * 700_000
        # The week's window holds six whole days that were: 16 Nov begins now.
        assert told.forecast_bytes == 30 * 700_000
        assert told.is_over
        assert float(told.used_share) == pytest.approx(15 * 700_000 / PLAN)

    def test_the_month_before_gives_the_pace_and_nothing_else(self):
        by_day = {date(2026, 10, day): 100_000 for day in range(20, 32)}
        told = forecast_month(by_day, PLAN, datetime(2026, 11, 1, 0, 0))
        assert told.used_bytes == 0
        assert told.forecast_bytes == 30 * 100_000
        assert not told.is_over

    def test_a_changed_schedule_shows_within_days(self):
        by_day = {date(2026, 11, day): 50_000 for day in range(1, 20)} | {date(2026, 11, 19): 1_500_000}
        assert forecast_month(by_day, PLAN, datetime(2026, 11, 20)).forecast_bytes > 1_500_000 + 19 * 50_000

    def test_one_session_at_midnight_is_no_rate(self):
        told = forecast_month({date(2026, 11, 1): 10_000}, PLAN, datetime(2026, 11, 1, 0, 1))
        assert told.forecast_bytes <= 30 * 10_000 + 10_000

    @given(
        st.dictionaries(st.dates(date(2026, 10, 20), date(2026, 11, 30)), st.integers(0, 10**9)),
        st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 30, 23, 59)),
    )
    def test_a_forecast_is_never_below_what_was_used(self, by_day, now):
        told = forecast_month(by_day, PLAN, now)
        assert 0 <= told.used_bytes <= told.forecast_bytes

    def test_octets_of_all_sessions_of_the_unit_count(self, embedded_db):
        ready, _ = read_once(embedded_db)
        with ready.connect() as conn:
            (told,) = unit_traffic(conn, ready.settings, NOW).values()
            ((octets,),) = conn.execute("SELECT sum(bytes_sent + bytes_received) FROM session").fetchall()
            ((day, by_view),) = conn.execute("SELECT day, bytes FROM unit_traffic_day").fetchall()
        assert told.used_bytes == octets == by_view > 4_000
        assert told.plan_bytes == PLAN
        assert day == to_local(NOW, MARKET).date()


@pytest.mark.req("TR-5.5c")
class TestMonitoring:
    def installed(self, conn, at):
        return raised(conn, worklist.installed_meters(conn, at, self.db.settings), at)

    def test_a_point_is_raised_until_its_end_and_falls_back_by_itself(self, embedded_db):
        self.db, _ = read_once(embedded_db)
        until = NOW + 2 * HOUR
        with self.db.connect() as conn:
            monitor(conn, "P00000", NOW, until, "ana", "a complaint")
            assert monitored_points(conn, NOW + HOUR) == {"P00000": until}
            reads = 0
            for minute in range(4 * 60):
                at = NOW + timedelta(minutes=minute)
                local = to_local(at, MARKET)
                due = due_reads(self.installed(conn, at), local - timedelta(minutes=1), local, _Windows())
                reads += len([read for read in due if read.days[-1] == local.date()])
            assert reads == 8  # 15 minutes for two hours; the daily read asks for yesterday
            (after,) = self.installed(conn, until)
            assert after.schedule is ScheduleKind.DAILY

    def test_it_can_be_ended_before(self, embedded_db):
        self.db, _ = read_once(embedded_db)
        with self.db.connect() as conn:
            monitor(conn, "P00000", NOW, NOW + 9 * HOUR, "ana")
            assert end_monitoring(conn, "P00000", NOW + HOUR) == 1
            assert monitored_points(conn, NOW + HOUR) == {}
            assert end_monitoring(conn, "P00000", NOW + HOUR) == 0

    def test_without_a_near_end_or_a_point_it_is_refused(self, embedded_db):
        with embedded_db.connect() as conn:
            for until in (NOW, NOW - HOUR, NOW + timedelta(days=400)):
                with pytest.raises(OperatorFault, match="monitoring until"):
                    monitor(conn, "P00000", NOW, until, "ana")
            with pytest.raises(OperatorFault, match="no point 'NOWHERE'"):
                monitor(conn, "NOWHERE", NOW, NOW + HOUR, "ana")


class TestUrgency:
    def test_the_countdown_ends_when_the_first_unread_interval_falls_out(self):
        end = datetime(2026, 11, 1, tzinfo=UTC)
        one_day = MemoryOutlook(300, 3 * 288, end)
        # 288 intervals fit: the one that ended at 00:05 goes when the one of 00:05 a day later ends.
        assert one_day.lost_from() == end + timedelta(days=1, minutes=5)
        assert one_day.left(end + timedelta(days=1)) == timedelta(minutes=5)
        assert one_day.left(end + timedelta(days=2)) < timedelta(0)
        assert MemoryOutlook(300, None, end).left(end) is None
        assert MemoryOutlook(300, 3 * 288, None).left(end) is None

    @given(st.floats(-10, 60))
    def test_less_time_is_never_less_urgent_and_a_person_stays_first(self, days):
        for base in (Priority.RECOVERY, Priority.ROUTINE):
            sooner, later = (priority_with(base, timedelta(days=d)) for d in (days - 1, days))
            assert Priority.ON_DEMAND < sooner <= later <= base

    def test_what_is_overwritten_tomorrow_is_read_before_every_recovery(self):
        assert priority_with(Priority.ROUTINE, timedelta(hours=20)) < Priority.RECOVERY
        assert priority_with(Priority.RECOVERY, None) == Priority.RECOVERY

    def test_waiting_reads_are_brought_forward(self, embedded_db):
        # A memory of three days, read to the end of the 20th at the latest interval then closed.
        ready, meter_id = read_once(embedded_db, capacity_days=3)
        with ready.connect() as conn:
            outlook = outlooks(conn)[meter_id]
            assert outlook.capacity_words >= 3 * 2 * 288
            read = PlannedRead(meter_id, (DAY,), Priority.ROUTINE, "one")
            (number,) = worklist.enqueue_reads(conn, [read], "test")
            assert raise_waiting(conn, outlook.lost_from() - timedelta(days=20)) == 0
            assert raise_waiting(conn, outlook.lost_from() - timedelta(hours=5)) == 1
            assert conn.execute("SELECT priority FROM job_request WHERE id = %s", [number]).fetchone() == (
                11,
            )
            assert raise_waiting(conn, outlook.lost_from()) == 0


@pytest.mark.req("TR-5.5b", "TR-5.6e")
def test_connectivity_is_the_share_of_scheduled_reads_that_succeeded(embedded_db, monkeypatch):
    ready, meter_id = read_once(embedded_db)
    at = datetime.now(UTC)
    with ready.connect() as conn:
        # The commands go by the clock of the host, whatever it shows.
        conn.execute("UPDATE installation SET valid = '[2000-01-01,)'")
        for number, state in enumerate(["done", "done", "done", "failed", "queued"]):
            conn.execute(
                "INSERT INTO job_request (kind, meter_id, requested_by, dedup_key, state, requested_at) "
                "VALUES ('read', %s, 'schedule', %s, %s, %s)",
                [meter_id, f"c{number}", state, at],
            )
        day, scheduled, succeeded = conn.execute(
            "SELECT day, scheduled, succeeded FROM point_connectivity_day"
        ).fetchone()
        assert (day, scheduled, succeeded) == (to_local(at, MARKET).date(), 4, 3)
        (standing,) = points_status(conn, ready.settings, at)
    assert (standing.point, standing.schedule, standing.connectivity) == ("P00000", "daily", 0.75)

    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    shell = CliRunner()
    assert shell.invoke(app, ["monitor", "P00000", "--hours", "3", "--json"]).exit_code == 0
    told = json.loads(shell.invoke(app, ["status", "--json"]).stdout)["points"]
    assert [(one["point"], one["schedule"], one["connectivity"]) for one in told] == [
        ("P00000", "quarter_hourly", 0.75)
    ]
    assert told[0]["traffic"]["plan_bytes"] == PLAN
    shown = shell.invoke(app, ["status"]).stdout
    assert "P00000" in shown
    assert shell.invoke(app, ["monitor", "NOWHERE", "--json"]).exit_code != 0


@pytest.mark.req("TR-5.5d")
def test_on_demand_reads_go_before_recovery_and_recovery_before_routine(embedded_db):
    ready, meter_id = read_once(embedded_db)
    with ready.connect() as conn:
        for name in ("ROUTINE", "RECOVERY", "ON_DEMAND"):
            queue.enqueue(
                conn, queue.JobRequest("read", "test", meter_id, dedup_key=name, priority=int(Priority[name]))
            )
        claimed = [queue.claim(conn, "w", limit=1, lease_s=60)[0].dedup_key for _ in range(3)]
    assert claimed == ["ON_DEMAND", "RECOVERY", "ROUTINE"]
    assert query(ready, "SELECT count(*) FROM job_request WHERE state = 'running'") == [(3,)]
