"""A day with a gap, from the meter's socket to the score: estimated, read late, replaced, counted, traced."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from audit.pages import day_page, interval_page
from audit.trace import trace
from ccee.profile import load_profile
from derivation.run import derive
from derivation.scores.scoring import score_estimates
from documents import Language, to_html
from documents.wording import number
from storage.database import Database
from tests.collector.world import collect, meter, query, register, served, truth
from vee.quality import Origin

# A Thursday, cut off at 14:05; the three Thursdays before it are what it is like.
DAY = dt.date(2026, 11, 19)
CUT_OFF = dt.datetime(2026, 11, 19, 17, 7, tzinfo=dt.UTC)
NEXT_MORNING = dt.datetime(2026, 11, 20, 9, 0, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
FIRST_MISSING = 14 * 12 + 1
DAYS = [DAY - dt.timedelta(n) for n in range(21, -1, -1)]


def read(db: Database, now: dt.datetime) -> tuple[int, Fraction, list[int]]:
    """A session over TCP at that time; meter, kWh of a pulse, and what the meter counted on the day."""

    async def session() -> tuple[int, Fraction, list[int]]:
        station = meter(now=now)
        async with served(station) as servers:
            known = query(db, "SELECT id FROM meter")
            if known:
                query(db, "UPDATE unit SET url = %s RETURNING id", servers[0].url)
            else:
                register(db, servers)
            await collect(db, DAYS, now)
        ((meter_id, num, den),) = query(
            db, "SELECT meter_id, pulse_energy_num, pulse_energy_den FROM installation"
        )
        return meter_id, Fraction(num, den), [int(value) for value in truth(station, DAY)[:, 0]]

    return asyncio.run(session())


def as_registered(db: Database) -> None:
    """Active, and estimated by similar days."""
    query(
        db,
        "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc "
        "RETURNING 1",
    )
    query(
        db,
        "INSERT INTO uc_estimation (uc_id, valid, strategy) SELECT id, '[2026-01-01,)', 'chain-e' FROM uc "
        "RETURNING 1",
    )


def page(db: Database, language: Language) -> str:
    """The trace of an interval of the gap, as a page."""
    zone = db.settings.market.tzinfo
    end = dt.datetime(2026, 11, 19, 20, 0, tzinfo=zone)
    return to_html(interval_page(db, load_profile(), "0000000000", end, language, zone).document)


@pytest.mark.req("TR-2b", "TR-2e", "X-trace")
def test_what_a_late_session_brings_is_set_against_the_estimate(embedded_db: Database) -> None:
    db = embedded_db
    read(db, CUT_OFF)
    as_registered(db)
    derive(db, DAYS[0], DAY, as_of=NEXT_MORNING, run_id="cut off")
    ((denominator, numerators, origin),) = query(
        db, "SELECT denominator, numerators, origin FROM series_latest WHERE layer = 3 AND day = %s", DAY
    )
    assert set(origin[:FIRST_MISSING]) == {Origin.MEASURED}
    assert set(origin[FIRST_MISSING:]) == {Origin.ESTIMATED}
    estimated = Fraction(sum(numerators[FIRST_MISSING:]), denominator)

    assert "Ainda não há placar das estimativas" in page(db, Language.PORTUGUESE)

    _, pulse_kwh, counted = read(db, LATER)
    derive(db, DAY, DAY, as_of=LATER, run_id="late")

    ((first, last, method, gap, told, measured),) = query(
        db,
        "SELECT first_slot, last_slot, method, gap_slots, estimated_kwh, measured_kwh FROM estimate_replaced",
    )
    assert (first, last, method, gap) == (FIRST_MISSING, 287, "E4", 288 - FIRST_MISSING)
    assert Fraction(measured) == sum(counted[FIRST_MISSING:]) * pulse_kwh
    assert abs(Fraction(told) - estimated) < Fraction(1, 10**9)

    chosen = replace(db.settings.scores, window_days=7, days=7)
    found = score_estimates(db, as_of=LATER, run_id="score", chosen=chosen)
    (real,) = found.scores.filter(source="replaced", gap_length="all", uc_class="all").rows(named=True)
    assert (real["method"], real["gaps"]) == ("E4", 1)
    assert real["mae_share"] == pytest.approx(float(abs(estimated - Fraction(measured)) / Fraction(measured)))
    # What was missing gives the masks their shape.
    assert (found.run.shapes_from, found.run.shapes) == ("stored", 1)
    masked = found.errors.filter(strategy="chain-e", method="E4")
    assert set(masked["slots"]) == {288 - FIRST_MISSING}

    ((uc_code,),) = query(db, "SELECT code FROM uc")
    end = dt.datetime(2026, 11, 19, 20, 0, tzinfo=db.settings.market.tzinfo)
    traced = trace(db, load_profile(), uc_code, end)
    assert traced.is_identical
    assert traced.layers[2].origin == "measured"
    assert [row["method"] for row in traced.replaced] == ["E4"]
    assert "replaced an estimate of E4" in traced.replaced[0]["words"]
    kept = number(Decimal(measured), Language.PORTUGUESE, 3)
    assert "Medido tarde: antes valia a estimativa E4 nos intervalos 170 a 288" in page(
        db, Language.PORTUGUESE
    )
    assert f"o medidor tinha {kept} kWh" in page(db, Language.PORTUGUESE)
    assert "Measured late: before, the estimate E4 stood in intervals 170 to 288" in page(
        db, Language.ENGLISH
    )


@pytest.mark.req("TR-2e", "X-trace")
def test_pages_say_the_expected_error_in_both_languages(embedded_db: Database) -> None:
    db = embedded_db
    read(db, CUT_OFF)
    as_registered(db)
    derive(db, DAYS[0], DAY, as_of=NEXT_MORNING, run_id="cut off")
    chosen = replace(db.settings.scores, window_days=7, days=7, default_gaps="14:05+595")
    score_estimates(db, as_of=NEXT_MORNING, run_id="score", chosen=chosen)
    ((share, gaps),) = query(
        db,
        "SELECT mae_share, gaps FROM estimate_score WHERE source = 'masked' AND method = 'E4' "
        "AND gap_length = 'all' AND uc_class = 'all'",
    )
    for language, words in (
        (Language.PORTUGUESE, "Erro esperado de E4, lacunas de qualquer duração, todas as classes de UC"),
        (Language.ENGLISH, "Expected error of E4, gaps of any length, all classes"),
    ):
        percent = number(Decimal(str(round(100 * share, 1))), language, 1)
        assert f"{words}: ±{percent} % (n = {gaps})." in page(db, language)
        whole = day_page(db, load_profile(), "0000000000", DAY, language, db.settings.market.tzinfo)
        assert f"±{percent} % (n = {gaps})" in to_html(whole.document)
