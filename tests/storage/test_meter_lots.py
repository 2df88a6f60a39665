"""Lots: the terms of the purchase, and the way from CSV to a report."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import OperatorFault
from storage.database import Database
from storage.meter_lots import import_lots, read_lots
from storage.warranty import Failure, Liability, Lot, add_months, lot_report

pytestmark = pytest.mark.req("CE-lots")

LOT = Lot("L1", "27182", 1000, dt.date(2020, 2, 29))


def failed(day: dt.date, count: int, fault: str = "display", first: int = 0) -> list[Failure]:
    return [Failure(f"{first + n:08d}", day, fault) for n in range(count)]


def test_months_end_where_a_month_is_short() -> None:
    assert add_months(dt.date(2020, 2, 29), 36) == dt.date(2023, 2, 28)
    assert add_months(dt.date(2020, 12, 31), 2) == dt.date(2021, 2, 28)
    assert add_months(dt.date(2020, 11, 30), 1) == dt.date(2020, 12, 30)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2090, 1, 1)), st.integers(0, 120))
def test_months_never_skip_a_month(day: dt.date, months: int) -> None:
    later = add_months(day, months)
    assert (later.year - day.year) * 12 + later.month - day.month == months


@pytest.mark.parametrize(
    ("day", "count", "liability", "is_flagged"),
    [
        (dt.date(2020, 2, 29), 100, Liability.WARRANTY, False),
        (dt.date(2023, 2, 27), 100, Liability.WARRANTY, False),
        (dt.date(2023, 2, 28), 20, Liability.NORMAL, False),
        (dt.date(2023, 2, 28), 21, Liability.ABOVE_NORMAL, True),
        (dt.date(2025, 2, 27), 21, Liability.ABOVE_NORMAL, True),
        (dt.date(2025, 3, 1), 21, Liability.EXPIRED, True),
    ],
)
def test_two_percent_a_year_after_the_warranty(
    day: dt.date, count: int, liability: Liability, is_flagged: bool
) -> None:
    report = lot_report(LOT, failed(day, count), dt.date(2026, 1, 1))
    (year,) = [year for year in report.years if year.failures]
    assert (year.liability, year.is_flagged) == (liability, is_flagged)
    assert year.rate == Fraction(count, 1000)
    assert report.warranty_until == dt.date(2023, 2, 28)


def test_a_meter_counts_once_a_year_and_the_running_year_is_open() -> None:
    twice = [*failed(dt.date(2021, 1, 1), 3), *failed(dt.date(2021, 2, 1), 3)]
    report = lot_report(LOT, twice, dt.date(2021, 6, 1))
    assert [(year.failures, year.is_over) for year in report.years] == [(3, True), (0, False)]
    assert report.in_warranty


def test_faults_are_grouped_and_the_systemic_suspect_is_flagged_in_warranty_too() -> None:
    report = lot_report(
        LOT,
        [*failed(dt.date(2020, 6, 1), 10, "capacitor"), *failed(dt.date(2020, 7, 1), 9, "display", 50)],
        dt.date(2020, 12, 1),
    )
    assert [(g.fault, g.failures, g.is_suspect) for g in report.faults] == [
        ("capacitor", 10, True),
        ("display", 9, False),
    ]
    assert report.is_flagged


def test_import_is_repeatable_and_the_good_part_flows(db: Database, tmp_path: Path) -> None:
    lots, failures = tmp_path / "lots.csv", tmp_path / "failures.csv"
    lots.write_text(
        "code;model;size;delivered_on;supplier\nL1;27182;7000;2026-01-15;ACME\nL2;36291;x;2026-01-15;\n"
        "L3;36291;1500;15/03/2026;ACME\n"
    )
    failures.write_text(
        "lot,serial,failed_on,fault,note\nL1,00000001,2026-02-01,display,dark\nL9,1,2026-02-01,x,\n"
        "L3,2,2026-01-01,display,\nL1,,2026-02-01,display,\n"
    )
    with db.connect() as conn:
        done = import_lots(conn, lots, failures, "test")
        assert (done.lots, done.failures) == (2, 1)
        assert [(one.file, one.line) for one in done.rejected] == [
            ("lots.csv", 3),
            ("failures.csv", 3),
            ("failures.csv", 4),
            ("failures.csv", 5),
        ]
        again = import_lots(conn, lots, failures, "test")
        assert (again.lots, again.failures, len(again.rejected)) == (0, 0, 4)
        assert conn.execute("SELECT count(*) FROM quarantine WHERE stage = 'lots'").fetchone() == (4,)
        ((lot, failed_ones),) = read_lots(conn, "L1")
        assert lot == Lot("L1", "27182", 7000, dt.date(2026, 1, 15), "ACME")
        assert failed_ones == [Failure("00000001", dt.date(2026, 2, 1), "display", "dark")]
        with pytest.raises(OperatorFault):
            read_lots(conn, "none")
