"""Tokens never reach the evidence, and evidence without them is still decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.decoded import Frame, MeterContext
from collector.lines.transports import Timeouts, parse_url
from collector.meter_models import use_meter_models
from collector.nbr14522.decode import decode_session
from collector.nbr14522.sequences import fixed
from collector.nbr14522.session import Line, read_meter
from faults import OperatorFault
from protocols.nbr14522.frames import ANY_METER
from protocols.nbr14522.messages import CurrentParametersRequest, OpenSessionRequest, SeedRequest
from protocols.nbr14522.models import remove_catalogue
from protocols.nbr14522.profile import DEFAULT, P2_GENERIC, P8_GENERIC, MeterProfile
from protocols.nbr14522.profiles import PROFILES
from tests.simulator.peers.serving import SERIAL, served

TOKEN = b"\xa5\x5a\xc3\x3c\x96" * 2


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC, P2_GENERIC], ids=lambda profile: profile.name)
def test_tokens_are_blanked_before_a_frame_is_recorded(profile: MeterProfile) -> None:
    frames: list[Frame] = []

    def record(at: datetime, is_sent: bool, _command: int, crc_ok: bool | None, payload: bytes) -> None:
        frames.append(Frame(len(frames) + 1, at, is_sent, crc_ok is not False, payload))

    async def run() -> str:
        async with served(profile) as server:
            line = Line(parse_url(server.url), profile, ANY_METER, "000001", Timeouts(20.0, 60.0, 120.0))
            requests = [SeedRequest(), OpenSessionRequest(write_token=TOKEN), CurrentParametersRequest()]
            result = await read_meter(line, fixed(requests), record, _now)
            return result.outcome

    assert asyncio.run(run()) == "complete"
    assert len([frame for frame in frames if frame.is_sent]) == 3
    assert not any(TOKEN in frame.payload for frame in frames)
    decoded = decode_session(frames, profile, MeterContext(1, SERIAL, 1, UTC))
    assert decoded.meter_serial == SERIAL
    assert decoded.parameters
    assert decoded.clock is not None


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.req("TR-5.1")
def test_the_utilitys_own_models_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "nbr14522.toml"
    path.write_text('[models.own-1]\nextends = "old-3ch"\npacking = "M"\n', encoding="utf-8")
    use_meter_models(None)
    use_meter_models(tmp_path)
    try:
        assert PROFILES["own-1"].packing == "M"
    finally:
        remove_catalogue(str(path))
    _refused(lambda: use_meter_models(tmp_path / "absent"), "cannot read the meter models")
    path.write_text("[models.own-1]\ncolour = 1\n", encoding="utf-8")
    _refused(lambda: use_meter_models(tmp_path), "unknown key colour")
    path.rename(tmp_path / "modbus.toml")
    _refused(lambda: use_meter_models(tmp_path), "a catalogue of no protocol")


def _refused(work: Callable[[], None], words: str) -> None:
    with pytest.raises(OperatorFault, match=words):
        work()
