"""The line of a reply that carries one count."""

from dataclasses import dataclass
from datetime import timedelta

from toy.words import counts_of


@dataclass(frozen=True)
class LinePlace:
    frame_seq: int
    first_octet: int
    octets: bytes
    pulses: int


class LineLocator:
    key, holder, whole = "line", "frame", "session's frames"

    def locate(self, session, frames, profile, context, interval_end):
        start = interval_end - timedelta(seconds=300)
        slot = (start.hour * 60 + start.minute) // 5
        for frame in frames:
            for day, number, pulses, offset, length in counts_of(frame.payload)[1]:
                if (day, number) == (start.date(), slot):
                    return LinePlace(frame.seq, offset + 1, frame.payload[offset : offset + length], pulses)
        return None


LOCATOR = LineLocator()
