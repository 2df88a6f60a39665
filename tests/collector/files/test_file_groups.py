"""FK7 files of a meter with twelve channels: taken apart where the file tells the groups, else not."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from audit.file_evidence import locate_in_file
from audit.nbr14522_evidence import locate_word
from collector.decoded import Decoded, Frame, MeterContext
from collector.files.decode import FK7, decode_file
from collector.nbr14522.decode import decode_session
from collector.work.planning import SequenceName
from protocols.nbr14522.frames import RESPONSE_CONTENT_SIZE
from protocols.nbr14522.profile import DEFAULT, FileGroups
from protocols.public_format import write_fk7
from simulator.load.grid import MARKET_ZONE
from tests.collector.nbr14522.twelve_channels import SERIAL, frames_of, twelve_channels

pytestmark = pytest.mark.req("TR-5.6a")

CONTEXT = MeterContext(1, SERIAL, 1, MARKET_ZONE)
SEQUENCES = [SequenceName.VERIFICATION, SequenceName.RECOVERY, SequenceName.WHOLE]
SIZE = RESPONSE_CONTENT_SIZE


@pytest.fixture(scope="module", params=SEQUENCES, ids=lambda one: one.value)
def session(request) -> list[Frame]:
    return frames_of(twelve_channels(900), request.param)


def file_of(frames: list[Frame]) -> bytes:
    return write_fk7(frame.payload for frame in frames if not frame.is_sent)


def decoded(octets: bytes, groups: FileGroups = FileGroups.IN_ORDER) -> Decoded:
    return decode_file(FK7, octets, replace(DEFAULT, file_groups=groups), CONTEXT)


def counts(found: Decoded, most: int = 12) -> dict[tuple[int, object], tuple[int, list[int]]]:
    return {
        (one.channel, one.day): (one.quantity_code, one.pulses[one.present].tolist())
        for one in found.vectors
        if one.channel <= most
    }


def blocks(octets: bytes) -> list[bytes]:
    return [octets[place : place + SIZE] for place in range(0, len(octets), SIZE)]


def test_a_file_of_all_groups_is_the_session(session) -> None:
    expected = decode_session(session, DEFAULT, CONTEXT)
    found = decoded(file_of(session))
    assert found.issues == ()
    assert {vector.channel for vector in found.vectors} == set(range(1, 13))
    assert counts(found) == counts(expected)
    registers = [(one.channel, one.values) for one in found.registers]
    assert registers == [(one.channel, one.values) for one in expected.registers]


def test_another_profile_takes_the_first_group_alone(session) -> None:
    found = decoded(file_of(session), FileGroups.FIRST)
    assert {vector.channel for vector in found.vectors} == {1, 2, 3}
    assert any("which channels it is of is not told" in issue.reason for issue in found.issues)


def test_what_does_not_tell_its_groups_gives_no_further_channel(session) -> None:
    whole = blocks(file_of(session))
    starts = [place for place, one in enumerate(whole) if one[0] in (0x21, 0x22, 0x51)]
    last = starts[-1]
    twice = whole[:last] + whole[starts[-2] : last]
    unsorted = sorted(whole, key=lambda one: one[0] in (0x26, 0x27, 0x52))
    for what in (whole[:last], twice, unsorted, [*whole[:-2], whole[-1]], whole[:-1]):
        found = decoded(b"".join(what))
        assert {vector.channel for vector in found.vectors} <= {1, 2, 3}
        assert found.issues


def test_a_damaged_file_gives_the_first_group(session) -> None:
    octets = file_of(session)
    found = decoded(octets + b"\x26" + b"\0" * 99)
    assert {vector.channel for vector in found.vectors} == {1, 2, 3}
    assert counts(found) == counts(decoded(octets), most=3)


def test_whatever_is_missing_no_words_of_one_group_become_another_groups(session) -> None:
    whole = blocks(file_of(session))
    true = {(one.channel, one.day): one for one in decoded(file_of(session)).vectors}
    rng = random.Random(7)
    cuts = [(first, min(first + rng.randrange(1, 9), len(whole))) for first in range(1, len(whole))]
    for first, after in cuts if len(cuts) < 60 else rng.sample(cuts, 60):
        found = decoded(b"".join(whole[:first] + whole[after:]))
        for one in found.vectors:
            expected = true[one.channel, one.day]
            assert not (one.present & ~expected.present).any()
            assert np.array_equal(one.pulses[one.present], expected.pulses[one.present]), (first, after)


@pytest.mark.req("X-trace")
@pytest.mark.parametrize("channel", [1, 4, 12])
def test_a_word_of_any_group_is_found(session, channel) -> None:
    octets = file_of(session)
    vector = [one for one in decoded(octets).vectors if one.channel == channel][-1]
    slot = int(np.flatnonzero(vector.present)[-1])
    end = _end(vector.day, slot)
    place = locate_in_file(FK7, "file:a", octets, DEFAULT, end, channel)
    word = locate_word(session, DEFAULT, end, channel)
    assert place is not None
    assert word is not None
    assert place.pulses == word.pulses == vector.pulses[slot]
    assert octets[place.first_octet - 1 :][: len(place.octets)] == place.octets == word.octets


def _end(day, slot):
    return datetime.combine(day, datetime.min.time()) + (slot + 1) * timedelta(seconds=900)
