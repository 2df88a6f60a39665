"""Writes take effect, are logged, are answered with what is in force, and are refused as meters refuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.messages import (
    Constant,
    DayMonth,
    ExtendedMode,
    GenericFlags,
    NominalFlags,
    Season,
    request_for,
)
from protocols.nbr14522.profiles import DEFAULT
from protocols.nbr14522.sending.layouts import Coding, LayoutField, WriteLayout
from protocols.nbr14522.sending.passwords import open_session
from simulator.load.channels import channel_load
from simulator.load.clock import ClockModel
from simulator.load.curves import GeneratedLoad
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.passwords import PasswordRules
from simulator.nbr14522.spec import MeterSpec, Outage
from tests.simulator.peers import reading as test_meter

NOW = datetime(2026, 11, 17, 10, 7, 30, tzinfo=MARKET_ZONE)
START = datetime(2026, 10, 5, 10, 7)

# Layouts of this test's own making: what no public source gives comes from data, here from these lines.
INVENTED = (
    WriteLayout("63", (LayoutField("is_on", 5), LayoutField("day", 6), LayoutField("hour", 7)), "invented"),
    WriteLayout("66", tuple(LayoutField(f"quantity_{i}", 4 + i) for i in (1, 2, 3)), "invented"),
    WriteLayout("98/30", (LayoutField("seconds", 6, 2, Coding.SIGNED),), "invented"),
    WriteLayout("47", (LayoutField("form", 5),), "invented"),
)
ALL = replace(
    DEFAULT,
    commands=frozenset(info.code for info in COMMANDS.values()) - {0x85},
    extended_commands=frozenset({0x30, 0x32, 0x95}),
)
TRAINED = replace(ALL, name="trained", write_layouts=INVENTED)


class Reader(test_meter.Reader):
    def __init__(self, meter: SimulatedMeter, now: datetime = NOW) -> None:
        super().__init__(meter, now)


def make(**changes: Any) -> SimulatedMeter:
    spec = MeterSpec(
        "12345678", GeneratedLoad("supermarket", 120.0, 0.036, 3), START, ClockModel(NOW), profile=ALL
    )
    return SimulatedMeter(replace(spec, **changes))


def log_of(reader: Reader) -> list[tuple[int, str, datetime]]:
    changes = [change for change in reader.ask(0x28).changes if change is not None]
    return [(change.code, change.reader_serial, change.at_time) for change in changes]


def data_of(reader: Reader, code: int, **values: Any) -> bytes:
    return reader.blocks(code, **values)[0][5:256]


@pytest.mark.req("TR-5.7b", "X-sim")
def test_what_was_sent_comes_back_one_octet_later_and_stands_in_the_log() -> None:
    reader = Reader(make())
    writes: list[tuple[int, dict[str, Any]]] = [
        (0x31, {"interval_min": 30}),
        (0x32, {"holidays": (date(2026, 12, 25), date(2027, 1, 1), *[None] * 13)}),
        (0x33, {"constants": tuple(Constant(numerator=n, denominator=1000) for n in (1, 2, 3))}),
        (0x34, {"seasons": (Season(wet_start=DayMonth(day=1, month=12)), *[None] * 4)}),
        (0x36, {"is_on": False}),
        (
            0x64,
            {
                "is_on": True,
                "winter_end": DayMonth(day=18, month=10),
                "summer_end": DayMonth(day=21, month=2),
            },
        ),
        (0x73, {"interval_min": 15}),
        (0x87, {"is_read": False, "condition": 1, "installation_code": "   UC 00012345"}),
        (0x90, {"modes": (0x12, 0x22, 0x00, 0x01, 0x33, 0x10)}),
    ]
    for code, values in writes:
        sent = request_for(code, **values).write()
        answer = reader.ask(code, **values)
        assert answer.code == code, answer
        assert data_of(reader, code, **values)[:32] == sent[4:36], f"{code:02X}"
    expected = [code for code, _ in writes for _ in range(2)]
    assert log_of(reader) == [(code, "000003", NOW.replace(tzinfo=None)) for code in expected][-16:]


def test_parameters_show_what_was_written() -> None:
    reader = Reader(make())
    reader.ask(0x31, interval_min=30)
    reader.ask(0x32, holidays=(date(2026, 12, 25), *[None] * 14))
    reader.ask(0x33, constants=tuple(Constant(numerator=n, denominator=7) for n in (1, 2, 3)))
    reader.ask(
        0x35, peak_starts=(time(17, 30), None, None, None), off_peak_starts=(time(20, 30), None, None, None)
    )
    saving = {"winter_end": DayMonth(day=18, month=10), "summer_end": DayMonth(day=21, month=2)}
    reader.ask(0x64, is_on=True, **saving)
    flags = GenericFlags.VOLTAGE_TRANSFORMER | GenericFlags.CONNECTION_TYPE
    answer = reader.ask(
        0x95,
        flags=flags,
        voltage_transformer=Constant(numerator=120, denominator=1),
        connection_type=2,
        user_output=9,
    )
    assert (answer.connection_type, answer.user_output, answer.flags) == (2, 1, flags)
    seen = reader.ask(0x21)
    assert (seen.demand_interval_min, seen.previous_demand_interval_min) == (30, 15)
    assert [day for day in seen.holidays if day] == [date(2026, 12, 25)]
    assert [constant.numerator for constant in seen.constants] == [1, 2, 3]
    assert (seen.peak_starts[0], seen.off_peak_starts[0], seen.reserved_starts[0]) == (
        time(17, 30),
        time(20, 30),
        None,
    )
    assert (seen.is_daylight_saving_on, seen.winter_end, seen.summer_end) == (True, *saving.values())
    measurement = reader.ask(0x80)
    assert measurement.voltage_transformer.numerator == 120
    assert (measurement.connection_type, measurement.user_output) == (2, 1)


def test_reactive_tariff_display_and_extended_holidays() -> None:
    reader = Reader(make())
    answer = reader.ask(
        0x67,
        power_factor_composition="52",
        energy_interval_min=60,
        demand_interval_min=60,
        reference_power_factor_inductive_pct=95,
        reference_power_factor_capacitive_pct=90,
        inductive_starts=(time(7), None),
        capacitive_starts=(time(1), None),
        validity="3331",
    )
    assert (answer.code, answer.reference_power_factor_inductive_pct, answer.validity) == (0x67, 95, "3331")
    seen = reader.ask(0x21)
    assert (seen.reference_power_factor_capacitive_pct, seen.inductive_starts[0]) == (90, time(7))
    assert reader.ask(0x79, is_shown=False, codes=(3, 4)).codes == (3, 4)
    days = [date(2027, 1, 1) + timedelta(days=n) for n in range(19)]
    mode = ExtendedMode.OVERWRITE
    answer = reader.ask(0x98, sub_code=0x32, is_write=True, mode=mode, holidays=tuple(days))
    assert [day for day in answer.holidays if day] == days
    more = (date(2027, 6, 1), *[None] * 18)
    assert (
        reader.ask(0x98, sub_code=0x32, is_write=True, mode=mode.ADD, holidays=more).holidays[19] == more[0]
    )
    assert reader.ask(0x98, sub_code=0x32, is_write=True, mode=mode.ADD, holidays=more).detail == 0x19
    answer = reader.ask(0x98, sub_code=0x95, voltage_v=220.0, flags=NominalFlags.VOLTAGE)
    assert (answer.voltage_v, answer.frequency_hz) == (220.0, 60.0)
    log = reader.ask(0x28).extended_changes
    assert [change.code for change in log if change] == [0x32, 0x32, 0x95]


@pytest.mark.parametrize(
    ("code", "values", "detail"),
    [
        (0x31, {"interval_min": 7}, 0x29),
        (0x32, {"holidays": (date(2026, 12, 25), date(2026, 12, 25), *[None] * 13)}, 0x19),
        (0x33, {"constants": tuple(Constant(numerator=1, denominator=0) for _ in range(3))}, 0x29),
        (
            0x35,
            {"peak_starts": (time(18), None, None, None), "reserved_starts": (time(18), None, None, None)},
            0x18,
        ),
        (0x35, {"peak_starts": (time(18, 2), None, None, None)}, 0x17),
        (0x35, {}, 0x17),
        (0x64, {"is_on": True}, 0x20),
        (0x73, {"interval_min": 7}, 0x29),
        (0x73, {"interval_min": 5, "extra_hundredths": 1}, 0x29),
        (0x90, {"modes": (0x44, 0, 0, 0, 0, 0)}, 0x29),
        (0x95, {"flags": GenericFlags.MAXIMUM_DEMAND}, 0x29),
    ],
)
def test_values_that_cannot_be_are_refused_and_change_nothing(
    code: int, values: dict[str, Any], detail: int
) -> None:
    meter = make()
    before = meter.settings
    answer = Reader(meter).ask(code, **values)
    assert (answer.code, answer.occurrence, answer.detail) == (0x40, 0x46, detail)
    assert meter.settings == before
    assert 0x40 not in [change.code for change in meter.changes(NOW)]


def test_reading_forms_change_and_log_nothing() -> None:
    meter = make(installation_code="UC 7")
    reader = Reader(meter)
    before = meter.changes(NOW)
    assert reader.ask(0x87, is_read=True).installation_code == "          UC 7"
    assert reader.ask(0x95).connection_type == 1
    assert reader.ask(0x98, sub_code=0x95).frequency_hz == 60.0
    assert reader.ask(0x98, sub_code=0x32, is_write=False).code == 0x98
    assert meter.changes(NOW) == before


# --- effects on what is counted -----------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([5, 15, 30]), st.sampled_from([15, 30, 60]), st.integers(0, 5000)),
        max_size=5,
    ),
    outage_min=st.integers(0, 4000),
)
def test_registers_run_on_through_any_change_of_intervals(
    steps: list[tuple[int, int, int]], outage_min: int
) -> None:
    """Totals are those of a meter whose intervals never changed, up to the last common border."""
    begin = NOW.replace(tzinfo=None) + timedelta(minutes=outage_min)
    outages = (Outage(begin, begin + timedelta(minutes=30)),)
    changed, plain = make(outages=outages), make(outages=outages)
    now = NOW
    last = changed.current_registers(now).totals.sum(axis=1)
    for memory_min, demand_min, wait_min in steps:
        now += timedelta(minutes=wait_min)
        reader = Reader(changed, now)
        reader.ask(0x31, interval_min=max(demand_min, memory_min))
        reader.ask(0x73, interval_min=memory_min)
        reader.ask(0x31, interval_min=max(demand_min, memory_min))
        at_once = changed.current_registers(now).totals.sum(axis=1)
        assert (at_once >= last).all()
        last = at_once
    later = (now + timedelta(hours=3)).replace(minute=0, second=1)
    total = [meter.current_registers(later).totals.sum(axis=1) for meter in (changed, plain)]
    # A generated load is sampled once an interval: other grids differ a little, none loses an interval.
    assert (np.abs(total[0] - total[1]) <= 0.003 * total[1] + 100).all()
    words = changed.pulses(changed.whole_memory(later))
    assert len(words) > 0
    if steps:
        assert changed.interval_s == steps[-1][0] * 60


def test_the_memory_begins_anew_on_the_next_border_of_a_new_interval() -> None:
    meter = make()
    reader = Reader(meter)
    before = meter.current_registers(NOW).totals
    reader.ask(0x73, interval_min=15)
    assert reader.ask(0x51).words_current == 0
    assert reader.ask(0x21).memory_interval_s == 900
    assert np.array_equal(meter.current_registers(NOW).totals, before)
    later = Reader(meter, NOW.replace(hour=11, minute=31))
    parameters = later.ask(0x51)
    words = later.words(0x52, parameters.words_current)
    assert parameters.last_interval_end == datetime(2026, 11, 17, 11, 30)
    assert len(words) == 5  # 10:15 to 11:30
    at_border = meter.current_registers(NOW.replace(hour=10, minute=15, second=0)).totals.sum(axis=1)
    assert (
        words.sum(axis=0).tolist()
        == (meter.current_registers(later.now).totals.sum(axis=1) - at_border).tolist()
    )


def test_new_segments_and_holidays_count_from_now_on() -> None:
    meter = make()
    reader = Reader(meter)
    reader.ask(0x35, peak_starts=(time(10), None, None, None), off_peak_starts=(time(13), None, None, None))
    later = NOW.replace(hour=12, minute=50)
    difference = meter.current_registers(later).totals - meter.current_registers(NOW).totals
    assert difference[0, 0] > 0
    assert difference[0, 1:].tolist() == [0, 0]
    maxima = meter.current_registers(later).maxima
    assert (maxima[0] > 0).all()  # of before too
    reader.ask(0x32, holidays=(date(2026, 11, 18), *[None] * 14))
    day_after = [meter.current_registers(NOW + timedelta(days=1, hours=h)).totals for h in (0, 2)]
    assert (day_after[1] - day_after[0])[0, 0] == 0  # a holiday has no peak
    reader.ask(0x36, is_on=False)
    assert reader.ask(0x21).is_reserved_segment_on is False


def test_outages_and_clock_steps_still_count_after_a_change() -> None:
    outage = Outage(datetime(2026, 11, 17, 15, 0), datetime(2026, 11, 17, 16, 0))
    meter = make(outages=(outage,))
    Reader(meter).ask(0x31, interval_min=30)
    later = Reader(meter, NOW.replace(hour=17))
    words = later.words(0x26, later.ask(0x21).words_current)
    assert not words[-24:-12].any()
    assert words[-12:].any(axis=0)[0]


# --- layouts that only a profile gives ----------------------------------------------------------------


@pytest.mark.req("TR-5.7b", "X-sim")
@pytest.mark.parametrize("code", [0x12, 0x47, 0x63, 0x65, 0x66, 0x77, 0x78, 0x92])
def test_without_a_layout_the_meter_does_not_know_the_command(code: int) -> None:
    meter = make()
    answer = Reader(meter).ask(code, parameters=b"\x01\x05" + bytes(58))
    assert (answer.code, answer.refused_code) == (0x39, code)
    assert Reader(meter).ask(0x98, parameters=b"\x30\x00\x05" + bytes(57)).code == 0x39


def layout(command: str) -> WriteLayout:
    return next(one for one in INVENTED if one.command == command)


def send(reader: Reader, command: str, **values: Any) -> Any:
    return reader.raw(layout(command).request(values).encode("000003"))


def test_automatic_reset_by_layout() -> None:
    meter = make(profile=TRAINED)
    answer = send(Reader(meter), "63", is_on=1, day=20, hour=6)
    assert answer.data[:3] == bytes([0x01, 0x20, 0x06])
    borders = [border for border, _ in meter.resets(datetime(2027, 1, 2, tzinfo=MARKET_ZONE))]
    shown = [datetime(1970, 1, 1) + timedelta(seconds=border) for border in borders]
    assert shown == [
        datetime(2026, 11, 1),
        datetime(2026, 11, 20, 6),
        datetime(2026, 12, 20, 6),
    ]
    seen = Reader(meter).ask(0x21)
    assert (seen.automatic_reset_day, seen.automatic_reset_hour) == (20, 6)
    assert send(Reader(meter), "63", is_on=1, day=31, hour=0).detail == 0x14
    send(Reader(meter), "63", is_on=0, day=0, hour=0)
    assert Reader(meter).ask(0x21).is_automatic_reset_on is False
    assert [c.code for c in meter.changes(NOW)].count(0x63) == 2


def test_channel_quantities_by_layout() -> None:
    load = channel_load(GeneratedLoad("commerce", 90.0, 0.036, 5), (1, 10, 11, 8, 9, 25))
    meter = make(source=load, channel_constants=load.per_pulse, profile=replace(TRAINED, groups=2))
    reader = Reader(meter)
    reader.ask(0x21, group=1)
    send(reader, "66", quantity_1=14, quantity_2=15, quantity_3=8)
    assert reader.ask(0x21, group=1).quantities == (14, 15, 8)
    later = Reader(meter, NOW + timedelta(hours=2))
    count = later.ask(0x51, group=1).words_current
    words = later.words(0x52, count)
    assert len(words) == 23  # from 10:10 on: the memory began anew
    assert not words[:, 0].any()
    assert words[:, 2].all()
    # A meter whose channels are fixed says so.
    assert (
        send(Reader(make(profile=TRAINED)), "66", quantity_1=14, quantity_2=15, quantity_3=8).detail == 0x29
    )


@pytest.mark.req("TR-5.6d", "X-sim")
@pytest.mark.parametrize("seconds", [-600, 150])
def test_fine_adjustment_slews_the_clock_and_keeps_intervals_whole(seconds: int) -> None:
    meter = make(profile=TRAINED, clock=ClockModel(NOW, -seconds), micro_adjust_ppm=10_000)
    send(Reader(meter), "98/30", seconds=seconds)
    errors = [meter.clock_error_s(NOW + timedelta(hours=h)) for h in range(30)]
    steps = np.diff(errors) * np.sign(seconds)
    assert (steps >= 0).all()
    assert steps.max() <= 36.01  # 1 % of an hour
    assert errors[-1] == pytest.approx(0, abs=1e-6)
    shown = [meter.meter_seconds(NOW + timedelta(seconds=30 * n)) for n in range(2_000)]
    assert (np.diff(shown) >= 29).all()  # never back, never a jump
    assert (np.diff(shown) <= 31).all()
    done = Reader(meter, NOW + timedelta(hours=24))
    words = done.words(0x26, done.ask(0x21).words_current)
    assert words[-288:, 0].all()
    assert [c.code for c in done.ask(0x28).extended_changes if c] == [0x30]


def test_a_layout_without_a_meaning_here_is_logged_and_echoed() -> None:
    meter = make(profile=TRAINED)
    before = meter.settings
    answer = send(Reader(meter), "47", form=1)
    assert (answer.code, answer.data[0]) == (0x47, 0x01)
    assert meter.settings == before
    assert 0x47 in [change.code for change in meter.changes(NOW)]


# --- passwords ----------------------------------------------------------------------------------------

TRANSFORMS = ["landis-residential-md5", "landis-commercial-sha256"]
PASSWORD = b"segredo123"


def guarded(transform: str) -> SimulatedMeter:
    profile = replace(ALL, password_transform=transform)
    return make(profile=profile, passwords=PasswordRules(PASSWORD.decode(), read="leitura001", seed=4))


def open_with(reader: Reader, transform: str, password: bytes) -> Any:
    seed = reader.ask(0x13)
    opened = open_session(transform, seed, "12345678", write_password=password, user=3)
    return reader.raw(opened.encode("000003"))


@pytest.mark.req("X-sim")
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_protected_writes_need_a_session(transform: str) -> None:
    meter = guarded(transform)
    reader = Reader(meter)
    assert reader.ask(0x21).has_password is True
    refused = reader.ask(0x31, interval_min=30)
    assert (refused.code, refused.occurrence) == (0x40, 0x43)
    assert reader.ask(0x87, is_read=True).code == 0x87  # reading needs none
    answer = open_with(reader, transform, b"errado1234")
    assert (answer.code, answer.write_result, answer.read_result) == (0x11, 4, 4)
    assert reader.ask(0x31, interval_min=30).occurrence == 0x43
    answer = open_with(reader, transform, PASSWORD)
    assert (answer.write_result, answer.read_result, answer.user) == (0, 4, 3)
    assert reader.ask(0x31, interval_min=30).interval_min == 30
    assert Reader(meter).ask(0x31, interval_min=15).occurrence == 0x43  # another connection


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_seed_serves_once(transform: str) -> None:
    reader = Reader(guarded(transform))
    seed = reader.ask(0x13)
    opened = open_session(transform, seed, "12345678", write_password=PASSWORD)
    assert reader.raw(opened.encode("000003")).write_result == 0
    assert reader.raw(opened.encode("000003")).write_result == 4
    assert reader.ask(0x13).seed != seed.seed


def test_a_meter_without_passwords_has_no_seed() -> None:
    assert Reader(make()).ask(0x13).refused_code == 0x13


# --- the reset ----------------------------------------------------------------------------------------


@pytest.mark.req("TR-5.7b", "X-sim")
def test_resets_are_counted_and_refused_within_the_protection_time() -> None:
    meter = make(reset_protection_s=3600)
    count = Reader(meter).ask(0x21).reset_count
    assert Reader(meter).ask(0x20).reset_count == count + 1
    refused = Reader(meter, NOW + timedelta(minutes=40)).ask(0x20)
    assert (refused.code, refused.occurrence) == (0x40, 0x45)
    later = Reader(meter, NOW + timedelta(minutes=70))
    assert later.ask(0x21).reset_count == count + 1
    assert later.ask(0x20).reset_count == count + 2


@pytest.mark.req("X-sim")
def test_a_meter_locks_itself_after_wrong_passwords_in_a_row() -> None:
    transform = TRANSFORMS[0]
    profile = replace(ALL, password_transform=transform)
    rules = PasswordRules(PASSWORD.decode(), tries=2)
    meter = make(profile=profile, passwords=rules)
    for _ in range(2):  # a right one in between begins the count anew
        assert open_with(Reader(meter), transform, b"errado1234").write_result == 4
        assert open_with(Reader(meter), transform, PASSWORD).write_result == 0
    for _ in range(2):
        assert open_with(Reader(meter), transform, b"errado1234").write_result == 4
    locked = open_with(Reader(meter), transform, PASSWORD)
    assert (locked.code, locked.occurrence) == (0x40, 0x45)


@pytest.mark.req("X-sim")
def test_a_protected_read_wants_either_password() -> None:
    transform = TRANSFORMS[0]
    profile = replace(ALL, password_transform=transform)
    rules = PasswordRules(PASSWORD.decode(), "leitura001", protected_reads=frozenset({0x23}))
    reader = Reader(make(profile=profile, passwords=rules))
    assert reader.ask(0x23).occurrence == 0x43
    opened = open_session(transform, reader.ask(0x13), "12345678", read_password=b"leitura001")
    assert reader.raw(opened.encode("000003")).read_result == 0
    assert reader.ask(0x23).code == 0x23
    assert reader.ask(0x31, interval_min=30).occurrence == 0x43, "the read password does not allow writes"
