"""Opening an optical port by mode E: the step machine alone (dlms_cosem.md, 2.3)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults import OperatorFault, RetryFault
from protocols.dlms import models
from protocols.dlms.describe import describe
from protocols.dlms.errors import LimitExceeded, NoAnswer, RemoteProtocolError
from protocols.dlms.mode_e import (
    Listen,
    Send,
    SetSpeed,
    SignOn,
    Wait,
    is_opening,
    with_parity,
    without_parity,
)
from protocols.dlms.transcript import Recorded, apdus, label, redact

pytestmark = pytest.mark.req("TR-5.12a")

AT = datetime(2026, 11, 21, 3, 7, tzinfo=UTC)

IDENTIFIED = with_parity(b"/ABC5\\2Modelo 1\r\n")


def play(sign_on, answers, waited=b""):
    """(steps taken, what was recorded, identification): each `Listen` gets the next answer, then none."""
    taken, kept = [], []
    answers = list(answers)
    steps = sign_on.steps(kept.append)
    try:
        step = next(steps)
        while True:
            taken.append(step)
            heard = b""
            if isinstance(step, Listen) and answers:
                heard = answers.pop(0)
            elif isinstance(step, Wait):
                heard = waited
            step = steps.send(heard)
    except StopIteration as end:
        return taken, kept, end.value


def sent(taken):
    return [step.octets for step in taken if isinstance(step, Send)]


def test_a_port_is_opened_step_by_step():
    taken, kept, found = play(SignOn(wait_s=0.3, patience_s=2), [IDENTIFIED])
    assert taken == [
        SetSpeed(300),
        Send(b"/?!\r\n"),
        Listen(2),
        Send(b"\x06252\r\n"),
        Wait(0.5),  # six octets of ten bits at 300 bit/s, then the wait
        SetSpeed(9600),
    ]
    assert (found.maker, found.text, found.baud) == ("ABC", "\\2Modelo 1", 9600)
    assert kept == [b"/ABC5\\2Modelo 1\r\n"]


def test_octets_are_7e1_on_the_line():
    assert Send(b"/?!\r\n").on_line == bytes.fromhex("AF 3F 21 8D 0A")
    assert all(octet.bit_count() % 2 == 0 for octet in with_parity(bytes(range(128))))


@given(st.binary(max_size=20).map(lambda octets: bytes(octet & 0x7F for octet in octets)))
def test_parity_is_taken_off_or_missing_altogether(plain):
    assert without_parity(with_parity(plain)) == plain
    assert without_parity(plain) == plain


@given(st.binary(min_size=3, max_size=20).map(lambda octets: b"/ABC" + octets), st.data())
def test_an_octet_with_one_changed_bit_is_found(octets, data):
    line = bytearray(with_parity(bytes(octet & 0x7F for octet in octets)))
    line[data.draw(st.integers(0, len(line) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert without_parity(bytes(line)) is None


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([with_parity(b"/?!\r\n"), IDENTIFIED], "an echo of the sign-on"),
        ([with_parity(b"/?!\r\n") + IDENTIFIED], "the same in one"),
        ([bytes([octet]) for octet in IDENTIFIED], "octet by octet"),
        ([b"\x00\xff\x55" + IDENTIFIED], "noise before"),
        ([b"\xaf\x00/" + IDENTIFIED], "slashes in the noise before"),
        ([b"/ABC5\\2Modelo 1\r\n"], "no parity"),
        ([b"", IDENTIFIED], "lost once"),
        ([IDENTIFIED[:7], b"", IDENTIFIED], "cut once"),
        ([b"/" + IDENTIFIED[1:5] + b"\x01" + IDENTIFIED[6:], b"", IDENTIFIED], "damaged once"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_identification_is_found(answers, why):
    taken, kept, found = play(SignOn(), answers)
    assert found.maker == "ABC"
    assert kept == [b"/ABC5\\2Modelo 1\r\n"]
    assert sent(taken) == [b"/?!\r\n"] * (1 + answers.count(b"")) + [b"\x06252\r\n"]


def test_a_repeated_acknowledgement_is_taken_and_kept():
    _, kept, found = play(SignOn(), [IDENTIFIED], with_parity(b"\x06252\r\n"))
    assert (found.baud, kept[1]) == (9600, b"\x06252\r\n")


def test_a_device_address_is_asked_for():
    taken, _, _ = play(SignOn(address="00012345"), [IDENTIFIED])
    assert sent(taken)[0] == b"/?00012345!\r\n"
    with pytest.raises(ValueError, match="no device address"):
        SignOn(address="1!2")


@pytest.mark.parametrize(
    ("proposed", "top_baud", "agreed", "baud"),
    [("0", 19200, "0", 300), ("6", 19200, "6", 19200), ("6", 9600, "5", 9600), ("3", 300, "0", 300)],
)
def test_no_speed_above_the_highest_allowed_is_agreed_to(proposed, top_baud, agreed, baud):
    taken, _, found = play(SignOn(top_baud=top_baud), [with_parity(f"/ABC{proposed}x\r\n".encode())])
    assert sent(taken)[-1] == f"\x062{agreed}2\r\n".encode()
    assert taken[-1] == SetSpeed(baud)
    assert found.baud == baud


def test_failures_say_why():
    with pytest.raises(NoAnswer, match="signed on 3 times"):
        play(SignOn(repeats=2), [])
    with pytest.raises(RemoteProtocolError, match="speed '9'"):
        play(SignOn(), [with_parity(b"/ABC9x\r\n")])
    with pytest.raises(LimitExceeded):
        play(SignOn(), [b"x" * 100] * 100)


@given(st.lists(st.binary(min_size=0, max_size=40), max_size=20))
def test_any_answer_opens_or_ends_with_a_fault(answers):
    try:
        taken, _, found = play(SignOn(repeats=2), answers)
    except RetryFault:
        return
    assert taken[-1] == SetSpeed(found.baud)


def test_recorded_lines_are_labelled_described_and_no_apdus():
    lines = [b"/?!\r\n", b"/ABC5\\2Modelo 1\r\n", b"\x06252\r\n"]
    record = [Recorded(AT, number != 1, line) for number, line in enumerate(lines)]
    assert all(is_opening(line) and redact(line) == line for line in lines)
    assert [label(line) for line in lines] == [0x2F, 0x2F, 0x06]
    assert list(apdus(record)) == []
    snrm = bytes.fromhex("7EA0070341935A647E")
    for capture in (b"".join(lines) + snrm, b"".join(map(with_parity, lines)) + snrm):
        found = list(describe(capture))
        assert [one["frame"] for one in found] == ["sign-on", "identification", "acknowledgement", "SNRM"]
        assert found[1]["text"] == "/ABC5\\2Modelo 1"
        assert found[2]["text"] == "252"
    assert not is_opening(bytes.fromhex("C001C100080000010000FF0200"))
    assert not is_opening(b"/?!\r\n/?!\r\n")


class TestModels:
    def test_optical_models_open_by_mode_e(self):
        sign_on = models.model_named("dlms-nbr16968-optical").sign_on
        assert sign_on == SignOn("", 0.3, 19200, 10.0, 5)
        assert models.model_named("dlms-nbr16968-hdlc").sign_on is None

    @pytest.mark.parametrize(
        ("line", "key"),
        [
            ('opening = "mode-c"', "opening"),
            ('opening_address = "1!"', "opening_address"),
            ("opening_top_baud = 9601", "opening_top_baud"),
            ("opening_wait_s = 0", "opening_wait_s"),
            ("repeats = -1", "repeats"),
            ('framing = "wrapper"', "opening"),
        ],
    )
    def test_a_bad_value_is_refused_with_its_place(self, line, key):
        text = f'[models.dlms-x]\nextends = "dlms-generic-optical"\n{line}\n'
        with pytest.raises(OperatorFault) as told:
            models.add_catalogue("x.toml", text)
        assert told.value.where == f"x.toml, model dlms-x, {key}"
