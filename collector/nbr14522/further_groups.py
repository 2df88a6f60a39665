"""Channels 4 to 12: which are expected of a meter, and what of them is missing.

The first group's three channels come in the same words, so the channel of active energy stands for them. A
further group is read by commands of its own and can be lost alone, when the line breaks after the first. It
is looked at on days that are over only: while a day runs, it comes once, to spare the monthly plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import psycopg

from collector.work.planning import CHANNELS_PER_GROUP, Span, day_spans

Connection = psycopg.Connection[Any]
Slots = list[bool] | None
_NO_QUANTITY = frozenset({6, 99})  # disabled, none (nbr14522.md 9.1)
_MAX_GROUPS = 4
_EXPECTED = """
SELECT m.meter_id, coalesce(full_answer.values, newest.values)
FROM unnest(%(meter_ids)s::bigint[]) AS m (meter_id)
CROSS JOIN LATERAL (
    SELECT p.values FROM meter_parameters p WHERE p.meter_id = m.meter_id AND p.command = %(command)s
    ORDER BY p.at DESC LIMIT 1
) newest
LEFT JOIN LATERAL (
    SELECT last.values FROM (
        SELECT p.values, p.at FROM meter_parameters p
        WHERE p.meter_id = m.meter_id AND p.command = %(command)s ORDER BY p.at DESC LIMIT 100
    ) last WHERE last.values ? 'groups' ORDER BY last.at DESC LIMIT 1
) full_answer ON true
WHERE (newest.values ->> 'group_count')::integer > 1
"""


def expected_groups(parameters: Mapping[str, Any]) -> list[list[int]]:
    """Channels of each group after the first, by the answers to 21 as they are kept.

    A group whose quantities were never answered is expected with all three channels; one without any quantity
    is not expected.
    """
    count = min(parameters.get("group_count") or 1, _MAX_GROUPS)
    answered = parameters.get("groups", {})
    groups = []
    for group in range(1, count):
        codes = answered.get(str(group), {}).get("quantities") or [None] * CHANNELS_PER_GROUP
        first = group * CHANNELS_PER_GROUP + 1
        channels = [first + i for i, code in enumerate(codes) if code not in _NO_QUANTITY]
        if channels:
            groups.append(channels)
    return groups


def present_of_further_groups(
    conn: Connection, meter_ids: Sequence[int], days: Sequence[date]
) -> dict[tuple[int, date], list[Slots]]:
    """Per meter with further groups and day: of each group, which slots are there in any of its channels."""
    if not days or not meter_ids:
        return {}
    # The newest answer tells how many groups; short sessions do not ask for their quantities, so those come
    # from the newest of the last ones that did.
    rows = conn.execute(_EXPECTED, {"command": 0x21, "meter_ids": list(meter_ids)})
    expected = {meter_id: expected_groups(values) for meter_id, values in rows}
    if not expected:
        return {}
    found: dict[tuple[int, int, date], list[bool]] = {}
    cursor = conn.cursor(binary=True)
    cursor.execute(
        "SELECT meter_id, channel, day, cardinality(pulses), "
        "CASE WHEN array_position(pulses, NULL) IS NOT NULL THEN pulses END "
        "FROM reading_latest WHERE meter_id = ANY(%s) AND channel > %s "
        "AND day = ANY(%s) AND day BETWEEN %s AND %s",
        [list(expected), CHANNELS_PER_GROUP, list(days), min(days), max(days)],
    )
    for meter_id, channel, day, slots, pulses in cursor:
        group = (channel - 1) // CHANNELS_PER_GROUP
        here = [True] * slots if pulses is None else [value is not None for value in pulses]
        known = found.get((meter_id, group, day))
        if known is not None and len(known) == len(here):
            here = [a or b for a, b in zip(known, here, strict=True)]
        found[meter_id, group, day] = here
    return {
        (meter_id, day): [
            found.get((meter_id, (channels[0] - 1) // CHANNELS_PER_GROUP, day)) for channels in groups
        ]
        for meter_id, groups in expected.items()
        for day in days
    }


def gaps_of_further_groups(
    present: Mapping[tuple[int, date], Sequence[Slots]],
    meter_id: int,
    interval_s: int,
    days: Sequence[date],
    now: datetime,
) -> list[Span]:
    """What further groups lack of the days that are over; `now` naive, meter local."""
    return [
        span
        for day in days
        if datetime.combine(day, time.min) + timedelta(days=1) <= now
        for slots in present.get((meter_id, day), ())
        for span in day_spans(day, interval_s, slots, now)
    ]
