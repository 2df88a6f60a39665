"""`smf scores`, and what stands beside an estimate in `smf trace` and in exported tables."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from derivation.run import derive
from storage.database import Database
from storage.registry.workbook import read_workbook
from tests.derivation.world import DAY, NOW, Point, add_points, curve, put_readings, with_gap
from tests.pipelines.cli.command import smf

ONE_DAY = dt.timedelta(days=1)
GAP_DAY = DAY - 3 * ONE_DAY
AS_OF = "2026-11-21T06:00"


@pytest.fixture
def points(embedded_db: Database) -> list[Point]:
    """Three UCs with a hundred days, one gap of four hours in them."""
    with embedded_db.connect() as conn:
        made = add_points(conn, 3)
    days = [DAY - n * ONE_DAY for n in range(104)]
    put_readings(
        embedded_db,
        [
            (
                point.meter_id,
                day,
                with_gap(curve(point.uc_id), 120, 167)
                if (point, day) == (made[0], GAP_DAY)
                else curve(point.uc_id + day.weekday()),
            )
            for point in made
            for day in days
        ],
    )
    derive(embedded_db, days[-1], DAY, as_of=NOW, run_id="r")
    return made


@pytest.mark.req("TR-2b", "TR-2e", "X-trace")
def test_an_estimate_is_shown_with_its_expected_error(
    embedded_db: Database, points: list[Point], tmp_path: Path
) -> None:
    def run(*words: str, expect: int = 0) -> str:
        done = smf(*words, url=embedded_db.url, cwd=tmp_path)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    uc = points[0].uc_code
    at = f"{GAP_DAY}T12:00"
    assert "not scored yet: smf scores run" in run("scores", expect=1)
    assert json.loads(run("scores", "--json", expect=1)) == {"run": None, "scores": []}
    assert "not scored yet: smf scores run" in run("trace", uc, at)
    run("export", "series", "antes.csv", "--from", str(GAP_DAY), "--to", str(GAP_DAY), "--as", "ana")

    said = run("scores", "run", "--as-of", AS_OF, "--uc-days", "60")
    assert "score 1 of 2026-11-21" in said
    assert "of the setting" in said
    table = json.loads(run("scores", "--json"))
    assert table["run"]["id"] == 1
    of_all = [one for one in table["scores"] if one["gap_length"] == one["uc_class"] == "all"]
    by_method = {(one["strategy"], one["method"]): one for one in of_all}
    rule_a = by_method["ccee-pdc-1.8-r1", "A"]
    rows = list(csv.DictReader(io.StringIO(run("scores", "--csv"))))
    assert len(rows) == len(table["scores"])
    assert rows[0]["score_run"] == "1"
    assert "A" in run("scores", "--method", "A", "--by-class")
    run("scores", "--run", "7", expect=11)
    run("scores", "run", "--as-of", "2026-01-01T00:00", expect=11)

    traced = run("trace", uc, at)
    (line,) = [line for line in traced.splitlines() if "expected error of" in line]
    assert f"expected error of A for gaps of any length, all classes: ±{rule_a['mae_share']:.1%}"[:-1] in line
    assert f"(n = {rule_a['gaps']})" in line
    document = json.loads(run("trace", uc, at, "--json"))
    assert document["expected_error"]["share"] == rule_a["mae_share"]

    for name in ("s.csv", "s.xlsx", "s.parquet"):
        told = json.loads(
            run("export", "series", name, "--from", str(GAP_DAY), "--to", str(DAY), "--as", "ana", "--json")
        )
        assert (told["rows"], told["ucs"], told["estimated"]) == (3 * 4 * 288, 3, 48)
    run("export", "series", "s.csv", "--from", str(DAY), "--to", str(DAY), "--as", "ana", expect=11)
    run("export", "series", "s.doc", "--from", str(DAY), "--to", str(DAY), "--as", "ana", expect=11)
    check_tables(embedded_db, tmp_path, points[0], rule_a)


def check_tables(db: Database, folder: Path, point: Point, rule_a: dict[str, float]) -> None:
    parquet = pl.read_parquet(folder / "s.parquet")
    texts = pl.read_csv(folder / "s.csv", schema_overrides={"uc": pl.String, "energy_kwh": pl.String})
    sheet = read_workbook(folder / "s.xlsx")["series"]
    with db.connect() as conn:
        sent = conn.execute(
            "SELECT numerators FROM series_latest WHERE layer = 5 AND uc_id = %s AND day = %s",
            [point.uc_id, GAP_DAY],
        ).fetchone()
    assert sent is not None
    mine = parquet.filter(pl.col("uc") == point.uc_code).sort("interval_start").head(288)
    assert mine["energy_kwh"].to_list() == [Decimal(value) / 1000 for value in sent[0]]
    estimated = mine.filter(pl.col("method").is_not_null())
    assert set(estimated["origin"]) == {"estimated"}
    assert estimated["interval_end"].min() == dt.datetime.combine(GAP_DAY, dt.time(10, 5))
    assert set(estimated["expected_error_share"]) == {rule_a["mae_share"]}
    assert set(estimated["expected_error_n"]) == {rule_a["gaps"]}
    assert set(estimated["score_run"]) == {1}
    assert mine.filter(pl.col("method").is_null())["expected_error_share"].null_count() == 240
    assert texts["energy_kwh"].to_list() == [f"{value:.3f}" for value in parquet["energy_kwh"]]
    assert texts["method"].to_list() == parquet["method"].to_list()
    headings = [sheet[1][column].text for column in range(len(parquet.columns))]
    assert headings == parquet.columns
    assert len(sheet) == 1 + parquet.height
    for number in (2, 300, 1 + parquet.height):
        told = {headings[column]: cell.text for column, cell in sheet[number].items()}
        row = parquet.row(number - 2, named=True)
        assert (told["uc"], told.get("method")) == (row["uc"], row["method"])
        assert Decimal(told["energy_kwh"]) == row["energy_kwh"]
    before = pl.read_csv(folder / "antes.csv")
    assert before["method"].count() == 48
    assert before["expected_error_share"].null_count() == before.height
    with db.connect() as conn:
        kept = conn.execute("SELECT count(*) FROM audit WHERE action = 'export.series'").fetchone()
    assert kept == (4,)


@pytest.mark.req("TR-2e", "X-trace")
def test_a_late_interval_says_which_estimate_it_replaced(
    embedded_db: Database, points: list[Point], tmp_path: Path
) -> None:
    put_readings(embedded_db, [(points[0].meter_id, GAP_DAY, curve(points[0].uc_id))])
    derive(embedded_db, GAP_DAY, GAP_DAY, as_of=NOW, run_id="late")
    at = ("trace", points[0].uc_code, f"{GAP_DAY}T12:00")
    done = smf(*at, url=embedded_db.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "measured late" in line]
    assert "replaced an estimate of A in slots 120 to 167" in line
    (kept,) = json.loads(smf(*at, "--json", url=embedded_db.url, cwd=tmp_path).stdout)["replaced"]
    measured = sum(value or 0 for value in curve(points[0].uc_id)[120:168]) * Decimal(9) / 1250
    assert Decimal(kept["measured_kwh"]) == measured
    assert Decimal(kept["difference_kwh"]) == Decimal(kept["estimated_kwh"]) - measured

    scored = smf("scores", "run", "--as-of", AS_OF, "--json", url=embedded_db.url, cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    rows = json.loads(scored.stdout)["scores"]
    assert [one["gaps"] for one in rows if one["source"] == "replaced" and one["gap_length"] == "all"][
        :1
    ] == [1]


@pytest.mark.req("TR-2b", "TR-2e", "X-decide")
def test_who_is_asked_to_allow_an_estimate_is_told_its_error(embedded_db: Database, tmp_path: Path) -> None:
    """Without closed history, 0.7 x MUSD stands to be approved: it is scored before anybody does."""
    with embedded_db.connect() as conn:
        points = add_points(conn, 2)
    days = [DAY - n * ONE_DAY for n in range(12)]
    put_readings(
        embedded_db,
        [
            (p.meter_id, day, curve(p.uc_id) if day != DAY else with_gap(curve(1), 120, 167))
            for p in points
            for day in days
        ],
    )
    derive(embedded_db, days[-1], DAY, as_of=NOW, run_id="r")
    asked = ("decide", "approve", points[0].uc_code, str(DAY), "--method", "no_history_musd", "--preview")
    before = smf(*asked, url=embedded_db.url, cwd=tmp_path)
    assert "expected error of no_history_musd: not scored yet: smf scores run" in before.stdout, before.stderr
    scored = smf("scores", "run", "--as-of", AS_OF, "--json", url=embedded_db.url, cwd=tmp_path)
    (share, n) = next(
        (one["mae_share"], one["gaps"])
        for one in json.loads(scored.stdout)["scores"]
        if (one["method"], one["gap_length"], one["uc_class"]) == ("no_history_musd", "all", "all")
    )
    told = smf(*asked, url=embedded_db.url, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert f"gaps of any length, all classes: ±{share:.1%}".replace("%", " %") + f" (n = {n})" in told.stdout
