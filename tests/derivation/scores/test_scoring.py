"""Estimates are scored: good days masked, estimated by the same path, compared, kept; late data enter."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import polars as pl
import psycopg
import pytest

from derivation.run import derive
from derivation.scores.expected_errors import expected_errors
from derivation.scores.scoring import ScoreSummary, score_estimates
from faults import OperatorFault
from storage.database import Database
from storage.settings import ScoreSettings
from tests.derivation.registers import put_registers
from tests.derivation.world import DAY, NOW, Point, add_points, put_readings, with_gap
from vee.scores.classes import ALL

ONE_DAY = dt.timedelta(days=1)
KWH = Fraction(9, 1250)
# The days of November: the closed months before them are their history.
CHOSEN = ScoreSettings(
    window_days=20, uc_days=100, days=20, default_gaps="10:00+240 03:05+10 18:00+60", least_gaps=5
)
Pulses = list[int | None]


def load(uc_id: int, day: dt.date) -> Pulses:
    """A load that follows the hour, larger on workdays, never the same twice."""
    scale = (3 if day.weekday() < 5 else 2) * (1 + uc_id % 3)
    noise = random.Random(uc_id * 1_000_000 + day.toordinal())
    return [scale * (40 + 20 * (slot // 12 % 12)) + noise.randrange(9) for slot in range(288)]


def put_days(db: Database, points: Sequence[Point], first: dt.date, last: dt.date) -> None:
    days = [first + n * ONE_DAY for n in range((last - first).days + 1)]
    put_readings(db, [(p.meter_id, day, load(p.uc_id, day)) for p in points for day in days])
    derive(db, first, last, as_of=NOW, run_id="history")


def score(db: Database, chosen: ScoreSettings = CHOSEN, at: dt.datetime = NOW) -> ScoreSummary:
    return score_estimates(db, as_of=at, run_id="score", chosen=chosen)


def five_points(db: Database) -> list[Point]:
    with db.connect() as conn:
        made = add_points(conn, 5)
    put_days(db, made, dt.date(2026, 8, 9), DAY)
    return made


@pytest.fixture
def points(embedded_db: Database) -> list[Point]:
    """Five UCs with the closed months of the window and twenty days of November, measured and derived."""
    return five_points(embedded_db)


def row(found: pl.DataFrame, **where: str) -> dict[str, float]:
    wanted = {"gap_length": ALL, "uc_class": ALL, "source": "masked"} | where
    return found.filter(**wanted).row(0, named=True)


def pulses_of(db: Database, uc_id: int, day: dt.date) -> Pulses:
    with db.connect() as conn:
        found = conn.execute(
            "SELECT r.pulses FROM reading_day r JOIN installation i ON i.meter_id = r.meter_id "
            "JOIN point p ON p.id = i.point_id WHERE p.uc_id = %s AND r.day = %s AND r.channel = 1",
            [uc_id, day],
        ).fetchone()
    assert found is not None
    pulses: Pulses = found[0]
    return pulses


def energy(db: Database, uc_id: int, day: dt.date, first: int, last: int) -> Fraction:
    """Layer 3, latest version."""
    with db.connect() as conn:
        found = conn.execute(
            "SELECT denominator, numerators FROM series_latest WHERE uc_id = %s AND day = %s AND layer = 3",
            [uc_id, day],
        ).fetchone()
    assert found is not None
    return Fraction(sum(found[1][first : last + 1]), found[0])


@pytest.mark.req("TR-2b", "TR-2e")
def test_good_days_are_masked_estimated_and_compared(embedded_db: Database, points: list[Point]) -> None:
    found = score(embedded_db)

    assert (found.run.shapes_from, found.run.shapes, found.run.not_filled) == ("setting", 3, 0)
    # One gap a UC in three days of twenty.
    assert found.run.gaps == found.run.uc_days == 5 * 7
    by_rule = [row(found.scores, method=name) for name in ("A", "B", "inside_hour")]
    of_rule_a = by_rule[0]
    assert sum(one["gaps"] for one in by_rule) == 35
    assert set(found.scores["method"]) == {"A", "B", "inside_hour", "E3", "E4"}
    of_a = found.errors.filter(method="A")
    energies = of_a["estimated_kwh"], of_a["measured_kwh"]
    differences = energies[0] - energies[1]
    assert of_rule_a["measured_kwh"] == pytest.approx(energies[1].sum())
    assert of_rule_a["bias_share"] == pytest.approx(differences.sum() / energies[1].sum())
    assert of_rule_a["mae_share"] == pytest.approx(differences.abs().sum() / energies[1].sum())
    shares = (differences.abs() / energies[1]).to_numpy()
    assert of_rule_a["p90_share"] == pytest.approx(np.quantile(shares, 0.9))
    # What each class came to is what all came to.
    classes = found.scores.filter(pl.col("uc_class") != ALL, method="A", gap_length=ALL)
    assert classes["gaps"].sum() == of_rule_a["gaps"]
    assert set(classes["uc_class"]) == {"under_2400_kwh/varying", "under_24000_kwh/varying"}


@pytest.mark.req("TR-2e", "X-trace")
def test_a_masked_gap_is_estimated_as_a_real_one_would_be(embedded_db: Database, points: list[Point]) -> None:
    """The same interval missing for real, derived: the same energy, to the last digit of a float."""
    db, one_shape = embedded_db, replace(CHOSEN, default_gaps="10:00+240")
    found = score(db, one_shape).errors.filter(strategy="ccee-pdc-1.8-r1")
    assert found.height >= 6
    for error in found.head(4).iter_rows(named=True):
        uc_id, day = error["uc_id"], error["day"]
        pulses = pulses_of(db, uc_id, day)
        assert sum(Fraction(value or 0) for value in pulses[120:168]) * KWH == pytest.approx(
            error["measured_kwh"]
        )
        with db.connect() as conn:
            conn.execute(
                "UPDATE reading_day SET pulses = %s WHERE day = %s AND meter_id = %s",
                [with_gap(pulses, 120, 167), day, uc_id],
            )
        derive(db, day, day, as_of=NOW, run_id="real")
        assert float(energy(db, uc_id, day, 120, 167)) == pytest.approx(error["estimated_kwh"], rel=1e-12)


@pytest.mark.req("TR-2b")
def test_a_new_run_is_a_new_version_and_a_seed_decides_the_draw(
    embedded_db: Database, points: list[Point]
) -> None:
    db, few = embedded_db, replace(CHOSEN, uc_days=12, days=4)
    runs = [score(db, chosen) for chosen in (few, few, replace(few, seed=2))]

    assert [one.run.id for one in runs] == [1, 2, 3]
    assert runs[0].scores.equals(runs[1].scores)
    assert runs[0].errors.equals(runs[1].errors)
    assert not runs[0].errors.equals(runs[2].errors)
    assert runs[0].run.hash == runs[1].run.hash != runs[2].run.hash
    with db.connect() as conn:
        stored = conn.execute("SELECT score_run_id, count(*) FROM estimate_score GROUP BY 1 ORDER BY 1")
        assert [count for _, count in stored] == [one.scores.height for one in runs]
    for statement in ("UPDATE estimate_score SET gaps = 0", "DELETE FROM score_run"):
        with db.connect() as conn, pytest.raises(psycopg.errors.RestrictViolation):
            conn.execute(statement)


@pytest.mark.req("TR-2b")
def test_gaps_have_the_shapes_of_the_window_and_doubted_days_none(
    embedded_db: Database, points: list[Point]
) -> None:
    db, day = embedded_db, DAY - ONE_DAY
    with db.connect() as conn:
        conn.execute(
            "UPDATE reading_day SET pulses = %s WHERE day = %s AND meter_id = %s",
            [with_gap(load(1, day), 30, 95), day, points[0].meter_id],
        )
        # A spike that V07 does not let pass: its day is held.
        spiked = [*load(2, day)[:100], 60_000, *load(2, day)[101:]]
        conn.execute(
            "UPDATE reading_day SET pulses = %s WHERE day = %s AND meter_id = %s",
            [spiked, day, points[1].meter_id],
        )
        # The meter was read since, and does not have what is missing.
        conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
            "VALUES (%s, 'c', 'routine', 'nbr14522', 'tcp://x', %s, 'complete')",
            [points[0].meter_id, NOW],
        )
    derive(db, day, day, as_of=NOW, run_id="r")

    found = score(db, replace(CHOSEN, uc_days=2000, days=90, window_days=90))

    assert (found.run.shapes_from, found.run.shapes) == ("stored", 1)
    assert set(found.errors["gap_length"]) == {"2h_to_6h"}
    assert set(found.errors.filter(strategy="ccee-pdc-1.8-r1")["slots"]) == {66}
    taken = set(found.errors.select("uc_id", "day").iter_rows())
    assert len(taken) > 100
    assert not taken & {(points[0].uc_id, day), (points[1].uc_id, day)}


@pytest.mark.req("TR-2e")
def test_a_backup_meter_and_registers_are_scored_as_they_act(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        with_backup, with_registers = add_points(conn, 2)
        conn.execute("INSERT INTO meter (serial, model_id) SELECT 'B1', id FROM meter_model")
        conn.execute(
            "INSERT INTO installation (meter_id, point_id, role, valid, pulse_energy_num, pulse_energy_den) "
            "SELECT m.id, p.id, 'backup', tstzrange('2026-01-01Z', NULL), 9, 1250 FROM meter m, point p "
            "WHERE m.serial = 'B1' AND p.uc_id = %s",
            [with_backup.uc_id],
        )
        backup_id = conn.execute("SELECT id FROM meter WHERE serial = 'B1'").fetchone()
    assert backup_id is not None
    first = DAY - 40 * ONE_DAY
    days = [first + n * ONE_DAY for n in range(41)]
    off = {day: [(value or 0) + 1 for value in load(with_backup.uc_id, day)] for day in days}
    put_readings(db, [(backup_id[0], day, off[day]) for day in days])
    total = 1000
    readings = []
    for day in days:
        readings.append((f"{day} 00:00-03", total))
        total += sum(value or 0 for value in load(with_registers.uc_id, day))
    put_registers(db, with_registers, [*readings, (f"{DAY + ONE_DAY} 00:00-03", total)])
    put_days(db, [with_backup, with_registers], first, DAY)

    found = score(db, replace(CHOSEN, default_gaps="10:00+240"))

    backup = row(found.scores, method="E2", strategy="chain-e")
    pulse = float(KWH)
    assert backup["bias_share"] == pytest.approx(48 * pulse * backup["gaps"] / backup["measured_kwh"])
    # The register knows the energy of the gap; only its spread over the intervals is estimated.
    bound = row(found.scores, method="E4+E0")
    assert (bound["gaps"] > 0, bound["mae_share"]) == (True, pytest.approx(0, abs=1e-12))
    assert bound["interval_mae_share"] > 0


@pytest.mark.req("TR-2e")
def test_a_method_that_needs_a_persons_word_is_scored_before_it_is_given(embedded_db: Database) -> None:
    """A UC without closed history: rule A refuses, and 0.7 x MUSD says how far off it would be."""
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 2)
    put_days(db, points, DAY - 12 * ONE_DAY, DAY)

    found = score(db, replace(CHOSEN, default_gaps="10:00+240"))

    assert row(found.scores, method="no_history_musd")["bias_share"] > 0
    with db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM estimate_approval").fetchone() == (0,)
    uc_id, scopes = points[0].uc_id, []
    for least in (1, 30):
        settings = replace(db.settings, scores=replace(CHOSEN, least_gaps=least))
        told = expected_errors(Database(db.url, settings), [uc_id])
        assert told is not None
        said = told.of(uc_id, "ccee-pdc-1.8-r1", "no_history_musd", 48, 12)
        assert said is not None
        scopes.append((said.gap_length, said.uc_class))
    # Where few gaps are of a length and class, all of the method speak.
    assert scopes == [("2h_to_6h", "under_2400_kwh/varying"), (ALL, ALL)]
    assert told is not None
    assert told.of(points[0].uc_id, "ccee-pdc-1.8-r1", "B", 12, 12) is None


def test_without_a_good_day_there_is_no_score(embedded_db: Database) -> None:
    with pytest.raises(OperatorFault) as caught:
        score(embedded_db)
    assert "measured whole" in str(caught.value)
    with embedded_db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM score_run").fetchone() == (0,)
    with pytest.raises(OperatorFault) as caught:
        score(embedded_db, replace(CHOSEN, default_gaps="10:01+240"))
    assert "10:01+240" in str(caught.value)


# --- late data ----------------------------------------------------------------------------------------------


@pytest.mark.req("TR-2e", "X-trace")
def test_late_readings_replace_an_estimate_and_the_difference_is_kept(db: Database) -> None:
    point, day = five_points(db)[0], DAY - ONE_DAY
    truth = load(point.uc_id, day)
    late = [(value or 0) + 3 for value in truth]
    with db.connect() as conn:
        conn.execute(
            "UPDATE reading_day SET pulses = %s WHERE day = %s AND meter_id = %s",
            [with_gap(truth, 120, 167), day, point.meter_id],
        )
    derive(db, day, day, as_of=NOW, run_id="with a gap")
    estimated = energy(db, point.uc_id, day, 120, 155)
    arriving: Pulses = [value if 120 <= slot <= 155 else None for slot, value in enumerate(late)]

    put_readings(db, [(point.meter_id, day, arriving)], at=NOW)
    for run_id in ("late", "again"):
        derive(db, day, day, as_of=NOW, run_id=run_id)

    with db.connect() as conn:
        kept = conn.execute(
            "SELECT uc_id, day, first_slot, last_slot, strategy, method, gap_slots, estimated_kwh, "
            "measured_kwh, run_id FROM estimate_replaced"
        ).fetchall()
    measured = sum(Fraction(value) for value in late[120:156]) * KWH
    assert energy(db, point.uc_id, day, 120, 155) == measured
    ((*where, told, was, run_id),) = kept
    assert where == [point.uc_id, day, 120, 155, "ccee-pdc-1.8-r1", "A", 48]
    assert abs(Fraction(told) - estimated) <= Fraction(1, 10**9)
    assert (Fraction(was), run_id) == (measured, "late")

    # The day is delivered, and the rest comes, too: a version beside the one that CCEE has.
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO submission (agent_id, uc_id, day, version, series_version, profile, body_sha256, "
            "body_bytes, cause, run_id) "
            "SELECT agent_id, id, %s, 1, 1, 'p', '\\x00', 1, 'first', 'r1' FROM uc WHERE id = %s",
            [day, point.uc_id],
        )
    rest: Pulses = [value if 156 <= slot <= 167 else None for slot, value in enumerate(late)]
    put_readings(db, [(point.meter_id, day, rest)], at=NOW)
    derive(db, day, day, as_of=NOW, run_id="rest")
    with db.connect() as conn:
        versions = conn.execute(
            "SELECT max(version) FROM series_day WHERE uc_id = %s AND day = %s", [point.uc_id, day]
        ).fetchone()
    assert versions == (2,)
    # Both enter the score, apart from the masked gaps.
    found = score(db, at=NOW + dt.timedelta(hours=1))
    assert (found.run.replaced, found.run.shapes_from) == (2, "stored")
    real = row(found.scores, method="A", source="replaced")
    assert (real["gaps"], real["intervals"]) == (1, 36)
    assert real["measured_kwh"] == pytest.approx(float(measured))
    assert real["bias_share"] == pytest.approx(float(estimated / measured - 1))
    # What was left was a gap of an hour, between collected ones: rule B.
    assert row(found.scores, method="B", source="replaced")["intervals"] == 12
    assert row(found.scores, method="A")["gaps"] > 1


@pytest.mark.req("TR-2e")
def test_nothing_is_noted_where_an_estimate_stays_or_a_person_sets_it(
    embedded_db: Database, points: list[Point]
) -> None:
    db, point, day = embedded_db, points[0], DAY - ONE_DAY
    with db.connect() as conn:
        conn.execute(
            "UPDATE reading_day SET pulses = %s WHERE day = %s AND meter_id = %s",
            [with_gap(load(point.uc_id, day), 120, 167), day, point.meter_id],
        )
    derive(db, day, day, as_of=NOW, run_id="with a gap")
    arriving: Pulses = [5 if slot == 100 else None for slot in range(288)]
    put_readings(db, [(point.meter_id, day, arriving)])
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO decision (kind, state, uc_id, day, first_slot, last_slot, payload, reason, "
            "asked_by, asked_at) VALUES ('set', 'in_force', %s, %s, 130, 130, %s, 'r', 'p', now())",
            [point.uc_id, day, '{"kwh": "1.5"}'],
        )
    derive(db, day, day, as_of=NOW, run_id="again")
    with db.connect() as conn:
        assert conn.execute("SELECT count(*) FROM estimate_replaced").fetchone() == (0,)
