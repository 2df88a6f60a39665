"""Frames in, readings and records out: exactly what the octets say, and nothing where they say nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decoded import readings_frame
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.messages import (
    Change,
    ChangeLog,
    ChannelRegisters,
    LimitUnit,
    NotImplementedAnswer,
    OccurrenceAnswer,
    PowerFailure,
    PowerFailures,
    Registers,
)
from protocols.nbr14522.profile import LimitedCount
from protocols.nbr14522.profiles import DEFAULT, P2_GENERIC, P8_GENERIC
from tests.collector.nbr14522.decoding import INTERVALS, decode
from tests.collector.nbr14522.exchanges import NOW, SERIAL, STARTED, Exchange, parameters, ramp

FIRST_END = datetime(2026, 11, 20, 0, 5)


def by_end(decoded, channel=1):
    """Pulses by interval end, of what is present."""
    values = {}
    for vector in decoded.vectors:
        if vector.channel == channel:
            for slot in np.flatnonzero(vector.present):
                start = datetime.combine(vector.day, datetime.min.time())
                end = start + timedelta(seconds=(int(slot) + 1) * vector.interval_s)
                values[end] = int(vector.pulses[slot])
    return values


@pytest.mark.req("TR-5.5a", "X-trace")
class TestMemory:
    @pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC, P2_GENERIC], ids=lambda p: p.name)
    def test_each_interval_gets_its_end_and_midnight_belongs_to_the_day_before(self, profile):
        words = ramp(INTERVALS)
        exchange = Exchange(profile).ask(0x21).answer(parameters()).ask(0x26).memory(0x26, words)
        decoded = decode(exchange)
        ends = [FIRST_END + i * timedelta(minutes=5) for i in range(INTERVALS)]
        for channel in (1, 2, 3):
            expected = dict(zip(ends, words[channel - 1 :: 3].tolist(), strict=True))
            assert by_end(decoded, channel) == expected
        assert {vector.day for vector in decoded.vectors} == {date(2026, 11, 20), date(2026, 11, 21)}
        assert decoded.vectors[0].pulses[-1] == words[3 * 287]
        assert not decoded.issues
        assert decoded.last_end == datetime(2026, 11, 21, 3, 0)

    @given(kept=st.integers(1, 5), damaged=st.booleans())
    def test_an_answer_that_broke_off_keeps_its_good_blocks(self, kept, damaged):
        words = ramp(INTERVALS)
        exchange = Exchange().ask(0x21).answer(parameters()).ask(0x26).memory(0x26, words, kept)
        if damaged:
            exchange.block(bytes(258), crc_ok=False)
        got = by_end(decode(exchange))
        assert got == {
            FIRST_END + i * timedelta(minutes=5): int(words[3 * i]) for i in range(kept * 166 // 3)
        }

    def test_a_repeated_block_counts_once_and_a_skipped_one_is_refused(self):
        words = ramp(INTERVALS)
        frames = Exchange().memory_frames(0x26, words)
        twice = Exchange().ask(0x21).answer(parameters()).ask(0x26)
        for frame in frames:
            twice.block(frame).block(frame)
        assert len(by_end(decode(twice))) == INTERVALS
        skipped = Exchange().ask(0x21).answer(parameters()).ask(0x26).block(frames[0]).block(frames[2])
        decoded = decode(skipped)
        assert len(by_end(decoded)) == 55
        assert decoded.issues[0].reason == "memory block 3 where 2 belongs"

    def test_the_previous_period_ends_at_the_last_reset(self):
        words = ramp(288)
        exchange = Exchange().ask(0x22).answer(parameters(0x22)).ask(0x27).memory(0x27, words)
        vectors = decode(exchange).vectors
        assert {vector.day for vector in vectors} == {date(2026, 11, 19)}
        assert all(vector.present.all() for vector in vectors)
        assert vectors[0].pulses.tolist() == words[::3].tolist()

    def test_periods_sharing_a_day_are_joined_and_contradictions_set_aside(self):
        reset = datetime(2026, 11, 20, 12)
        answer = parameters(last_reset=reset, words_current=3 * 12 * 15, words_previous=3 * 144)
        words = ramp(INTERVALS)
        exchange = Exchange().ask(0x21).answer(answer).ask(0x26).memory(0x26, words[3 * 144 :])
        exchange.ask(0x27).memory(0x27, words[: 3 * 144])
        assert len(by_end(decode(exchange))) == INTERVALS
        other = words.copy()
        other[3 * 10] ^= 1
        whole = parameters(0x51, words_current=len(words))
        exchange.ask(0x51).answer(whole).ask(0x52).memory(0x52, other)
        decoded = decode(exchange)
        assert len(by_end(decoded)) == INTERVALS - 1
        assert decoded.issues[0].reason == "two memories of one session disagree"
        assert decoded.issues[0].detail == {"channel": 1, "slots": [10]}

    @pytest.mark.parametrize("count", list(LimitedCount))
    def test_a_limited_reading_ends_now_whatever_the_count_covers(self, count):
        profile = replace(DEFAULT, limited_count=count)
        words = ramp(288)
        announced = len(words) if count is LimitedCount.LIMITED else 9 * len(words)
        exchange = Exchange(profile).ask(0x51, unit=LimitUnit.DAYS, amount=1)
        exchange.answer(parameters(0x51, words_current=announced)).ask(0x52).memory(0x52, words)
        got = by_end(decode(exchange))
        assert max(got) == datetime(2026, 11, 21, 3, 0)
        assert len(got) == 288

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"last_interval_end": datetime(2026, 11, 21, 2, 58)}, "does not end on the grid"),
            ({"last_interval_end": datetime(2026, 11, 21, 4, 0)}, "after the meter's own time"),
            ({"memory_interval_min": 7}, "does not divide a day"),
            ({"memory_interval_min": 0}, "lack word count"),
            ({"words_current": 3 * INTERVALS - 1}, "no whole intervals"),
            ({"words_current": 3 * INTERVALS + 600}, "ended before the announced"),
            ({"words_current": 3 * INTERVALS - 600}, "more words came"),
        ],
    )
    def test_words_whose_time_is_not_sure_are_not_guessed(self, changes, reason):
        exchange = Exchange().ask(0x21).answer(parameters(**changes)).ask(0x26)
        decoded = decode(exchange.memory(0x26, ramp(INTERVALS)))
        assert decoded.vectors == ()
        assert reason in decoded.issues[-1].reason
        assert decoded.issues[-1].stage == "decode"

    def test_blocks_without_parameters_are_evidence_only(self):
        decoded = decode(Exchange().ask(0x26).memory(0x26, ramp(60)))
        assert decoded.vectors == ()
        assert "no parameters" in decoded.issues[0].reason


class TestQuantities:
    def test_empty_channels_are_left_out_and_an_old_meter_needs_no_code(self):
        answer = parameters(quantities=(0, 99, 6))
        decoded = decode(Exchange().ask(0x21).answer(answer).ask(0x26).memory(0x26, ramp(INTERVALS)))
        assert {(vector.channel, vector.quantity_code) for vector in decoded.vectors} == {(1, 1)}

    def test_an_active_channel_that_says_reactive_is_held(self):
        answer = parameters(quantities=(10, 1, 11))
        decoded = decode(Exchange().ask(0x21).answer(answer).ask(0x26).memory(0x26, ramp(INTERVALS)))
        assert {vector.channel for vector in decoded.vectors} == {2, 3}
        assert decoded.issues[0].detail == {"channel": 1, "quantity": 10}


@pytest.mark.req("X-trace")
class TestRecords:
    def test_registers_failures_changes_and_parameters_become_rows(self):
        registers = Registers(code=0x23, channels=tuple(ChannelRegisters(total_pulses=n) for n in (5, 6, 7)))
        failure = PowerFailure(start=datetime(2026, 11, 20, 1), end=datetime(2026, 11, 20, 2))
        empty = (None,) * 18
        failures = PowerFailures(code=0x25, failures=(failure, *empty, PowerFailure(start=NOW)))
        change = Change(code=0x29, reader_serial="000001", at_time=datetime(2026, 10, 1))
        changes = ChangeLog(
            code=0x28, changes=(change,) + (None,) * 15, extended_changes=(change,) + (None,) * 8
        )
        exchange = Exchange().ask(0x21).answer(parameters())
        exchange.ask(0x23).answer(registers).ask(0x25).answer(failures).ask(0x28).answer(changes)
        decoded = decode(exchange)
        assert [(row.channel, row.values["total_pulses"]) for row in decoded.registers] == [
            (1, 5),
            (2, 6),
            (3, 7),
        ]
        assert decoded.registers[0].at == STARTED
        assert [(row.started_at, row.ended_at) for row in decoded.outages] == [
            (datetime(2026, 11, 20, 4, tzinfo=UTC), datetime(2026, 11, 20, 5, tzinfo=UTC)),
            (STARTED, None),
        ]
        assert [(row.code, row.reader_serial) for row in decoded.changes] == [(0x29, "000001")]
        assert [row.command for row in decoded.parameters] == [0x21]
        assert decoded.parameters[0].values["words_current"] == 3 * INTERVALS

    @pytest.mark.req("TR-5.6b")
    def test_what_the_meter_does_not_have_is_remembered(self):
        exchange = Exchange().ask(0x21).answer(parameters())
        exchange.ask(0x80).answer(NotImplementedAnswer(refused_code=0x80))
        decoded = decode(exchange)
        assert decoded.absent == {0x80}
        assert decoded.parameters[-1].values == {"not_implemented": ["80"]}

    def test_an_occurrence_is_listed_with_its_command(self):
        exchange = Exchange().ask(0x21).answer(parameters())
        exchange.ask(0x26).answer(OccurrenceAnswer(occurrence=0x43, detail=1))
        (issue,) = decode(exchange).issues
        assert issue.detail == {"command": "26", "occurrence": 0x43, "detail": 1}
        assert "occurrence 43 (40)" in issue.reason

    def test_another_meters_answer_is_held(self):
        exchange = Exchange(serial="00099999").ask(0x21).answer(parameters()).ask(0x26)
        decoded = decode(exchange.memory(0x26, ramp(INTERVALS)))
        assert decoded.is_held
        assert decoded.issues[-1].detail == {"registered": SERIAL, "answered": "00099999"}
        assert decoded.issues[-1].reason.startswith("V10")


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize("drift_s", [-75, 0, 600])
def test_drift_is_meter_minus_the_middle_of_the_round_trip(drift_s):
    # The command leaves 8 s after the start, the answer is there 2 s later: the middle is at 9 s.
    answer = parameters(meter_time=NOW + timedelta(seconds=9 + drift_s))
    clock = decode(Exchange().ask(0x21).answer(answer)).clock
    assert clock.drift_s == drift_s
    assert clock.round_trip_s == 2


def test_the_frame_has_nulls_where_nothing_is_known_and_names_the_session():
    words = ramp(INTERVALS)
    decoded = decode(Exchange().ask(0x21).answer(parameters()).ask(0x26).memory(0x26, words))
    frame = readings_frame([(7, 42, decoded.vectors)])
    today = frame.row(
        by_predicate=(pl.col("day") == date(2026, 11, 21)) & (pl.col("channel") == 1), named=True
    )
    assert today["pulses"][:36] == words[3 * 288 :: 3].tolist()
    assert today["pulses"][36:] == [None] * 252
    assert (today["source_starts"], today["source_sessions"]) == ([0, 36], [42, 0])
    full = frame.row(
        by_predicate=(pl.col("day") == date(2026, 11, 20)) & (pl.col("channel") == 1), named=True
    )
    assert (full["source_starts"], full["source_sessions"]) == ([0], [42])


@settings(max_examples=200)
@given(st.data())
def test_any_octets_under_a_good_crc_decode_without_an_exception(data):
    """Whatever a meter sends in whole frames becomes rows, issues or nothing."""
    exchange = Exchange()
    for _ in range(data.draw(st.integers(1, 6))):
        code = data.draw(st.sampled_from([0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x51, 0x52, 0x80]))
        exchange.ask(code)
        filler = data.draw(st.binary(min_size=0, max_size=40))
        content = bytes([data.draw(st.sampled_from([code, 0x39, 0x40, 0x26]))]) + (filler * 300)[:255]
        exchange.block(sealed(content.ljust(256, b"\0")))
    decoded = decode(exchange)
    assert decoded.blocks <= len(exchange.frames)
