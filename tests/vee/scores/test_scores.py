"""The draw of gaps, and the arithmetic of errors: examples, edges, and what holds of every draw."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vee.quality import Origin
from vee.scores.classes import ALL, uc_classes
from vee.scores.errors import ERROR_SCHEMA, gap_errors, scores_of
from vee.scores.gaps import SHAPE_SCHEMA, Draw, draw_gaps, gap_shapes, shapes_of_words
from vee.scores.replaced import differences, errors_of_replaced, is_now_measured

MONDAY = dt.date(2026, 11, 16)
SLOTS = 288
ONE_DAY = dt.timedelta(days=1)


def missing(*rows: tuple[int, dt.date, int, int]) -> pl.DataFrame:
    schema = {"uc_id": pl.Int64, "day": pl.Date, "first_slot": pl.Int16, "last_slot": pl.Int16}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_a_gap_goes_on_across_midnight_and_past_a_change_of_cause() -> None:
    shapes = gap_shapes(
        missing(
            (1, MONDAY, 280, 283),
            (1, MONDAY, 284, 287),
            (1, MONDAY + ONE_DAY, 0, 287),
            (1, MONDAY + 2 * ONE_DAY, 0, 11),
            (1, MONDAY + 2 * ONE_DAY, 13, 13),
            (2, MONDAY, 280, 281),
            # Told of twice: as missing then, and in a part as replaced since.
            (3, MONDAY, 10, 40),
            (3, MONDAY, 12, 20),
        ),
        SLOTS,
    )
    assert sorted(shapes.rows()) == [(1, 10, 31), (1, 280, 2), (1, 280, 8 + 288 + 12), (3, 13, 1)]


def test_shapes_are_written_as_begin_and_minutes() -> None:
    shapes = shapes_of_words("00:00+1440 23:55+5", 300)
    assert shapes.rows() == [(0, 0, 288), (0, 287, 1)]
    for words in ("10:00", "10:00+x", "10:03+5", "10:00+7", "10:00+0", "25:00+5", ""):
        with pytest.raises(ValueError, match=r"10:00\+240|whole intervals"):
            shapes_of_words(words, 300)


def test_a_class_says_how_much_and_how_evenly() -> None:
    rows = [
        (1, [1000] * 24),
        (1, [None, *[9_000_000] * 23]),  # not whole: says nothing
        (2, [0] * 20 + [60_000] * 4),
        (3, [1_000_000] * 24),
        (4, [11_000] * 24),
    ]
    shapes = pl.DataFrame(rows, schema={"uc_id": pl.Int64, "hours_wh": pl.List(pl.Int64)}, orient="row")
    assert dict(uc_classes(shapes).iter_rows()) == {
        1: "under_240_kwh/steady",
        2: "under_2400_kwh/varying",
        3: "from_24000_kwh/steady",
        4: "under_2400_kwh/steady",
    }


def good(ucs: int, days: int) -> pl.DataFrame:
    rows = [(uc, MONDAY + n * ONE_DAY, f"c{uc % 2}") for uc in range(ucs) for n in range(days)]
    schema = {"uc_id": pl.Int64, "day": pl.Date, "uc_class": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 287), st.integers(1, 900)), min_size=1, max_size=6),
    st.integers(1, 6),
    st.integers(1, 20),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_gaps_lie_in_good_days_apart_and_the_same_for_a_seed(
    shapes: list[tuple[int, int, int]], ucs: int, days: int, uc_days: int, of_days: int, seed: int
) -> None:
    candidates = good(ucs, days).sample(fraction=0.9, seed=seed)
    forms = pl.DataFrame(shapes, schema=SHAPE_SCHEMA, orient="row")
    pieces = draw_gaps(candidates, forms, Draw(uc_days, of_days, seed), SLOTS)

    again = draw_gaps(
        candidates.sample(fraction=1.0, shuffle=True), forms, Draw(uc_days, of_days, seed), SLOTS
    )
    assert pieces.equals(again), "the order of what is known decides nothing"
    assert pieces["gap"].n_unique() <= uc_days + of_days
    assert pieces.select("uc_id", "day").n_unique() == pieces.height
    assert pieces.join(candidates, on=["uc_id", "day", "uc_class"], how="semi").height == pieces.height
    assert (pieces["first_slot"] <= pieces["last_slot"]).all()
    for (uc_id,), mine in pieces.partition_by("uc_id", as_dict=True).items():
        last: dt.date | None = None
        for _, gap in mine.sort("day").group_by("gap", maintain_order=True):
            told = gap.sort("day")
            whole = list(zip(told["day"], told["first_slot"], told["last_slot"], strict=True))
            for (day, _, end), (next_day, start, _) in pairwise(whole):
                assert (end, start, next_day - day) == (SLOTS - 1, 0, ONE_DAY)
            assert last is None or whole[0][0] > last + 2 * ONE_DAY, uc_id
            last = whole[-1][0]
    lengths = set(
        pieces.group_by("gap").agg(n=(pl.col("last_slot") - pl.col("first_slot") + 1).cast(pl.Int32).sum())[
            "n"
        ]
    )
    assert all(any(length <= form[2] for form in shapes) for length in lengths)


def test_all_weekdays_and_classes_are_drawn_in_turn() -> None:
    forms = shapes_of_words("10:00+60", 300)
    pieces = draw_gaps(good(40, 70), forms, Draw(140, 14, 3), SLOTS)
    by_weekday = pieces.group_by(weekday=pl.col("day").dt.weekday()).agg(pl.col("day").n_unique())
    assert set(by_weekday["day"]) <= {1, 2}
    assert by_weekday.height == 7
    counts = pieces.group_by("uc_class").len()["len"].to_list()
    assert max(counts) - min(counts) <= 0.2 * sum(counts)


def test_a_gap_has_a_shape_that_begins_on_its_weekday() -> None:
    forms = pl.DataFrame([(1, 100, 5), (2, 200, 7)], schema=SHAPE_SCHEMA, orient="row")
    pieces = draw_gaps(good(10, 7), forms, Draw(70, 7, 1), SLOTS)
    by_day = {
        day: set(part["first_slot"]) for (day,), part in pieces.partition_by("day", as_dict=True).items()
    }
    assert by_day.get(MONDAY, {100}) == {100}
    assert by_day.get(MONDAY + ONE_DAY, {200}) == {200}
    # Where none begins on its weekday, any does.
    assert set().union(*by_day.values()) == {100, 200}


def series(kwh: list[int | None], origin: Origin, day: dt.date = MONDAY) -> pl.DataFrame:
    filled = [0 if value is None else int(origin) for value in kwh]
    row = (1, day, 10, kwh, bytes(filled), bytes(30 if value else 0 for value in filled))
    return pl.DataFrame(
        [row],
        schema={
            "uc_id": pl.Int64, "day": pl.Date, "denominator": pl.Int64, "numerators": pl.List(pl.Int64),
            "origin": pl.Binary, "reason": pl.Binary,
        },
        orient="row",
    )  # fmt: skip


def estimates(*rows: tuple[int, int, str, str], day: dt.date = MONDAY) -> pl.DataFrame:
    schema = {
        "uc_id": pl.Int64, "day": pl.Date, "first_slot": pl.Int16, "last_slot": pl.Int16,
        "strategy": pl.String, "method": pl.String, "detail": pl.String,
    }  # fmt: skip
    return pl.DataFrame(
        [(1, day, first, last, "s", method, detail) for first, last, method, detail in rows],
        schema=schema,
        orient="row",
    )


def test_an_error_is_of_the_gap_and_of_each_interval() -> None:
    truth = series([100] * 24, Origin.MEASURED)
    made = series([100] * 4 + [110, 80] + [100] * 18, Origin.MEASURED)
    pieces = missing((1, MONDAY, 4, 5)).with_columns(gap=pl.lit(7), uc_class=pl.lit("c"))
    # One method in two pieces is one estimate; an estimate outside the gap is none of it.
    found = gap_errors(
        pieces,
        truth,
        made,
        estimates((4, 4, "A", "{}"), (5, 5, "A", "{}"), (10, 10, "B", "{}")),
        1,
    )
    (row,) = found.filter(method="A").rows(named=True)
    assert (row["slots"], row["gap_length"]) == (2, "2h_to_6h")
    assert (row["estimated_kwh"], row["measured_kwh"], row["interval_error_kwh"]) == (19.0, 20.0, 3.0)
    assert found.filter(method="B").is_empty()
    bound = gap_errors(pieces, truth, made, estimates((4, 5, "E4", '{"register_factor": "2"}')), 1)
    assert bound["method"].to_list() == ["E4+E0"]
    unknown = series([100] * 4 + [None, 90] + [100] * 18, Origin.MEASURED)
    (row,) = gap_errors(pieces, unknown, made, estimates((4, 5, "A", "{}")), 1).rows(named=True)
    assert (row["slots"], row["estimated_kwh"], row["measured_kwh"]) == (1, 8.0, 9.0)


def test_the_manuals_example_of_a_score() -> None:
    rows = [
        (n, MONDAY, "s", "A", "2h_to_6h", uc_class, 48, made, told, 9.0)
        for n, (made, told, uc_class) in enumerate([(104.0, 100.0, "c"), (47.0, 50.0, "d")])
    ]
    found = scores_of(pl.DataFrame(rows, schema=ERROR_SCHEMA, orient="row"))
    whole = found.filter(gap_length=ALL, uc_class=ALL).row(0, named=True)
    assert (whole["gaps"], whole["intervals"], whole["measured_kwh"]) == (2, 96, 150.0)
    assert whole["bias_share"] == pytest.approx(1 / 150)
    assert whole["mae_share"] == pytest.approx(7 / 150)
    assert whole["interval_mae_share"] == pytest.approx(18 / 150)
    assert whole["p90_share"] == pytest.approx(0.058)
    assert found.height == 2 * (1 + 2)
    assert found.filter(uc_class="d", gap_length=ALL).row(0, named=True)["p90_share"] == pytest.approx(0.06)
    assert scores_of(pl.DataFrame(schema=ERROR_SCHEMA)).is_empty()


def test_what_gives_way_is_told_run_by_run_and_exactly() -> None:
    before = series([7] * 24, Origin.ESTIMATED)
    after_origins = [1, 1, 3, 1] + [3] * 20
    after = series([9] * 24, Origin.MEASURED).with_columns(origin=pl.lit(bytes(after_origins)))
    found = differences(estimates((0, 3, "A", "{}"), (4, 9, "C", "{}")), before, after)
    assert found.select("first_slot", "last_slot", "gap_slots", "estimated_kwh", "measured_kwh").rows() == [
        (0, 1, 24, "1.400000000", "1.800000000"),
        (3, 3, 24, "0.700000000", "0.900000000"),
    ]
    assert found["interval_error_kwh"].to_list() == ["0.400000000", "0.200000000"]
    keys = is_now_measured(estimates((2, 2, "A", "{}"), (4, 9, "C", "{}")), after)
    assert keys.is_empty(), "a slot that stays estimated, and one that was collected and multiplied"
    assert is_now_measured(estimates((2, 3, "A", "{}")), after).rows() == [(1, MONDAY)]
    as_errors = errors_of_replaced(found, pl.DataFrame({"uc_id": [2], "uc_class": ["c"]}), 12)
    assert as_errors["gap_length"].to_list() == ["2h_to_6h", "2h_to_6h"]
    table = scores_of(as_errors)
    assert set(table["uc_class"]) == {ALL}, "a UC of no class counts in all classes together"
