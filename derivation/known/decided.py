"""What people decided, put into the facts that the rules take. Pure.

What belongs here: the meaning of a decision's payload for the derivation, the same for a decision in force
and for one that is only looked at before it is made. What does not: making decisions (`editing`), their table
(`storage.review.decisions`), what an edit does to a series (`vee.layers.edits`).

Payloads: `set`, `scale`, `copy`: `kwh`, exact values as text, one a slot. `estimate`: `strategy`, and
`aside`, true where the slots are set aside first. `choose`: `take` (`kept` or `refused`), and of the reading
that is taken `meter_id`, `channel`, `slots` (the meter's), `pulses`, `sessions`. `reject`: nothing; the slots
are set aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import polars as pl

from derivation.layers import Facts
from storage.review.decisions import DecisionKind
from vee.layers.edits import EDIT_SCHEMA

KEPT, REFUSED = "kept", "refused"
_WITH_VALUES = (DecisionKind.SET, DecisionKind.SCALE, DecisionKind.COPY)


def with_decisions(facts: Facts, decisions: pl.DataFrame) -> Facts:
    """Facts as people decided: `storage.review.decisions.IN_FORCE_SCHEMA`, in order."""
    if decisions.is_empty():
        return facts
    rows = [row | {"payload": orjson.loads(row["payload"])} for row in decisions.iter_rows(named=True)]
    chosen = [row for row in rows if row["kind"] == DecisionKind.CHOOSE]
    return replace(
        facts,
        edits=pl.concat([facts.edits, _edits(rows)]),
        strategies=_strategies(facts.strategies, rows),
        incidents=_without(facts.incidents, chosen),
        readings=_with_chosen(facts.readings, chosen),
    )


def _edits(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """EDIT_SCHEMA rows of the decisions that name slots."""
    found = []
    for row in rows:
        span = (row["uc_id"], row["day"], row["first_slot"], row["last_slot"])
        if row["kind"] in _WITH_VALUES:
            found.append((*span, row["payload"]["kwh"]))
        elif row["kind"] == DecisionKind.REJECT or row["payload"].get("aside"):
            found.append((*span, None))
    return pl.DataFrame(found, schema=EDIT_SCHEMA, orient="row")


def _strategies(known: pl.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The registry's strategies, and in their place those that a person named for a day."""
    named = {
        (row["uc_id"], row["day"]): row["payload"]["strategy"]
        for row in rows
        if row["kind"] == DecisionKind.ESTIMATE
    }
    if not named:
        return known
    own = pl.DataFrame([(*key, name) for key, name in named.items()], schema=known.schema, orient="row")
    return pl.concat([known.join(own, on=["uc_id", "day"], how="anti"), own])


def _without(incidents: pl.DataFrame, chosen: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Contradictions of readings that nobody has settled."""
    settled = [row["quarantine_id"] for row in chosen]
    return incidents.filter(~pl.col("quarantine_id").is_in(settled).fill_null(False))


def _with_chosen(readings: pl.DataFrame, chosen: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Day vectors with the values of refused readings where a person took those."""
    taken = [row["payload"] | {"day": row["day"]} for row in chosen if row["payload"]["take"] == REFUSED]
    if not taken:
        return readings
    rows = []
    for reading in readings.iter_rows(named=True):
        key = (reading["meter_id"], reading["channel"], reading["day"])
        for choice in taken:
            if key == (choice["meter_id"], choice["channel"], choice["day"]):
                reading |= _patched(reading, choice)
        rows.append(reading)
    return pl.DataFrame(rows, schema=readings.schema)


def _patched(reading: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    pulses = list(reading["pulses"])
    starts, sessions = list(reading["source_starts"]), list(reading["source_sessions"])
    sources: list[int] = []
    for session, begin, end in zip(sessions, starts, [*starts[1:], len(pulses)], strict=True):
        sources += [session] * (end - begin)
    for slot, value, session in zip(choice["slots"], choice["pulses"], choice["sessions"], strict=True):
        if slot < len(pulses):
            pulses[slot], sources[slot] = value, session
    cuts = [slot for slot in range(len(sources)) if not slot or sources[slot] != sources[slot - 1]]
    return {"pulses": pulses, "source_starts": cuts, "source_sessions": [sources[cut] for cut in cuts]}
