"""From estimated energy to the integers that are sent, and the hours that CCEE would refuse."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import polars as pl
import pytest

from faults import DeveloperFault, OperatorFault
from tests.vee.builders import SLOTS, registry, series, values_of, with_hour
from vee.layers.losses import adjust, loss_factor
from vee.layers.rounding import round_half_up, to_ccee
from vee.musd import MusdParams, check

DAY = date(2026, 6, 3)
LOSS_SCHEMA = {
    "uc_id": pl.Int64,
    "kind": pl.String,
    "valid_from": pl.Date,
    "valid_to": pl.Date,
    "percent": pl.Decimal(scale=6),
    "compensated_at": pl.String,
}


def losses(*rows: tuple[str, date | None, date | None, str, str], uc_id: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        [(uc_id, kind, begin, end, Decimal(percent), at) for kind, begin, end, percent, at in rows],
        schema=LOSS_SCHEMA,
        orient="row",
    )


TRANSFORMATION = ("transformation", None, None, "2.5", "platform")
LINE = ("line", None, None, "1.2", "platform")


@pytest.mark.parametrize(
    ("rows", "mode", "exact", "sent"),
    [
        ([TRANSFORMATION], "product", "12.653625", "12.654"),
        ([TRANSFORMATION, LINE], "product", "12.8054685", "12.805"),
        ([TRANSFORMATION, LINE], "additive", "12.801765", "12.802"),
        ([], "product", "12.345", "12.345"),
    ],
)
def test_losses_worked(rows: list[Any], mode: str, exact: str, sent: str) -> None:
    result = adjust(series({(1, DAY): ["12.345"] * SLOTS}), losses(*rows), mode)
    assert values_of(result.adjusted, 1, DAY)[0] == Fraction(exact)
    assert values_of(to_ccee(result.adjusted), 1, DAY)[0] == Fraction(sent)


def test_factors() -> None:
    assert loss_factor("2.5", "1.2") == Fraction("1.0373")
    assert loss_factor("2.5", "1.2", "additive") == Fraction("1.037")
    with pytest.raises(OperatorFault, match="unknown loss mode"):
        loss_factor(1, 1, "geometric")


def test_a_change_at_midnight_acts_from_the_first_interval_of_the_day() -> None:
    rows = losses(
        ("transformation", None, DAY, "2.5", "platform"), ("transformation", DAY, None, "1", "platform")
    )
    before = DAY - timedelta(days=1)
    estimated = series({(1, before): ["100"] * SLOTS, (1, DAY): ["100"] * SLOTS})
    adjusted = adjust(estimated, rows).adjusted
    assert values_of(adjusted, 1, before)[-1] == Fraction("102.5")
    assert values_of(adjusted, 1, DAY)[0] == 101


def test_a_loss_is_not_applied_on_the_day_on_which_it_ends() -> None:
    rows = losses(("transformation", None, DAY, "2.5", "platform"), ("line", DAY, None, "1", "platform"))
    ended = adjust(series({(1, DAY): ["100"] * SLOTS}), rows.head(1)).adjusted
    assert values_of(ended, 1, DAY)[0] == 100
    assert values_of(adjust(series({(1, DAY): ["100"] * SLOTS}), rows).adjusted, 1, DAY)[0] == 101


def test_a_loss_compensated_in_the_meter_is_not_applied() -> None:
    rows = losses(("transformation", None, None, "2.5", "meter"), ("line", None, None, "1", "none"))
    result = adjust(series({(1, DAY): ["100"] * SLOTS}), rows)
    assert values_of(result.adjusted, 1, DAY)[0] == 100
    assert result.quarantined.is_empty()


def test_a_product_beyond_64_bits_is_still_exact_or_set_aside() -> None:
    den = 2**31 - 1
    wide = series({(1, DAY): [Fraction(10**9 * 41 * k, den) for k in range(SLOTS)]})
    fine = losses(("transformation", None, None, "2.500001", "platform"))
    result = adjust(wide, fine)
    expected = Fraction(10**9 * 41 * 287, den) * Fraction("1.02500001")
    kept = values_of(result.adjusted, 1, DAY)[287]
    assert kept in (expected, None)
    assert (kept is None) == (result.quarantined.height == 1)
    too_fine = series({(2, DAY): [Fraction(k, 2**62 - 1) for k in range(SLOTS)]})
    result = adjust(too_fine, losses(TRANSFORMATION, uc_id=2))
    assert result.quarantined["stage"].to_list() == ["arithmetic"]
    assert set(values_of(result.adjusted, 2, DAY)) == {None}


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        ("10.00000007", True),
        ("9223372036854774", True),
        ("9223372036854775.9", False),
        ("9223372036854776", False),
        (2**60, False),
    ],
)
def test_what_cannot_be_said_in_thousandths_is_set_aside(value: Any, is_kept: bool) -> None:
    result = adjust(series({(1, DAY): [value] * SLOTS}), losses())
    assert result.quarantined["stage"].to_list() == ([] if is_kept else ["arithmetic"])
    sent = Fraction(round_half_up(Fraction(value)), 1000)
    assert values_of(to_ccee(result.adjusted), 1, DAY)[0] == (sent if is_kept else None)


@pytest.mark.parametrize(
    ("value", "milli"),
    [("0.0005", 1), ("0.00049999999", 0), ("1.0015", 1002), ("2.5", 2500), ("0", 0), (Fraction(1, 3), 333)],
)
def test_half_goes_up_at_the_third_decimal(value: Any, milli: int) -> None:
    assert round_half_up(Fraction(value)) == milli
    assert values_of(to_ccee(series({(1, DAY): [value, None]})), 1, DAY) == [Fraction(milli, 1000), None]


def test_rounding_beyond_the_fast_bound_is_exact() -> None:
    value = Fraction(2**62 - 1, 2**40)
    rounded = to_ccee(series({(1, DAY): [value, 0]}))
    assert values_of(rounded, 1, DAY)[0] == Fraction(round_half_up(value), 1000)


LARGEST = 2**63 - 1


@pytest.mark.parametrize("den", [1, 7, 1000, 2**40 + 1, LARGEST // 2, LARGEST // 2 + 1, LARGEST])
def test_rounding_is_exact_on_both_sides_of_where_64_bits_end(den: int) -> None:
    bound = (LARGEST - den) // 2000
    most = LARGEST * den // 1000
    for number in {0, 1, bound, bound + 1, 2 * bound - 1, 3 * bound, LARGEST}:
        if number > most:
            continue
        frame = series({(1, DAY): [0, 0]}).with_columns(
            denominator=pl.lit(den, pl.Int64), numerators=pl.lit([number, None], pl.List(pl.Int64))
        )
        assert to_ccee(frame)["numerators"].to_list() == [[round_half_up(Fraction(number, den)), None]]


def test_what_is_too_large_in_thousandths_is_never_sent() -> None:
    frame = series({(1, DAY): [0]}).with_columns(numerators=pl.lit([LARGEST // 1000 + 1], pl.List(pl.Int64)))
    with pytest.raises(DeveloperFault, match="does not fit"):
        to_ccee(frame.with_columns(denominator=pl.lit(1, pl.Int64)))


WORKED_HOUR = ["15.2"] + ["15.3"] * 6 + ["15.4"] * 5


def day_with_hour_ten() -> list[Any]:
    return with_hour(["1"] * SLOTS, 10, WORKED_HOUR)


def test_the_check_runs_after_losses() -> None:
    musd = registry([(1, DAY)], musd_kw="150")
    estimated = series({(1, DAY): day_with_hour_ten()})
    as_measured = check(to_ccee(adjust(estimated, losses()).adjusted), musd)
    assert as_measured.hours.select("hour", "energy_kwh", "is_rejected").rows() == [
        (10, Decimal("184.000"), False)
    ]
    as_sent = check(to_ccee(adjust(estimated, losses(TRANSFORMATION)).adjusted), musd)
    line = as_sent.hours.row(0, named=True)
    assert (line["hour"], line["energy_kwh"], line["is_rejected"]) == (10, Decimal("188.603"), True)
    assert (line["musd_kw"], line["limit_kwh"]) == (150, Decimal("187.5"))
    assert as_sent.lost.select("rejected_hours", "lost_kwh").rows() == [(1, Decimal("188.603"))]


@pytest.mark.parametrize(("last", "is_rejected"), [("15.625", False), ("15.626", True)])
def test_only_strictly_above_is_rejected(last: str, is_rejected: bool) -> None:
    hour = ["15.625"] * 11 + [last]
    result = check(
        to_ccee(series({(1, DAY): with_hour(["0"] * SLOTS, 1, hour)})), registry([(1, DAY)], musd_kw="150")
    )
    assert result.hours["is_rejected"].to_list() == [is_rejected]


def test_a_peak_inside_an_hour_within_the_limit_is_no_rejection() -> None:
    hour = ["50"] * 3 + ["0"] * 9
    result = check(
        to_ccee(series({(1, DAY): with_hour(["0"] * SLOTS, 1, hour)})), registry([(1, DAY)], musd_kw="150")
    )
    assert result.hours.is_empty()


def test_policies() -> None:
    rounded = to_ccee(series({(1, DAY): with_hour(["1"] * SLOTS, 10, ["20"] * 12)}))
    musd = registry([(1, DAY)], musd_kw="150")
    sent = check(rounded, musd)
    assert sent.series.equals(rounded)
    assert sent.held.is_empty()
    assert check(rounded, musd, MusdParams(policy="hold_day")).held.rows() == [(1, DAY)]
    omitted = check(rounded, musd, MusdParams(policy="omit_hours")).series
    values = values_of(omitted, 1, DAY)
    assert values[108:120] == [None] * 12
    assert None not in values[:108] + values[120:]
    # 180 kWh are above the MUSD and within what CCEE takes.
    alerted = to_ccee(series({(1, DAY): with_hour(["1"] * SLOTS, 10, ["15"] * 12)}))
    listed = check(alerted, musd, MusdParams(policy="omit_hours"))
    assert listed.hours["is_rejected"].to_list() == [False]
    assert listed.series.equals(alerted)
    with pytest.raises(OperatorFault, match="unknown policy"):
        check(rounded, musd, MusdParams(policy="hope"))


def test_no_musd_means_ccees_default_not_zero() -> None:
    rounded = to_ccee(series({(1, DAY): ["60"] * SLOTS}))
    undeclared = registry([(1, DAY)], musd_kw=None)
    result = check(rounded, undeclared)
    assert result.hours["musd_kw"].unique().to_list() == [Decimal(500)]
    assert result.hours["is_rejected"].all()
    assert check(rounded, undeclared, MusdParams(default_musd_kw=None)).hours.is_empty()


def test_a_partly_missing_hour_counts_what_it_has() -> None:
    hour = [None] * 6 + ["40"] * 6
    result = check(
        to_ccee(series({(1, DAY): with_hour(["0"] * SLOTS, 24, hour)})), registry([(1, DAY)], musd_kw="150")
    )
    assert result.hours.select("hour", "is_rejected").rows() == [(24, True)]
