"""What rules catch is not delivered as measured: held, decided, derived again, sent; through the database."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from derivation.layers import DerivationParameters
from derivation.pending import touched_days
from derivation.run import derive
from storage.database import Database
from storage.review import suspects
from tests.derivation.registers import put_registers
from tests.derivation.sending import sent_day
from tests.derivation.world import NOW, Point, add_points, curve, put_readings
from vee.parameters import from_table

# A Thursday, with workdays before it; the tests' morning after.
DAY = dt.date(2026, 11, 19)
AT = NOW - dt.timedelta(days=1)
Pulses = list[int | None]


def steady(seed: int, level: int = 300) -> Pulses:
    """A load that changes little: pulses between 90 % and 110 % of a level."""
    return [level * 9 // 10 + (value or 0) * level // 2000 for value in curve(seed)]


def with_run(pulses: Pulses, first: int, values: Sequence[int | None]) -> Pulses:
    return [*pulses[:first], *values, *pulses[first + len(values) :]]


def days_before(count: int) -> list[dt.date]:
    return [DAY - dt.timedelta(n) for n in range(count, 0, -1)]


@pytest.fixture
def db(embedded_db: Database) -> Database:
    return embedded_db


@pytest.fixture
def point(db: Database) -> Point:
    """One UC with MUSD 1,000 kW and two weeks of ordinary days, derived."""
    with db.connect() as conn:
        (made,) = add_points(conn, 1)
    put_readings(db, [(made.meter_id, day, steady(day.toordinal())) for day in days_before(14)])
    derive(db, DAY - dt.timedelta(14), DAY - dt.timedelta(1), as_of=AT, run_id="before")
    return made


def put(db: Database, point: Point, pulses: Pulses, day: dt.date = DAY) -> None:
    put_readings(db, [(point.meter_id, day, pulses)])


def derived(db: Database, day: dt.date = DAY, **changes: Any) -> tuple[str, str]:
    """State and cause of the only UC-day."""
    derive(db, day, day, as_of=AT, run_id="r", **changes)
    with db.connect() as conn:
        row = conn.execute("SELECT state, cause FROM uc_day_outcome WHERE day = %s", [day]).fetchone()
    assert row is not None
    return row


def waiting(db: Database, day: dt.date = DAY) -> list[tuple[str, int, int, str]]:
    with db.connect() as conn:
        return conn.execute(
            "SELECT rule, first_slot, last_slot, severity FROM suspect WHERE state = 'open' AND day = %s "
            "ORDER BY rule, first_slot",
            [day],
        ).fetchall()


def evidence(db: Database, rule: str) -> dict[str, Any]:
    with db.connect() as conn:
        row = conn.execute("SELECT evidence FROM suspect WHERE rule = %s ORDER BY id", [rule]).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0]
    return found


def decide(db: Database, state: str, rule: str = "V%") -> None:
    with db.connect() as conn:
        ids = [
            row[0]
            for row in conn.execute(
                "SELECT id FROM suspect WHERE state <> 'withdrawn' AND rule LIKE %s", [rule]
            )
        ]
        suspects.decide(conn, ids, state, AT)


def sent(db: Database, point: Point, folder: Path) -> list[tuple[str, Decimal]] | None:
    return sent_day(db, point.uc_code, DAY, AT, folder)


# --- A12: above what the installation can carry -------------------------------------------------------------

HUGE = 2_777_778  # pulses of 0.0072 kWh: 20,000 kWh in five minutes


@pytest.mark.case("A12")
@pytest.mark.req("TR-2b")
def test_twenty_megawatt_hours_in_five_minutes_are_not_sent(
    db: Database, point: Point, tmp_path: Path
) -> None:
    put(db, point, with_run(steady(1), 100, [HUGE]))
    assert derived(db) == ("held", "suspect")
    assert ("V05", 100, 100, "hold") in waiting(db)
    shown = evidence(db, "V05")
    assert (shown["limit_kw"], shown["parameters"]["demand_times"]) == (5000.0, 5.0)
    assert shown["largest_kw"] == pytest.approx(240_000, rel=1e-4)
    assert sent(db, point, tmp_path) is None
    with db.connect() as conn:
        reasons = conn.execute(
            "SELECT layer, get_byte(reason, 100), numerators[101] IS NOT NULL FROM series_day "
            "WHERE day = %s AND layer IN (1, 2, 5) ORDER BY layer",
            [DAY],
        ).fetchall()
    # The value stays in every layer; its slot says that it waits.
    assert reasons == [(1, 30, True), (2, 36, True), (5, 36, True)]


@pytest.mark.req("TR-2b", "TR-2e")
def test_a_rejected_value_is_estimated_and_sent_as_adjusted(
    db: Database, point: Point, tmp_path: Path
) -> None:
    put(db, point, with_run(steady(1), 100, [HUGE]))
    derived(db)
    before = touched_days(db, 0, 1)
    decide(db, "rejected", "V05")
    assert touched_days(db, max(entry.last_seq for entry in before), 1)[0].day == DAY
    assert derived(db) == ("ready", "")
    assert waiting(db) == []
    body = sent(db, point, tmp_path)
    assert body is not None
    assert [slot for slot, (kind, _) in enumerate(body) if kind == "AJUSTADO"] == [100]
    assert body[100][1] < 5
    with db.connect() as conn:
        method = conn.execute("SELECT method FROM estimate WHERE day = %s", [DAY]).fetchall()
    assert len(method) == 1


@pytest.mark.req("TR-2b")
def test_an_accepted_value_is_sent_as_measured_and_other_values_wait_again(
    db: Database, point: Point, tmp_path: Path
) -> None:
    put(db, point, with_run(steady(1), 100, [HUGE]))
    derived(db)
    decide(db, "accepted")
    assert derived(db) == ("ready", "")
    body = sent(db, point, tmp_path)
    assert body is not None
    assert body[100] == ("MEDIDO", Decimal("20000.002"))
    with db.connect() as conn:
        conn.execute("UPDATE reading_day SET pulses[101] = pulses[101] + 1 WHERE day = %s", [DAY])
    assert derived(db) == ("held", "suspect")


# --- A13: zeros that no outage explains ---------------------------------------------------------------------


@pytest.mark.case("A13")
@pytest.mark.req("TR-2b")
def test_eight_hours_of_zeros_on_a_working_day_are_suspect(
    db: Database, point: Point, tmp_path: Path
) -> None:
    put(db, point, with_run(steady(1), 96, [0] * 96))
    assert derived(db) == ("held", "suspect")
    assert waiting(db) == [("V14", 96, 191, "suspect")]
    shown = evidence(db, "V14")
    assert shown["similar_days"] == 8
    assert shown["expected_kwh"] == pytest.approx(96 * 300 * 0.0072, rel=0.05)
    assert sent(db, point, tmp_path) is None


@pytest.mark.req("TR-2b")
def test_zeros_of_a_recorded_outage_are_measured(db: Database, point: Point, tmp_path: Path) -> None:
    put(db, point, with_run(steady(1), 96, [0] * 96))
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO session (id, meter_id, collector, purpose, protocol, url, started_at) "
            "OVERRIDING SYSTEM VALUE VALUES (1, %s, 'c', 'routine', 'nbr14522', 'tcp://x', %s)",
            [point.meter_id, AT],
        )
        conn.execute(
            "INSERT INTO outage (meter_id, started_at, ended_at, session_id) VALUES (%s, %s, %s, 1)",
            [point.meter_id, "2026-11-19 07:58-03", "2026-11-19 16:01-03"],
        )
    assert derived(db) == ("ready", "")
    body = sent(db, point, tmp_path)
    assert body is not None
    assert body[100] == ("MEDIDO", Decimal(0))


# --- A14: main against backup over seven days ---------------------------------------------------------------


def add_backup(db: Database, point: Point) -> int:
    with db.connect() as conn:
        row = conn.execute(
            "INSERT INTO meter (serial, model_id) SELECT '88880001', id FROM meter_model RETURNING id"
        ).fetchone()
        assert row is not None
        conn.execute(
            "INSERT INTO installation (meter_id, point_id, role, valid, pulse_energy_num, pulse_energy_den) "
            "SELECT %s, id, 'backup', tstzrange('2026-01-01Z', NULL), 9, 1250 FROM point",
            [row[0]],
        )
    return int(row[0])


@pytest.mark.case("A14")
@pytest.mark.req("TR-2b", "TR-2e")
@pytest.mark.parametrize(("times", "method"), [(10, "A"), (1, "E2")])
def test_a_backup_that_disagreed_for_seven_days_fills_nothing(
    db: Database, point: Point, times: int, method: str
) -> None:
    backup = add_backup(db, point)
    rows = [(day, steady(day.toordinal())) for day in days_before(7)]
    put_readings(db, [(backup, day, [value and value * times for value in pulses]) for day, pulses in rows])
    put_readings(db, [(backup, DAY, steady(1, 300 * times))])
    derived(db)
    with db.connect() as conn:
        methods = conn.execute("SELECT DISTINCT method FROM estimate WHERE day = %s", [DAY]).fetchall()
        said = conn.execute(
            "SELECT detail ->> 'difference' FROM verdict WHERE rule = 'V12' AND day = %s", [DAY]
        ).fetchall()
    assert methods == ([(method,)] if method == "E2" else [])
    assert said == ([] if method == "E2" else [("9",)])


# --- V06: registers with the dates of their readings --------------------------------------------------------


@pytest.mark.req("TR-2b")
def test_intervals_that_the_register_does_not_confirm_are_suspect(db: Database, point: Point) -> None:
    before, day = steady((DAY - dt.timedelta(1)).toordinal()), steady(1)
    put(db, point, day)
    # From 06:02 of the day before to 06:02 of the day: slot 72 is cut by both readings.
    truth = sum(value or 0 for value in [*before[72:], *day[:72]])
    put_registers(db, point, [("2026-11-18 06:02-03", 500), ("2026-11-19 06:02-03", 500 + truth)])
    assert derived(db) == ("ready", "")
    put_registers(db, point, [("2026-11-19 23:58-03", 500 + truth + sum(value or 0 for value in day[72:]))])
    assert derived(db) == ("ready", "")

    other = with_run(day, 200, [(day[200] or 0) + 1000])
    with db.connect() as conn:
        conn.execute("UPDATE reading_day SET pulses = %s WHERE day = %s", [other, DAY])
    assert derived(db) == ("held", "suspect")
    (found,) = waiting(db)
    assert found == ("V06", 72, 287, "suspect")
    shown = evidence(db, "V06")
    assert shown["interval_pulses"] - shown["register_pulses"] >= 1000 - 660
    assert [shown[name][:16].replace("T", " ") for name in ("from", "to")] == [
        "2026-11-19 09:02",
        "2026-11-20 02:58",
    ]


# --- V11: the meter's own constant --------------------------------------------------------------------------


@pytest.mark.req("TR-2b")
def test_a_constant_changed_in_the_registry_is_held_by_the_meters_own(db: Database, point: Point) -> None:
    put(db, point, steady(1))
    with db.connect() as conn:
        row = conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
            "VALUES (%s, 'c', 'routine', 'nbr14522', 'tcp://x', %s, 'complete') RETURNING id",
            [point.meter_id, AT],
        ).fetchone()
        assert row is not None
        conn.execute(
            "INSERT INTO meter_parameters (session_id, meter_id, command, at, values) "
            """VALUES (%s, %s, 81, %s, '{"constants": [{"numerator": 72, "denominator": 10000}]}')""",
            [row[0], point.meter_id, AT],
        )
    assert derived(db) == ("ready", "")
    with db.connect() as conn:
        conn.execute("UPDATE installation SET pulse_energy_num = 18")
    assert derived(db) == ("held", "suspect")
    assert ("V11", 0, 287, "hold") in waiting(db)
    (difference,) = evidence(db, "V11")["differences"]
    assert (difference["registered"], difference["told"]) == ("9/625", "9/1250")
    # Told behind the transformers, it is the same constant.
    with db.connect() as conn:
        conn.execute("UPDATE installation SET tc_ratio = 2, constant_includes_ratios = true")
    assert ("V11", 0, 287, "hold") not in (derived(db), waiting(db))[1]


# --- V13: a phase that carries too little -------------------------------------------------------------------


@pytest.mark.req("TR-2b")
def test_a_meter_that_tells_a_weak_phase_all_day_is_suspect(db: Database, point: Point) -> None:
    put(db, point, steady(1))
    phases = {f"voltage_{k}_v": 127.0 for k in "abc"} | {f"current_{k}_a": 10.0 for k in "abc"}
    for hour, volts in ((8, 88.0), (10, 87.0), (14, 89.0)):
        assert derived(db) == ("ready", "")
        with db.connect() as conn:
            at = dt.datetime.combine(DAY, dt.time(hour + 3, 2), dt.UTC)
            row = conn.execute(
                "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at, outcome) "
                "VALUES (%s, 'c', 'on demand', 'nbr14522', 'tcp://x', %s, 'complete') RETURNING id",
                [point.meter_id, at],
            ).fetchone()
            assert row is not None
            conn.execute(
                "INSERT INTO meter_parameters (session_id, meter_id, command, at, values) "
                "VALUES (%s, %s, 20, %s, %s::jsonb)",
                [row[0], point.meter_id, at, json.dumps({**phases, "voltage_c_v": volts})],
            )
    assert derived(db) == ("held", "suspect")
    assert waiting(db) == [("V13", 96, 168, "suspect")]
    assert evidence(db, "V13")["phases"] == ["voltage 3"]


# --- a fault that lasts, parameters, and repeated runs ------------------------------------------------------


def test_a_fault_that_lasts_never_becomes_what_is_usual(db: Database, point: Point) -> None:
    last = DAY + dt.timedelta(6)
    put_readings(
        db,
        [
            (point.meter_id, day, [value and value * 10 for value in steady(day.toordinal())])
            for day in (DAY + dt.timedelta(n) for n in range(7))
        ],
    )
    late = AT + dt.timedelta(days=8)
    summary = derive(db, DAY, last, as_of=late, run_id="r")
    workdays = 4  # the 20th is a holiday, and Sundays and holidays have a reference of their own
    assert summary.suspects["V16"] >= workdays
    with db.connect() as conn:
        open_days = conn.execute(
            "SELECT day FROM suspect WHERE rule = 'V16' AND state = 'open' ORDER BY day"
        ).fetchall()
    assert open_days[-1] == (last,)


def test_overrides_count_from_day_to_day_and_the_narrowest_wins(db: Database, point: Point) -> None:
    put(db, point, with_run(steady(1), 96, [0] * 96))
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_contract (uc_id, valid, tariff_subgroup) VALUES (%s, '[,)', 'A4')", [point.uc_id]
        )
        conn.execute(
            "INSERT INTO rule_override (rule, parameter, value, tariff_subgroup, valid, reason, set_by) "
            "VALUES ('V14', 'severity', 'info', 'A4', '[2026-11-01,)', 'pivôs', 'ana')"
        )
    assert derived(db) == ("ready", "")
    with db.connect() as conn:
        found = conn.execute("SELECT result FROM verdict WHERE rule = 'V14' AND day = %s", [DAY]).fetchall()
        assert found == [("alert",)]
        conn.execute(
            "INSERT INTO rule_override (rule, parameter, value, uc_id, valid, reason, set_by) "
            "VALUES ('V14', 'severity', 'hold', %s, '[2026-11-01,)', 'UC crítica', 'ana')",
            [point.uc_id],
        )
    assert derived(db) == ("held", "suspect")
    assert waiting(db) == [("V14", 96, 191, "hold")]
    with db.connect() as conn:
        conn.execute("UPDATE rule_override SET valid = daterange('2026-11-01', %s)", [DAY])
    assert derived(db) == ("held", "suspect")
    assert waiting(db) == [("V14", 96, 191, "suspect")]


def test_parameters_by_file_are_kept_with_what_they_made(db: Database, point: Point) -> None:
    put(db, point, with_run(steady(1), 96, [0] * 96))
    changed = from_table(DerivationParameters(), {"rules": {"V14": {"enabled": False}}}, "rules.toml")
    assert derived(db, parameters=changed) == ("ready", "")
    with db.connect() as conn:
        kept = conn.execute(
            "SELECT d.parameters -> 'rules' -> 'V14' FROM series_day s "
            "JOIN derivation d ON d.id = s.derivation_id WHERE s.day = %s AND s.layer = 2",
            [DAY],
        ).fetchone()
    assert kept is not None
    assert kept[0]["enabled"] is False
    assert derived(db) == ("held", "suspect")


def test_a_second_run_changes_nothing(db: Database, point: Point) -> None:
    put(db, point, with_run(steady(1), 96, [0] * 96))
    derived(db)
    with db.connect() as conn:
        before = conn.execute("SELECT * FROM suspect ORDER BY id").fetchall()
        shapes = conn.execute("SELECT * FROM uc_day_shape ORDER BY day").fetchall()
    summary = derive(db, DAY, DAY, as_of=AT + dt.timedelta(hours=1), run_id="again")
    assert (summary.written, summary.suspects) == (0, {"V14": 1})
    assert summary.skipped["V06 no_registers"] == 1
    with db.connect() as conn:
        assert conn.execute("SELECT * FROM suspect ORDER BY id").fetchall() == before
        assert conn.execute("SELECT * FROM uc_day_shape ORDER BY day").fetchall() == shapes
    # Fourteen days that nobody doubts; the day itself gives no shape while it waits.
    assert len(shapes) == 14


def test_a_window_judges_as_its_days_one_by_one(db: Database, point: Point) -> None:
    put(db, point, with_run(steady(1), 96, [0] * 96))
    derived(db)
    one_by_one = waiting(db)
    with db.connect() as conn:
        conn.execute("DELETE FROM uc_day_shape")
    derive(db, DAY - dt.timedelta(14), DAY, as_of=AT, run_id="window")
    assert waiting(db) == one_by_one
