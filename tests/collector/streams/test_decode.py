"""Streams into interval readings: the same load as over NBR 14522, through noise, across sessions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decoded import MeterContext
from collector.streams.decode import Slot, new_decoder
from collector.streams.frames import unpack_frames
from collector.streams.profiles import STREAM_PROFILES
from collector.streams.stored import SSU_DECODER
from faults import DeveloperFault
from protocols.captures import Chunk
from protocols.celesc import encode_packet
from protocols.celesc.catalogue import meter_named
from protocols.nbr14522.crc import sealed
from protocols.ssu import Format, decode_block
from protocols.ssu.intervals import Doubt
from simulator.load.grid import MARKET_ZONE, local_seconds
from simulator.streams.output import BadLine, CelescOutput, SsuOutput
from storage.database import Database
from tests.collector.streams.hearing import EPOCH_S, FIRST, SOURCE, frames_of, heard
from tests.collector.world import DAY, collect, meter, quick, register, served


def slots(profile: str, chunks: list[Chunk], serial: str | None = None) -> list[Slot]:
    decoder = new_decoder(STREAM_PROFILES[profile], SOURCE.interval_s, serial)
    return [slot for chunk in chunks for slot in decoder.feed(chunk)]


def slot_number(slot: Slot) -> int:
    return round(slot.end_s - EPOCH_S) // SOURCE.interval_s - 1


def by_channel(found: list[Slot], channel: int) -> dict[int, int]:
    """Pulses by interval number."""
    return {slot_number(slot): slot.pulses for slot in found if slot.channel == channel}


def truth(number: int) -> list[int]:
    return SOURCE.pulses(number, 1)[0].tolist()


def celesc(**changes: object) -> CelescOutput:
    begun_s = FIRST - 12 * SOURCE.interval_s
    return CelescOutput(SOURCE, (36, 1000), meter_named("27182"), "0000000077", begun_s, **changes)


@pytest.mark.req("TR-5.5e", "X-sim")
@pytest.mark.parametrize(
    ("profile", "block_format"),
    [
        ("ssu", Format.EXTENDED),
        ("ssu", Format.NORMAL),
        ("ssu-extended", Format.EXTENDED),
        ("ssu-mixed", Format.MIXED),
    ],
)
def test_ssu_gives_the_pulses_that_the_meter_counted(profile: str, block_format: Format) -> None:
    found = slots(profile, heard(SsuOutput(SOURCE, block_format), FIRST - 40, 7300))
    active = by_channel(found, 1)
    first = FIRST // 300
    assert sorted(active) == list(range(first, first + 24))
    for number, pulses in active.items():
        counted = truth(number)
        assert pulses == counted[0]
        if block_format is Format.NORMAL:
            assert by_channel(found, 2)[number] == counted[1] + counted[2]
        else:
            # A register that does not show has counted nothing.
            assert [by_channel(found, 2)[number], by_channel(found, 3)[number]] == counted[1:]
    # No channel of reverse flow until one has shown; a mixed block shows all.
    assert bool(by_channel(found, 4)) == (block_format is Format.MIXED)


@pytest.mark.parametrize("name", ["ssu-extended", "celesc-27182"])
def test_octets_are_counted_and_nothing_is_shown_before_the_first_record(name: str) -> None:
    decoder = new_decoder(STREAM_PROFILES[name], 300, "77")
    assert not any(decoder.shown().values())
    assert decoder.quality.skipped_share == 0
    chunks = heard(SsuOutput(SOURCE) if name.startswith("ssu") else celesc(), FIRST, 60)
    for chunk in chunks:
        decoder.feed(chunk)
    assert decoder.quality.octets == sum(len(chunk.octets) for chunk in chunks)
    assert decoder.shown()
    with pytest.raises(DeveloperFault):
        new_decoder(replace(STREAM_PROFILES[name], ssu=None, meter=None), 300)


@pytest.mark.req("TR-5.5e")
def test_a_register_that_may_have_counted_in_a_gap_is_missing_not_zero() -> None:
    chunks = heard(SsuOutput(SOURCE), FIRST - 40, 1700)
    hole = [chunk for chunk in chunks if not 1000 <= chunk.at_s - EPOCH_S - FIRST < 1020]
    number = FIRST // 300 + 3
    whole, holed = (
        {
            slot.channel: slot.pulses
            for slot in slots("ssu-extended", heard_chunks)
            if slot_number(slot) == number
        }
        for heard_chunks in (chunks, hole)
    )
    counted = dict(enumerate(truth(number), 1))
    assert whole == counted
    assert holed == {channel: count for channel, count in counted.items() if count}
    assert holed.keys() < whole.keys()


@pytest.mark.req("TR-5.5e")
def test_who_has_fed_in_once_has_a_reverse_channel_in_every_later_session() -> None:
    blocks = heard(SsuOutput(SOURCE), FIRST - 40, 1000)
    zone, name = MARKET_ZONE, STREAM_PROFILES["ssu-extended"]
    fed_in = [
        Chunk(chunk.at_s, replace(decode_block(chunk.octets), quadrant=3, active_pulses=0).encode())
        if 400 <= number < 420
        else chunk
        for number, chunk in enumerate(blocks)
    ]
    decoder = new_decoder(name, 300, None, zone)
    assert decoder.facts() == {}
    found = [slot for chunk in fed_in for slot in decoder.feed(chunk)]
    # Of the interval before the first one there is nothing to say.
    assert [slot.pulses for slot in found if slot.channel == 4] == [0, 0]
    later = new_decoder(name, 300, None, zone, {name: str(fact) for name, fact in decoder.facts().items()})
    again = [slot for chunk in blocks for slot in later.feed(chunk)]
    assert [slot.pulses for slot in again if slot.channel == 4] == [0, 0, 0]


@pytest.mark.req("TR-5.5e")
@pytest.mark.parametrize(("profile", "block_format"), [("ssu", Format.EXTENDED), ("ssu", Format.NORMAL)])
def test_a_meter_with_an_interval_unlike_the_registry_gives_no_readings(
    profile: str, block_format: Format
) -> None:
    chunks = heard(SsuOutput(replace(SOURCE, interval_s=900), block_format), FIRST - 40, 2800)
    decoder = new_decoder(STREAM_PROFILES[profile], 300, None, MARKET_ZONE)
    assert not [slot for chunk in chunks for slot in decoder.feed(chunk)]
    assert {(issue.reason, issue.day) for issue in decoder.issues} == {(Doubt.WRONG_LENGTH.value, DAY)}


@pytest.mark.req("TR-5.5e", "X-sim")
@pytest.mark.parametrize("error_rate", [0.001, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("profile", "block_format"),
    [("ssu", Format.EXTENDED), ("ssu", Format.NORMAL), *((f"ssu-{one}", one) for one in Format)],
)
def test_ssu_through_noise_is_right_or_missing(
    error_rate: float, seed: int, profile: str, block_format: Format
) -> None:
    line = BadLine(error_rate, error_rate / 5, seed)
    chunks = heard(SsuOutput(SOURCE, block_format), FIRST - 40, 3700, line)
    active = by_channel(slots(profile, chunks), 1)
    assert all(pulses == truth(number)[0] for number, pulses in active.items())
    # At one error in a hundred octets four in ten of the long blocks are lost. Of three that close an
    # interval one is enough, but of normal blocks two must agree.
    if error_rate <= 0.01:
        assert len(active) >= (11 if block_format is Format.EXTENDED else 10)


@pytest.mark.req("CE-A", "X-sim")
def test_celesc_gives_the_energy_to_its_resolution() -> None:
    found = slots("celesc-27182", heard(celesc(), FIRST - 40, 7300), "77")
    active = by_channel(found, 1)
    first = FIRST // 300
    assert sorted(active) == list(range(first, first + 24))
    counted = {number: truth(number)[0] * 0.036 for number in active}
    # Each end is the floor of a value up to three seconds old.
    assert all(abs(active[number] - counted[number]) <= 1.2 for number in active)
    assert abs(sum(active.values()) - sum(counted.values())) <= 1.2


@pytest.mark.req("CE-A", "X-sim")
@pytest.mark.parametrize("error_rate", [0.001, 0.01, 0.05])
def test_celesc_through_noise_is_right_or_missing(error_rate: float) -> None:
    clean = by_channel(slots("celesc-27182", heard(celesc(), FIRST - 40, 3700)), 1)
    noisy = heard(celesc(), FIRST - 40, 3700, BadLine(error_rate, error_rate / 5, 3))
    active = by_channel(slots("celesc-27182", noisy), 1)
    assert len(active) >= (10 if error_rate < 0.05 else 5)
    # A lost packet makes the value at an end some seconds older: one kWh may move to the next interval.
    assert all(abs(pulses - clean[number]) <= 1 for number, pulses in active.items())


@pytest.mark.req("CE-A")
@pytest.mark.parametrize(("digits", "end_of_scale"), [(5, 100_000), (6, 1_000_000), (6, 100_000)])
def test_celesc_registers_begin_again(digits: int, end_of_scale: int) -> None:
    """Or go on into a sixth digit, five kWh after the first interval's start."""
    plain = slots("celesc-27182", heard(celesc(), FIRST - 40, 3700))
    shown = plain[0].told_by[0].value
    output = celesc(digits=digits, start_kwh=end_of_scale - shown - 5)
    turned = slots("celesc-27182", heard(output, FIRST - 40, 3700))
    assert turned == plain
    values = [slot.told_by[1].value for slot in turned if slot.channel == 1]
    assert max(values) > end_of_scale - 10
    assert min(values) < end_of_scale / 10 or values[-1] > end_of_scale


@pytest.mark.req("CE-A")
def test_longer_data_of_a_known_code_is_told_and_not_used() -> None:
    decoder = new_decoder(STREAM_PROFILES["celesc-27182"], 300)
    decoder.feed(Chunk(1.0, encode_packet("77".rjust(10, "0"), 0x0A, 0x02, bytes.fromhex("0000013579"))))
    assert decoder.registers() == {}
    assert decoder.shown()["unknown"] == {"0A02": 1}


@pytest.mark.req("CE-A", "CE-bidi")
def test_reverse_energy_has_a_channel_of_its_own() -> None:
    decoder = new_decoder(STREAM_PROFILES["celesc-35456"], 300)
    for at_s, direct, reverse in ((895.0, 10, 5), (905.0, 10, 5), (1195.0, 10, 7), (1205.0, 11, 7)):
        for index, value in ((0x02, direct), (0x51, reverse)):
            octets = encode_packet("0000000077", 0x0A, index, bytes.fromhex(f"{value:06d}"))
            found = decoder.feed(Chunk(at_s, octets))
            if at_s == 1205.0:
                # Reverse flow leaves the direct register where it is (ratchet).
                (slot,) = found
                assert (slot.channel, slot.quantity_code, slot.pulses) == (
                    (1, 1, 0) if index == 2 else (4, 14, 2)
                )


@pytest.mark.req("CE-A")
@pytest.mark.parametrize(("last_s", "told"), [(1185.0, [2]), (1184.9, [])])
def test_a_registers_value_stands_for_fifteen_seconds(last_s: float, told: list[int]) -> None:
    decoder = new_decoder(STREAM_PROFILES["celesc-27182"], 300)
    found = []
    for at_s, value in ((890.0, 10), (905.0, 10), (last_s, 12), (1205.0, 13)):
        packet = encode_packet("0000000077", 0x0A, 0x02, bytes.fromhex(f"{value:06d}"))
        found += decoder.feed(Chunk(at_s, packet))
    assert [slot.pulses for slot in found] == told


@pytest.mark.req("CE-A")
def test_celesc_of_another_meter_is_held_and_told() -> None:
    chunks = heard(celesc(), FIRST - 40, 700)
    decoder = new_decoder(STREAM_PROFILES["celesc-27182"], 300, "78")
    assert not decoder.is_stranger
    assert not [slot for chunk in chunks for slot in decoder.feed(chunk)]
    assert decoder.is_stranger
    assert [issue.reason for issue in decoder.issues] == ["packets of another meter"]
    decoder.feed(Chunk(chunks[-1].at_s + 5, encode_packet("0000000078", 0x0A, 2, bytes(3))))
    assert not decoder.is_stranger


@pytest.mark.req("CE-A")
def test_a_line_that_makes_trouble_without_end_is_told_once_a_day() -> None:
    decoder = new_decoder(STREAM_PROFILES["celesc-27182"], 300, "78", MARKET_ZONE)
    for number in range(3000):
        octets = encode_packet(f"{number % 100 + 100:010d}", 0x0A, 2, bytes.fromhex("000000"))
        jumps = encode_packet("0000000078", 0x0A, 2, bytes.fromhex(f"{number * 7919 % 10**6:06d}"))
        # From 23:00 in the market's zone, 02:00 UTC.
        decoder.feed(Chunk(93_600.0 + 40 * number, octets + jumps))
    assert len(decoder.issues) == 6
    assert {(issue.reason, issue.day) for issue in decoder.issues} == {
        (reason, date(1970, 1, day))
        for reason in ("packets of another meter", "a register's step is impossible")
        for day in (1, 2, 3)
    }


@pytest.mark.req("TR-5.5e")
def test_suspect_blocks_close_no_interval_and_say_why_there_is_none() -> None:
    decoder = new_decoder(STREAM_PROFILES["ssu-extended"], 300, None, MARKET_ZONE)
    for number, chunk in enumerate(heard(SsuOutput(SOURCE), FIRST - 40, 700), 1):
        head = bytes([*chunk.octets[:2], chunk.octets[2] | 0x40, *chunk.octets[3:7]])
        assert not decoder.feed(Chunk(chunk.at_s, sealed(head)))
        assert len(decoder.issues) == (number >= 30)
    assert decoder.quality.good == 700
    (issue,) = decoder.issues
    assert "unused bits" in issue.reason
    assert issue.detail["bits"] == "O3.6"


MISHAPS = st.tuples(
    st.sampled_from(["lost", "late", "again", "twice", "kept"]), st.integers(310, 1500), st.integers(1, 700)
)


@pytest.mark.req("CE-A")
@given(
    st.sampled_from([2, 20, 60, 90]),
    st.sampled_from([500, 99_990]),
    st.lists(MISHAPS, min_size=1, max_size=3),
)
@settings(max_examples=25)
def test_whatever_a_gateway_does_an_interval_is_right_or_missing(
    load_kw: int, base_kwh: int, mishaps: list[tuple[str, int, int]]
) -> None:
    begin = float(FIRST + EPOCH_S)
    values = [(base_kwh + load_kw * second // 3600) % 100_000 for second in range(1800)]
    arrivals = [
        (begin + second, encode_packet("0000000078", 0x0A, 2, bytes.fromhex(f"{value:06d}")))
        for second, value in enumerate(values)
    ]
    for kind, first, count in mishaps:
        piece = arrivals[first : first + count]
        after_s = arrivals[min(first + count, len(arrivals) - 1)][0]
        then = [(after_s, octets) for _, octets in piece]
        # Nobody was connected: the gateway kept the older half.
        kept = {"lost": [], "late": then, "again": piece + then, "twice": [*piece, *piece]}.get(
            kind, then[: count // 2]
        )
        arrivals[first : first + count] = sorted(kept, key=lambda one: one[0]) if kind == "twice" else kept
    decoder = new_decoder(STREAM_PROFILES["celesc-27182"], 300, "78")
    found = [slot for at_s, octets in arrivals for slot in decoder.feed(Chunk(at_s, octets))]
    # Whole kWh, of values up to fifteen seconds old.
    assert all(abs(slot.pulses - load_kw / 12) <= 1.05 + load_kw * 15 / 3600 for slot in found)


def test_a_pause_costs_its_intervals_and_no_others() -> None:
    chunks = heard(celesc(), FIRST - 40, 3700)
    hole = [chunk for chunk in chunks if not FIRST + 1000 <= chunk.at_s - EPOCH_S < FIRST + 1100]
    lost = set(by_channel(slots("celesc-27182", chunks), 1)) - set(by_channel(slots("celesc-27182", hole), 1))
    # 1000 to 1100 s lie within one interval whose ends were heard.
    assert lost == set()
    hole = [chunk for chunk in chunks if not FIRST + 1100 <= chunk.at_s - EPOCH_S < FIRST + 1300]
    lost = set(by_channel(slots("celesc-27182", chunks), 1)) - set(by_channel(slots("celesc-27182", hole), 1))
    # The end at 1200 s was not heard: neither interval that it bounds is known.
    assert lost == {FIRST // 300 + 3, FIRST // 300 + 4}


@pytest.mark.parametrize("error_rate", [0.0, 0.05])
def test_stored_rows_give_back_what_came(error_rate: float) -> None:
    chunks = heard(SsuOutput(SOURCE), FIRST, 400, BadLine(error_rate, 0.0, 1))
    found = unpack_frames(frames_of([*chunks, Chunk(chunks[-1].at_s + 1, bytes(range(256)) * 3)], "ssu"))
    assert b"".join(chunk.octets for chunk in found.chunks[: len(chunks)]) == b"".join(
        chunk.octets for chunk in chunks
    )
    assert [chunk.at_s for chunk in found.chunks[: len(chunks)]] == [chunk.at_s for chunk in chunks]
    assert b"".join(chunk.octets for chunk in found.chunks[len(chunks) :]) == bytes(range(256)) * 3
    assert found.facts == {"profile": "ssu", "interval_s": "300"}


def test_a_stored_session_is_decoded_alone() -> None:
    chunks = heard(SsuOutput(SOURCE), FIRST - 40, 1000)
    context = MeterContext(1, "1", 1, MARKET_ZONE)
    decoded = SSU_DECODER.decode(frames_of(chunks, "ssu"), "ssu", context)
    vector = next(vector for vector in decoded.vectors if vector.channel == 1)
    assert (vector.day, vector.quantity_code, vector.interval_s) == (date(2026, 11, 20), 1, 300)
    assert len(vector.pulses) == len(vector.present) == 288
    assert np.flatnonzero(vector.present).tolist() == [108, 109, 110]
    assert vector.pulses[108:111].tolist() == [truth(FIRST // 300 + n)[0] for n in range(3)]
    assert decoded.clock is not None
    assert abs(decoded.clock.drift_s) <= 1
    assert decoded.blocks == 1000
    (quality,) = decoded.parameters
    assert quality.values["skipped_share"] == 0


@pytest.mark.req("TR-5.5e")
def test_an_interval_that_is_told_twice_and_differently_is_missing() -> None:
    """The host's clock was set back by an hour while nothing was heard, and the hour came once more."""
    chunks = heard(SsuOutput(SOURCE), FIRST - 40, 5400)
    back = [chunk if n < 3650 else Chunk(chunk.at_s - 3600, chunk.octets) for n, chunk in enumerate(chunks)]
    decoded = SSU_DECODER.decode(frames_of(back, "ssu-extended"), "", MeterContext(1, "1", 1, MARKET_ZONE))
    vector = next(vector for vector in decoded.vectors if vector.channel == 1)
    told = np.flatnonzero(vector.present).tolist()
    # Of 09:00 to 10:00, heard first, what is between 09:05 and 09:25 came again.
    assert told == [108, *range(113, 120)]
    assert vector.pulses[told].tolist() == [truth(FIRST // 300 + slot - 108)[0] for slot in told]
    assert "an interval was told twice, and differently" in {issue.reason for issue in decoded.issues}


@pytest.mark.parametrize("error_s", [0, 3600, -7200, 40])
def test_a_mixed_block_tells_the_error_of_a_whole_clock_and_a_serial(error_s: int) -> None:
    """The other formats tell it by the interval's end alone, modulo its length."""
    output = SsuOutput(SOURCE, Format.MIXED, serial=4711)
    fast = [Chunk(chunk.at_s - error_s, chunk.octets) for chunk in heard(output, FIRST - 40, 700)]
    context = MeterContext(1, "1", 1, MARKET_ZONE)
    decoded = SSU_DECODER.decode(frames_of(fast, "ssu-mixed"), "", context)
    assert decoded.clock is not None
    assert abs(decoded.clock.drift_s - error_s) <= 1
    assert decoded.meter_serial == "4711"
    assert not decoded.is_held


def test_without_a_zone_a_mixed_block_gives_the_error_by_interval_only() -> None:
    decoder = new_decoder(STREAM_PROFILES["ssu-mixed"], 300)
    for chunk in heard(SsuOutput(SOURCE, Format.MIXED), FIRST - 40, 700):
        decoder.feed(Chunk(chunk.at_s - 40, chunk.octets))
    assert decoder.clock_error_s == pytest.approx(40, abs=1)


@pytest.mark.req("TR-5.5e", "X-sim")
def test_the_same_load_over_nbr14522_and_over_ssu(db: Database) -> None:
    station = meter()

    async def over_nbr14522() -> None:
        async with served(station) as servers:
            register(db, servers)
            await collect(quick(db))

    asyncio.run(over_nbr14522())
    source = station.meter.spec.source
    first = int(local_seconds(datetime(2026, 11, 20, 9, tzinfo=MARKET_ZONE)))
    chunks = heard(SsuOutput(source), first - 40, 2 * 3600 + 100)
    decoded = SSU_DECODER.decode(frames_of(chunks, "ssu-extended"), "", MeterContext(1, "1", 1, MARKET_ZONE))
    with db.connect() as conn:
        stored = dict(
            conn.execute("SELECT channel, pulses FROM reading_day WHERE day = %s", [DAY]).fetchall()
        )
    for vector in decoded.vectors:
        here = np.flatnonzero(vector.present)
        assert vector.pulses[here].tolist() == [stored[vector.channel][index] for index in here]
    active = next(vector for vector in decoded.vectors if vector.channel == 1)
    assert np.flatnonzero(active.present).tolist() == list(range(108, 132))
