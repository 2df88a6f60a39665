"""Writes: the reference's frames, what may be sent to which model, tokens, secrets out of the evidence."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import OperatorFault
from protocols.nbr14522.commands import COMMANDS, CommandKind, changes_meter, info_of, key_of, parse_command
from protocols.nbr14522.crc import crc16_arc, sealed
from protocols.nbr14522.errors import LocalProtocolError, RemoteProtocolError
from protocols.nbr14522.frames import Addressing, wrap_command
from protocols.nbr14522.messages import (
    EXTENDED_WRITES,
    WRITES,
    Constant,
    DateSet,
    ExtendedHolidays,
    ExtendedHolidaysRequest,
    ExtendedMode,
    GenericFlags,
    GenericParameters,
    GenericRequest,
    HolidaysSet,
    InstallationCode,
    InstallationCodeRequest,
    NominalFlags,
    NominalValues,
    NominalValuesRequest,
    OpaqueRequest,
    OpaqueResponse,
    OpenSessionRequest,
    PresentationSet,
    Seed,
    SetConstantsRequest,
    SetDaylightSavingRequest,
    SetDemandIntervalRequest,
    SetHolidaysRequest,
    SetMemoryIntervalRequest,
    SetSegmentsRequest,
    ShowDisplayCodesRequest,
    TimeSet,
    decode_request,
    decode_response,
    request_for,
)
from protocols.nbr14522.models import models
from protocols.nbr14522.profile import DEFAULT
from protocols.nbr14522.profiles import profile_named
from protocols.nbr14522.sending.building import build_request, check_sendable, refusal
from protocols.nbr14522.sending.layouts import Coding, LayoutField, WriteLayout
from protocols.nbr14522.sending.passwords import open_session
from protocols.nbr14522.sending.secrets import redact
from tests.protocols.nbr14522.plain_frames import build_command

pytestmark = pytest.mark.req("TR-5.1")

SERIAL = "32600760"
TENTH = Constant(numerator=1, denominator=1000)


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize(
    ("request_", "reader", "crc"),
    [
        (SetDemandIntervalRequest(interval_min=15), "123456", "94 6A"),
        (SetConstantsRequest(constants=(TENTH,) * 3), "123456", "6F 1F"),
        (SetHolidaysRequest(), "123456", "95 5B"),
        (SetSegmentsRequest(), "123456", "58 69"),
        (SetMemoryIntervalRequest(interval_min=5), "000003", "5D B8"),
        (InstallationCodeRequest(is_read=True), "000003", "64 0F"),
        (NominalValuesRequest(voltage_v=220.0, flags=NominalFlags.VOLTAGE), "000003", "7D E0"),
        (GenericRequest(connection_type=1, flags=GenericFlags.CONNECTION_TYPE), "000003", "DF DC"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_writes_are_the_reference_frames(request_: Any, reader: str, crc: str) -> None:
    """Section 1.4, 6.2 and nbr14522_gaps.md 2.2."""
    frame = request_.encode(reader)
    assert frame[-2:].hex(" ").upper() == crc
    assert decode_request(frame).encode(reader) == frame


def test_the_vector_of_the_meter_reset_is_a_layout_of_its_model() -> None:
    frame = build_request(profile_named("ares-8023"), "98/57", {}).encode("111111")
    assert frame[-2:].hex(" ").upper() == "62 0A"


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        (DateSet(code=0x29, day=date(2024, 3, 8), weekday=6), {6: "080324", 9: "06"}),
        (TimeSet(code=0x30, clock=time(2, 50, 53)), {6: "025053"}),
        (PresentationSet(code=0x90, modes=(0x11, 0x22, 0x33, 0x10, 0x20, 0x30)), {6: "112233102030"}),
        (
            GenericParameters(
                code=0x95,
                connection_type=1,
                user_output=2,
                kp=Constant(numerator=3, denominator=4),
                flags=0x0B80,
            ),
            {39: "01", 40: "02", 41: "000003000004", 255: "800B"},
        ),
        (
            InstallationCode(code=0x87, is_read=True, installation_code="    1234567890"),
            {6: "01", 8: "20202020"},
        ),
        (
            ExtendedHolidays(
                code=0x98, is_write=True, mode=ExtendedMode.ADD, holidays=(date(2026, 1, 1), *(None,) * 81)
            ),
            {6: "32", 8: "04", 9: "010126"},
        ),
        (NominalValues(code=0x98, voltage_v=220.0, flags=1), {6: "95", 7: "00005C43", 255: "01"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_answers_lie_one_octet_later(answer: Any, places: dict[int, str]) -> None:
    """Section 6.2: flags at the end keep their place from the end."""
    block = answer.encode(SERIAL)
    for octet, octets in places.items():
        assert block[octet - 1 : octet - 1 + len(octets) // 2].hex().upper() == octets
    assert decode_response(block) == replace(answer, meter_serial=SERIAL)


@given(st.binary(min_size=58, max_size=58))
def test_what_was_sent_comes_back_the_same(parameters: bytes) -> None:
    for code, (request, answer) in WRITES.items():
        sent = request.read(bytes([code, 0, 0, 1]) + parameters + b"\x00\x00")
        back = answer.read(bytes([code, 0, 0, 0, 1]) + parameters + bytes(193))
        for name in {spec.name for spec in _echoed(request)}:
            assert repr(getattr(sent, name)) == repr(getattr(back, name))


def _echoed(kind: Any) -> list[Any]:
    from protocols.nbr14522.messages.layout import table_of

    return [spec for spec in table_of(kind) if spec.echoed]


@pytest.mark.parametrize("pair", [*WRITES.values(), *EXTENDED_WRITES.values()], ids=lambda p: p[0].__name__)
def test_plain_values_and_back(pair: Any) -> None:
    kind = pair[0]
    sub_code = getattr(kind, "SUB_CODE", 0)
    sent = kind.read(bytes([kind.CODE, 0, 0, 1, sub_code]) + bytes(59))
    plain = {
        k: v for k, v in sent.to_json().items() if k not in ("kind", "code", "reader_serial", "problems")
    }
    again = kind.from_json(plain)
    assert {k: v for k, v in again.to_json().items() if k in plain} == plain


def test_a_write_from_plain_values() -> None:
    request = build_request(
        DEFAULT,
        "64",
        {"is_on": True, "winter_end": {"day": 15, "month": 10}, "summer_end": {"day": 17, "month": 2}},
    )
    assert isinstance(request, SetDaylightSavingRequest)
    assert request.encode("000001")[4:9].hex() == "0115101702"
    assert (
        build_request(DEFAULT, "32", {"holidays": ["2026-12-25"]}).encode("000001")[4:10].hex()
        == "251226010101"
    )
    assert build_request(DEFAULT, "41", {}) == OpaqueRequest(code=0x41)
    assert build_request(DEFAULT, "79", {"is_shown": True, "codes": [1, 33]}) == ShowDisplayCodesRequest(
        is_shown=True, codes=(1, 33)
    )


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("31", {}),
        ("31", {"interval_min": "15"}),
        ("31", {"interval_min": 100}),
        ("31", {"minutes": 15}),
        ("32", {"holidays": ["25/12/2026"]}),
        ("32", {"holidays": ["2026-12-25"] * 16}),
        ("79", {"is_shown": True, "codes": [0]}),
        ("3", {}),
        ("31/01", {"interval_min": 15}),
    ],
)
def test_values_that_do_not_belong_are_the_operators(command: str, values: dict[str, Any]) -> None:
    with pytest.raises(OperatorFault) as fault:
        build_request(DEFAULT, command, values)
    assert fault.value.where
    assert fault.value.remedy


@pytest.mark.req("TR-5.7b")
@pytest.mark.parametrize("command", ["12", "47", "63", "65", "66", "77", "78", "92", "98/30", "98/12"])
def test_no_layout_no_write(command: str) -> None:
    with pytest.raises(OperatorFault, match="no public source gives the layout"):
        build_request(DEFAULT, command, {})
    code, sub_code = parse_command(command)
    raw = OpaqueRequest(code=code, parameters=bytes([sub_code or 0]) + bytes(59))
    with pytest.raises(OperatorFault, match="no public source"):
        check_sendable(DEFAULT, raw)
    assert refusal(DEFAULT, command) is not None


@pytest.mark.req("TR-5.7b")
def test_a_layout_of_the_profile_builds_and_permits() -> None:
    layout = WriteLayout(
        command="98/30",
        source="maker's manual, page 12",
        fields=(
            LayoutField("direction", 6, coding=Coding.BINARY, allowed=(0, 1)),
            LayoutField("amount_s", 7, size=2),
            LayoutField("mark", 9, coding=Coding.HEX, fixed="A5"),
            LayoutField("who", 10, size=4, coding=Coding.ASCII),
        ),
    )
    profile = replace(DEFAULT, write_layouts=(layout,))
    values = {"direction": 1, "amount_s": 90, "who": "ana"}
    request = build_request(profile, "98/30", values)
    assert request.encode("000001")[4:13].hex() == "30010090a5616e6120"
    check_sendable(profile, request)
    assert key_of(request) == "98/30"
    assert layout.read(request.write()[4:]) == values | {"mark": "A5"}
    assert refusal(profile, "98/30") is None
    for wrong in ({"direction": 2}, {"amount_s": 10_000}, {"amount_s": None}, {"who": "é"}, {"why": 1}):
        with pytest.raises(OperatorFault):
            build_request(profile, "98/30", values | wrong)
    with pytest.raises(LocalProtocolError):
        WriteLayout("63", (LayoutField("x", 64, size=2),), "nowhere")


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("34", {"seasons": [{"wet_start": {"day": 1, "month": 12}, "dry_start": {"day": 1, "month": 5}}]}),
        ("36", {"is_on": True}),
        ("73", {"interval_min": 15}),
        ("95", {"active_mode": 1, "flags": int(GenericFlags.ACTIVE_MODE)}),
    ],
)
def test_inferred_layouts_wait_for_a_model_that_has_shown_them(command: str, values: dict[str, Any]) -> None:
    with pytest.raises(OperatorFault, match="inferred"):
        build_request(DEFAULT, command, values)
    shown = replace(DEFAULT, inferred_writes=frozenset({command}))
    assert changes_meter(build_request(shown, command, values))
    build_request(DEFAULT, "73", {"interval_min": 5})
    build_request(DEFAULT, "95", {"connection_type": 1, "flags": int(GenericFlags.CONNECTION_TYPE)})


def test_what_reads_and_what_writes() -> None:
    assert not changes_meter(InstallationCodeRequest(is_read=True))
    assert changes_meter(InstallationCodeRequest(is_read=False))
    assert not changes_meter(GenericRequest())
    assert not changes_meter(NominalValuesRequest())
    assert not changes_meter(ExtendedHolidaysRequest(is_write=False))
    assert changes_meter(request_for(0x20))
    assert not changes_meter(request_for(0x21))
    assert not changes_meter(OpaqueRequest(code=0x41))
    assert changes_meter(OpaqueRequest(code=0xAB))
    assert changes_meter(OpaqueRequest(code=0xF1))
    assert info_of(OpaqueRequest(code=0xF1)).kind is CommandKind.UNKNOWN


def test_the_catalogue_is_consistent() -> None:
    for key, info in COMMANDS.items():
        assert info.key == key
        is_readable = info.has_layout or info.kind is CommandKind.ANSWER
        assert (info.layout_confidence is not None) == is_readable, key
        assert info.name_confidence in ("A", "B", "C")


PASSWORD = b"0123456789"
SEED = Seed(code=0x13, meter_serial=SERIAL, seed=bytes(range(10)))


def test_tokens_of_the_known_makers() -> None:
    """Section 6.1 (B); no source gives a test vector, so the formula is written out here a second time."""
    md5 = hashlib.md5(bytes.fromhex(SERIAL) + bytes(range(10)) + PASSWORD, usedforsecurity=False).digest()
    sha = hashlib.sha256(PASSWORD + bytes(range(10))).digest()
    residential = open_session("landis-residential-md5", SEED, SERIAL, write_password=PASSWORD, user=7)
    commercial = open_session("landis-commercial-sha256", SEED, SERIAL, read_password=PASSWORD)
    assert residential.encode("000001")[4:25] == md5[:10] + bytes(10) + b"\x07"
    assert commercial.encode("000001")[4:25] == bytes(10) + sha[:21:-1] + b"\x00"
    assert {model.profile.password_transform for model in models().with_code("8722")} == {
        "landis-commercial-sha256"
    }
    assert profile_named("landis-e430").password_transform == "landis-residential-md5"


@pytest.mark.parametrize("transform", ["none", "abnt", "star-hmac-sha256", "something"])
def test_unknown_transforms_are_refused_plainly(transform: str) -> None:
    with pytest.raises(OperatorFault, match="no token can be made"):
        open_session(transform, SEED, SERIAL, write_password=PASSWORD)


def test_a_password_of_another_length_is_refused_without_being_shown() -> None:
    with pytest.raises(OperatorFault) as fault:
        open_session("landis-residential-md5", SEED, SERIAL, write_password=b"segredo")
    assert "segredo" not in str(fault.value)


def test_tokens_are_not_shown() -> None:
    request = OpenSessionRequest(write_token=b"\xaa" * 10, maker_token=b"\xbb" * 32, user=3)
    back = decode_request(request.encode("000001"))
    assert "\\xaa" not in repr(back)
    assert "\\xbb" not in repr(back)
    assert back.to_json()["write_token"] == "(redacted)"
    assert back.to_json()["user"] == 3


@pytest.mark.parametrize(("addressing", "head"), [("P0", 0), ("P8", 5), ("P2", 2)])
def test_secrets_are_blanked_before_a_frame_is_kept(addressing: str, head: int) -> None:
    way = Addressing(addressing)
    token = OpenSessionRequest(write_token=b"\xaa" * 10).encode("000001")
    for secret in (
        token,
        build_command(0x12, "000001", b"\xaa" * 60),
        build_command(0x98, "000001", b"\x12" + b"\xaa" * 30),
    ):
        wire = wrap_command(secret, way, meter_serial=SERIAL)
        kept = redact(wire, way, is_command=True)
        first = head + 4
        assert kept.span == (first, len(wire) - first)
        assert kept.octets == wire[:first] + bytes(len(wire) - first)
        assert redact(wire[: first + 7], way, is_command=True).octets == wire[:first] + bytes(7)
    other = wrap_command(request_for(0x21).encode("000001"), way, meter_serial=SERIAL)
    assert redact(other, way, is_command=True).octets == other
    assert redact(other, way, is_command=True).span is None
    echo = OpaqueResponse(code=0x12, data=b"\xaa" * 251).encode(SERIAL)
    assert b"\xaa" not in redact(echo, Addressing.P0, is_command=False).octets
    good = HolidaysSet(code=0x32).encode(SERIAL)
    assert redact(good, Addressing.P0, is_command=False).octets == good


@given(st.binary(max_size=300), st.sampled_from(list(Addressing)), st.booleans())
def test_redaction_takes_anything_and_keeps_the_length(
    wire: bytes, way: Addressing, is_command: bool
) -> None:
    kept = redact(wire, way, is_command=is_command)
    assert len(kept.octets) == len(wire)
    assert (kept.span is None) == (kept.octets is wire)


@given(st.binary(min_size=60, max_size=60), st.sampled_from(sorted({*WRITES, 0x11, 0x12, 0x13, 0x98})))
def test_any_parameters_are_decoded_and_written_back(parameters: bytes, code: int) -> None:
    frame = sealed(bytes([code, 0, 0, 1]) + parameters)
    request = decode_request(frame)
    assert request.encode("000001") == frame
    request.to_json()
    assert isinstance(changes_meter(request), bool)
    assert crc16_arc(frame) == 0


FRAMES = [kind.read(bytes([kind.CODE, 0, 0, 1]) + bytes(60)).encode("000001") for kind, _ in WRITES.values()]
BLOCKS = [answer(code=code).encode(SERIAL) for code, (_, answer) in WRITES.items()]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame[0]:02X}")
def test_damaged_or_cut_writes_are_refused(frame: bytes) -> None:
    """Every single-bit error, and every place where a frame may break off."""
    for bit in range(8 * len(frame)):
        wrong = bytearray(frame)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteProtocolError):
            decode_request(bytes(wrong))
    for end in range(len(frame)):
        if end != len(frame) - 2:  # the content alone, without its CRC, is a form that decoding takes
            with pytest.raises(RemoteProtocolError):
                decode_request(frame[:end])


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block[0]:02X}")
def test_damaged_or_cut_answers_to_writes_are_refused(block: bytes) -> None:
    for bit in range(8 * len(block)):
        wrong = bytearray(block)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteProtocolError):
            decode_response(bytes(wrong))
    for end in range(len(block) - 2):
        with pytest.raises(RemoteProtocolError):
            decode_response(block[:end])


@given(st.binary(min_size=251, max_size=251), st.sampled_from(sorted({*WRITES, 0x11, 0x12, 0x13, 0x98})))
def test_any_answer_is_decoded_and_written_back(data: bytes, code: int) -> None:
    block = sealed(bytes([code]) + bytes.fromhex(SERIAL) + data)
    answer = decode_response(block)
    assert answer.encode() == block
    answer.to_json()
