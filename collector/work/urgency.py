"""How long a meter keeps what was not read yet, and what that does to the order of reading.

A memory is a ring: the oldest interval falls out when a new one ends. What was not read is lost from the
moment at which the memory holds nothing but newer intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from collector.work.planning import CHANNELS_PER_GROUP
from collector.work.worklist import Connection
from storage.queue import Priority

# Days left, and by how much a read then comes before others of its kind. The first two steps put a routine
# read before every recovery: what a closing waits for can be read tomorrow, what is overwritten cannot.
_STEPS = ((1.0, 90), (3.0, 60), (7.0, 30))


@dataclass(frozen=True, slots=True)
class MemoryOutlook:
    """What is known of a meter's memory.

    Args:
        capacity_words: the most words it was seen to announce; None: not seen. A lower bound, so that the
            forecast errs towards reading early while a memory still fills up.
        last_end: end of the newest interval that was read; None: nothing was.
    """

    interval_s: int
    capacity_words: int | None
    last_end: datetime | None

    def lost_from(self) -> datetime | None:
        """When the first interval not read yet is overwritten; None where that cannot be told."""
        if not self.capacity_words or self.last_end is None:
            return None
        depth = timedelta(seconds=self.capacity_words // CHANNELS_PER_GROUP * self.interval_s)
        return self.last_end + timedelta(seconds=self.interval_s) + depth

    def left(self, now: datetime) -> timedelta | None:
        """The countdown to it; negative: intervals are being lost."""
        lost_from = self.lost_from()
        return None if lost_from is None else lost_from - now


def priority_with(base: Priority, left: timedelta | None) -> int:
    """The priority of a read by what is left until its memory is overwritten; a person stays first."""
    if left is None:
        return int(base)
    days = left / timedelta(days=1)
    step = next((step for limit, step in _STEPS if days < limit), 0)
    return max(int(Priority.ON_DEMAND) + 1, int(base) - step)


def outlooks(conn: Connection) -> dict[int, MemoryOutlook]:
    """By meter, of those installed now."""
    rows = conn.execute("SELECT meter_id, interval_s, capacity_words, last_end FROM meter_memory")
    return {meter_id: MemoryOutlook(*row) for meter_id, *row in rows}


def raise_waiting(conn: Connection, now: datetime) -> int:
    """Bring forward the queued recovery and routine reads of memories about to be overwritten; how many."""
    pressed = [
        (meter_id, left)
        for meter_id, outlook in outlooks(conn).items()
        if (left := outlook.left(now)) is not None and left < timedelta(days=_STEPS[-1][0])
    ]
    raised = 0
    for base in (Priority.RECOVERY, Priority.ROUTINE):
        raised += conn.execute(
            "UPDATE job_request j SET priority = t.priority FROM unnest(%s::bigint[], %s::smallint[]) "
            "AS t (meter_id, priority) WHERE j.meter_id = t.meter_id AND j.state = 'queued' "
            "AND j.kind = 'read' AND j.priority = %s AND t.priority < j.priority",
            [[m for m, _ in pressed], [priority_with(base, left) for _, left in pressed], int(base)],
        ).rowcount
    return raised
