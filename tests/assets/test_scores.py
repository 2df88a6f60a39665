"""The score as an asset: a run, its pictures where they are linked, and a check that warns."""

from __future__ import annotations

import asyncio
import datetime as dt

import dagster as dg
import httpx
import pytest

from assets.resources import CceeAccess, Clock, Metering
from assets.scores import CHECK, NAME, build, build_check
from derivation.run import derive
from derivation.scores.expected_errors import above_limit
from derivation.scores.scoring import score_estimates
from pipelines.evidence import build_app
from storage.database import Database
from storage.settings import ScoreSettings
from tests.dagster_strict import strict_dagster
from tests.derivation.world import DAY, NOW, add_points, curve, put_readings

pytestmark = strict_dagster()


@pytest.fixture
def db(embedded_db: Database) -> Database:
    """Four UCs with sixty days of pulses at random: an estimate of them is far off."""
    with embedded_db.connect() as conn:
        points = add_points(conn, 4)
    days = [DAY - dt.timedelta(n) for n in range(110)]
    put_readings(
        embedded_db,
        [(point.meter_id, day, curve(point.uc_id + 9 * day.toordinal())) for point in points for day in days],
    )
    derive(embedded_db, days[-1], DAY, as_of=NOW, run_id="r")
    return embedded_db


def run(db: Database, selection: dg.AssetSelection | None = None) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [build(), build_check()],
        selection=selection,
        resources={
            "metering": Metering(url=db.url, data_dir=str(db.data_dir)),
            "clock": Clock(at=NOW.isoformat()),
            "ccee": CceeAccess(),
        },
    )


async def linked(db: Database, address: str) -> httpx.Response:
    """What the evidence pages answer."""
    transport = httpx.ASGITransport(build_app(db.data_dir, [], lambda: db))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/" + address.split("/", 3)[3])


@pytest.mark.req("TR-2b", "TR-2e")
def test_a_run_shows_its_table_and_pictures_and_is_checked(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMF_SCORES_UC_DAYS", "80")
    monkeypatch.setenv("SMF_SCORES_LEAST_GAPS", "5")
    monkeypatch.setenv("SMF_SCORES_WARN_SHARE", "0.05")
    done = run(db)

    metadata = done.asset_materializations_for_node(NAME)[0].metadata
    assert 20 < metadata["gaps"].value <= metadata["uc_days"].value
    assert "| mascarado | ccee-pdc-1.8-r1 | A |" in str(metadata["placar"].value)
    for name in ("erro_por_metodo", "lacunas"):
        answer = asyncio.run(linked(db, str(metadata[name].value).rsplit("(", 1)[1].rstrip(")")))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("image/svg+xml")
        assert "<circle" in answer.text or "n " in answer.text
    (checked,) = done.get_asset_check_evaluations()
    assert (checked.check_name, checked.passed, checked.severity) == (
        CHECK,
        False,
        dg.AssetCheckSeverity.WARN,
    )
    assert any(" A " in line or "inside_hour" in line for line in checked.metadata["above"].value)

    monkeypatch.setenv("SMF_SCORES_WARN_SHARE", "10")
    (checked,) = run(db, dg.AssetSelection.all_asset_checks()).get_asset_check_evaluations()
    assert checked.passed


@pytest.mark.req("TR-2b")
def test_only_methods_in_use_that_nobody_must_approve_are_warned_of(db: Database) -> None:
    chosen = ScoreSettings(uc_days=80, default_gaps="10:00+240 12:00+15", window_days=108)
    found = score_estimates(db, as_of=NOW, run_id="r", chosen=chosen).scores
    both = {"ccee-pdc-1.8-r1", "chain-e"}

    assert "no_history_musd" in set(found["method"])
    warned = above_limit(found, both, 1, 0.0)
    assert {row["strategy"] for row in warned} == both
    assert not {row["method"] for row in warned} & {"no_history_musd", "E5"}
    assert [row["mae_share"] for row in warned] == sorted((r["mae_share"] for r in warned), reverse=True)
    assert {row["strategy"] for row in above_limit(found, {"chain-e"}, 1, 0.0)} == {"chain-e"}
    assert above_limit(found, both, 10_000, 0.0) == []
    assert above_limit(found, both, 1, 1e9) == []
