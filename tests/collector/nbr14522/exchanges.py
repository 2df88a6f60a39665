"""Frames of a conversation, made with the protocol's own encoders: what a test says a meter answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np

from collector.decoded import Frame, MeterContext
from protocols.nbr14522.frames import wrap_command, wrap_response
from protocols.nbr14522.memory import words_to_payloads
from protocols.nbr14522.messages import Parameters, Response, memory_blocks, request_for
from protocols.nbr14522.profiles import DEFAULT

ZONE = timezone(timedelta(hours=-3))
SERIAL = "00012345"
CONTEXT = MeterContext(meter_id=7, serial=SERIAL, active_channel=1, zone=ZONE)
NOW = datetime(2026, 11, 21, 3, 2, 10)
STARTED = NOW.replace(tzinfo=ZONE).astimezone(UTC)


def parameters(code=0x21, **changes):
    """A meter at 03:02:10, reset on the 20th at 00:00: 27 h of 5-minute intervals in the running period."""
    values = {
        "code": code,
        "meter_serial": SERIAL,
        "meter_time": NOW,
        "last_interval_end": datetime(2026, 11, 21, 3, 0),
        "last_reset": datetime(2026, 11, 20),
        "previous_reset": datetime(2026, 11, 19),
        "words_current": 3 * 12 * 27,
        "words_previous": 3 * 288,
        "memory_interval_min": 5,
        "memory_interval_extra_s": 0,
        "memory_interval_extra_hundredths": 0,
        "quantities": (1, 10, 11),
        "has_command_80": True,
    }
    return Parameters(**{**values, **changes})


class Exchange:
    """Collects frames in order, a command every ten seconds, each answer two seconds after it."""

    def __init__(self, profile=DEFAULT, serial=SERIAL):
        self.profile = profile
        self.serial = serial
        self.frames = []
        self._at = STARTED

    def _add(self, is_sent, payload, crc_ok=True):
        self.frames.append(Frame(len(self.frames), self._at, is_sent, crc_ok, payload))

    def ask(self, code, **values):
        self._at += timedelta(seconds=8)
        frame = request_for(code, **values).encode("000001")
        self._add(True, wrap_command(frame, self.profile.addressing, meter_serial=self.serial))
        self._at += timedelta(seconds=2)
        return self

    def answer(self, response: Response):
        self._add(False, wrap_response(response.encode(self.serial), self.profile.addressing))
        return self

    def block(self, frame, crc_ok=True):
        self._add(False, wrap_response(frame, self.profile.addressing), crc_ok)
        return self

    def memory(self, code, words, keep=None):
        for frame in self.memory_frames(code, words)[:keep]:
            self.block(frame)
        return self

    def memory_frames(self, code, words):
        return memory_blocks(code, self.serial, words_to_payloads(words, self.profile.packing))


def ramp(intervals, seed=1):
    """Words of so many intervals, three channels, each below 2048: above, a profile says what they are."""
    return np.random.default_rng(seed).integers(0, 2048, intervals * 3)
