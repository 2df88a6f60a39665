"""The places of a load profile's cells, whatever the rows look like: they agree with the decoder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.dlms_evidence import DlmsPlace, locate_row
from collector.decoded import Frame, MeterContext
from collector.dlms.decode import decode_dlms
from protocols.acquisition import Nulls
from protocols.dlms.apdu import Attribute, get_next, get_request, obis_octets
from protocols.dlms.axdr import (
    NULL,
    Data,
    OctetCursor,
    Tag,
    array,
    decode,
    encode,
    encode_length,
    octets,
    structure,
)
from protocols.dlms.clock import encode_date_time
from protocols.dlms.framing import WRAPPER
from protocols.dlms.models import Timestamps, model_named
from tests.collector.world import MARKET

pytestmark = pytest.mark.req("X-trace")

MODEL = replace(model_named("dlms-generic"), tolerates_trailing=False)
LOAD, PERIOD_S = MODEL.load_profile, 300
CONTEXT = MeterContext(1, "10000001", 1, MARKET)
INCREMENT, TOTAL = "1-0:1.29.0.255", "1-0:1.8.0.255"
START = datetime(2026, 11, 20, 10, 0, tzinfo=MARKET)
STEP = timedelta(seconds=PERIOD_S)


class Record:
    """Frames of a session; answers cut into blocks of at most `block` octets, None for whole ones."""

    def __init__(self, block: int | None = None, is_bare: bool = False) -> None:
        self.frames: list[Frame] = []
        self._block = block
        self._is_bare = is_bare

    def _add(self, is_sent: bool, apdu: bytes) -> None:
        payload = apdu if self._is_bare else WRAPPER.pack(1, 1, 16, len(apdu)) + apdu
        self.frames.append(
            Frame(len(self.frames) + 1, datetime(2026, 11, 21, tzinfo=UTC), is_sent, True, payload)
        )

    def answer(self, class_id: int, obis: str, index: int, value: Data | bytes) -> Record:
        raw = value if isinstance(value, bytes) else encode(value)
        self._add(True, get_request(Attribute(class_id, obis, index)))
        if self._block is None:
            self._add(False, b"\xc4\x01\xc1\x00" + raw)
            return self
        parts = [raw[place : place + self._block] for place in range(0, len(raw), self._block)]
        for number, part in enumerate(parts, start=1):
            if number > 1:
                self._add(True, get_next(number - 1))
            head = b"\xc4\x02\xc1" + bytes([number == len(parts)]) + number.to_bytes(4, "big") + b"\0"
            self._add(False, head + encode_length(len(part)) + part)
        return self

    def described(self, column: str) -> Record:
        """What a visit asks before the rows."""
        columns = array(_column(8, "0-0:1.0.0.255"), _column(3, column))
        self.answer(7, LOAD, 3, columns)
        self.answer(7, LOAD, 4, Data(Tag.UINT32, PERIOD_S))
        return self.answer(3, column, 3, structure(Data(Tag.INT8, 0), Data(Tag.ENUM, 30)))

    def rows(self, buffer: Data | bytes) -> Record:
        return self.answer(7, LOAD, 2, buffer)


def _column(class_id: int, obis: str) -> Data:
    return structure(
        Data(Tag.UINT16, class_id), octets(obis_octets(obis)), Data(Tag.INT8, 2), Data(Tag.UINT16, 0)
    )


def moment(number: int) -> Data:
    return octets(encode_date_time(START + (number + 1) * STEP))


def places(record: Record, count: int, model=MODEL) -> dict[datetime, DlmsPlace]:
    ends = [(START + number * STEP).replace(tzinfo=None) for number in range(-1, count + 3)]
    found = {end: locate_row(record.frames, model, MARKET, end, 1) for end in ends}
    return {end: place for end, place in found.items() if place is not None}


def decoded(record: Record, model=MODEL) -> dict[datetime, int]:
    return {
        datetime.combine(vector.day, datetime.min.time()) + (index + 1) * STEP: int(vector.pulses[index])
        for vector in decode_dlms(record.frames, model, CONTEXT).vectors
        for index in range(len(vector.pulses))
        if vector.present[index]
    }


def joined(parts) -> bytes:
    return b"".join(part.octets for part in parts)


ROWS = st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.integers(0, 5000))), min_size=1, max_size=10)


@settings(max_examples=150, deadline=None)
@given(
    rows=ROWS,
    block=st.one_of(st.none(), st.integers(1, 60)),
    is_bare=st.booleans(),
    is_total=st.booleans(),
    timestamps=st.sampled_from(list(Timestamps)),
)
def test_places_agree_with_the_decoder_for_any_nulls_and_blocks(rows, block, is_bare, is_total, timestamps):
    model = replace(MODEL, timestamps=timestamps, null_values=Nulls.ABOVE)
    raw, cells, told = 0, [], []
    for number, (is_null, amount) in enumerate(rows):
        is_said = number == 0 or amount is not None
        raw = raw + (amount or 0) if is_total else (amount or 0) if is_said else raw
        told.append(raw)
        clock = NULL if is_null and number else moment(number)
        cells.append(structure(clock, Data(Tag.UINT32, raw) if is_said else NULL))
    column = TOTAL if is_total else INCREMENT
    record = Record(block, is_bare).described(column).rows(array(*cells))
    expected = decoded(record, model)
    found = places(record, len(rows), model)
    assert {end: place.pulses for end, place in found.items()} == expected
    assert len(expected) == len(rows) - is_total
    for place in found.values():
        assert len(place.rows) == 1 + is_total
        for row in place.rows:
            said = row.value.told_by or row.value.octets
            assert decode(joined(said)).value == row.raw == told[row.value.row - 1]
            assert row.value.is_null == (joined(row.value.octets) == b"\0")
            clock = row.clock.told_by or row.clock.octets
            assert decode(joined(clock)) == moment(row.clock.told_by_row - 1)
        assert decode(joined(place.column_octets)) == _column(3, column)
        assert decode(joined(place.scaler_octets)).plain() == [0, 30]


def test_rows_of_a_compact_array():
    body = b"".join(encode(moment(number))[1:] + (100 + number).to_bytes(4, "big") for number in range(20))
    packed = bytes.fromhex("13" + "0202" + "0906") + encode_length(len(body)) + body
    record = Record(block=33).described(INCREMENT).rows(packed)
    found = places(record, 20)
    assert {end: place.pulses for end, place in found.items()} == decoded(record)
    assert len(found) == 20
    for number, place in enumerate(found.values()):
        (row,) = place.rows
        assert int.from_bytes(joined(row.value.octets), "big") == 100 + number
        assert joined(row.clock.octets) == encode(moment(number))[1:]


def test_a_row_that_comes_twice_counts_once_and_a_contradiction_not_at_all():
    one = array(*(structure(moment(number), Data(Tag.UINT32, number)) for number in range(3)))
    other = array(*(structure(moment(number), Data(Tag.UINT32, 7 * number)) for number in range(3)))
    twice = Record().described(INCREMENT).rows(one).rows(one)
    assert {place.pulses for place in places(twice, 3).values()} == {0, 1, 2}
    contradicted = Record().described(INCREMENT).rows(one).rows(other)
    found = places(contradicted, 3)
    assert {end: place.pulses for end, place in found.items()} == decoded(contradicted)
    assert len(found) == 1


def test_a_row_marked_invalid_is_no_evidence_and_is_without_the_mark():
    status = next(iter(MODEL.status_objects), "0-0:96.10.7.255")
    model = replace(
        MODEL, status_objects=(status,), status_flags={0x80: "invalid"}, invalid_flags=frozenset({"invalid"})
    )
    columns = array(_column(8, "0-0:1.0.0.255"), _column(1, status), _column(3, INCREMENT))
    record = Record().described(INCREMENT).answer(7, LOAD, 3, columns)
    rows = [
        structure(moment(n), Data(Tag.UINT8, 0x80 if n == 1 else 0), Data(Tag.UINT32, n)) for n in range(3)
    ]
    record.rows(array(*rows))
    found = places(record, 3, model)
    assert {end: place.pulses for end, place in found.items()} == decoded(record, model)
    assert {place.pulses for place in found.values()} == {0, 2}
    assert {place.rows[0].value.column for place in found.values()} == {3}


def test_an_answer_that_is_no_row_is_passed_over():
    bad = array(structure(moment(0)), structure(moment(1), Data(Tag.UINT32, 1)))
    good = array(structure(moment(5), Data(Tag.UINT32, 9)))
    record = Record().described(INCREMENT).rows(bad).rows(good).answer(3, INCREMENT, 3, array())
    found = places(record, 8)
    assert {end: place.pulses for end, place in found.items()} == decoded(record)
    assert [place.pulses for place in found.values()] == [9]


@given(st.binary(max_size=400))
def test_any_octets_for_rows_give_what_the_decoder_gives(raw):
    record = Record().described(INCREMENT).rows(raw)
    expected = decoded(record)
    for end, place in places(record, 4).items():
        assert place.pulses == expected[end]
        assert OctetCursor(joined(place.scaler_octets)).data().plain() == [0, 30]
