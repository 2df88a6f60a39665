"""How rows are asked for when they do not all come: the rest, the next way, numbers (cases D1, D2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from collector.dlms.asking import RowReader, usual_step_s
from collector.dlms.rows import LoadProfile
from collector.work.planning import Span
from faults import OperatorFault, RetryFault
from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import Data, Tag, array, octets, structure
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.errors import ServiceRefused
from protocols.dlms.models import Access, model_named
from protocols.dlms.profile import ENTRIES_IN_USE, CaptureObject
from tests.collector.world import MARKET

MODEL = model_named("dlms-generic")
COLUMNS = (CaptureObject(8, "0-0:1.0.0.255", 2), CaptureObject(3, "1-0:1.29.0.255", 2))
NOW = datetime(2026, 11, 21, 3, 7)
DAY = Span(datetime(2026, 11, 20, 0, 5), datetime(2026, 11, 21))
STEP = timedelta(minutes=5)
ALL = [datetime(2026, 11, 19) + number * STEP for number in range(2 * 288 + 37)]


class Meter:
    """Rows by their end; `by_range` and `by_number` say what becomes of an answer."""

    def __init__(
        self,
        ends: list[datetime] = ALL,
        by_range: Callable[[list[datetime]], list[datetime]] = list,
        by_number: Callable[[list[datetime]], list[datetime]] = list,
        held: int | None = -1,
    ) -> None:
        self.ends, self.by_range, self.by_number = ends, by_range, by_number
        self.held = len(ends) if held == -1 else held
        self.asked: list[tuple[int, tuple[object, ...]]] = []
        self.brought: set[datetime] = set()

    def get(self, attribute: Attribute, selector: int = 0, selection: Data | None = None):
        if attribute.index == ENTRIES_IN_USE:
            if self.held is None:
                raise AccessRefused(attribute, 3)
            return Data(Tag.UINT32, self.held)
        if selection is None:
            self.asked.append((0, ()))
            found = self.ends
        elif selector == 1:
            first, last = (
                decode_date_time(one.value, MARKET).at.replace(tzinfo=None) for one in selection.value[1:3]
            )
            self.asked.append((1, (first, last)))
            found = self.by_range([end for end in self.ends if first <= end <= last])
        else:
            first, last = (one.value for one in selection.value[:2])
            self.asked.append((2, (first, last)))
            found = self.by_number(self.ends[first - 1 : last or None])
        self.brought |= set(found)
        clock = [octets(encode_date_time(end.replace(tzinfo=MARKET))) for end in found]
        return array(*(structure(one, Data(Tag.UINT32, 7)) for one in clock))
        yield b""  # a generator, as the client's is

    def read(self, *spans: Span, **changes: object) -> Meter:
        load = LoadProfile(COLUMNS, 300)
        reader = RowReader(self, replace(MODEL, **changes), load, NOW, MARKET)  # type: ignore[arg-type]
        for _ in reader.read(spans or (DAY,)):
            raise AssertionError("nothing is sent here")
        return self

    @property
    def ways(self) -> list[int]:
        return [selector for selector, _ in self.asked]

    @property
    def lacks(self) -> int:
        wanted = {DAY.first_end + number * STEP for number in range(288)}
        return len(wanted - self.brought)


def refused(code: int) -> Callable[[list[datetime]], list[datetime]]:
    def answer(_: list[datetime]) -> list[datetime]:
        raise AccessRefused(Attribute(7, MODEL.load_profile, 2), code)

    return answer


def excepted(_: list[datetime]) -> list[datetime]:
    raise ServiceRefused("an exception", where="service")


def nothing(_: list[datetime]) -> list[datetime]:
    return []


def test_one_range_a_day_is_enough_where_all_comes():
    meter = Meter().read()
    assert (meter.ways, meter.lacks) == ([1], 0)


def test_an_answer_that_is_broken_off_is_asked_for_the_rest():
    meter = Meter(by_range=lambda ends: ends[:100]).read()
    assert (set(meter.ways), meter.lacks) == ({1}, 0)
    assert len(meter.ways) == 3


@pytest.mark.parametrize("by_range", [nothing, refused(13), refused(250), excepted])
def test_where_ranges_bring_nothing_rows_are_asked_for_by_explicit_numbers(by_range):
    meter = Meter(by_range=by_range).read()
    assert (meter.ways, meter.lacks) == ([1, 1, 1, 2], 0)
    first, last = meter.asked[-1][1]
    assert (first > 1, last) == (True, len(ALL))


def test_numbers_that_are_broken_off_are_asked_for_the_rest():
    meter = Meter(by_range=nothing, by_number=lambda ends: ends[:100]).read()
    assert meter.lacks == 0


def test_a_way_that_was_refused_is_not_tried_again_for_the_next_day():
    other = Span(datetime(2026, 11, 19, 0, 5), datetime(2026, 11, 20))
    meter = Meter(by_range=refused(13)).read(other, DAY)
    assert meter.ways == [1, 1, 1, 2]


def test_a_hole_between_rows_is_the_meters_and_not_searched_for():
    hole = [end for end in ALL if not datetime(2026, 11, 20, 8) < end < datetime(2026, 11, 20, 11)]
    assert Meter(hole).read().ways == [1]


def test_rows_that_are_nowhere_are_searched_for_once():
    meter = Meter(ALL[:200]).read(DAY, Span(datetime(2026, 11, 21, 0, 5), datetime(2026, 11, 21, 2)))
    assert meter.lacks == 288
    assert meter.ways == [1, 1, 1, 2, 1]


def test_without_a_count_of_entries_the_meters_own_last_is_meant():
    meter = Meter(by_range=nothing, held=None).read()
    assert (meter.asked[-1], meter.lacks) == ((2, (1, 0)), 0)


def test_every_way_refused_is_the_operators_and_by_exceptions_one_of_retry():
    ways = (Access.RANGE, Access.ENTRY)
    with pytest.raises(OperatorFault, match="refuses every way"):
        Meter(by_range=refused(3), by_number=refused(3)).read(access=ways)
    with pytest.raises(RetryFault):
        Meter(by_range=excepted, by_number=excepted).read(access=ways)


def test_a_refusal_of_the_moment_is_no_reason_for_another_way():
    with pytest.raises(RetryFault, match="cannot give its load profile now"):
        Meter(by_range=refused(2)).read()


def test_the_commonest_distance_of_rows_is_their_length():
    start = datetime(2026, 11, 20)
    assert usual_step_s([start + timedelta(seconds=at) for at in (0, 300, 600, 1500, 1800)]) == 300
    assert usual_step_s([start]) is None
    assert usual_step_s([start, start + timedelta(seconds=420)]) is None
