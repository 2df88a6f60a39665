"""Streams that would make a false interval: late, replayed, of another interval, with quadrants unheard.

What comes out is right or missing (ssu.md 5 and 6). The meter here counts in all four quadrants.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.ssu import BlockFound, ExtendedBlock, IntervalAssembler, IntervalReading, SsuSettings
from protocols.ssu.blocks import NormalBlock
from protocols.ssu.intervals import Doubt

pytestmark = pytest.mark.req("TR-5.5e")

INTERVAL_S = 300
START = 1_700_000_100 - 1_700_000_100 % 3600
BLANK = ExtendedBlock(0, False, False, False, True, "ponta", 1, True, 0, 0)
Arrival = tuple[float, ExtendedBlock]


class Meter:
    """Second by second: a block, and what each interval's registers really came to."""

    def __init__(self, seconds: int, seed: int = 0, interval_s: int = INTERVAL_S) -> None:
        rng = random.Random(seed)
        self.truth: dict[int, dict[str, int]] = {}
        self.blocks: list[ExtendedBlock] = []
        counts: dict[str, int] = {}
        quadrant = 1
        for second in range(seconds):
            end, elapsed = START + second // interval_s * interval_s, second % interval_s
            if elapsed < 3 and second >= interval_s:
                self.blocks.append(self._block(0, quadrant, counts))
                continue
            if elapsed == 3:
                counts = {}
            if second % 20 == 5 and rng.random() < 0.3:
                quadrant = rng.choice([1, 1, 1, 4, 2, 3])
            shown = ("R1" if quadrant in (1, 4) else "R2", f"R{quadrant + 2}")
            for name in shown:
                counts[name] = counts.get(name, 0) + rng.randrange(4)
            self.blocks.append(self._block(interval_s - elapsed, quadrant, counts))
            self.truth[end + interval_s] = dict(counts)

    def _block(self, left: int, quadrant: int, counts: dict[str, int]) -> ExtendedBlock:
        active, reactive = "R1" if quadrant in (1, 4) else "R2", f"R{quadrant + 2}"
        return replace(
            BLANK,
            seconds_left=left,
            quadrant=quadrant,
            active_pulses=counts.get(active, 0),
            reactive_pulses=counts.get(reactive, 0),
        )

    def heard(self) -> list[Arrival]:
        return [(float(START + second), block) for second, block in enumerate(self.blocks)]


def closed(
    arrivals: Iterable[Arrival], interval_s: int = INTERVAL_S, unnoticed_s: int = 5
) -> list[IntervalReading]:
    assembler = IntervalAssembler(SsuSettings(interval_s=interval_s, unnoticed_s=unnoticed_s))
    out = []
    for at_s, block in arrivals:
        out += assembler.feed(BlockFound(block, at_s, 0, b""))
    return [one for one in out if isinstance(one, IntervalReading)]


def told(readings: list[IntervalReading]) -> dict[float, dict[str, int]]:
    """What would be stored: registers of complete intervals, those that never showed as zero."""
    out = {}
    for one in readings:
        if one.is_complete:
            absent = {} if one.has_holes else dict.fromkeys(("R1", "R2", "R3", "R4", "R5", "R6"), 0)
            assert one.end_s not in out, "an interval is told once"
            out[one.end_s] = absent | one.pulses
    return out


def assert_right_or_missing(arrivals: list[Arrival], meter: Meter, least: int = 0) -> None:
    found = told(closed(arrivals))
    for end_s, pulses in found.items():
        for name, value in pulses.items():
            assert value == meter.truth[int(end_s)].get(name, 0), (end_s, name)
    assert len(found) >= least


def test_a_clean_stream_tells_every_register_of_every_interval() -> None:
    meter = Meter(3000, 1)
    assert_right_or_missing(meter.heard(), meter, 8)
    assert any(len(set(pulses.values())) > 4 for pulses in told(closed(meter.heard())).values())


def held_back(arrivals: list[Arrival], first: int, count: int) -> list[Arrival]:
    """Octets that a gateway kept, and let go at once."""
    late = arrivals[min(first + count, len(arrivals) - 1)][0]
    kept = [(late, block) for _, block in arrivals[first : first + count]]
    return [*arrivals[:first], *kept, *arrivals[first + count :]]


@pytest.mark.parametrize("seconds", [20, 40, 60, 95])
@pytest.mark.parametrize("first", [1150, 1195, 1210, 1320])
def test_octets_that_come_late_are_of_the_interval_in_which_they_were_said(first: int, seconds: int) -> None:
    meter = Meter(3000, 2)
    assert_right_or_missing(held_back(meter.heard(), first, seconds), meter, 8)


# A piece that is lost or said again and is as long as an interval, to seconds, cannot be told from none.
MISHAPS = st.one_of(
    st.tuples(st.sampled_from(["lost", "late", "twice"]), st.integers(310, 1600), st.integers(1, 700)),
    st.tuples(st.just("again"), st.integers(310, 1600), st.integers(1, 280)),
    st.tuples(st.just("kept"), st.integers(310, 1600), st.integers(1, 560)),
)


@given(st.integers(0, 5), st.lists(MISHAPS, min_size=1, max_size=3))
@settings(max_examples=40)
def test_whatever_a_gateway_does_an_interval_is_right_or_missing(
    seed: int, mishaps: list[tuple[str, int, int]]
) -> None:
    meter = METERS[seed]
    arrivals = meter.heard()
    for kind, first, count in mishaps:
        piece = arrivals[first : first + count]
        if kind == "lost":
            del arrivals[first : first + count]
        elif kind == "late":
            arrivals = held_back(arrivals, first, count)
        elif kind == "again" and first < len(arrivals):
            # Sent once more after a reconnection, stamped with the time that it is then.
            at_s = arrivals[min(first + count, len(arrivals) - 1)][0]
            arrivals[first + count : first + count] = [(at_s, block) for _, block in piece]
        elif kind == "twice":
            arrivals[first : first + count] = [one for one in piece for _ in range(2)]
        elif kind == "kept":
            # Nobody was connected: the gateway kept the older half, and lost the rest.
            arrivals = held_back(arrivals, first, count)
            del arrivals[first + count // 2 : first + count]
    assert_right_or_missing(arrivals, meter)


BUSY = Meter(1300, 4)
METERS = [Meter(1900, seed) for seed in range(6)]


def test_what_a_gateway_kept_while_nobody_listened_is_no_interval_of_now() -> None:
    """A tail of one interval, let go within the next one but one: it would be told as that one's."""
    meter = Meter(3000, 3)
    arrivals = meter.heard()
    for wait_s in range(211, 420, 10):
        kept = held_back(arrivals, 1120, wait_s)
        assert_right_or_missing(kept, meter)
        # The gateway's memory was full after a while.
        assert_right_or_missing([*kept[:1260], *kept[1120 + wait_s :]], meter)


def test_a_register_that_did_not_show_in_a_hole_is_not_zero() -> None:
    meter = Meter(1300, 4)
    arrivals = [
        (at_s, replace(block, quadrant=4, active_pulses=7, reactive_pulses=5) if 400 < n < 500 else block)
        for n, (at_s, block) in enumerate(meter.heard())
    ]
    plain = [(at_s, replace(block, quadrant=1)) for at_s, block in arrivals]
    unheard = [*plain[:303], *plain[520:]]
    (reading,) = [one for one in closed(unheard) if one.end_s == START + 600]
    assert reading.has_holes
    assert "R6" not in reading.pulses
    # A piece lost later: what R6 had before it may have gone on.
    shown = [*arrivals[:450], *plain[470:]]
    (reading,) = [one for one in closed(shown) if one.end_s == START + 600]
    assert reading.has_holes
    assert "R6" not in reading.pulses


@pytest.mark.parametrize(
    ("true_s", "registry_s"), [(900, 300), (300, 900), (900, 3600), (300, 600), (900, 60)]
)
def test_the_interval_of_the_registry_is_verified(true_s: int, registry_s: int) -> None:
    readings = closed(Meter(6 * true_s, 5, true_s).heard(), registry_s)
    assert readings
    assert {one.doubt for one in readings} == {Doubt.WRONG_LENGTH}


@pytest.mark.parametrize("step_s", [-7200, -3600, -900, -400, 400, 900, 3600])
@pytest.mark.parametrize("at", [1000, 1201, 1203, 1350])
def test_a_host_clock_that_is_set_costs_the_interval_and_no_others(step_s: int, at: int) -> None:
    meter = Meter(3000, 6)
    arrivals = [(at_s + (step_s if n >= at else 0), block) for n, (at_s, block) in enumerate(meter.heard())]
    for one in closed(arrivals):
        # By the clock of then: before the step as it was, after it as it is.
        candidates = [meter.truth.get(int(one.end_s - moved)) for moved in (0, step_s)]
        off_grid = step_s % INTERVAL_S != 0
        if one.is_complete and not off_grid:
            assert dict.fromkeys(one.pulses, 0) | one.pulses in [
                {name: (truth or {}).get(name, 0) for name in one.pulses} for truth in candidates
            ]
    assert sum(one.is_complete for one in closed(arrivals)) >= (7 if step_s % INTERVAL_S == 0 else 3)


def test_a_meter_that_restarts_or_is_exchanged_in_an_interval_costs_it() -> None:
    meter = Meter(2000, 7)
    anew = Meter(2000, 8).heard()
    # Ten seconds without power; the counters begin anew.
    restarted = [(at_s, replace(block, active_pulses=0, reactive_pulses=0)) for at_s, block in anew[860:900]]
    swapped = [*meter.heard()[:850], *restarted, *anew[900:]]
    assert {one.end_s: one.doubt for one in closed(swapped) if one.doubt} == {START + 900: Doubt.RESTARTED}
    # Another meter's countdown, which is not the market's.
    away = [*meter.heard()[:850], *[(START + 870.0 + n, block) for n, (_, block) in enumerate(anew[390:])]]
    told_ends = [one.end_s for one in closed(away) if one.is_complete]
    assert START + 900 not in told_ends
    assert START + 1080 - 1080 % 300 not in told_ends


@pytest.mark.parametrize(("heard_s", "doubt"), [(9, Doubt.OUT_OF_TIME), (10, None)])
def test_of_an_interval_enough_must_be_heard_as_it_is_said(heard_s: int, doubt: Doubt | None) -> None:
    """A shorter piece may have been kept somewhere, and be of any interval."""
    arrivals = Meter(1000, 1).heard()
    (reading,) = [
        one for one in closed([*arrivals[:303], *arrivals[600 - heard_s :]]) if one.end_s == START + 600
    ]
    assert reading.doubt is doubt


def test_a_countdown_may_begin_at_the_length_of_the_interval() -> None:
    meter = Meter(2000, 1)
    arrivals = [
        (at_s, replace(block, seconds_left=INTERVAL_S, active_pulses=0, reactive_pulses=0))
        if n > INTERVAL_S and n % INTERVAL_S == 2
        else (at_s, block)
        for n, (at_s, block) in enumerate(meter.heard())
    ]
    assert_right_or_missing(arrivals, meter, 5)


@pytest.mark.parametrize(
    ("closings", "told_value"),
    [((9, 9, 9), 9), ((9, 9), 9), ((8, 9, 9), 9), ((9,), None), ((9, 8, 9), None), ((8, 9), None)],
)
@pytest.mark.parametrize("step", [0, 1])
def test_a_normal_interval_needs_two_closing_blocks_that_agree(
    closings: tuple[int, ...], told_value: int | None, step: int
) -> None:
    """The last of them counts; what the blocks before have shown, alike or not, closes nothing."""
    blank = NormalBlock(0, False, False, False, False, "ponta", "azul", False, 0, 0)
    assembler = IntervalAssembler(SsuSettings(interval_s=INTERVAL_S))
    blocks = [(n, replace(blank, seconds_left=INTERVAL_S - n)) for n in (297, 298, 299)]
    blocks += [(INTERVAL_S + n, replace(blank, active_pulses=1)) for n in range(3)]
    blocks += [
        (INTERVAL_S + n, replace(blank, seconds_left=INTERVAL_S - n, active_pulses=2 + n * step // 60))
        for n in range(3, INTERVAL_S)
    ]
    blocks += [(2 * INTERVAL_S + n, replace(blank, active_pulses=value)) for n, value in enumerate(closings)]
    blocks.append((2 * INTERVAL_S + 3, replace(blank, seconds_left=INTERVAL_S - 3)))
    out = [
        event for n, block in blocks for event in assembler.feed(BlockFound(block, float(START + n), 0, b""))
    ]
    (reading,) = [one for one in out if isinstance(one, IntervalReading)]
    assert reading.end_s == START + 2 * INTERVAL_S
    expected = (None, told_value) if told_value is not None else (Doubt.CLOSINGS_DISAGREE, None)
    assert (reading.doubt, reading.pulses["active"] if told_value is not None else None) == expected


@pytest.mark.parametrize(
    ("hole_s", "late_s", "doubt"), [(6, 16, Doubt.OUT_OF_TIME), (6, 15, None), (5, 16, None)]
)
def test_after_a_hole_the_countdown_and_the_clock_must_have_gone_on_alike(
    hole_s: int, late_s: int, doubt: Doubt | None
) -> None:
    arrivals = Meter(1000, 1).heard()
    later = [(at_s + late_s, block) for at_s, block in arrivals[449 + hole_s :]]
    (reading,) = [one for one in closed([*arrivals[:450], *later]) if one.end_s == START + 600]
    assert reading.doubt is doubt


def test_only_the_interval_whose_start_was_not_heard_is_reported() -> None:
    meter = Meter(1000, 1)
    arrivals = meter.heard()
    by_end = {one.end_s: one for one in closed([*arrivals[:520], *arrivals[650:]])}
    assert by_end[START + 600].doubt is Doubt.END_NOT_HEARD
    assert by_end[START + 900].is_complete
    assert by_end[START + 900].has_holes
    assert by_end[START + 900].pulses == {
        name: meter.truth[START + 900][name] for name in by_end[START + 900].pulses
    }


def of_one_quadrant() -> list[Arrival]:
    """Counters that stand from the second interval on: which blocks are missing is all there is to tell."""
    return [
        (at_s, replace(block, quadrant=1, active_pulses=7, reactive_pulses=5) if n > 302 else block)
        for n, (at_s, block) in enumerate(Meter(1000, 1).heard())
    ]


@pytest.mark.parametrize(("lost", "has_holes"), [(6, False), (7, True)])
def test_a_hole_at_the_start_of_an_interval_counts_from_its_first_seconds(lost: int, has_holes: bool) -> None:
    arrivals = of_one_quadrant()
    del arrivals[303 : 303 + lost]
    (reading,) = [one for one in closed(arrivals) if one.end_s == START + 600]
    assert (reading.has_holes, reading.doubt) == (has_holes, None)


@pytest.mark.parametrize(("back_s", "has_holes"), [(5, False), (6, True)])
def test_a_block_that_is_said_again_is_no_hole(back_s: int, has_holes: bool) -> None:
    arrivals = of_one_quadrant()
    arrivals.insert(451, (arrivals[450][0], arrivals[450 - back_s][1]))
    (reading,) = [one for one in closed(arrivals) if one.end_s == START + 600]
    assert (reading.has_holes, reading.doubt) == (has_holes, None)


@pytest.mark.parametrize(
    ("is_normal", "counts", "told_value"),
    [
        (True, (32_750, 32_760, 5, 6), 32_774),
        (True, (32_750, 32_760, 5, 100, 6), 32_774),  # the 100 passed a weak check damaged
        (True, (10, 500, 11), 11),
        (True, (10, 11, 3), None),
        (False, (10, 500, 11), None),
        (False, (10, 11, 12), 12),
    ],
)
def test_a_count_that_falls_has_turned_over_was_false_or_began_anew(
    is_normal: bool, counts: tuple[int, ...], told_value: int | None
) -> None:
    normal = NormalBlock(0, False, False, False, False, "ponta", "azul", False, 0, 0)
    blank: NormalBlock | ExtendedBlock = normal if is_normal else BLANK
    values = [0] * 6 + [counts[0]] * (INTERVAL_S - 3 - len(counts)) + [*counts] + [counts[-1]] * 3 + [0]
    assembler = IntervalAssembler(SsuSettings(interval_s=INTERVAL_S))
    out = []
    for n, value in enumerate(values, INTERVAL_S - 3):
        left = 0 if n % INTERVAL_S < 3 else INTERVAL_S - n % INTERVAL_S
        block = replace(blank, seconds_left=left, active_pulses=value)
        out += assembler.feed(BlockFound(block, float(START + n), 0, b""))
    (reading,) = [one for one in out if isinstance(one, IntervalReading)]
    name = "active" if is_normal else "R1"
    assert reading.doubt is (Doubt.RESTARTED if told_value is None else None)
    assert told_value in (None, reading.pulses[name])
