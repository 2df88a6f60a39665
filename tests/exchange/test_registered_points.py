"""Losses and meters by instant, several points of a UC: file -> database -> five layers -> what CCEE has."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from pathlib import Path

import pytest

from derivation import checking
from derivation.window import Window
from storage.database import Database
from storage.registry import export_registry
from tests.derivation.world import DAY, NOW, curve
from tests.exchange.registered import CODE, SHEETS, Operator, Sheets, derived, load, query, read
from vee.layers.rounding import MILLI

LOSSES = ["point_code", "kind", "percent", "valid_from", "valid_to"]
INSTALLATIONS = SHEETS["installations"][0]


def milli(value: Fraction) -> Fraction:
    """As CCEE is told: three decimals, half up."""
    return Fraction((value * MILLI * 2 + 1) // 2, MILLI)


def sent(db: Database, day: dt.date = DAY) -> list[Fraction]:
    operator = Operator(db)
    summary = operator.deliver(day)
    assert (summary.accepted, summary.blocked, summary.problems) == (1, {}, []), summary
    return operator.held(CODE, day)[1]


def is_conserved(db: Database, day: dt.date = DAY) -> bool:
    found = checking.layers(db, Window(day, day, 0, 1))
    return found.by_losses.holds and found.by_rounding.holds and found.never_zero.holds


@pytest.mark.case("E11")
@pytest.mark.req("TR-2c", "TR-2b")
@pytest.mark.parametrize(
    ("since", "first"), [("00:15", 3), ("00:00", 0), ("00:17", 4), ("23:59", 288), ("13:00:01", 157)]
)
def test_losses_change_within_a_day(embedded_db: Database, tmp_path: Path, since: str, first: int) -> None:
    """E11: from the interval on that begins at the instant or after it."""
    at = f"{DAY} {since}"
    losses = [
        LOSSES,
        ["P1", "transformation", "2.5", "2026-01-01", at],
        ["P1", "transformation", "1", at, ""],
        ["P1", "line", "1.2", "2026-01-01", ""],
    ]
    load(embedded_db, tmp_path, {**SHEETS, "losses": losses})
    pulses = curve(7)
    read(embedded_db, {"00000001": pulses})
    derived(embedded_db)
    line = Fraction("1.012")
    before, after = Fraction("1.025") * line, Fraction("1.01") * line
    kwh = [Fraction(value or 0, 100) for value in pulses]
    assert sent(embedded_db) == [
        milli(value * (before if slot < first else after)) for slot, value in enumerate(kwh)
    ]
    assert is_conserved(embedded_db)


def test_losses_come_back_from_an_export_to_the_second(embedded_db: Database, tmp_path: Path) -> None:
    losses = [
        LOSSES,
        ["P1", "line", "1.2", "20/11/2026 00:15", ""],
        ["P1", "line", "1", "", "2026-11-20 00:15"],
    ]
    load(embedded_db, tmp_path, {**SHEETS, "losses": losses})
    export_registry(embedded_db, tmp_path / "out")
    assert "2026-11-20 00:15:00-03:00" in (tmp_path / "out" / "losses.csv").read_text()
    assert not load(embedded_db, tmp_path, {"losses": losses}).has_changes


@pytest.mark.req("TR-2b")
def test_a_constant_changes_within_a_day(embedded_db: Database, tmp_path: Path) -> None:
    """The same meter with another constant from 10:00 on: nothing is missing."""
    at = f"{DAY} 10:00"
    meters = [INSTALLATIONS, ["00000001", "P1", "main", "1", "100", "2026-01-01", at],
              ["00000001", "P1", "main", "2", "100", at, ""]]  # fmt: skip
    load(embedded_db, tmp_path, {**SHEETS, "installations": meters})
    pulses = curve(7)
    read(embedded_db, {"00000001": pulses})
    derived(embedded_db)
    assert sent(embedded_db) == [
        Fraction((value or 0) * (1 if slot < 120 else 2), 100) for slot, value in enumerate(pulses)
    ]


@pytest.mark.case("E7")
@pytest.mark.req("TR-2e", "TR-2b")
@pytest.mark.parametrize("days_between", [0, 1])
def test_a_gap_between_two_meters_is_estimated(
    embedded_db: Database, tmp_path: Path, days_between: int
) -> None:
    """E7: out at 10:00, the next one in at 14:00, of the same day or of the next one."""
    day = DAY - dt.timedelta(days=1)
    until = day + dt.timedelta(days=days_between)
    load(embedded_db, tmp_path, SHEETS)
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc_status SET valid = daterange('2026-09-01', NULL)")
    history = [dt.date(2026, 9, 1) + dt.timedelta(days=n) for n in range((day - dt.date(2026, 9, 1)).days)]
    for earlier in history:
        read(embedded_db, {"00000001": [100] * 288}, earlier)
    derived(embedded_db, *history)
    swap = [INSTALLATIONS, ["00000001", "P1", "main", "1", "100", "2026-01-01", f"{day} 10:00"],
            ["00000002", "P1", "main", "1", "100", f"{until} 14:00", ""]]  # fmt: skip
    load(embedded_db, tmp_path, {"installations": swap})
    read(embedded_db, {"00000001": [100] * 120 + [None] * 168}, day)
    read(embedded_db, {"00000002": [None] * 168 + [100] * 120}, until)
    read(embedded_db, {"00000002": [100] * 288}, until + dt.timedelta(days=1))
    days = [day + dt.timedelta(days=n) for n in range(days_between + 1)]
    derived(embedded_db, *days)
    for touched in days:
        ((denominator, numerators),) = query(
            embedded_db,
            "SELECT denominator, numerators FROM series_latest WHERE layer = 3 AND day = %s",
            touched,
        )
        assert [Fraction(value, denominator) for value in numerators] == [1] * 288
    if days_between == 0:
        # More than half a day estimated waits for a person (V18).
        assert sent(embedded_db, day) == [1] * 288
    estimated = query(
        embedded_db,
        "SELECT coalesce(sum(last_slot - first_slot + 1), 0)::int FROM estimate WHERE day = ANY(%s)", days,
    )  # fmt: skip
    assert estimated == [(48 if days_between == 0 else 168 + 168,)]


def test_before_the_first_meter_and_after_the_last_nothing_is_estimated(
    embedded_db: Database, tmp_path: Path
) -> None:
    only = [INSTALLATIONS, ["00000001", "P1", "main", "1", "100", f"{DAY} 10:00", f"{DAY} 20:00"]]
    load(embedded_db, tmp_path, {**SHEETS, "installations": only})
    read(embedded_db, {"00000001": [None] * 120 + [1] * 120 + [None] * 48})
    derived(embedded_db)
    assert query(embedded_db, "SELECT state, cause FROM uc_day_outcome") == [
        ("incomplete", "no_installation")
    ]


# --- several points (sum, difference, share) ----------------------------------------------------------------


def two_points(sign: str = "add", share: str = "1", since: str = "2026-01-01") -> Sheets:
    return {
        **SHEETS,
        "points": [["code", "uc_code", "sign", "share"], ["P1", CODE, "add", "1"], ["P2", CODE, sign, share]],
        "installations": [*SHEETS["installations"], ["00000002", "P2", "main", "1", "300", since, ""]],
    }


@pytest.mark.req("TR-2b", "TR-2c")
@pytest.mark.parametrize(
    ("sign", "share", "weight"),
    [
        ("add", "1", 1),
        ("subtract", "1", -1),
        ("add", "1/3", Fraction(1, 3)),
        ("subtract", "25%", -Fraction(1, 4)),
    ],
)
@pytest.mark.parametrize("has_losses", [False, True])
def test_a_uc_is_the_sum_of_its_points(
    embedded_db: Database, tmp_path: Path, sign: str, share: str, weight: Fraction, has_losses: bool
) -> None:
    sheets = two_points(sign, share)
    at = f"{DAY} 06:00"
    if has_losses:
        sheets["losses"] = [LOSSES, ["P1", "transformation", "2.5", "2026-01-01", ""],
                            ["P2", "line", "1.7", "2026-01-01", at], ["P2", "line", "3", at, ""]]  # fmt: skip
    load(embedded_db, tmp_path, sheets)
    assert not load(embedded_db, tmp_path, sheets).has_changes
    first, second = [(value or 0) + 300 for value in curve(1)], [(value or 0) for value in curve(2)]
    read(embedded_db, {"00000001": first, "00000002": second})
    derived(embedded_db)
    mine = Fraction("1.025") if has_losses else Fraction(1)

    def other(slot: int) -> Fraction:
        return Fraction(1) if not has_losses else Fraction("1.017") if slot < 72 else Fraction("1.03")

    expected = [
        milli(Fraction(a, 100) * mine + weight * Fraction(b, 300) * other(slot))
        for slot, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    assert sent(embedded_db) == expected
    assert is_conserved(embedded_db)


def test_a_point_counts_from_its_first_meter_on(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, tmp_path, two_points(since=f"{DAY} 12:00"))
    read(embedded_db, {"00000001": [100] * 288, "00000002": [None] * 144 + [300] * 144})
    derived(embedded_db)
    assert sent(embedded_db) == [1] * 144 + [2] * 144


def test_what_one_point_lacks_the_uc_lacks(embedded_db: Database, tmp_path: Path) -> None:
    load(embedded_db, tmp_path, two_points())
    read(embedded_db, {"00000001": [100] * 288, "00000002": [None] * 3 + [300] * 285})
    derived(embedded_db)
    ((numerators, denominator),) = query(
        embedded_db, "SELECT numerators, denominator FROM series_day WHERE layer = 1"
    )
    assert numerators == [None] * 3 + [2 * denominator] * 285
    # The rest of the hour is known, so the hour's mean fills it (annex 7.2).
    assert sent(embedded_db) == [2] * 288
    assert query(embedded_db, "SELECT method, last_slot::int FROM estimate") == [("inside_hour", 2)]


def test_a_points_backup_meter_stands_for_it_alone(embedded_db: Database, tmp_path: Path) -> None:
    sheets = two_points()
    sheets["meters"] = [*SHEETS["meters"], ["00000003", "M"]]
    sheets["installations"] = [
        *sheets["installations"], ["00000003", "P2", "backup", "1", "300", "2026-01-01", ""]
    ]  # fmt: skip
    load(embedded_db, tmp_path, sheets)
    days = [DAY - dt.timedelta(days=n) for n in range(7)]
    for day in days:
        whole = {"00000001": [100] * 288, "00000002": [300] * 288, "00000003": [300] * 288}
        if day == DAY:
            whole["00000002"] = [300] * 100 + [None] * 36 + [300] * 152
        read(embedded_db, whole, day)
    derived(embedded_db)
    assert sent(embedded_db) == [2] * 288
    origins = query(embedded_db, "SELECT origin FROM series_day WHERE layer = 3 AND day = %s", DAY)[0][0]
    assert [int(octet) for octet in origins[100:136]] == [2] * 36, "backup"


def test_a_changed_share_derives_the_open_days_again(embedded_db: Database, tmp_path: Path) -> None:
    today = NOW.date() - dt.timedelta(days=1)
    load(embedded_db, tmp_path, two_points())
    read(embedded_db, {"00000001": [100] * 288, "00000002": [300] * 288}, today)
    derived(embedded_db, today)
    (before,) = query(embedded_db, "SELECT coalesce(max(seq), 0) FROM touched_day")
    load(embedded_db, tmp_path, {"points": two_points(share="1/2")["points"]})
    touched = query(embedded_db, "SELECT DISTINCT day FROM touched_day WHERE seq > %s", before[0])
    assert touched == [(today,)]
    derived(embedded_db, today)
    assert query(embedded_db, "SELECT energy_kwh::int FROM uc_day_outcome") == [(288 * 3 // 2,)]
