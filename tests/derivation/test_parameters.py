"""What the settings, the file of rule parameters and CCEE's contract say is what days are derived with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from audit.trace import trace
from ccee.profile import Musd, load_profile
from derivation.layers import DerivationParameters
from derivation.parameters import parameters_in_force, parameters_kept
from derivation.run import derive
from faults import OperatorFault
from storage.database import Database
from storage.settings import MarketSettings
from tests.derivation.registers import put_registers
from tests.derivation.world import DAY, NOW, SLOTS, Point, add_points, put_readings
from vee.quality import Reason

CONTRACT = load_profile().musd.params


@pytest.fixture
def point(db: Database) -> Point:
    # One pulse is 1 Wh.
    with db.connect() as conn:
        return add_points(conn, 1, pulse_energy=(1, 1000))[0]


def run(db: Database, parameters: DerivationParameters) -> None:
    derive(db, DAY, DAY, as_of=NOW, run_id="run", parameters=parameters)


def without_rules(parameters: DerivationParameters) -> DerivationParameters:
    """The same, with no rule that could hold the day."""
    rules = {name: replace(params, enabled=False) for name, params in parameters.rules.items()}
    return replace(parameters, rules=rules)


def layer(db: Database, number: int) -> tuple[list[int | None], int, list[int]]:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT numerators, denominator, reason FROM series_latest WHERE layer = %s AND day = %s",
            [number, DAY],
        ).fetchone()
    assert row is not None
    return row[0], row[1], list(row[2])


def outcome(db: Database) -> tuple[str, str]:
    with db.connect() as conn:
        row = conn.execute("SELECT state, cause FROM uc_day_outcome WHERE day = %s", [DAY]).fetchone()
    assert row is not None
    return row[0], row[1]


def hours(db: Database) -> list[tuple[Any, ...]]:
    with db.connect() as conn:
        return conn.execute(
            "SELECT hour, limit_kwh, is_rejected FROM musd_hour WHERE day = %s ORDER BY hour", [DAY]
        ).fetchall()


def with_loud_hour(kwh: int) -> Sequence[int | None]:
    """Flat at 1 MW, and the first hour with so many kWh."""
    return [kwh * 1000 // 12] * 12 + [80_000] * (SLOTS - 12)


@pytest.mark.req("TR-2f")
@pytest.mark.parametrize(
    ("factor", "rejected"), [("1.25", [True]), ("1.3", [False]), ("1.1", [True])], ids=str
)
def test_the_contracts_factor_decides_which_hours_are_rejected(db, point, factor, rejected):
    put_readings(db, [(point.meter_id, DAY, with_loud_hour(1272))])
    musd = replace(load_profile().musd, factor=Decimal(factor))
    run(db, parameters_in_force(MarketSettings(), musd.params))
    found = hours(db)
    assert [row[2] for row in found] == rejected
    assert found[0][1] == 1000 * Decimal(factor)


@pytest.mark.req("TR-2f")
def test_the_contracts_default_stands_in_for_a_musd_that_nobody_declared(db, point):
    with db.connect() as conn:
        conn.execute("DELETE FROM uc_musd")
    put_readings(db, [(point.meter_id, DAY, with_loud_hour(1272))])
    musd = replace(load_profile().musd, default_kw=2000)
    run(db, parameters_in_force(MarketSettings(), musd.params))
    assert hours(db) == []
    with db.connect() as conn:
        said = conn.execute("SELECT detail ->> 'assumed_kw' FROM verdict WHERE rule = 'V21'").fetchone()
    assert said == ("2000",)


@pytest.mark.req("TR-2f")
@pytest.mark.parametrize(
    ("policy", "state", "omitted"),
    [("send_and_alert", "ready", False), ("hold_day", "held", False), ("omit_hours", "incomplete", True)],
)
def test_what_follows_from_a_rejected_hour_is_the_contracts_choice(db, point, policy, state, omitted):
    put_readings(db, [(point.meter_id, DAY, with_loud_hour(1272))])
    musd = replace(load_profile().musd, on_violation=policy)
    run(db, without_rules(parameters_in_force(MarketSettings(), musd.params)))
    values, _, reasons = layer(db, 5)
    assert outcome(db)[0] == state
    assert ([values[0], reasons[0]] == [None, Reason.OMITTED_MUSD]) == omitted


@pytest.mark.req("TR-2c")
def test_losses_add_up_where_the_file_says_so(db, point, tmp_path):
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO point_loss (point_id, kind, percent, compensated_at, valid) "
            "SELECT id, k.kind, k.percent, 'platform', '[2026-01-01,)' FROM point, "
            "(VALUES ('transformation', 2.5), ('line', 1.2)) AS k (kind, percent)"
        )
    put_readings(db, [(point.meter_id, DAY, [1000] * SLOTS)])
    energy = {}
    for mode in ("product", "additive"):
        path = tmp_path / f"{mode}.toml"
        path.write_text(f'loss_mode = "{mode}"\n')
        run(db, parameters_in_force(MarketSettings(rules_path=path), CONTRACT))
        values, den, _ = layer(db, 4)
        energy[mode] = Fraction(values[0] or 0, den)
    assert energy == {"product": Fraction(10373, 10000), "additive": Fraction(1037, 1000)}


def test_a_row_is_made_again_with_the_parameters_that_are_kept_with_it(db, point, tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text("[rules.V05]\nenabled = false\n[estimation]\ne4_days = 3\n")
    chosen = parameters_in_force(MarketSettings(rules_path=path), CONTRACT)
    # Above the limit of V05, which is off: without what is kept, the trace would call it a suspect.
    put_readings(db, [(point.meter_id, DAY, [900_000] * 2 + [80_000] * (SLOTS - 2))])
    run(db, chosen)
    with db.connect() as conn:
        rows = conn.execute("SELECT layer, parameters FROM derivation ORDER BY id").fetchall()
    assert parameters_kept(dict(rows)) == chosen
    found = trace(db, load_profile(), point.uc_code, dt.datetime(2026, 11, 20, 3, 5, tzinfo=dt.UTC))
    assert found.is_identical


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[musd]\nrejection_share = "13/10"', "contract profile"),
        ('[primary]\nzone = "-04:00"', "[market] zone"),
        ("[estimation]\ne5 = 1", "e5"),
        ('loss_mode = "both"', "loss_mode"),
        ("[rules.V99]\nenabled = false", "V99"),
        ("x", "TOML"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(OperatorFault) as caught:
        parameters_in_force(MarketSettings(rules_path=path), CONTRACT)
    assert words in str(caught.value)
    assert str(path) in caught.value.where


def test_the_markets_zone_is_the_one_of_every_rule() -> None:
    chosen = parameters_in_force(MarketSettings(zone="-04:00"), CONTRACT)
    assert {chosen.primary.zone, chosen.validation.zone, chosen.estimation.zone} == {"-04:00"}


def test_the_contracts_numbers_are_the_rules_own_unless_it_says_otherwise() -> None:
    assert Musd(on_violation="send_and_alert", resend_on_change=True).params == DerivationParameters().musd


# --- E0: registers around a gap ---------------------------------------------------------------------------


@pytest.mark.case("E8")
@pytest.mark.req("TR-2e", "X-opening")
def test_an_estimate_adds_up_to_the_registers_around_it(db: Database, point: Point) -> None:
    # Case E8: the residue of rounding goes to the largest interval.
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_estimation (uc_id, valid, strategy) VALUES (%s, '[2026-01-01,)', 'chain-e')",
            [point.uc_id],
        )
        # One pulse is 10 Wh: the register says more than thousandths of the estimate can.
        conn.execute("UPDATE installation SET pulse_energy_num = 1, pulse_energy_den = 100")
    profile = [0] * 96 + [470, 460, 480, 530, 330] + [0] * (SLOTS - 101)
    # The day is a holiday: like the Sundays before it, and All Souls' Day.
    similar = [dt.date(2026, 11, day) for day in (1, 2, 8, 15)]
    put_readings(db, [(point.meter_id, day, profile) for day in similar])
    for day in similar:
        derive(db, day, day, as_of=NOW, run_id="history")
    gap: list[int | None] = [None if 96 <= slot < 101 else value for slot, value in enumerate(profile)]
    put_readings(db, [(point.meter_id, DAY, gap)])
    put_registers(db, point, [(f"{DAY} 00:00-03", 1000), (f"{DAY} 23:00-03", 1000 + 2304)])
    params = DerivationParameters()
    run(db, without_rules(replace(params, estimation=replace(params.estimation, e3_max_slots=0))))
    values, den, reasons = layer(db, 5)
    assert den == 1000
    assert sum(value or 0 for value in values) == 23_040
    assert set(reasons[96:101]) == {Reason.REGISTER_SCALED}
    alone = [round(value * 23_040 / sum(profile)) for value in profile[96:101]]
    assert sum(alone) != 23_040, "the case needs a residue"
    off = [new - old for new, old in zip(values[96:101], alone, strict=True)]
    assert [index for index, step in enumerate(off) if step] == [3], "it went to the largest"
    assert (alone[3], values[99]) == (5_379, 5_380)
