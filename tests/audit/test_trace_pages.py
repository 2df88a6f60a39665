"""The trace as a page and as paper: the verdict first, sentences and numbers, octets marked, keys whole."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.pages import day_page, interval_page
from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import load_profile
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from derivation.run import derive
from documents import Language, to_html, to_pdf
from pipelines.cli.trace import app
from storage import audit
from storage.database import Database
from tests.collector.world import DAY, MARKET, NOW, collect, meter, register, served, truth
from vee.calendars import load_calendars

pytestmark = pytest.mark.req("X-trace", "TR-5.6e")

PROFILE = load_profile()
SLOT = 123
END = dt.datetime.combine(DAY, dt.time(), MARKET) + (SLOT + 1) * dt.timedelta(minutes=5)


@dataclass
class Traced:
    """A UC whose day was read from a simulated meter, derived with losses and delivered."""

    db: Database
    uc_code: str
    pulses: list[int]

    def page(self, language: Language = Language.PORTUGUESE) -> str:
        found = interval_page(self.db, PROFILE, self.uc_code, END, language, MARKET)
        assert found.is_identical
        return text_of(to_html(found.document))

    def day(self, language: Language = Language.PORTUGUESE) -> str:
        found = day_page(self.db, PROFILE, self.uc_code, DAY, language, MARKET)
        assert found.is_identical
        return text_of(to_html(found.document))


def text_of(page: str) -> str:
    """What a reader reads, without style and marks."""
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S)))


@pytest.fixture
def traced(embedded_db: Database) -> Traced:
    station = meter("10000001")

    async def work() -> None:
        async with served(station) as servers:
            register(embedded_db, servers)
            await collect(embedded_db)

    asyncio.run(work())
    with embedded_db.connect() as conn:
        (uc_code, agent) = conn.execute(
            "SELECT u.code, a.code FROM uc u JOIN agent a ON a.id = u.agent_id"
        ).fetchone()
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc"
        )
        conn.execute("INSERT INTO uc_musd (uc_id, valid, musd_kw) SELECT id, '[2026-01-01,)', 100000 FROM uc")
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, valid, percent) "
            "SELECT id, kind, tstzrange('2026-01-01Z', NULL), percent "
            "FROM point, (VALUES ('transformation', 2.5), ('line', 0.8)) AS l (kind, percent)"
        )
        audit.append(
            conn,
            actor="maria",
            action="registry.import",
            object="registry/uc_musd",
            before=[{"uc_code": uc_code, "musd_kw": "900"}, {"uc_code": "another", "musd_kw": "7"}],
            after=[{"uc_code": uc_code, "musd_kw": "1000"}, {"uc_code": "another", "musd_kw": "8"}],
        )
    derive(embedded_db, DAY, DAY, run_id="t", as_of=NOW)
    unit = Unit(uc_code, agent, musd={dt.date.min: Decimal(100_000)})
    with serve_in_thread(StandIn(PROFILE, load_calendars(), {agent: "s"}, [unit], lambda: NOW, None)) as it:

        def client(code: int) -> CceeClient:
            environment = PROFILE.environment("standin", it.base_url)
            return CceeClient(PROFILE, environment, {code: Credentials(f"CONCESSIONARIA_{code}", "s")})

        done = deliver_day(embedded_db, [DAY], PROFILE, client, load_calendars(), now=NOW, run_id="t")
    assert done.accepted == 1, done
    return Traced(embedded_db, uc_code, [int(count) for count in truth(station)[:, 0]])


def test_the_page_says_the_calculation_with_its_numbers(traced: Traced) -> None:
    page = traced.page()
    with traced.db.connect() as conn:
        num, den = conn.execute("SELECT pulse_energy_num, pulse_energy_den FROM installation").fetchone()
    pulses = traced.pulses[SLOT]
    primary = Decimal(pulses) * num / den
    adjusted = primary * Decimal("1.025") * Decimal("1.008")
    assert f"{pulses} pulsos × {num}/{den} kWh por pulso = {comma(primary)} kWh" in page
    assert (
        f"{comma(primary)} kWh × 1,025 × 1,008 (transformação 2,5 %, linha 0,8 %) = {comma(adjusted)}" in page
    )
    sent = adjusted.quantize(Decimal("0.001"), "ROUND_HALF_UP")
    assert f"arredondado uma vez, meio para cima, a três casas: {comma(sent)} kWh" in page
    assert f"{comma(sent)} kWh, medido, dito à CCEE, aceito. Refeito dos octetos: idêntico." in page
    english = traced.page(Language.ENGLISH)
    assert f"{pulses} pulses × {num}/{den} kWh a pulse = {primary.normalize():f} kWh" in english
    assert "Made anew from the octets: identical." in english


def comma(value: Decimal) -> str:
    return f"{value.normalize():f}".replace(".", ",")


def test_the_page_names_hashes_receipt_body_and_octets(traced: Traced) -> None:
    page = to_html(
        interval_page(traced.db, PROFILE, traced.uc_code, END, Language.PORTUGUESE, MARKET).document
    )
    with traced.db.connect() as conn:
        digest, receipt = conn.execute(
            "SELECT s.body_sha256, t.receipt FROM submission s JOIN submission_attempt t ON "
            "t.submission_id = s.id"
        ).fetchone()
    assert unescape(page).count(digest.hex()) >= 2, "whole, of the seal and made anew"
    assert receipt is None or receipt in page
    assert '"tipoConsumo":"MEDIDO"' in unescape(page)
    assert "{'" not in unescape(page), "no dictionaries"
    marked = re.findall(r'<mark class=m0 title="a contagem: (\d+) pulsos">', page)
    assert marked == [str(traced.pulses[SLOT])] * 3, "three octets hold two words of 12 bits"


def test_the_page_tells_who_changed_the_registry_and_which_clock(traced: Traced) -> None:
    page = traced.page()
    assert re.search(r"maria\s+uc_musd\s+musd_kw 900, uc_code \d+\s+musd_kw 1000, uc_code \d+", page)
    assert "another" not in page, "rows of other UCs stay out"
    assert "um medidor simulado" in page
    assert "relógio do medidor (simulado)" in page
    assert "Todos os instantes no horário do mercado, UTC−3." in page


def test_a_day_at_once_has_every_interval_and_compares_them_all(traced: Traced) -> None:
    page = traced.day()
    assert "Refeito dos octetos: idêntico." in page
    assert page.count("Medido") >= 288
    assert re.search(r"camada 5, pronta para a CCEE\s+288 intervalos\s+288 intervalos\s+sim", page)
    assert re.search(r"decodificadas dos seus octetos\s+288 intervalos\s+288 intervalos\s+sim", page)
    with traced.db.connect() as conn:
        conn.execute("UPDATE reading_day SET pulses[8] = pulses[8] + 1")
    found = day_page(traced.db, PROFILE, traced.uc_code, DAY, Language.PORTUGUESE, MARKET)
    assert not found.is_identical
    assert "é DIFERENTE em" in found.document.verdict.text
    differs = {check.computed for check in found.found.checks if not check.is_identical}
    assert differs == {"differs in intervals 8"}


def test_the_command_writes_page_and_paper(
    traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMF_DATABASE_URL", traced.db.url)
    monkeypatch.setenv("SMF_DATA_DIR", str(traced.db.data_dir))
    page, paper = tmp_path / "trace.html", tmp_path / "trace.pdf"

    done = CliRunner().invoke(
        app, [traced.uc_code, f"{END:%Y-%m-%dT%H:%M}", "--html", str(page), "--pdf", str(paper)]
    )

    assert done.exit_code == 0, done.output
    assert "Refeito dos octetos: idêntico." in done.output
    assert "A conta" in page.read_text(encoding="utf-8")
    found = interval_page(traced.db, PROFILE, traced.uc_code, END, Language.PORTUGUESE, MARKET)
    assert paper.read_bytes() == to_pdf(found.document)
    monkeypatch.setenv("SMF_LANG", "en")
    shown = CliRunner().invoke(app, [traced.uc_code, f"{DAY}"])
    assert (shown.exit_code, shown.output.count("measured")) >= (0, 288)
    nowhere = CliRunner().invoke(
        app, [traced.uc_code, f"{DAY}", "--html", str(tmp_path / "no" / "file.html")]
    )
    assert (nowhere.exit_code, "No such file or directory" in nowhere.output) == (11, True)
