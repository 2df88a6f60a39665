"""The demonstration, whole: real sockets, a real server for CCEE, Dagster's job in a persistent instance.

Thirteen points are one of each scenario. What is asserted is what `simulator.fleet` promises of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

import orjson
import psutil
import pytest
from playwright.sync_api import expect

from audit.trace import trace
from ccee.profile import load_profile
from documents import Language
from pipelines.demo.job import DemoOptions, run_demo
from pipelines.demo.summary import DemoResult
from simulator.fleets.demo import DemoPoint, Scenario, demo_fleet
from simulator.load.grid import day_number
from storage.database import Database
from tests.browser import chromium, free_port, interface
from tests.docs import pages
from tests.pipelines.cli import walk
from tests.pipelines.cli.command import smf
from vee.quality import Reason

DAY = date(2026, 11, 20)
ZONE = timezone(timedelta(hours=-3))
SLOTS = 288
# 03:10 is when the memory was lost: 38 intervals before it.
LOST = 38
# The backup meter fills until 05:40.
BACKED_UP = 68
# 09:20 to 11:05.
OUTAGE = 21


@dataclass
class Demo:
    """Two runs of the demonstration on one database."""

    db: Database
    folder: Path
    points: list[DemoPoint]
    first: DemoResult
    second: DemoResult
    rows_between: tuple[object, ...]
    evidence_port: int

    def uc(self, scenario: Scenario) -> str:
        return next(point.uc_code for point in self.points if point.scenario is scenario)

    def one(self, query: str, *parameters: object) -> tuple[object, ...]:
        with self.db.connect() as conn:
            row = conn.execute(query, parameters).fetchone()
        assert row is not None
        return row

    def outcome(self, scenario: Scenario) -> tuple[object, ...]:
        """State, cause, and the counts of measured, backup, estimated and missing intervals."""
        return self.one(
            "SELECT state, cause, measured, backup, estimated, missing FROM uc_day_outcome o"
            " JOIN uc ON uc.id = o.uc_id WHERE uc.code = %s AND day = %s",
            self.uc(scenario),
            DAY,
        )

    def layer(self, scenario: Scenario, layer: int) -> tuple[list[int | None], int, bytes]:
        """Numerators, denominator, reasons."""
        row = self.one(
            "SELECT numerators, denominator, reason FROM series_day s JOIN uc ON uc.id = s.uc_id"
            " WHERE uc.code = %s AND day = %s AND layer = %s ORDER BY version DESC",
            self.uc(scenario),
            DAY,
            layer,
        )
        return row  # type: ignore[return-value]


def _stored(db: Database) -> tuple[object, ...]:
    """Everything that a second run must leave as it is."""
    with db.connect() as conn:
        series = conn.execute(
            "SELECT uc_id, layer, day, version, content_hash, recorded_at FROM series_day ORDER BY 1, 2, 3, 4"
        ).fetchall()
        sent = conn.execute("SELECT id, body_sha256, created_at FROM submission ORDER BY id").fetchall()
        attempts = conn.execute(
            "SELECT submission_id, attempt FROM submission_attempt ORDER BY 1, 2"
        ).fetchall()
    return series, sent, attempts


@pytest.fixture(scope="module", params=["embedded", pytest.param("timescale", marks=pytest.mark.timescale)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    server: Database = request.getfixturevalue(f"{request.param}_server")
    name = f"demo_{os.getpid()}"
    server.create_database(name)
    folder = tmp_path_factory.mktemp("demo")
    options = DemoOptions(points=14, day=DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMF_DATABASE_URL", server.sibling(name).url)
        patch.setenv("SMF_DATA_DIR", str(folder))
        patch.delenv("SMF_CONFIG", raising=False)
        evidence_port = free_port()
        patch.setenv("SMF_DAGSTER_EVIDENCE_URL", f"http://127.0.0.1:{evidence_port}")
        db = server.sibling(name)
        first = run_demo(options, lambda phase: None, lambda step: None)
        between = _stored(db)
        second = run_demo(options, lambda phase: None, lambda step: None)
        yield Demo(db, folder, demo_fleet(14, DAY), first, second, between, evidence_port)
    with server.connect(autocommit=True) as conn:
        for database in (name, f"{name}_dagster"):
            conn.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


@pytest.mark.req("TR-2a", "TR-2g", "TR-5.5a", "X-sim")
@pytest.mark.timeout(1200)
@pytest.mark.slow
class TestDemo:
    def test_all_but_the_silent_and_the_suspended_are_delivered(self, demo: Demo) -> None:
        assert demo.first.points_read == 13
        assert demo.first.delivered == demo.first.sent_now == demo.first.receipts == 12
        missing = {uc.uc_code: (uc.cause, uc.words(Language.ENGLISH)[1]) for uc in demo.first.not_delivered}
        assert missing == {
            demo.uc(Scenario.SILENT): ("link_failed", "operator, then field crew"),
            demo.uc(Scenario.SUSPENDED): ("suspended", "nobody"),
        }
        assert demo.first.checks_failed == []

    @pytest.mark.parametrize(
        "scenario",
        [
            pytest.param(Scenario.OLD_METER, marks=pytest.mark.req("TR-5.6b")),
            Scenario.FLAKY_LINK,
            Scenario.SLOW_CLOCK,
            Scenario.FAST_CLOCK,
            Scenario.LOSSES,
            Scenario.MUSD_EXCEEDED,
            Scenario.OUTAGE,
            Scenario.NOISY_LINE,
            Scenario.ADDRESSED,
            pytest.param(Scenario.DLMS, marks=pytest.mark.req("TR-5.1")),
        ],
    )
    def test_what_the_meter_holds_is_measured(self, demo: Demo, scenario: Scenario) -> None:
        assert demo.outcome(scenario) == ("ready", "", SLOTS, 0, 0, 0)

    @pytest.mark.parametrize(
        "scenario",
        [Scenario.OLD_METER, Scenario.FLAKY_LINK, Scenario.NOISY_LINE, Scenario.ADDRESSED, Scenario.DLMS],
    )
    def test_pulses_are_the_load_that_was_simulated(self, demo: Demo, scenario: Scenario) -> None:
        point = next(point for point in demo.points if point.scenario is scenario)
        pulses, *_ = demo.one(
            "SELECT pulses FROM reading_day r JOIN meter m ON m.id = r.meter_id"
            " WHERE m.serial = %s AND channel = 1 AND day = %s",
            point.main.serial,
            DAY,
        )
        expected = point.main.spec.source.pulses(day_number(DAY) * SLOTS, SLOTS)[:, 0]
        assert pulses == expected.tolist()

    @pytest.mark.req("TR-2e")
    def test_a_lost_memory_is_estimated_by_the_annex(self, demo: Demo) -> None:
        assert demo.outcome(Scenario.MEMORY_GAP) == ("ready", "", SLOTS - LOST, 0, LOST, 0)
        _, _, reasons = demo.layer(Scenario.MEMORY_GAP, 3)
        # 20 November is a national holiday, so rule A takes Sundays; the hour of the loss has 10 of 12.
        assert list(reasons[:36]) == [Reason.RULE_A_HOLIDAY] * 36
        assert list(reasons[36:LOST]) == [Reason.INSIDE_HOUR] * 2
        assert not {Reason.RULE_A_HOLIDAY, Reason.INSIDE_HOUR} & set(reasons[LOST:])

    def test_a_silent_meter_gives_nothing_and_nothing_is_made_up(self, demo: Demo) -> None:
        assert demo.outcome(Scenario.SILENT) == ("incomplete", "link_failed", 0, 0, 0, SLOTS)
        numerators, _, _ = demo.layer(Scenario.SILENT, 5)
        assert numerators == [None] * SLOTS

    def test_a_broken_link_is_tried_again(self, demo: Demo) -> None:
        sessions, complete = demo.one(
            "SELECT count(*), count(*) FILTER (WHERE outcome = 'complete') FROM session s"
            " JOIN installation i ON i.meter_id = s.meter_id JOIN point p ON p.id = i.point_id"
            " JOIN uc ON uc.id = p.uc_id WHERE uc.code = %s AND started_at >= %s",
            demo.uc(Scenario.FLAKY_LINK),
            datetime.combine(DAY + timedelta(days=1), datetime.min.time(), ZONE),
        )
        assert (sessions, complete) == (3, 1)

    def test_wrong_clocks_are_named(self, demo: Demo) -> None:
        drifts = {alarm.uc_code: alarm.drift_s for alarm in demo.first.clock_alarms}
        for scenario, expected_s in ((Scenario.SLOW_CLOCK, -95), (Scenario.FAST_CLOCK, 140)):
            (round_trip_s,) = demo.one(
                "SELECT max(round_trip_s)::float8 FROM session s"
                " JOIN installation i ON i.meter_id = s.meter_id"
                " JOIN point p ON p.id = i.point_id JOIN uc ON uc.id = p.uc_id WHERE uc.code = %s",
                demo.uc(scenario),
            )
            # A meter tells whole seconds, its crystal drifts by half a second a day, and when it told the
            # time is known to half of the round trip.
            assert isinstance(round_trip_s, float)
            assert drifts[demo.uc(scenario)] == pytest.approx(expected_s, abs=2 + round_trip_s / 2)
        assert len(drifts) == 2

    @pytest.mark.req("TR-2c")
    def test_losses_raise_each_interval_exactly(self, demo: Demo) -> None:
        factor = Fraction("1.025") * Fraction("1.008")
        primary, denominator, _ = demo.layer(Scenario.LOSSES, 1)
        sent, thousand, _ = demo.layer(Scenario.LOSSES, 5)
        assert thousand == 1000
        exact = [Fraction(value, denominator) * factor * 1000 for value in primary if value is not None]
        assert sent == [int(value + Fraction(1, 2)) for value in exact]

    @pytest.mark.req("TR-2f")
    def test_an_hour_above_the_limit_counts_as_zero_and_the_agent_is_told(self, demo: Demo) -> None:
        (hour,) = demo.first.musd_hours
        assert (hour.uc_code, hour.hour) == (demo.uc(Scenario.MUSD_EXCEEDED), 15)
        assert hour.energy_kwh > hour.limit_kwh
        told = demo.one(
            "SELECT count(*) FROM notification n JOIN uc ON uc.id = n.uc_id WHERE uc.code = %s", hour.uc_code
        )
        assert told[0] >= 1

    def test_the_backup_meter_fills_what_the_main_one_lost(self, demo: Demo) -> None:
        assert demo.outcome(Scenario.BACKUP_METER) == ("ready", "", SLOTS - BACKED_UP, BACKED_UP, 0, 0)

    @pytest.mark.req("TR-8.1")
    def test_a_suspended_unit_is_read_and_not_delivered(self, demo: Demo) -> None:
        state, cause, *_ = demo.outcome(Scenario.SUSPENDED)
        assert (state, cause) == ("not_expected", "suspended")
        sent = demo.one(
            "SELECT count(*) FROM submission s JOIN uc ON uc.id = s.uc_id WHERE uc.code = %s",
            demo.uc(Scenario.SUSPENDED),
        )
        assert sent == (0,)

    def test_zeros_of_a_recorded_outage_are_measured(self, demo: Demo) -> None:
        numerators, _, reasons = demo.layer(Scenario.OUTAGE, 5)
        zeros = [slot for slot in range(SLOTS) if reasons[slot] == Reason.ZERO_IN_OUTAGE]
        assert len(zeros) == OUTAGE
        assert {numerators[slot] for slot in zeros} == {0}

    @pytest.mark.req("TR-2g")
    def test_ccee_has_each_body_once_and_it_is_the_one_of_the_ledger(self, demo: Demo) -> None:
        lines = (demo.folder / "demo" / "ccee.jsonl").read_bytes().splitlines()
        got = [
            hashlib.sha256(entry["body"].encode()).digest()
            for entry in map(orjson.loads, lines)
            if entry.get("op") == "day"
        ]
        with demo.db.connect() as conn:
            kept = [row[0] for row in conn.execute("SELECT body_sha256 FROM submission").fetchall()]
        assert sorted(got) == sorted(kept)

    def test_run_again_it_sends_nothing_and_changes_nothing(self, demo: Demo) -> None:
        assert demo.second.sent_now == 0
        assert demo.second.delivered == 12
        assert _stored(demo.db) == demo.rows_between

    @pytest.mark.req("X-trace")
    @pytest.mark.parametrize(
        ("scenario", "hour", "inputs"),
        [
            (Scenario.LOSSES, 10, 0),
            (Scenario.ADDRESSED, 24, 0),
            (Scenario.BACKUP_METER, 2, 0),
            (Scenario.OUTAGE, 10, 0),
            (Scenario.MEMORY_GAP, 1, 12),
        ],
    )
    def test_a_value_is_explained_to_its_octets_and_computed_anew(
        self, demo: Demo, scenario: Scenario, hour: int, inputs: int
    ) -> None:
        end = datetime.combine(DAY, datetime.min.time(), ZONE) + timedelta(hours=hour)
        found = trace(demo.db, load_profile(), demo.uc(scenario), end)
        assert found.is_identical, found.checks
        assert found.delivery is not None
        assert found.delivery.record is not None
        assert Fraction(str(found.delivery.record["consumo"])) == found.layers[-1].value_kwh
        if scenario is Scenario.MEMORY_GAP:
            assert len(found.inputs) == inputs
            primaries = [one.layers[0].value_kwh for one in found.inputs]
            assert found.layers[2].value_kwh == sum(primaries, Fraction(0)) / len(primaries)  # type: ignore[arg-type]
            assert all(one.is_identical for one in found.inputs)
        else:
            assert found.reading is not None
            assert found.reading.place is not None
            assert found.reading.place.pulses == found.reading.pulses

    def test_nothing_of_the_surroundings_is_left_running(self, demo: Demo) -> None:
        running = []
        for child in psutil.Process().children(recursive=True):
            # One that ends while we look is not left running.
            with contextlib.suppress(psutil.NoSuchProcess):
                running.append(" ".join(child.cmdline()))
        assert not [command for command in running if "pipelines.demo.world" in command]

    @pytest.mark.req("TR-2g", "X-trace")
    def test_dagsters_pages_show_runs_days_checks_and_evidence(self, demo: Demo) -> None:
        with (
            chromium() as browser,
            interface(demo.db, demo.folder, demo.evidence_port) as shown,
        ):
            page = browser.new_page(viewport={"width": 1440, "height": 2400})
            page.set_default_timeout(60_000)

            page.goto(f"{shown.dagster}/overview/activity/timeline")
            expect(page.get_by_role("link", name="daily_job").first).to_be_visible()

            page.goto(f"{shown.dagster}/locations/smf/jobs/daily_job/runs")
            expect(page.get_by_text(f"{DAY}").first).to_be_visible()
            expect(page.get_by_text("Success").first).to_be_visible()

            page.goto(f"{shown.dagster}/assets/series_ccee?view=overview")
            picture = page.get_by_role("img", name=f"Carga de 14 UCs em {DAY:%d/%m/%Y}")
            expect(picture).to_be_visible()
            assert picture.evaluate("image => image.naturalWidth") > 0, "it is loaded, not only linked"
            expect(page.get_by_text("Valor do intervalo = numerador / denominador").first).to_be_visible()

            page.goto(f"{shown.dagster}/assets/series_ccee?view=checks")
            for check in ("complete", "auditors_expectations", "newest_day"):
                expect(page.get_by_text(check, exact=True).first).to_be_visible()
            page.get_by_text("auditors_expectations", exact=True).first.click()
            evidence = page.get_by_role("link", name=f"{shown.evidence}/auditoria/{DAY}/index.html")
            expect(evidence).to_be_visible()

            page.goto(f"{shown.dagster}/assets/series_ccee?view=lineage")
            for asset in ("series_adjusted", "ccee_submissions"):
                expect(page.get_by_text(asset, exact=True).first).to_be_visible()

            page.goto(f"{shown.dagster}/assets/registry?view=overview")
            expect(page.get_by_text("findings_attention")).to_be_visible()

            page.goto(f"{shown.dagster}/automation")
            expect(page.get_by_text("daily_schedule").first).to_be_visible()

            page.goto(f"{shown.dagster}/assets/ccee_submissions?view=overview")
            silent = demo.uc(Scenario.SILENT)
            expect(page.get_by_role("link", name=silent).first).to_be_visible()
            page.goto(f"{shown.evidence}/rastro/{demo.uc(Scenario.LOSSES)}/{DAY}T10:05")
            expect(page.get_by_role("heading", level=1)).to_contain_text(demo.uc(Scenario.LOSSES))
            page.goto(f"{shown.evidence}/situacao/{DAY}")
            expect(page.get_by_text(silent).first).to_be_visible()

            page.goto(f"{shown.evidence}/auditoria/{DAY}/index.html")
            expect(page.get_by_role("heading", level=1)).to_contain_text("Auditoria do dia")

    def test_no_table_loses_a_character_of_a_key(self, demo: Demo) -> None:
        """Every command that prints a table, on 80 columns and into a pipe, against its own JSON."""
        keys = {point.uc_code for point in demo.points}
        keys |= {meter.serial for point in demo.points for meter in point.meters}
        walked = walk.tables(demo.uc(Scenario.LOSSES), DAY)
        known = {path for path in walk.commands() if path.split()[0] not in walk.NO_TABLE_GROUPS}
        assert known == set(walked) | set(walk.NO_TABLE), "a new command says what it prints"
        url = demo.db.url
        for path, words in walked.items():
            command = [*path.split(), *words]
            document = smf(*command, "--json", url=url, cwd=demo.folder)
            assert document.returncode in (0, 1), document.stdout + document.stderr
            held = {key for key in keys if key in document.stdout}
            if path == "status":  # of every UC in its files; on the screen of those that are not delivered
                held = {uc.uc_code for uc in demo.first.not_delivered}
            for columns in ("80", ""):
                shown = smf(*command, url=url, cwd=demo.folder, COLUMNS=columns)
                assert shown.returncode == document.returncode, shown.stderr
                assert "\u2026" not in shown.stdout, f"{path} at {columns or 'no'} columns"
                lost = {key for key in held if key not in shown.stdout}
                assert not lost, f"{path} at {columns or 'no'} columns:\n{shown.stdout}"

    @pytest.mark.req("TR-5.2", "TR-5.3")
    @pytest.mark.parametrize("page", pages.DEMO_PAGES)
    def test_every_command_of_the_course_and_of_the_roles_works(
        self, demo: Demo, page: str, tmp_path: Path
    ) -> None:
        written = pages.run_page(
            page, tmp_path, free_port(), SMF_DATABASE_URL=demo.db.url, SMF_DATA_DIR=str(demo.folder)
        )
        assert len(written) >= 3, "a page that shows nothing teaches nothing"
        if page == "treinamento":  # the answers that the page gives
            assert "CCEE lacks 1 of 13 UCs." in written["status --day 2026-11-20"]
            stretches = written["series 000120000102887 2026-11-20"]
            assert "2026-11-20 00:00  03:00         36  estimated  rule a holiday" in stretches
            assert "2026-11-20 03:00  03:10          2  estimated  inside hour" in stretches
            body = written["ccee body 000120000602834 2026-11-20"].rstrip("\n").encode()
            digest = hashlib.sha256(body).hexdigest()
            assert digest in written["trace 000120000602834 2026-11-20T10:05"]
            assert digest in written["ccee ledger --day 2026-11-20"]
            assert written["command status"].count("clock rule") == 2
            assert "10000001" in written["read nbr14522 tcp://127.0.0.1:7001 --commands 21,80"]
            assert "2026-12-09" in written["calendar month 2026-11"]
