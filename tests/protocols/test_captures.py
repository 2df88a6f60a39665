"""Capture files: what is written is read back; what is wrong is named by its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import OperatorFault
from protocols.captures import Chunk, format_capture, is_capture, parse_capture

stamps = st.lists(st.integers(0, 10**9), max_size=20).map(sorted)


@given(stamps, st.binary(min_size=1, max_size=9))
def test_what_is_written_is_read_back(micros: list[int], octets: bytes) -> None:
    chunks = tuple(Chunk(micro / 1e6, octets) for micro in micros)
    text = format_capture(chunks, {"rate_bit_s": 2400})
    assert is_capture(text)
    found = parse_capture(text)
    assert found.chunks == chunks
    assert found.number("rate_bit_s", 0.0) == 2400
    assert found.number("resolution_s", 0.001) == 0.001


@pytest.mark.parametrize(
    ("line", "number"),
    [("x AA", 2), ("1.0 A", 2), ("1.0", 2), ("nan AA", 2), ("1e400 AA", 2), ("2 AA\n1 AA", 3)],
)
def test_a_wrong_line_is_named(line: str, number: int) -> None:
    with pytest.raises(OperatorFault) as caught:
        parse_capture(f"# smf-capture 1\n{line}\n", "file")
    assert caught.value.where == f"file, line {number}"
