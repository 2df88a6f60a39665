"""A composite answer that broke off, taken up in a new connection (P8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.frames import unwrap_command
from protocols.nbr14522.link import NEED_DATA, AnswerComplete, BlockReceived, LinkFailed, ReaderLink
from protocols.nbr14522.messages import CurrentMemoryRequest
from protocols.nbr14522.profile import DEFAULT, P8_GENERIC
from tests.protocols.nbr14522.pair import answers

COMMAND = CurrentMemoryRequest().encode("000001")
RESUMING = replace(P8_GENERIC, resumes_broken_answer=True)


def events(link):
    found = []
    while (event := link.next_event()) is not NEED_DATA:
        found.append(event)
    return found


def broken_after(blocks, profile=RESUMING):
    """A link whose connection closed when so many of four blocks had come, and the blocks."""
    wire = list(answers()(COMMAND))
    link = ReaderLink(profile)
    link.send(COMMAND, 0.0)
    for number in range(blocks):
        link.receive(wire[number], 1.0)
    link.data_to_send()
    link.disconnected(2.0)
    assert isinstance(events(link)[-1], LinkFailed)
    return link, wire


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize("starts_at", [0, 1, 2], ids=["starts-over", "again", "goes-on"])
def test_it_goes_on_after_the_last_good_block_whatever_the_meter_sends(starts_at):
    link, wire = broken_after(2)
    assert link.can_resume
    link.resume(10.0)
    sent = unwrap_command(link.data_to_send(), P8_GENERIC.addressing)
    assert (sent[0], sent[4]) == (0x26, 0x02)
    for block in wire[starts_at:]:
        link.receive(block, 11.0)
    found = events(link)
    assert [e.number for e in found if isinstance(e, BlockReceived)] == [3, 4]
    assert isinstance(found[-1], AnswerComplete)
    assert not link.can_resume


@pytest.mark.req("TR-5.12a")
def test_no_resume_without_the_setting_on_p0_or_before_a_good_block():
    for link, _ in (broken_after(2, P8_GENERIC), broken_after(0)):
        assert not link.can_resume
        with pytest.raises(LocalProtocolError):
            link.resume(3.0)
    with pytest.raises(LocalProtocolError):
        ReaderLink(replace(DEFAULT, resumes_broken_answer=True)).resume(0.0)


def test_a_new_command_forgets_the_one_that_broke_off():
    link, _ = broken_after(2)
    link.send(COMMAND, 5.0)
    link.abort(6.0)
    assert not link.can_resume
