"""The place of a word in a frame agrees with the decoder for every interval, whatever the addressing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from audit.file_evidence import locate_in_file
from audit.nbr14522_evidence import locate_word
from collector.decoded import Frame
from collector.files.decode import TEXT
from collector.nbr14522.decode import decode_session
from protocols.nbr14522.memory import unpack_words
from protocols.nbr14522.messages import LimitUnit
from protocols.nbr14522.profile import LimitedCount
from protocols.nbr14522.profiles import DEFAULT, P2_GENERIC, P8_GENERIC
from protocols.public_format import TextFile, write_text
from tests.collector.nbr14522.exchanges import CONTEXT, SERIAL, STARTED, Exchange, parameters, ramp

INTERVALS = 12 * 27
FIRST_END = datetime(2026, 11, 20, 0, 5)
STEP = timedelta(minutes=5)


@pytest.mark.req("X-trace")
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC, P2_GENERIC], ids=lambda profile: profile.name)
@pytest.mark.parametrize("channel", [1, 2, 3])
def test_every_interval_is_found_where_its_octets_are(profile, channel):
    words = ramp(INTERVALS)
    exchange = Exchange(profile).ask(0x21).answer(parameters()).ask(0x26).memory(0x26, words)
    for interval in range(INTERVALS):
        found = locate_word(exchange.frames, profile, FIRST_END + interval * STEP, channel)
        index = 3 * interval + channel - 1
        assert found is not None
        assert found.pulses == words[index]
        assert (found.block, found.word) == (index // 166 + 1, index % 166 + 1)
        octets = found.payload[found.first_octet - 1 :][:3]
        assert octets == found.octets
        assert words[index] in unpack_words(octets, profile.packing)


@pytest.mark.req("X-trace")
def test_a_block_that_came_again_is_counted_once():
    words = ramp(INTERVALS)
    exchange = Exchange().ask(0x21).answer(parameters()).ask(0x26)
    for frame in exchange.memory_frames(0x26, words):
        exchange.block(frame).block(frame)
    found = locate_word(exchange.frames, DEFAULT, FIRST_END + 200 * STEP, 1)
    assert found is not None
    assert found.pulses == words[600]


@pytest.mark.parametrize("end", [FIRST_END - STEP, FIRST_END + INTERVALS * STEP, FIRST_END + STEP / 2])
def test_an_interval_that_the_session_did_not_bring_is_not_found(end):
    exchange = Exchange().ask(0x21).answer(parameters()).ask(0x26).memory(0x26, ramp(INTERVALS))
    assert locate_word(exchange.frames, DEFAULT, end, 1) is None


def test_a_damaged_block_is_passed_over():
    words = ramp(INTERVALS)
    exchange = Exchange().ask(0x21).answer(parameters()).ask(0x26)
    frames = exchange.memory_frames(0x26, words)
    exchange.block(frames[0]).block(bytes(258), crc_ok=False).block(frames[1])
    found = locate_word(exchange.frames, DEFAULT, FIRST_END + 60 * STEP, 1)
    assert found is not None
    assert found.pulses == words[180]


@pytest.mark.req("X-trace")
def test_a_redacted_command_does_not_hide_the_rest_of_its_session():
    words = ramp(INTERVALS)
    exchange = Exchange().ask(0x21).answer(parameters())
    request = bytes([0x11]) + bytes.fromhex("000001") + bytes(62)
    exchange.frames.append(Frame(len(exchange.frames), STARTED, True, True, request))
    exchange.ask(0x26).memory(0x26, words)
    found = locate_word(exchange.frames, DEFAULT, FIRST_END + 200 * STEP, 1)
    assert found is not None
    assert found.pulses == words[600]


@pytest.mark.req("X-trace")
@pytest.mark.parametrize(
    ("profile", "limited"),
    [
        (replace(DEFAULT, sign_bit=True), False),
        (replace(DEFAULT, limited_count=LimitedCount.WHOLE), True),
        (replace(DEFAULT, limited_count=LimitedCount.LIMITED), True),
    ],
    ids=["reverse flow", "51 counts the whole memory", "51 counts the limited part"],
)
def test_the_place_is_the_decoders_whatever_the_profile_says(profile, limited):
    words = ramp(288)
    announced = 3 * 12 * 27 if profile.limited_count is LimitedCount.WHOLE and limited else len(words)
    exchange = Exchange(profile)
    exchange.ask(0x51, unit=LimitUnit.DAYS, amount=1).answer(parameters(0x51, words_current=announced))
    exchange.ask(0x52).memory(0x52, words)
    decoded = decode_session(exchange.frames, profile, CONTEXT)
    seen = 0
    for vector in decoded.vectors:
        for slot in vector.present.nonzero()[0].tolist():
            end = datetime.combine(vector.day, datetime.min.time()) + (slot + 1) * STEP
            found = locate_word(exchange.frames, profile, end, vector.channel)
            assert found is not None
            assert found.pulses == vector.pulses[slot]
            seen += 1
    assert seen == len(words)


@pytest.mark.req("X-trace")
def test_a_block_that_the_decoder_did_not_take_is_not_pointed_at():
    words = ramp(INTERVALS)
    exchange = Exchange().ask(0x21).answer(parameters()).ask(0x26)
    blocks = exchange.memory_frames(0x26, words)
    # The fourth comes too early; then the rest in order.
    for number in (0, 1, 3, 2, 3, 4, 5):
        exchange.block(blocks[number])
    place = 2 * 166
    found = locate_word(exchange.frames, DEFAULT, FIRST_END + (place // 3 + 1) * STEP, 1)
    assert found is not None
    assert (found.block, found.pulses) == (3, words[(place // 3 + 1) * 3])


@pytest.mark.req("X-trace")
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_count_of_a_text_file_is_found_whatever_a_copy_did_to_its_lines(mark, newline):
    words = ramp(INTERVALS)
    block = parameters().encode(SERIAL)[:-2]
    octets = write_text(TextFile("001101", {"parameters": block}, current_words=tuple(words.tolist())))
    octets = mark + octets.replace(b"\r\n", newline)
    for interval in (0, 23, 24, INTERVALS - 1):
        end = FIRST_END + interval * STEP
        found = locate_in_file(TEXT, "file:a?sha256=x", octets, DEFAULT, end, 2)
        assert found is not None
        assert int(found.octets) == found.pulses == words[3 * interval + 1]
        assert octets[found.first_octet - 1 :].startswith(found.octets)
        assert found.around.startswith(b"CONT%03d" % (interval // 24 + 1))
