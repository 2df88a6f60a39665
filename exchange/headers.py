"""What a public file says beside its words, gathered from the records that readings left.

What belongs here: the meter's parameters, registers of the last reset, power failures and changes as they
were known at the file's time, as answers of the protocol. Nothing is made up: what was never read stays zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import psycopg

from exchange.runs import Run
from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.memory import CHANNELS_PER_GROUP
from protocols.nbr14522.messages import Change, ChangeLog, Parameters, PowerFailure, PowerFailures, Registers
from protocols.nbr14522.messages.parameters import Constant
from protocols.nbr14522.messages.registers import ChannelRegisters
from protocols.nbr14522.messages.requests import weekday_of

Connection = psycopg.Connection[Any]

_FAILURES, _CHANGES = 20, 16
_CONSTANT_LIMIT = 1_000_000
# Written anew for the file, or not part of the parameters.
_NOT_FIELDS = frozenset({"code", "kind", "octets", "problems", "groups", "meter_serial"})
_ABOUT = """
SELECT k.n, p.values, f.failures, c.changes, r.at, r.channels
FROM unnest(%(n)s::int[], %(meter)s::bigint[], %(at)s::timestamptz[]) AS k (n, meter_id, at)
LEFT JOIN LATERAL (
    SELECT m.values FROM meter_parameters m
    WHERE m.meter_id = k.meter_id AND m.command = ANY(ARRAY[x'20'::int, x'21'::int, x'22'::int, x'51'::int])
    ORDER BY m.at > k.at + %(after)s, CASE WHEN m.at > k.at + %(after)s THEN m.at END, m.at DESC,
        -- Of one moment, what an FK7 file brought is more than what the text file beside it has places for.
        m.command DESC, m.session_id
    LIMIT 1
) p ON true
LEFT JOIN LATERAL (
    SELECT array_agg(ARRAY[o.started_at, o.ended_at] ORDER BY o.started_at) AS failures
    FROM (SELECT * FROM outage WHERE meter_id = k.meter_id AND ended_at <= k.at
          ORDER BY started_at DESC LIMIT %(failures)s) o
) f ON true
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(h.code, h.reader_serial, extract(epoch FROM h.at)) ORDER BY h.at)
        AS changes
    -- Only those of a log 28: the events of DLMS meters stand in the same table, with an object for a reader.
    FROM (SELECT * FROM meter_change WHERE meter_id = k.meter_id AND at <= k.at
              AND code BETWEEN 0 AND 255 AND reader_serial ~ '^[0-9A-Fa-f]{6}$'
          ORDER BY at DESC LIMIT %(changes)s) h
) c ON true
LEFT JOIN LATERAL (
    SELECT g.at, jsonb_object_agg(g.channel, g.values) AS channels
    FROM register_reading g
    WHERE g.meter_id = k.meter_id AND g.command = x'24'::int AND g.channel <= 3 AND g.at <= k.at
    GROUP BY g.at, g.session_id ORDER BY g.at DESC LIMIT 1
) r ON true
"""


@dataclass(frozen=True, slots=True)
class Header:
    """Answers for one file: parameters without code and counts, and 24, 25, 28 where anything is known."""

    parameters: Parameters
    registers: Registers | None
    failures: PowerFailures | None
    changes: ChangeLog | None


@dataclass(frozen=True, slots=True)
class HeaderKey:
    """Whose header, as of when, and what the registry says where the meter said nothing."""

    meter_id: int
    at: datetime
    active_channel: int
    pulse_energy: tuple[int, int]


def read_headers(
    conn: Connection, keys: Sequence[HeaderKey], zone: tzinfo, parameters_after: timedelta
) -> list[Header]:
    """A header for each key, in order.

    Args:
        parameters_after: how much later than its file's time parameters may have been read; where there are
            none until then, the next ones are taken.
    """
    rows = conn.execute(
        _ABOUT,
        {
            "n": list(range(len(keys))),
            "meter": [key.meter_id for key in keys],
            "at": [key.at for key in keys],
            "failures": _FAILURES,
            "changes": _CHANGES,
            "after": parameters_after,
        },
    ).fetchall()
    by_number = {row[0]: row[1:] for row in rows}
    return [_header(key, by_number[number], zone) for number, key in enumerate(keys)]


def _header(key: HeaderKey, row: tuple[Any, ...], zone: tzinfo) -> Header:
    values, failures, changes, registers_at, registers = row
    # Where none were read, only the registry's constant is known.
    parameters = _parameters(values) or Parameters(code=0x21, constants=_constants(key))
    reset = parameters.last_reset
    is_of_reset = registers_at is not None and _local(registers_at, zone) == reset
    return Header(
        parameters=parameters,
        registers=_registers(registers) if registers and is_of_reset else None,
        failures=None if not failures else _failures(failures, zone),
        changes=None if not changes else _changes(changes, zone),
    )


def _parameters(values: dict[str, Any] | None) -> Parameters | None:
    if values is None:
        return None
    known = {name: value for name, value in values.items() if name not in _NOT_FIELDS}
    try:
        return Parameters.from_json(known | {"code": 0x21})
    except LocalProtocolError:
        return None  # a field the meter filled with what its own layout does not allow


def _constants(key: HeaderKey) -> tuple[Constant | None, ...]:
    numerator, denominator = key.pulse_energy
    if max(numerator, denominator) >= _CONSTANT_LIMIT or key.active_channel > CHANNELS_PER_GROUP:
        return (None,) * CHANNELS_PER_GROUP
    known = Constant(numerator=numerator, denominator=denominator)
    return tuple(known if c == key.active_channel else None for c in range(1, CHANNELS_PER_GROUP + 1))


def _registers(channels: dict[str, dict[str, int]]) -> Registers:
    found = [channels.get(str(number)) for number in range(1, CHANNELS_PER_GROUP + 1)]
    return Registers(code=0x24, channels=tuple(ChannelRegisters.from_json(values or {}) for values in found))


def _failures(pairs: list[list[datetime]], zone: tzinfo) -> PowerFailures:
    found = [PowerFailure(start=_local(start, zone), end=_local(end, zone)) for start, end in pairs]
    # The text format takes the last 16 of the 20 places: the newest stand there.
    return PowerFailures(code=0x25, failures=(*(None,) * (_FAILURES - len(found)), *found))


def _changes(rows: list[list[Any]], zone: tzinfo) -> ChangeLog:
    found = [
        Change(code=code, reader_serial=reader, at_time=_local(datetime.fromtimestamp(at, UTC), zone))
        for code, reader, at in rows
    ]
    return ChangeLog(code=0x28, changes=(*found, *(None,) * (_CHANGES - len(found))))


def _local(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def parameters_of(header: Header, run: Run, at: datetime, code: int) -> Parameters:
    """The parameters that fit a run's words.

    Args:
        at: the file's time, at or after the end of the run, naive.
    """
    minutes, seconds = divmod(run.interval_s, 60)
    return replace(
        header.parameters,
        code=code,
        meter_time=at,
        weekday=weekday_of(at.date()),
        last_interval_end=run.last_end,
        # Parameters may be read after the file's time; a reset that was yet to come is not known in it.
        last_reset=_not_after(header.parameters.last_reset, at),
        previous_reset=_not_after(header.parameters.previous_reset, at),
        words_current=run.words.size,
        words_previous=0,
        quantities=run.quantities,
        memory_interval_min=minutes,
        memory_interval_extra_s=seconds,
        memory_interval_extra_hundredths=0,
    )


def _not_after(moment: datetime | None, at: datetime) -> datetime | None:
    return moment if moment is not None and moment <= at else None


def market_time(at: datetime, zone: tzinfo) -> datetime:
    """A naive market time as an instant."""
    return at.replace(tzinfo=zone).astimezone(UTC)
