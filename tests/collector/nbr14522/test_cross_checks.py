"""Misfits between answers reach the quarantine; what fits leaves no trace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from collector.decoded import (
    ChangeRow,
    ClockReading,
    Decoded,
    MemorySum,
    MeterContext,
    ParametersRow,
    RegisterRow,
)
from collector.nbr14522.cross_checks import check_history
from protocols.nbr14522.checks import CheckName, CheckResult
from protocols.nbr14522.messages import ChannelRegisters, PowerFailure, PowerFailures, Registers
from tests.collector.nbr14522.decoding import INTERVALS, decode
from tests.collector.nbr14522.exchanges import Exchange, parameters, ramp

pytestmark = pytest.mark.req("TR-5.1")


def maxima(words: np.ndarray) -> Registers:
    """Registers whose maximum of all segments is the largest sum of three words, from 00:15 on."""
    by_interval = words.reshape(-1, 3)
    sums = by_interval[: len(by_interval) // 3 * 3].reshape(-1, 3, 3).sum(axis=1)
    channels = [
        ChannelRegisters(
            total_pulses=0,
            last_demand_pulses=0,
            max_demand_peak_pulses=int(sums[:, channel].max()),
            max_demand_off_peak_pulses=0,
            max_demand_reserved_pulses=0,
        )
        for channel in range(3)
    ]
    return Registers(code=0x23, channels=tuple(channels))


def test_registers_and_words_of_one_session() -> None:
    words = ramp(INTERVALS)
    asked = Exchange().ask(0x21).answer(parameters(demand_interval_min=15)).ask(0x23)
    good = decode(asked.answer(maxima(words)).ask(0x26).memory(0x26, words))
    verdicts = {check.name: check.verdict for check in good.cross_checks}
    assert verdicts[CheckName.WORDS] is CheckResult.FITS
    assert verdicts[CheckName.PACKING] is CheckResult.FITS
    assert not good.issues
    asked = Exchange().ask(0x21).answer(parameters(demand_interval_min=15)).ask(0x23)
    bad = decode(asked.answer(maxima(words // 2)).ask(0x26).memory(0x26, words))
    assert [issue.stage for issue in bad.issues] == ["cross_check"]
    assert "packing" in bad.issues[0].reason
    assert len(bad.vectors) == len(good.vectors), "the readings flow on"


def test_pulses_counted_in_a_power_failure_are_told() -> None:
    words = np.full(INTERVALS * 3, 9)
    failure = PowerFailure(start=datetime(2026, 11, 20, 10), end=datetime(2026, 11, 20, 11))
    failures = PowerFailures(code=0x25, failures=(failure, *(None,) * 19))
    exchange = Exchange().ask(0x21).answer(parameters()).ask(0x25).answer(failures)
    found = decode(exchange.ask(0x26).memory(0x26, words))
    assert [issue.stage for issue in found.issues] == ["cross_check"]
    assert "failures" in found.issues[0].reason


class Rows:
    """A connection that answers the two questions of `check_history`."""

    def __init__(self, earlier: list[tuple[object, ...]], totals: list[tuple[object, ...]]) -> None:
        self.answers = {"meter_parameters": earlier, "register_reading": totals}

    def execute(self, statement: str, _values: object) -> list[tuple[object, ...]]:
        return next(rows for table, rows in self.answers.items() if table in statement)


NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
CONTEXT = MeterContext(meter_id=7, serial="30000001", active_channel=1, zone=UTC)
BEFORE = {"meter_time": "2026-11-20T03:00:00", "constants": [{"numerator": 1, "denominator": 1}]}
AFTER = {"meter_time": "2026-11-21T03:00:00", "constants": [{"numerator": 2, "denominator": 1}]}


def session(**changes: object) -> list[tuple[int, MeterContext, Decoded]]:
    decoded = Decoded(parameters=(ParametersRow(0x21, NOW, AFTER),), answered=frozenset({0x21, 0x28}))
    from dataclasses import replace

    return [(1, CONTEXT, replace(decoded, **changes))]


@pytest.mark.parametrize(
    ("changes", "earlier_drift_s", "reasons"),
    [
        ((), 0.0, ["change log: changes do not agree"]),
        ((ChangeRow(NOW - timedelta(hours=2), 0x33, "000001"),), 0.0, []),
        ((ChangeRow(NOW - timedelta(hours=2), 0x33, "000001"),), 900.0, ["change log: changes do not agree"]),
    ],
)
def test_a_change_that_the_log_does_not_know(
    changes: tuple[ChangeRow, ...], earlier_drift_s: float, reasons: list[str]
) -> None:
    rows = Rows([(1, BEFORE, earlier_drift_s)], [])
    found = check_history(rows, session(changes=changes, clock=ClockReading(NOW, 1.0, 0.2)))
    assert [issue.reason for issue in found[1]] == reasons
    unread = session(changes=changes, answered=frozenset({0x21}))
    assert check_history(rows, unread) == {1: []}


@pytest.mark.parametrize(("total", "is_misfit"), [(1500, False), (1600, False), (1499, True), (99_999, True)])
def test_registers_that_did_not_grow_by_their_words(total: int, is_misfit: bool) -> None:
    begins = NOW - timedelta(days=1)
    memory = MemorySum(0x26, 1, begins, (500, 0, 0), open_intervals=2)
    register = RegisterRow(0x23, 1, NOW, {"total_pulses": total})
    rows = Rows([], [(7, begins, 1, 1000)])
    found = check_history(rows, session(sums=(memory,), registers=(register,)))
    assert bool(found[1]) is is_misfit
