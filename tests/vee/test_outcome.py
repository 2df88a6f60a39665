"""Exactly one state and, when not ready, one cause per UC-day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import orjson
import polars as pl
import pytest

from tests.vee.builders import SLOTS, series
from vee.frames import QUARANTINE_SCHEMA, VERDICT_SCHEMA
from vee.layers.estimation import UNRESOLVED_SCHEMA
from vee.layers.rounding import to_ccee
from vee.outcome import outcomes
from vee.quality import Cause, Reason

DAY = date(2026, 6, 3)
VERDICT = ("V15", 0, 287, "blocked")


def judge(values: list[Any], reason: Reason | None = None, **inputs: Any) -> dict[str, Any]:
    frame = to_ccee(series({(1, DAY): values}))
    if reason is not None:
        octets = bytes(Reason.MEASURED_OK if value is not None else reason for value in values)
        frame = frame.with_columns(reason=pl.lit(octets))
    verdicts = pl.DataFrame(inputs.pop("verdicts", []), schema=VERDICT_SCHEMA, orient="row")
    unresolved = pl.DataFrame(inputs.pop("unresolved", []), schema=UNRESOLVED_SCHEMA, orient="row")
    quarantined = pl.DataFrame(inputs.pop("quarantined", []), schema=QUARANTINE_SCHEMA, orient="row")
    return outcomes(frame, verdicts, unresolved, quarantined, **inputs).row(0, named=True)


GAP: list[Any] = ["1.25"] * 287 + [None]
FULL: list[Any] = ["1.25"] * SLOTS
NOTHING: list[Any] = [None] * SLOTS


def test_a_measured_day_is_ready() -> None:
    line = judge(FULL)
    assert (line["state"], line["cause"], line["measured"], line["missing"]) == ("ready", "", 288, 0)
    assert line["energy_kwh"] == Decimal("360.000")
    assert line["detail"] == "{}"


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("suspended", Cause.SUSPENDED),
        ("captive", Cause.OUTSIDE_ACTIVE_PERIOD),
        (None, Cause.OUTSIDE_ACTIVE_PERIOD),
    ],
)
def test_what_must_not_be_sent_is_not_expected(status: str | None, cause: Cause) -> None:
    detail = orjson.dumps({"status": status}).decode()
    line = judge(GAP, verdicts=[(1, DAY, *VERDICT, detail)])
    assert (line["state"], line["cause"]) == ("not_expected", cause)


@pytest.mark.parametrize(
    ("values", "reason", "state", "cause"),
    [
        (NOTHING, None, "incomplete", Cause.NO_READING),
        (GAP, None, "incomplete", Cause.MEMORY_GAP),
        (GAP, Reason.HELD_CONFLICT, "held", Cause.HELD_CONFLICT),
        (GAP, Reason.FUTURE, "incomplete", Cause.DAY_NOT_OVER),
        (NOTHING, Reason.NO_INSTALLATION, "incomplete", Cause.NO_INSTALLATION),
        (GAP, Reason.WRONG_CHANNEL, "incomplete", Cause.WRONG_CHANNEL),
        (GAP, Reason.OMITTED_MUSD, "incomplete", Cause.MUSD_EXCEEDED),
    ],
)
def test_a_gap_names_its_cause(values: list[Any], reason: Reason | None, state: str, cause: Cause) -> None:
    line = judge(values, reason)
    assert (line["state"], line["cause"]) == (state, cause)
    assert line["missing"] == values.count(None)


def test_estimation_and_collection_say_more_than_a_gap() -> None:
    why = [(1, DAY, 287, 287, Cause.NO_HISTORY_NEEDS_APPROVAL.value, "{}")]
    assert judge(GAP, unresolved=why)["cause"] == Cause.NO_HISTORY_NEEDS_APPROVAL
    link = pl.DataFrame({"uc_id": [1], "day": [DAY], "cause": [Cause.LINK_FAILED.value]})
    assert judge(NOTHING, unresolved=why, collection_causes=link)["cause"] == Cause.LINK_FAILED
    assert judge(FULL, collection_causes=link)["state"] == "ready"


def test_a_person_must_decide_first() -> None:
    assert judge(FULL, held=pl.DataFrame({"uc_id": [1], "day": [DAY]}))["cause"] == Cause.MUSD_EXCEEDED
    overflow = [(1, DAY, "arithmetic", "arithmetic", "{}")]
    assert (judge(NOTHING, quarantined=overflow)["state"], judge(NOTHING, quarantined=overflow)["cause"]) == (
        "held",
        Cause.ARITHMETIC,
    )
    mismatch = [(1, DAY, 0, 3, Cause.REGISTER_MISMATCH.value, "{}")]
    assert judge(FULL, unresolved=mismatch)["state"] == "held"
    no_agent = [(1, DAY, "V19", 0, 287, "blocked", "{}")]
    assert judge(FULL, verdicts=no_agent)["cause"] == Cause.NO_AGENT


def test_a_bad_vector_of_the_meter_is_a_gap_not_a_hold() -> None:
    assert (
        judge(NOTHING, quarantined=[(1, DAY, "decode", "287 intervals", "{}")])["cause"] == Cause.NO_READING
    )


def test_one_row_for_each_uc_day_in_order() -> None:
    days = [DAY + timedelta(days=k) for k in (2, 0, 1)]
    frame = to_ccee(series({(1, day): FULL for day in days}))
    empty = pl.DataFrame(schema=VERDICT_SCHEMA), pl.DataFrame(schema=UNRESOLVED_SCHEMA)
    result = outcomes(frame, *empty, pl.DataFrame(schema=QUARANTINE_SCHEMA))
    assert result["day"].to_list() == days
