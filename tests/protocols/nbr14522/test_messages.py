"""Requests and responses: the reference's frames, both directions, and any octets at all."""

from __future__ import annotations

import math
from datetime import date, datetime, time
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.nbr14522.crc import sealed
from protocols.nbr14522.errors import LocalProtocolError, RemoteProtocolError
from protocols.nbr14522.messages import (
    REQUESTS,
    RESPONSES,
    Change,
    ChangeLog,
    ChangeLogRequest,
    ChannelRegisters,
    ClearOccurrenceRequest,
    Constant,
    CurrentParametersRequest,
    DateSet,
    DayMonth,
    Instantaneous,
    InstantaneousRequest,
    LimitUnit,
    MeasurementParameters,
    MemoryBlock,
    NotImplementedAnswer,
    OccurrenceAnswer,
    OpaqueRequest,
    OpaqueResponse,
    Parameters,
    Period,
    PowerFailure,
    PowerFailures,
    PowerFailuresRequest,
    Registers,
    SetDateRequest,
    SetTimeRequest,
    TimeSet,
    WholeMemoryParametersRequest,
    decode_request,
    decode_response,
    memory_blocks,
    request_for,
    weekday_of,
)
from protocols.nbr14522.messages.layout import table_of

pytestmark = pytest.mark.req("TR-5.1", "TR-5.5a")

SERIAL = "32600760"


def test_requests_are_the_reference_frames() -> None:
    """Section 1.4 and the limits of 51."""
    expected = {
        "05 0F": InstantaneousRequest().encode("000000"),
        "3B 39": CurrentParametersRequest().encode("001101"),
        "3B 06": PowerFailuresRequest(period=Period.CURRENT).encode("001101"),
        "F8 CF": ChangeLogRequest().encode("001101"),
        "92 05": SetDateRequest(day=date(2024, 3, 8), weekday=weekday_of(date(2024, 3, 8))).encode("123456"),
        "BE 5F": SetTimeRequest(clock=time(2, 50, 53)).encode("123456"),
        "D1 CD": WholeMemoryParametersRequest().encode("000003"),
        "C3 2D": WholeMemoryParametersRequest(unit=LimitUnit.DAYS, amount=5).encode("000003"),
        "5D AC": WholeMemoryParametersRequest(group=1, unit=LimitUnit.DAYS, amount=35).encode("000003"),
        "94 6A": OpaqueRequest(code=0x31, parameters=b"\x15".ljust(60, b"\x00")).encode("123456"),
    }
    for crc, frame in expected.items():
        assert frame[-2:].hex(" ").upper() == crc


NEEDED = {
    0x29: {"day": date(2024, 3, 8), "weekday": 6},
    0x30: {"clock": time(2, 50, 53)},
    0x31: {"interval_min": 15},
    0x33: {"constants": (Constant(numerator=3, denominator=10),) * 3},
    0x36: {"is_on": True},
    0x37: {"occurrence": 0x37},
    0x64: {"is_on": True, "winter_end": DayMonth(day=15, month=10)},
    0x67: {
        "power_factor_composition": "52",
        "energy_interval_min": 60,
        "demand_interval_min": 60,
        "reference_power_factor_inductive_pct": 92,
        "reference_power_factor_capacitive_pct": 92,
        "inductive_starts": (time(6), None),
        "validity": "3333",
    },
    0x73: {"interval_min": 5},
    0x79: {"is_shown": True, "codes": (1, 2, 3, 33)},
    0x87: {"is_read": False, "installation_code": "    1234567890"},
    0x90: {"modes": (0x32, 0x22) * 3},
}


@pytest.mark.parametrize("code", NEEDED)
def test_a_write_needs_its_values(code: int) -> None:
    with pytest.raises(LocalProtocolError):
        request_for(code).encode("123456")


@pytest.mark.parametrize("code", sorted(REQUESTS))
def test_every_request_goes_both_ways(code: int) -> None:
    request = request_for(code, **NEEDED.get(code, {}))
    frame = request.encode("123456")
    assert (len(frame), frame[0]) == (66, code)
    back = decode_request(frame)
    assert type(back) is REQUESTS[code]
    assert (back, back.reader_serial, back.problems) == (request, "123456", ())


def parameters_of_the_real_frame() -> Parameters:
    """What section 3.3 tells of the real answer to 20 (its octets are not public in whole)."""
    at_reset = datetime(2021, 10, 7, 22, 15)
    return Parameters(
        code=0x20,
        meter_time=at_reset,
        weekday=5,
        last_interval_end=at_reset,
        last_reset=at_reset,
        previous_reset=datetime(2021, 10, 1),
        peak_starts=(time(18), None, None, None),
        off_peak_starts=(time(21), None, None, None),
        reserved_starts=(time(0), None, None, None),
        words_current=0,
        words_previous=5985,
        reset_count=1,
        demand_interval_min=15,
        previous_demand_interval_min=15,
        holidays=(date(2021, 10, 12), *(None,) * 13, date(2022, 5, 1)),
        constants=(Constant(numerator=1, denominator=1),) * 3,
        has_battery_problem=True,
        software_version="7131",
        model="1681",
        is_automatic_reset_on=True,
        automatic_reset_day=1,
        quantities=(1, 10, 11),
        power_factor_composition="52",
        memory_interval_min=5,
        memory_interval_extra_s=0,
        memory_interval_extra_hundredths=0,
        reactive_energy_interval_min=60,
        reactive_demand_interval_min=60,
        reference_power_factor_inductive_pct=92,
        reference_power_factor_capacitive_pct=92,
        inductive_starts=(time(6), None),
        capacitive_starts=(time(0), None),
        reactive_validity="3333",
        segment_count=3,
        has_command_80=True,
        has_command_14=True,
        group_count=7,
    )


def test_parameters_lie_where_the_table_says() -> None:
    block = parameters_of_the_real_frame().encode(SERIAL)

    def octets(first: int, last: int) -> str:
        return block[first - 1 : last].hex()

    assert octets(1, 5) == "2032600760"
    assert octets(6, 12) == "22150007102105"
    assert octets(25, 30) == "000000011021"
    assert octets(51, 58) == "1800" + "9900" * 3
    assert octets(75, 83) == "000000" + "005985" + "01" + "15" + "15"
    assert octets(84, 86) == "121021"
    assert octets(126, 134) == "010522" + "000001" + "000001"
    assert octets(147, 149) == "017131"
    assert octets(153, 157) == "16810001" + "01"
    assert octets(196, 199) == "01101152"
    assert octets(204, 206) == "050000"
    assert octets(214, 221) == "0060" + "0060" + "92" + "92" + "0600"
    assert octets(236, 240) == "3333030001"
    assert octets(246, 247) == "0107"


def test_parameters_go_both_ways() -> None:
    sent = parameters_of_the_real_frame()
    got = decode_response(sent.encode(SERIAL))
    assert isinstance(got, Parameters)
    assert (got.meter_serial, got.problems) == (SERIAL, ())
    assert (got.words_previous, got.memory_interval_s, got.quantities) == (5985, 300, (1, 10, 11))
    assert got.weekday == weekday_of(datetime(2021, 10, 7).date())
    assert got.encode() == sent.encode(SERIAL)
    assert orjson.loads(orjson.dumps(got.to_json()))["peak_starts"] == ["18:00:00", None, None, None]


def test_constants_are_exact() -> None:
    assert Constant(numerator=72, denominator=10_000).fraction == Fraction(9, 1250)
    assert Constant(numerator=72, denominator=0).fraction is None


def test_memory_words_belong_to_the_right_command() -> None:
    for code, words in ((0x22, 900), (0x21, 30), (0x51, 30)):
        assert Parameters(code=code, words_current=30, words_previous=900).memory_word_count == words


def test_one_bad_field_spoils_nothing_else() -> None:
    block = bytearray(parameters_of_the_real_frame().encode(SERIAL)[:-2])
    block[5] = 0x2A  # hour of the meter time
    block[75:77] = b"\xff\xff"  # words now
    block[128] = 0xEE  # numerator of channel 1
    got = decode_response(sealed(bytes(block)))
    assert isinstance(got, Parameters)
    assert (got.meter_time, got.words_current) == (None, None)
    assert (got.last_reset, got.words_previous) == (datetime(2021, 10, 7, 22, 15), 5985)
    assert got.constants[0] == Constant(numerator=None, denominator=1, problems=got.constants[0].problems)
    assert [(p.name, p.octet) for p in got.problems] == [
        ("meter_time", 6),
        ("words_current", 75),
        ("constants[0].numerator", 129),
    ]
    assert got.encode() == sealed(bytes(block)), "what could not be read is not touched"


def instantaneous_of_the_real_frame() -> Instantaneous:
    """Section 4.2, E550 G2, serial 55000052."""
    return Instantaneous(
        code=0x14,
        meter_time=datetime(2024, 6, 4, 10, 15, 46),
        voltage_a_v=129.299,
        voltage_b_v=129.577,
        voltage_c_v=129.309,
        voltage_ab_v=224.249,
        current_a_a=14.687,
        current_b_a=16.815,
        current_c_a=12.458,
        current_neutral_a=0.017,
        active_power_a_w=1883.0,
        active_power_b_w=2092.0,
        active_power_c_w=1542.0,
        active_power_total_w=5517.0,
        reactive_power_a_var=196.0,
        reactive_power_b_var=-587.0,
        reactive_power_c_var=-347.0,
        reactive_power_total_var=-738.0,
        load_kinds="LCCC",
        power_factor_a=0.99,
        temperature_c=25.3,
        frequency_hz=60.0,
        voltage_angle_c_deg=-119.9,
        current_thd_c_pct=19.0,
    )


def test_instantaneous_goes_both_ways_and_lies_without_gaps() -> None:
    block = instantaneous_of_the_real_frame().encode("55000052")
    got = decode_response(block)
    assert isinstance(got, Instantaneous)
    assert got.voltage_a_v == pytest.approx(129.299, rel=1e-6)
    assert (got.reactive_power_total_var, got.load_kinds, got.current_thd_c_pct) == (-738.0, "LCCC", 19.0)
    assert (got.cos_phi_a, got.distortion_power_total_va) == (None, None)
    assert block[131:135] == b"\xff" * 4, "a quantity that the meter lacks is FF FF FF FF"
    assert got.encode() == block
    floats = [spec for spec in table_of(Instantaneous) if spec.codec.size == 4 and spec.octet not in (2, 148)]
    runs = [*range(12, 148, 4), *range(152, 188, 4), *range(198, 246, 4)]
    assert [spec.octet for spec in floats] == runs


def test_null_octets_may_be_anything() -> None:
    """Makers fill unused octets with 00, FF or their own data; none of it is an error."""
    for filling in (0x00, 0xFF, 0x7E):
        content = bytearray(instantaneous_of_the_real_frame().encode("55000052")[:-2])
        content[246:256] = bytes([filling]) * 10
        got = decode_response(sealed(bytes(content)))
        assert got.problems == ()
        assert got.encode() == sealed(bytes(content))


def test_registers_lie_where_the_table_says() -> None:
    first = ChannelRegisters(
        total_pulses=1234567890, max_demand_peak_pulses=914, accumulated_dmcr_reserved_pulses=3232
    )
    third = ChannelRegisters(total_pulses=7)
    registers = Registers(code=0x23, channels=(first, None, third), intermediate_total_pulses=5)
    block = registers.encode(SERIAL)
    assert block[5:10].hex() == "1234567890"
    assert block[43:46].hex() == "000914"
    assert block[76:79].hex() == "003232"
    assert block[153:158].hex() == "0000000007"
    assert block[227:232].hex() == "0000000005"
    got = decode_response(block)
    assert isinstance(got, Registers)
    assert got.channels[0] is not None
    assert (got.channels[0].total_pulses, got.channels[0].max_demand_peak_pulses) == (1234567890, 914)


def test_power_failures_and_changes() -> None:
    failure = PowerFailure(start=datetime(2017, 1, 3, 10, 59, 16), end=datetime(2017, 1, 3, 13, 51, 38))
    lasting = PowerFailure(start=datetime(2017, 1, 5, 8))
    answer = PowerFailures(code=0x25, failures=(failure, lasting, *(None,) * 18), failure_count=2)
    got = decode_response(answer.encode(SERIAL))
    assert isinstance(got, PowerFailures)
    assert got.failures == answer.failures
    assert len(got.to_json()["failures"]) == 2

    change = Change(code=0x20, reader_serial="001101", at_time=datetime(2017, 1, 9, 7, 45))
    log = ChangeLog(code=0x28, changes=(None,) * 15 + (change,))
    block = log.encode(SERIAL)
    assert block[155:165].hex() == "20001101074500090117"
    back = decode_response(block)
    assert isinstance(back, ChangeLog)
    assert back.changes[-1] == change
    assert back.to_json()["changes"] == [
        {"code": "20", "reader_serial": "001101", "at_time": "2017-01-09T07:45:00"}
    ]


def test_measurement_parameters() -> None:
    ratio = Constant(numerator=120, denominator=1)
    answer = MeasurementParameters(code=0x80, current_transformer=ratio, installation_code="     123456789")
    block = answer.encode(SERIAL)
    assert block[159:165].hex() == "000120000001"
    got = decode_response(block)
    assert isinstance(got, MeasurementParameters)
    assert (got.current_transformer, got.installation_code) == (ratio, "     123456789")


def test_memory_blocks_are_numbered_and_the_last_is_marked() -> None:
    frames = memory_blocks(0x26, SERIAL, [bytes([i]) * 249 for i in range(3)])
    blocks = [decode_response(frame) for frame in frames]
    assert all(isinstance(block, MemoryBlock) for block in blocks)
    assert [(block.number, block.is_last) for block in blocks if isinstance(block, MemoryBlock)] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    assert frames[2][5:7].hex() == "1003"
    assert blocks[1].encode() == frames[1]


def test_block_numbers_after_999_are_a_setting() -> None:
    marks = [frame[5:7].hex() for frame in memory_blocks(0x52, SERIAL, [bytes(249)] * 1001)]
    assert marks[998:] == ["0999", "0000", "1001"]
    other = [frame[5:7].hex() for frame in memory_blocks(0x52, SERIAL, [bytes(249)] * 1001, after_999=1)]
    assert other[998:] == ["0999", "0001", "1002"]


@pytest.mark.req("TR-5.6b")
def test_exceptions_and_answers_to_writes() -> None:
    refused = decode_response(NotImplementedAnswer(refused_code=0x14).encode(SERIAL))
    assert isinstance(refused, NotImplementedAnswer)
    assert (refused.code, refused.refused_code) == (0x39, 0x14)
    occurrence = decode_response(OccurrenceAnswer(occurrence=0x45, detail=1, waiting_count=2).encode(SERIAL))
    assert isinstance(occurrence, OccurrenceAnswer)
    assert (occurrence.occurrence, occurrence.waiting_count) == (0x45, 2)
    block = DateSet(code=0x29, day=date(2024, 3, 8), weekday=6).encode(SERIAL)
    assert block[5:9].hex() == "08032406", "what was sent in o5 comes back in o6"
    block = TimeSet(code=0x30, clock=time(2, 50, 53)).encode(SERIAL)
    assert block[5:8].hex() == "025053"
    assert decode_request(ClearOccurrenceRequest(occurrence=0x37).encode("123456")).octets[4] == 0x37


def test_unknown_layouts_stay_raw() -> None:
    for code in (0x41, 0x46, 0xAB, 0x98):
        content = bytes([code]) + bytes.fromhex(SERIAL) + bytes(range(251))
        got = decode_response(sealed(content))
        assert isinstance(got, OpaqueResponse)
        assert got.data == bytes(range(251))
        assert got.encode() == sealed(content)


def test_blocks_with_a_bad_crc_or_size_are_refused() -> None:
    good = NotImplementedAnswer(refused_code=0x14).encode(SERIAL)
    for bad in (good[:-1], good + b"\x00", good[:-1] + bytes([good[-1] ^ 1]), b"", sealed(bytes(256))):
        with pytest.raises(RemoteProtocolError):
            decode_response(bad)
    with pytest.raises(RemoteProtocolError):
        decode_request(sealed(bytes(64)))


@pytest.mark.parametrize(
    "message",
    [
        Parameters(code=0x21, words_current=1_000_000),
        Parameters(code=0x21, meter_time=datetime(1999, 1, 1)),
        Parameters(code=0x21, quantities=(1, 2)),
        Instantaneous(code=0x14, load_kinds="L"),
        Instantaneous(code=0x14, voltage_a_v="high"),  # type: ignore[arg-type]  # on purpose
        MemoryBlock(code=0x26, mark=(1000, False)),
        Parameters(words_current=1),
    ],
)
def test_values_that_do_not_fit_are_our_own_fault(message: Parameters) -> None:
    with pytest.raises(LocalProtocolError):
        message.encode(SERIAL)


@pytest.mark.parametrize(
    "kind", sorted({*RESPONSES.values(), OpaqueResponse}, key=lambda kind: kind.__name__)
)
def test_no_two_fields_share_an_octet(kind: type[Parameters]) -> None:
    taken: set[int] = set()
    for spec in table_of(kind):
        for offset in spec.offsets:
            octets = set(range(offset, offset + spec.codec.size))
            assert not octets & taken, spec.name
            assert max(octets) < 256
            taken |= octets


contents = st.tuples(
    st.sampled_from([*RESPONSES, 0x41, 0xAB]),
    st.one_of(
        st.binary(min_size=255, max_size=255),
        st.lists(st.sampled_from(range(100)), min_size=255, max_size=255).map(
            lambda digits: bytes(int(f"{digit:02d}", 16) for digit in digits)
        ),
    ),
).map(lambda parts: bytes([parts[0]]) + parts[1])


@given(contents)
def test_any_content_is_decoded_and_survives(content: bytes) -> None:
    """encode(decode(x)) == x for any octets under a good CRC: nothing is lost, unreadable fields included."""
    response = decode_response(sealed(content))
    assert response.encode() == sealed(content)
    document = orjson.dumps(response.to_json())
    assert b"NaN" not in document
    for value in vars(response).values():
        assert not (isinstance(value, float) and not math.isfinite(value))


@given(st.binary(min_size=64, max_size=64).filter(lambda content: content[0]))
def test_any_command_is_decoded_and_survives(content: bytes) -> None:
    request = decode_request(sealed(content))
    assert request.reader_serial is not None
    assert request.encode(request.reader_serial) == sealed(content)
    orjson.dumps(request.to_json())


@given(st.binary(max_size=600))
def test_any_octets_are_decoded_or_refused(octets: bytes) -> None:
    for decode in (decode_response, decode_request):
        try:
            decode(octets)
        except RemoteProtocolError:
            continue
