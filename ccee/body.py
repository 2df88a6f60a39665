"""The exact bytes that CCEE is told: one consumer unit, one civil day, canonical JSON.

Canonical means: names sorted, no spaces, numbers with the profile's fixed decimals. The same values thus
give the same bytes and the same SHA-256 on every machine, which is what the ledger compares.

Writing 288 stamped objects per UC-day through a JSON library costs more than everything else of a delivery
run together, and all of it but the values is the same for each unit. So the text between two values is made
once per day (`_Template`) and a body is one join of that text and of ready-made decimal strings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ccee.profile import Profile, Send
from faults import OperatorFault
from vee.calendars import place_of_slot, slot_end, slots_per_day

# PdC 1.8, 3.27: measurement goes in five-minute intervals, twelve in an hour block.
INTERVAL_S = 300
SLOTS_PER_HOUR = 3600 // INTERVAL_S
# The stored layer is rounded once, to milli-kWh.
STORED_DECIMALS = 3

# Values below this have their text ready: 131 kWh in five minutes is 1.6 MW, above nearly every unit.
_READY_VALUES = 1 << 17
# Stands for a unit's code in a text that is made once; no code and no other value has this character.
_HOLE = "\x00"
# Rows of bodies under construction at once: bounds the memory of a batch.
_CHUNK_ROWS = 256


@dataclass(frozen=True, slots=True)
class Body:
    """One request body as sent, with the hash that the ledger keeps."""

    content: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Stamp:
    """How one interval is named in a body: its hour block (1 to 24) and its time stamp."""

    hour: int
    text: str


def day_stamps(day: date, send: Send) -> list[Stamp]:
    """The stamps of all intervals of a day: ends, the last one 00:00 of the next day but in hour 24."""
    # The start of an interval is the end of the one before it.
    shift = 1 if send.stamp == "interval_start" else 0
    return [
        Stamp(
            place_of_slot(day, slot, INTERVAL_S).hour,
            slot_end(day, slot - shift, send.offset, INTERVAL_S).isoformat(timespec="seconds"),
        )
        for slot in range(slots_per_day(day, send.offset, INTERVAL_S))
    ]


def render(
    profile: Profile,
    uc_code: str,
    agent_code: int,
    day: date,
    milli_kwh: Sequence[int | None],
    is_adjusted: Sequence[bool],
) -> bytes:
    """The body of one UC-day.

    Args: milli_kwh: one value per interval in order, None where missing; is_adjusted: one flag per interval,
        false for measured.
    Raises: OperatorFault where the day has not as many intervals as it should, a value is negative, or a
        value is missing and the profile does not allow partial days.
    """
    missing = np.array([[value is None for value in milli_kwh]], dtype=np.bool_)
    values = np.array([[0 if value is None else value for value in milli_kwh]], dtype=np.int64)
    flags = np.array([is_adjusted], dtype=np.bool_)
    return next(render_batch(profile, day, [uc_code], [agent_code], values, flags, missing)).content


def render_batch(
    profile: Profile,
    day: date,
    uc_codes: Sequence[str],
    agent_codes: Sequence[int],
    milli_kwh: NDArray[np.int64],
    is_adjusted: NDArray[np.bool_],
    is_missing: NDArray[np.bool_] | None = None,
) -> Iterator[Body]:
    """Bodies of many units for one day, in the order given, made a chunk at a time.

    Args: milli_kwh, is_adjusted, is_missing: shape (units, intervals of the day).
    Raises: as `render`, on the first row that cannot be written; check `refusals` before to keep the others.
    """
    slots = slots_per_day(day, profile.send.offset, INTERVAL_S)
    shape = (len(uc_codes), slots)
    if milli_kwh.shape != shape or is_adjusted.shape != shape or len(agent_codes) != len(uc_codes):
        raise OperatorFault(
            f"{milli_kwh.shape[-1]} intervals given, the day has {slots}",
            where=f"body of {day}",
            remedy="derive the day again; the CCEE layer holds every interval of a day",
        )
    reasons = refusals(profile, milli_kwh, is_missing)
    if reasons:
        row, reason = next(iter(reasons.items()))
        raise OperatorFault(
            reason,
            where=f"body of UC {uc_codes[row]}, {day}",
            remedy="complete the day; where CCEE is proved to take partial days, set send.allow_partial_day",
        )
    return _rendered(profile.send, day, uc_codes, agent_codes, milli_kwh, is_adjusted, is_missing)


def refusals(
    profile: Profile, milli_kwh: NDArray[np.int64], is_missing: NDArray[np.bool_] | None = None
) -> dict[int, str]:
    """Rows that cannot become a body, with the reason. Missing is never sent as zero."""
    found: dict[int, str] = {}
    negative = milli_kwh < 0
    if is_missing is not None:
        negative &= ~is_missing
        gaps = is_missing.sum(axis=1)
        for row in np.flatnonzero(gaps):
            if not profile.send.allow_partial_day:
                found[int(row)] = f"{gaps[row]} intervals are missing and partial days are not allowed"
            elif _hours(is_missing[row]).any(axis=1).all():
                found[int(row)] = "no hour is complete"
    for row in np.flatnonzero(negative.any(axis=1)):
        found[int(row)] = "a value is negative"
    return found


def _rendered(
    send: Send,
    day: date,
    uc_codes: Sequence[str],
    agent_codes: Sequence[int],
    milli_kwh: NDArray[np.int64],
    is_adjusted: NDArray[np.bool_],
    is_missing: NDArray[np.bool_] | None,
) -> Iterator[Body]:
    if is_missing is not None:
        milli_kwh = np.where(is_missing, 0, milli_kwh)
    stamps = day_stamps(day, send)
    whole = _Template(send, day, stamps)
    with_gaps = set() if is_missing is None else set(np.flatnonzero(is_missing.any(axis=1)).tolist())
    for first in range(0, len(uc_codes), _CHUNK_ROWS):
        last = min(first + _CHUNK_ROWS, len(uc_codes))
        texts = whole.fill(milli_kwh[first:last], is_adjusted[first:last])
        for row, parts in enumerate(texts, start=first):
            template = whole
            if is_missing is not None and row in with_gaps:
                # A block with a gap is left out, never zeroed (a real month shows blocks by the hour).
                complete = np.repeat(~_hours(is_missing[row]).any(axis=1), SLOTS_PER_HOUR)
                template = _Template(send, day, [stamps[slot] for slot in np.flatnonzero(complete)])
                parts = template.fill(
                    milli_kwh[row : row + 1, complete], is_adjusted[row : row + 1, complete]
                )[0]
            head, tail = template.envelope(uc_codes[row], agent_codes[row])
            parts[0] = head + parts[0]
            parts.append(tail)
            content = b"".join(parts)
            yield Body(content, hashlib.sha256(content).digest())


class _Template:
    """The text of one day between its values, for each pair of kinds of the values on both sides."""

    def __init__(self, send: Send, day: date, stamps: Sequence[Stamp]) -> None:
        names = send.names
        self._send = send
        self._day = day
        # Text on both sides of the value, by kind (0 measured, 1 adjusted) and slot.
        around = [
            [
                _around(
                    {names.consumption: None, names.timestamp: stamp.text, names.kind: kind},
                    names.consumption,
                )
                for stamp in stamps
            ]
            for kind in (send.kinds.measured, send.kinds.adjusted)
        ]
        hours = [stamp.hour for stamp in stamps]
        seams = [self._seam(left, right) for left, right in zip([0, *hours], [*hours, 0], strict=True)]
        last = len(stamps)
        self._texts = np.empty((4, last + 1), dtype=object)
        for pair in range(4):
            left, right = divmod(pair, 2)
            for slot, seam in enumerate(seams):
                end = around[left][slot - 1][1] if slot > 0 else ""
                start = around[right][slot][0] if slot < last else ""
                self._texts[pair, slot] = (end + seam + start).encode()
        self._columns = np.arange(last + 1)
        self._envelopes: dict[int, tuple[str, str]] = {}

    def envelope(self, uc_code: str, agent_code: int) -> tuple[bytes, bytes]:
        """The text before and after all intervals, where unit, agent and day are."""
        if agent_code not in self._envelopes:
            self._envelopes[agent_code] = self._envelope(agent_code)
        head, tail = self._envelopes[agent_code]
        hole, code = _json(_HOLE), _json(uc_code)
        return head.replace(hole, code).encode(), tail.replace(hole, code).encode()

    def _envelope(self, agent_code: int) -> tuple[str, str]:
        """The same for any unit of an agent, with a hole where the unit's code goes."""
        names = self._send.names
        inner = names.hours if self._send.layout == "uc-day-hours" else names.values
        day = self._day.isoformat()
        head, tail = _around({names.uc: _HOLE, names.agent: agent_code, names.day: day, inner: None}, inner)
        return f"{head}[", f"]{tail}"

    def fill(self, values: NDArray[np.int64], is_adjusted: NDArray[np.bool_]) -> list[list[bytes]]:
        """For each row the parts that, joined inside the envelope, are the body."""
        count, slots = values.shape
        kinds = is_adjusted.astype(np.intp)
        pairs = np.zeros((count, slots + 1), dtype=np.intp)
        pairs[:, 1:] += 2 * kinds
        pairs[:, :-1] += kinds
        parts = np.empty((count, 2 * slots + 1), dtype=object)
        parts[:, 0::2] = self._texts[pairs, self._columns]
        parts[:, 1::2] = _decimal_texts(values, self._send.decimals)
        rows: list[list[bytes]] = parts.tolist()
        return rows

    def _seam(self, left_hour: int, right_hour: int) -> str:
        """Text between two interval objects; hour 0 stands for the outside of the day."""
        comma = "," if left_hour and right_hour else ""
        if self._send.layout == "uc-day-flat" or left_hour == right_hour:
            return comma
        names = self._send.names
        closing = (
            "]" + _around({names.hour: left_hour, names.values: None}, names.values)[1] if left_hour else ""
        )
        opening = (
            _around({names.hour: right_hour, names.values: None}, names.values)[0] + "[" if right_hour else ""
        )
        return closing + comma + opening


def _around(members: dict[str, Any], open_member: str) -> tuple[str, str]:
    """Canonical text of an object on both sides of one member's value, which is left open."""
    names = sorted(members)
    split = names.index(open_member)
    before = "".join(f"{_json(name)}:{_json(members[name])}," for name in names[:split])
    after = "".join(f",{_json(name)}:{_json(members[name])}" for name in names[split + 1 :])
    return f"{{{before}{_json(open_member)}:", f"{after}}}"


def _json(value: str | int) -> str:
    return orjson.dumps(value).decode()


def _hours(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return flags.reshape(-1, SLOTS_PER_HOUR)


def _decimal_texts(milli_kwh: NDArray[np.int64], decimals: int) -> NDArray[np.object_]:
    # No more texts than these values need, in steps of two: most units stay far below the limit.
    count = 1 << int(milli_kwh.max(initial=0)).bit_length()
    ready = _ready_values(decimals, min(count, _READY_VALUES))
    large = milli_kwh >= _READY_VALUES
    texts: NDArray[np.object_] = ready[np.where(large, 0, milli_kwh)]
    if large.any():
        texts[large] = [_decimal_text(value, decimals) for value in milli_kwh[large].tolist()]
    return texts


@lru_cache(maxsize=32)
def _ready_values(decimals: int, count: int) -> NDArray[np.object_]:
    return np.array([_decimal_text(value, decimals) for value in range(count)], dtype=object)


def _decimal_text(milli_kwh: int, decimals: int) -> bytes:
    whole, thousandths = divmod(milli_kwh, 10**STORED_DECIMALS)
    return b"%d.%03d%s" % (whole, thousandths, b"0" * (decimals - STORED_DECIMALS))
