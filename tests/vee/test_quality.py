"""The one table of states is complete and unambiguous."""

from __future__ import annotations

from vee.quality import (
    CAUSES,
    NOT_ESTIMABLE,
    REASONS,
    Cause,
    Origin,
    Reason,
    cause_rows,
    describe_cause,
    describe_reason,
    reason_rows,
)


def test_every_reason_has_one_line_and_an_octet() -> None:
    assert sorted(info.reason for info in REASONS) == sorted(Reason)
    assert all(0 <= reason < 256 for reason in Reason)
    assert [row["code"] for row in reason_rows()] == sorted(int(reason) for reason in Reason)


def test_every_cause_has_one_line_with_a_remedy() -> None:
    assert {info.cause for info in CAUSES} == set(Cause)
    assert len(CAUSES) == len(Cause)
    assert all(row["text_pt"] and row["remedy_pt"] for row in cause_rows())


def test_code_ranges_follow_the_origin() -> None:
    for info in REASONS:
        expected = info.reason < 30, 30 <= info.reason < 60
        assert (info.origin is Origin.MISSING, info.origin is Origin.MEASURED) == expected, info.reason


def test_what_may_not_be_estimated_is_missing() -> None:
    assert all(describe_reason(reason).origin is Origin.MISSING for reason in NOT_ESTIMABLE)


def test_codes_read_back_from_storage_are_described() -> None:
    assert "Regra B" in describe_reason(72).text_pt
    assert "MUSD" in describe_cause("musd_exceeded").text_pt
