"""A reader and a meter joined by a simulated wire: time jumps from one thing that happens to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from protocols.nbr14522.link import (
    NEED_DATA,
    AnswerComplete,
    BlockReceived,
    CommandReceived,
    Event,
    LinkFailed,
    MeterLink,
    ReaderLink,
)
from protocols.nbr14522.memory import payloads_to_words, words_to_payloads
from protocols.nbr14522.messages import (
    MemoryBlock,
    NotImplementedAnswer,
    Parameters,
    decode_request,
    decode_response,
    memory_blocks,
)
from protocols.nbr14522.profile import MeterProfile

SERIAL = "55000052"
READER = "001101"

Answer = Callable[[bytes], Sequence[bytes]]
Damage = Callable[[str, int, bytes], bytes]
"""(direction "to meter" or "to reader", how many transmissions before, octets) to what arrives."""


def no_damage(direction: str, index: int, octets: bytes) -> bytes:
    return octets


def parameters(code: int = 0x21, words: int = 600) -> Parameters:
    now = datetime(2026, 11, 20, 10, 5, 3)
    return Parameters(
        code=code,
        meter_time=now,
        weekday=6,
        last_interval_end=now.replace(minute=0, second=0),
        last_reset=now - timedelta(days=20),
        words_current=words,
        words_previous=0,
        memory_interval_min=5,
        memory_interval_extra_s=0,
        demand_interval_min=15,
    )


def answers(words: Sequence[int] = tuple(range(600))) -> Answer:
    """A meter with parameters, a memory, and nothing else."""

    def answer(frame: bytes) -> Sequence[bytes]:
        code = decode_request(frame).code
        if code in (0x20, 0x21, 0x22, 0x51):
            return [parameters(code, len(words)).encode(SERIAL)]
        if code in (0x26, 0x27, 0x52):
            return memory_blocks(code, SERIAL, words_to_payloads(list(words)))
        return [NotImplementedAnswer(refused_code=code).encode(SERIAL)]

    return answer


@dataclass
class Pair:
    """Both links and the wire between them.

    Attributes:
        latency_s: one way.
        chunk: octets a delivery, 0 for whole transmissions.
        damage: what the wire does to a transmission; empty octets mean it was lost.
    """

    profile: MeterProfile
    answer: Answer = field(default_factory=answers)
    latency_s: float = 0.001
    chunk: int = 0
    damage: Damage = no_damage
    meter_profile: MeterProfile | None = None
    serial: str = SERIAL
    now: float = 0.0
    reader_events: list[Event] = field(default_factory=list)
    meter_events: list[Event] = field(default_factory=list)
    on_command: Callable[[Pair, CommandReceived], None] | None = None

    def __post_init__(self) -> None:
        self.reader = ReaderLink(self.profile, self.serial)
        self.meter = MeterLink(self.meter_profile or self.profile, SERIAL, self.now)
        self._queue: list[tuple[float, int, str, bytes]] = []
        self._order = count()
        self._sent = {"to meter": 0, "to reader": 0}

    def _ship(self, direction: str, data: bytes) -> None:
        if not data:
            return
        arrived = self.damage(direction, self._sent[direction], data)
        self._sent[direction] += 1
        size = self.chunk or max(1, len(arrived))
        for start in range(0, len(arrived), size):
            item = (self.now + self.latency_s, next(self._order), direction, arrived[start : start + size])
            heapq.heappush(self._queue, item)

    def settle(self) -> None:
        """Take events on both sides and put octets on the wire."""
        while (event := self.meter.next_event()) is not NEED_DATA:
            self.meter_events.append(event)
            if isinstance(event, CommandReceived):
                if self.on_command is None:
                    self.meter.send(self.answer(event.frame), self.now)
                else:
                    self.on_command(self, event)
        while (event := self.reader.next_event()) is not NEED_DATA:
            self.reader_events.append(event)
        self._ship("to reader", self.meter.data_to_send())
        self._ship("to meter", self.reader.data_to_send())

    def _times(self) -> list[float]:
        times = [t for t in (self.reader.next_deadline(), self.meter.next_deadline()) if t is not None]
        return times + [item[0] for item in self._queue[:1]]

    def step(self) -> None:
        """Go to the next arrival or deadline."""
        times = self._times()
        assert times, "nothing left to happen"
        self.now = max(self.now, min(times))
        if self._queue and self._queue[0][0] <= self.now:
            _, _, direction, data = heapq.heappop(self._queue)
            (self.meter if direction == "to meter" else self.reader).receive(data, self.now)
        self.reader.advance(self.now)
        self.meter.advance(self.now)
        self.settle()

    def run(self, command: bytes, *, limit_s: float = 4000.0, **options: bool) -> list[Event]:
        """One exchange; the reader's events of it."""
        start = len(self.reader_events)
        self.reader.send(command, self.now, **options)
        self.settle()
        until = self.now + limit_s
        while not self.reader.is_idle:
            assert self.now < until, "the exchange does not end"
            self.step()
        return self.reader_events[start:]

    def let_pass(self, seconds: float) -> None:
        """Run for so long, whatever happens in it."""
        until = self.now + seconds
        while min(self._times(), default=until) < until:
            self.step()
        self.now = until


def ending(events: Sequence[Event]) -> AnswerComplete | LinkFailed:
    ends = [event for event in events if isinstance(event, AnswerComplete | LinkFailed)]
    assert len(ends) == 1
    return ends[0]


def words_of(events: Sequence[Event]) -> list[int]:
    """The words of all memory blocks delivered, filler included."""
    blocks = [decode_response(event.content) for event in events if isinstance(event, BlockReceived)]
    payloads = [block.payload for block in blocks if isinstance(block, MemoryBlock)]
    return payloads_to_words(payloads).tolist()
