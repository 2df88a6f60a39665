"""Stored replies into day vectors."""

import numpy as np

from collector.decoded import DayVector, Decoded
from collector.drivers import WithoutHistory
from toy.words import counts_of


class ToyDecoder(WithoutHistory):
    def decode(self, frames, profile, context):
        serial, days = None, {}
        for frame in frames:
            if not frame.is_sent:
                serial, rows = counts_of(frame.payload)
                for day, slot, pulses, _, _ in rows:
                    days.setdefault(day, {})[slot] = pulses
        vectors = []
        for day, counts in sorted(days.items()):
            pulses, present = np.zeros(288, np.int32), np.zeros(288, np.bool_)
            for slot, count in counts.items():
                pulses[slot], present[slot] = count, True
            vectors.append(DayVector(1, day, 1, 300, pulses, present))
        is_held = serial not in (None, context.serial)
        return Decoded(vectors=tuple(vectors), meter_serial=serial, blocks=len(days), is_held=is_held)


DECODER = ToyDecoder()
