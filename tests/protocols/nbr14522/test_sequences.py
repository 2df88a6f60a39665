"""The usual sequences (section 2.2), for each channel group."""

from __future__ import annotations

import pytest

from protocols.nbr14522.commands import changes_meter
from protocols.nbr14522.messages import Parameters, decode_request
from protocols.nbr14522.sequences import ReadSequence, group_count, requests_of

pytestmark = pytest.mark.req("TR-5.12a")


@pytest.mark.parametrize(
    ("sequence", "first", "further"),
    [
        (ReadSequence.BILLING, "20 80 24 25 28 27", "22 24 27"),
        (ReadSequence.VERIFICATION, "21 80 23 25 28 26", "21 23 26"),
        (ReadSequence.RECOVERY, "22 80 24 25 28 27", "22 24 27"),
        (ReadSequence.BILLING_SHORT, "20 80 24 41 42 43 25 28", "22 24 41 42 43"),
        (ReadSequence.VERIFICATION_SHORT, "21 80 23 44 45 46 25 28", "21 23 44 45 46"),
        (ReadSequence.RECOVERY_SHORT, "22 80 24 41 42 43 25 28", "22 24 41 42 43"),
        (ReadSequence.WHOLE_MEMORY, "51 80 52", "51 52"),
        (ReadSequence.FISCAL_PAGE, "14", ""),
    ],
)
@pytest.mark.req("TR-5.7c")
def test_the_sequences_of_the_reference(sequence: ReadSequence, first: str, further: str) -> None:
    for group in range(4):
        requests = requests_of(sequence, group)
        assert " ".join(f"{request.code:02X}" for request in requests) == (further if group else first)
        if requests and sequence is not ReadSequence.FISCAL_PAGE:
            assert decode_request(requests[0].encode("000001")).encode("000001")[5] == group
        is_reset = sequence.resets_demand and group == 0
        assert any(changes_meter(request) for request in requests) == is_reset
    without = requests_of(sequence, with_command_80=False)
    assert 0x80 not in {request.code for request in without}


def test_groups_are_counted_by_the_meter_and_bounded() -> None:
    assert group_count(Parameters(code=0x21)) == 1
    assert group_count(Parameters(code=0x21, group_count=0)) == 1
    assert group_count(Parameters(code=0x21, group_count=2)) == 2
    assert group_count(Parameters(code=0x21, group_count=7)) == 4
    assert group_count(Parameters(code=0x21, group_count=7), most=7) == 7
