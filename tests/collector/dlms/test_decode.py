"""Records of DLMS sessions: real ones, damaged ones, and any octets at all."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, time, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from collector.decoded import Frame, MeterContext
from collector.dlms import script as dlms_script
from collector.dlms.decode import decode_dlms
from collector.dlms.secrets import Secrets
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.lines.transports import Timeouts, open_stream, parse_url
from collector.work.planning import Span
from pipelines.cli.decode.app import app as decode_app
from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import Data, Tag, octets
from protocols.dlms.client import DlmsClient
from protocols.dlms.clock import decode_date_time, encode_date_time
from protocols.dlms.models import model_named
from simulator.dlms.end import HdlcEnd, WrapperEnd
from simulator.dlms.meter import DlmsMeter, DlmsSpec
from simulator.dlms.server import DlmsServer
from tests.collector.world import DAY, MARKET, NOW, meter, truth
from tests.fuzz.dlms import TARGETS

pytestmark = pytest.mark.req("TR-5.1")

SERIAL = "10000001"
CONTEXT = MeterContext(1, SERIAL, 1, MARKET)


@pytest.fixture(scope="module", params=["dlms-generic", "dlms-generic-hdlc"])
def recorded(request):
    """(model, the frames of a session that brought a day, the meter)."""
    model = model_named(request.param)
    station = meter()
    frames = []

    def record(at, is_sent, command, crc_ok, payload):
        frames.append(Frame(len(frames) + 1, at, is_sent, crc_ok is not False, payload))

    midnight = datetime.combine(DAY, time.min)
    span = Span(midnight + timedelta(minutes=5), midnight + timedelta(days=1))

    def work(client):
        yield from dlms_script.identity(client, model)
        yield from dlms_script.load_profile(
            client, model, [span], NOW.astimezone(MARKET).replace(tzinfo=None), MARKET
        )

    async def visit():
        meter_side = DlmsMeter(station.meter, DlmsSpec())
        async with DlmsServer(meter_side, lambda: NOW, is_hdlc="hdlc" in model.name) as way:
            line = DlmsLine(parse_url(way.url), model, Timeouts(2, 5, 20), Secrets(), b"12345678", None)
            return await read_dlms(line, steps(work), record, lambda: NOW, open_stream)

    assert asyncio.run(visit()).outcome == "complete"
    return model, frames, station


def assert_right(vector, station):
    expected = truth(station, vector.day)[vector.present, vector.channel - 1]
    assert np.array_equal(vector.pulses[vector.present], expected)


def test_the_same_frames_give_the_same_result(recorded):
    model, frames, station = recorded
    first, again = (decode_dlms(frames, model, CONTEXT) for _ in range(2))
    assert first.issues == again.issues == ()
    (vector,) = [one for one in first.vectors if (one.channel, one.day) == (1, DAY)]
    assert vector.present.all()
    assert np.array_equal(vector.pulses, truth(station)[:, 0])


def test_a_session_cut_anywhere_gives_right_values_or_none(recorded):
    model, frames, station = recorded
    for cut in range(0, len(frames), 3):
        for vector in decode_dlms(frames[:cut], model, CONTEXT).vectors:
            assert_right(vector, station)


@pytest.mark.parametrize("recorded", ["dlms-generic-hdlc"], indirect=True)
def test_a_damaged_hdlc_record_gives_right_values_or_none(recorded):
    """Checksums are looked at again when a record is decoded. The wrapper has none: TCP's is all there is."""
    model, frames, station = recorded
    chance = random.Random(42)
    for _ in range(150):
        number, bit = chance.randrange(len(frames)), chance.randrange(8)
        frame = frames[number]
        damaged = bytearray(frame.payload)
        damaged[chance.randrange(1, len(damaged) - 1)] ^= 1 << bit
        record = [*frames]
        record[number] = Frame(frame.seq, frame.at, frame.is_sent, frame.crc_ok, bytes(damaged))
        for vector in decode_dlms(record, model, CONTEXT).vectors:
            assert_right(vector, station)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_octets_end_in_a_result_or_a_typed_refusal(name):
    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.binary(max_size=60), max_size=12))
    def holds(parts):
        TARGETS[name](b"".join(bytes([len(part)]) + part for part in parts))

    holds()


def test_the_capture_of_a_session_in_words(recorded):
    _, frames, _ = recorded
    text = "\n".join(frame.payload.hex() for frame in frames[:12])
    result = CliRunner().invoke(decode_app, ["dlms", "--json"], input=text)
    assert result.exit_code == 0, result.output
    assert '"association answer"' in result.stdout
    assert '"obis":"0-0:96.1.0.255"' in result.stdout


@pytest.mark.parametrize("is_hdlc", [False, True], ids=["wrapper", "hdlc"])
def test_the_clock_is_set_and_shifted(is_hdlc):
    """By the protocol core alone, over the simulated meter's side; the queue's commands are tested apart."""
    model = model_named("dlms-generic-hdlc" if is_hdlc else "dlms-generic")
    meter_side = DlmsMeter(meter().meter, DlmsSpec())
    end = HdlcEnd(meter_side) if is_hdlc else WrapperEnd(meter_side)
    client = DlmsClient(model.framing_for(model.client))
    clock = Attribute(8, model.clock_object, 2)

    def run(steps):
        try:
            out = next(steps)
            while True:
                out = steps.send(end.receive(out, NOW))
        except StopIteration as finished:
            return finished.value

    def error_s():
        return (decode_date_time(run(client.get(clock)).value, MARKET).at - NOW).total_seconds()

    run(client.open())
    assert error_s() == 0
    run(client.action(Attribute(8, model.clock_object, 6), Data(Tag.INT16, -42)))
    assert error_s() == -42
    run(client.set(clock, octets(encode_date_time((NOW + timedelta(seconds=7)).astimezone(MARKET)))))
    assert error_s() == 7
    with pytest.raises(AccessRefused, match="read_write_denied"):
        run(client.set(Attribute(1, model.serial_object, 2), octets(b"x")))
