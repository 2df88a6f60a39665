"""The octets: a reply into serial and counts. Pure."""

from datetime import date


def counts_of(reply):
    """Serial, and (day, slot, pulses, offset of the count, its length) of each line."""
    serial, rows, offset = None, [], 0
    for line in reply.splitlines(keepends=True):
        words = line.decode("ascii").split()
        if words[:1] == ["TOY"]:
            serial = words[1]
        elif len(words) == 3:
            day, slot, pulses = words
            place = line.rindex(pulses.encode())
            rows.append((date.fromisoformat(day), int(slot), int(pulses), offset + place, len(pulses)))
        offset += len(line)
    return serial, rows
