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
from storage.meter_lots import Failure, Lot, import_lots, read_lots
from vee.warranty import Liability, lot_report, term_ends_on

pytestmark = pytest.mark.req("CE-lots")

LOT = Lot("L1", "27182", 1000, dt.date(2020, 2, 29))


def failed(day: dt.date, count: int, fault: str = "display", first: int = 0) -> list[Failure]:
    return [Failure(f"{first + n:08d}", day, fault) for n in range(count)]


def test_a_term_ends_on_the_day_of_the_same_number_or_the_next() -> None:
    assert term_ends_on(dt.date(2021, 3, 15), 36) == dt.date(2024, 3, 15)
    assert term_ends_on(dt.date(2020, 2, 29), 36) == dt.date(2023, 3, 1)
    assert term_ends_on(dt.date(2020, 12, 31), 2) == dt.date(2021, 3, 1)
    assert term_ends_on(dt.date(2020, 11, 30), 1) == dt.date(2020, 12, 30)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2090, 1, 1)), st.integers(0, 120))
def test_a_term_has_its_months_and_no_more_than_a_day(day: dt.date, months: int) -> None:
    last = term_ends_on(day, months)
    later = (last.year - day.year) * 12 + last.month - day.month - months
    assert (last.day, later) in ((day.day, 0), (1, 1))


@pytest.mark.parametrize(
    ("day", "count", "liability", "is_flagged"),
    [
        (dt.date(2020, 2, 29), 100, Liability.WARRANTY, False),
        (dt.date(2023, 2, 28), 100, Liability.WARRANTY, False),
        (dt.date(2023, 3, 1), 100, Liability.WARRANTY, False),
        (dt.date(2023, 3, 2), 20, Liability.NORMAL, False),
        (dt.date(2023, 3, 2), 21, Liability.ABOVE_NORMAL, True),
        (dt.date(2025, 3, 1), 21, Liability.ABOVE_NORMAL, True),
        (dt.date(2025, 3, 2), 21, Liability.EXPIRED, True),
    ],
)
def test_two_percent_a_year_after_the_warranty(
    day: dt.date, count: int, liability: Liability, is_flagged: bool
) -> None:
    report = lot_report(LOT, failed(day, count), dt.date(2026, 1, 1))
    (year,) = [year for year in report.years if year.failures]
    assert (year.liability, year.is_flagged) == (liability, is_flagged)
    assert year.rate == Fraction(count, 1000)
    assert report.warranty_until == dt.date(2023, 3, 1)


@pytest.mark.parametrize(("as_of", "is_in"), [(dt.date(2024, 3, 15), True), (dt.date(2024, 3, 16), False)])
def test_the_last_day_of_the_warranty_is_in_it(as_of: dt.date, is_in: bool) -> None:
    lot = Lot("L1", "27182", 100, dt.date(2021, 3, 15))
    report = lot_report(lot, [], as_of)
    assert (report.in_warranty, len(report.years)) == (is_in, 3 if is_in else 4)
    days = [(year.begins_on, year.ends_before) for year in lot_report(lot, [], dt.date(2030, 1, 1)).years]
    assert [ends for _, ends in days[:-1]] == [begins for begins, _ in days[1:]]


def test_a_meter_counts_once_a_year_and_the_running_year_is_open() -> None:
    twice = [*failed(dt.date(2021, 1, 1), 3), *failed(dt.date(2021, 2, 1), 3)]
    report = lot_report(LOT, twice, dt.date(2021, 6, 1))
    assert [(year.failures, year.is_over) for year in report.years] == [(3, True), (0, False)]
    assert report.in_warranty


def test_faults_are_grouped_and_a_systemic_suspect_is_flagged_in_warranty() -> None:
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


def test_a_row_that_a_spreadsheet_spoilt_is_told_with_its_line(embedded_db: Database, tmp_path: Path) -> None:
    lots = tmp_path / "lots.csv"
    lots.write_text(
        "code;model;size;delivered_on;supplier\n"
        'L1;27182;10;2026-01-15;"ACME\nFilial 2\u2028 Sul"\n'
        "L2;27182;10;2026-01-15;ACME;Filial\n"
        "L3;27182;10;31/02/2026;ACME\n"
        "L4;27182;0;2026-01-15;ACME\n"
        "L5;27182;10;2026-01-15;AC\0ME\n"
        "L6;27182\n\n"
        "L7;27182;10;15/01/2026;ACME\n",
        encoding="utf-8",
    )
    with embedded_db.connect() as conn:
        done = import_lots(conn, lots, None, "test")
        assert [one.code for one, _ in read_lots(conn)] == ["L1", "L7"]
    told = {one.line: one.reason for one in done.rejected}
    assert list(told) == [4, 5, 6, 7, 8]
    assert "more fields" in told[4]
    assert "31/02/2026" in told[5]
    assert "size" in told[6]
    assert "NUL" in told[7]
    assert "size is empty" in told[8]
    lots.write_bytes(b"code;model;size;delivered_on\n" + b'L1;"' + b"x" * 200_000 + b'";1;2026-01-01\n')
    with embedded_db.connect() as conn, pytest.raises(OperatorFault, match="field larger"):
        import_lots(conn, lots, None, "test")
    lots.write_bytes("code;model;size;delivered_on;supplier\nL1;1;1;2026-01-01;São\n".encode("cp1252"))
    with embedded_db.connect() as conn, pytest.raises(OperatorFault) as caught:
        import_lots(conn, lots, None, "test")
    assert "UTF-8" in caught.value.remedy


def test_a_lot_is_not_corrected_into_what_its_failures_deny(embedded_db: Database, tmp_path: Path) -> None:
    lots, failures = tmp_path / "lots.csv", tmp_path / "failures.csv"
    head = "code;model;size;delivered_on\n"
    failures.write_text("lot;serial;failed_on;fault\nL1;1;2026-02-01;x\nL1;2;2026-03-01;x\n")
    with embedded_db.connect() as conn:
        lots.write_text(head + "L1;27182;10;2026-01-15\n")
        assert import_lots(conn, lots, failures, "test").rejected == ()
        # They would be left out of the rate in silence, or make it more than all.
        for row, told in (("10;2026-02-02", "after a failure"), ("1;2026-01-15", "2 meters of it")):
            lots.write_text(f"{head}L1;27182;{row}\n")
            (rejected,) = import_lots(conn, lots, None, "test").rejected
            assert told in rejected.reason
        lots.write_text(head + "L1;27182;2;2026-02-01\n")
        assert import_lots(conn, lots, None, "test").lots == 1
