"""A recording is played back exactly, or refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults import OperatorFault
from simulator.load.recording import read_pulses_csv

DATA = Path(__file__).parents[2].parent / "shared" / "data"
MONTH = DATA / "pulses_5min_2016-09-28_2016-10-28.csv"


@pytest.mark.skipif(not MONTH.exists(), reason="real data absent (../shared/data)")
def test_the_recorded_month_is_complete() -> None:
    source = read_pulses_csv(MONTH, 0.0072)
    assert len(source.counts) == 8_641
    assert int(source.counts.sum()) == 2_373_475
    assert source.pulses(source.first - 2, 3)[:, 0].tolist() == [0, 0, 150]
    assert source.pulses(source.first + 8_640, 3)[:, 0].tolist() == [236, 0, 0]


HEAD = "interval_end_local,pulses,kwh\n"


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("time,pulses\n", 1, "interval_end_local"),
        (HEAD + "2016-09-28T00:00:00,1\n2016-09-28T00:05:00,x\n", 3, "not a label"),
        (HEAD + "2016-09-28T00:00:00,1\n2016-09-28T00:05:00,4096\n", 3, "4095"),
        (HEAD + "2016-09-28T00:00:00,1\n2016-09-28T00:05:00-03:00,2\n", 3, "zone"),
        (HEAD + "2016-09-28T00:00:00,1\n2016-09-28T00:05:00,2\n2016-09-28T00:15:00,2\n", 4, "600 s"),
        (HEAD + "2016-09-28T00:01:00,1\n2016-09-28T00:06:00,2\n", 3, "off its borders"),
    ],
)
def test_a_bad_file_is_refused_by_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    path = tmp_path / "pulses.csv"
    path.write_text(text)
    with pytest.raises(OperatorFault) as refusal:
        read_pulses_csv(path, 0.0072)
    assert refusal.value.where == f"{path}:{line}"
    assert word in refusal.value.message
    assert refusal.value.remedy


def test_a_missing_file_is_an_operators_fault(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="cannot read"):
        read_pulses_csv(tmp_path / "none.csv", 0.0072)
