"""Collection as assets: what is missing of a day is asked for, and what came is counted.

What belongs here: asking through the queue and saying what came of it. What does not: sessions, retries of a
line, what a frame means (`collector`). Where a collector service lives it does the work; where none does, one
runs here, in its own event loop, on the same queue, until these requests are done.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from assets import registry
from assets.metadata import (
    NEWEST_DAY,
    OWNERS,
    SAMPLE,
    Column,
    Metadata,
    lineage,
    md_table,
    share,
    table,
    tags,
)
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from collector.drain import ReadSummary, drain
from collector.work.worklist import request_missing
from derivation.window import Window
from faults import Actor
from storage.database import Database
from storage.queue import Priority

GROUP = "collection"
SESSIONS, READINGS = "meter_sessions", "meter_readings"
# One step at a time: a collector has its limits per process.
POOL = "collector"

_SESSION_COLUMNS = [
    Column("meter_id", "bigint", "Medidor", [("registry", "meter_id")]),
    Column("started_at", "timestamptz", "Início da conversa"),
    Column("outcome", "text", "complete, partial, failed, aborted"),
    Column("failed_stage", "text", "Etapa em que falhou"),
    Column("drift_s", "numeric", "Relógio do medidor menos a referência, s"),
    Column("payload", "bytea", "Quadros como passaram na linha (tabela frame)"),
]
_READING_COLUMNS = [
    Column("meter_id", "bigint", "Medidor", [(SESSIONS, "meter_id")]),
    Column("channel", "smallint", "Canal", [(SESSIONS, "payload")]),
    Column("day", "date", "Dia civil, horário do mercado", [(SESSIONS, "payload")]),
    Column("version", "integer", "Versão: nova a cada mudança depois do primeiro envio"),
    Column("interval_s", "integer", "Duração do intervalo, s", [(SESSIONS, "payload")]),
    Column("pulses", "integer[]", "Pulsos por intervalo; NULL = falta", [(SESSIONS, "payload")]),
    Column("source_sessions", "bigint[]", "De que sessão veio cada trecho", [(SESSIONS, "meter_id")]),
]


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The assets `meter_sessions` and `meter_readings`, made by one step."""

    @dg.multi_asset(
        name="collection",
        specs=[
            dg.AssetSpec(
                SESSIONS,
                deps=["registry"],
                group_name=GROUP,
                owners=OWNERS,
                kinds={"postgres", "tcp"},
                code_version="1",
                description="Conversas com os medidores, com os quadros guardados antes de decodificar.",
                metadata={**table("session, frame", _SESSION_COLUMNS), **NEWEST_DAY},
                tags=tags("coleta", "fonte"),
            ),
            dg.AssetSpec(
                READINGS,
                deps=[SESSIONS],
                group_name=GROUP,
                owners=OWNERS,
                kinds={"postgres"},
                code_version="1",
                description="Pulsos por medidor, canal e dia, um vetor por dia.",
                metadata={**table("reading_day", _READING_COLUMNS), **NEWEST_DAY},
                tags=tags("coleta", "insumo"),
            ),
        ],
        partitions_def=partitions.daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
    )
    def collection(
        context: dg.AssetExecutionContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> Iterator[dg.MaterializeResult[None]]:
        windows = partitions.windows(context.partition_keys)
        days = sorted({day for window in windows for day in window.days})
        with metering.open() as db:
            context.log_event(registry.observation(db, ccee.profile(), clock.as_of(), registry.summary(db)))
            requests = request_missing(
                db, days, clock.as_of(), f"dagster run {context.run.run_id}", Priority.ROUTINE
            )
            reads = asyncio.run(
                drain(db, requests, clock.now, deadline_s=db.settings.dagster.collect_deadline_s)
            )
            whose = whose_meters(db, [read.meter_id for read in reads if read.state != "done"])
            yield dg.MaterializeResult(
                asset_key=SESSIONS,
                metadata={
                    **lineage(_SESSION_COLUMNS),
                    **read_metadata(reads, whose),
                    **session_metadata(db, days),
                },
            )
            yield dg.MaterializeResult(
                asset_key=READINGS, metadata={**lineage(_READING_COLUMNS), **reading_metadata(db, windows)}
            )

    return collection


# As people on these pages say it; the same actors as `faults.Actor`.
_ACTORS: dict[str, str] = {
    Actor.RETRY: "ninguém: tenta-se de novo",
    Actor.OPERATOR: "operação",
    Actor.FIELD_CREW: "equipe de campo",
    Actor.DEVELOPER: "desenvolvimento",
}
_WHOSE = """
    SELECT DISTINCT ON (i.meter_id) i.meter_id, u.code, u.name
    FROM installation i JOIN point p ON p.id = i.point_id JOIN uc u ON u.id = p.uc_id
    WHERE i.meter_id = ANY (%s) ORDER BY i.meter_id, lower(i.valid) DESC
"""
_TRAFFIC = """
    SELECT count(*), count(DISTINCT meter_id), coalesce(sum(bytes_sent + bytes_received), 0)::bigint,
           coalesce(sum(retries), 0)::bigint, max(abs(drift_s))::float8
    FROM session
    WHERE started_at >= market_day_start(%s) AND started_at < market_day_start(%s + 2)
"""

_VECTORS = """
    SELECT count(DISTINCT i.meter_id), count(DISTINCT r.meter_id), count(r.meter_id),
           coalesce(sum(cardinality(r.pulses)), 0)::bigint,
           coalesce(sum(cardinality(array_positions(r.pulses, NULL))), 0)::bigint
    FROM installation i
    JOIN point p ON p.id = i.point_id AND p.uc_id %% %s = %s
    LEFT JOIN reading_latest r ON r.meter_id = i.meter_id AND r.channel = i.active_channel
        AND r.day BETWEEN %s AND %s
    WHERE i.valid && tstzrange(market_day_start(%s), market_day_start(%s + 1))
"""


def read_metadata(reads: Sequence[ReadSummary], whose: Mapping[int, tuple[str, str]]) -> Metadata:
    """What became of the reads that this run asked for.

    Args:
        whose: code and name of the UC of each meter that was not read.
    """
    failed = [read for read in reads if read.state != "done"]
    return {
        "reads_asked": len(reads),
        "reads_done": len(reads) - len(failed),
        "reads_failed": len(failed),
        "failed_by_cause": _by_cause(failed),
        "failed": _failed_table(failed[:SAMPLE], whose),
    }


def whose_meters(db: Database, meter_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Code and name of the UC of each meter, by its newest installation."""
    with db.connect() as conn:
        rows = conn.execute(_WHOSE, [list(meter_ids)]).fetchall()
    return {meter_id: (code, name) for meter_id, code, name in rows}


def _by_cause(failed: Sequence[ReadSummary]) -> dg.MetadataValue[Any]:
    """By the kind of cause: where it stopped and who must act; messages name addresses and numbers."""
    kinds: dict[tuple[str, str], list[ReadSummary]] = {}
    for read in failed:
        kinds.setdefault((read.stage or read.state, read.actor or ""), []).append(read)
    rows = [
        [stage, _ACTORS.get(actor, actor), len(reads), reads[0].message, reads[0].remedy]
        for (stage, actor), reads in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]
    return md_table(["etapa", "quem age", "leituras", "por exemplo", "o que fazer"], rows)


def _failed_table(
    failed: Sequence[ReadSummary], whose: Mapping[int, tuple[str, str]]
) -> dg.MetadataValue[Any]:
    rows = [
        [*whose.get(read.meter_id, ("", "")), read.serial, read.message or read.state, read.remedy]
        for read in failed
    ]
    return md_table(["UC", "nome", "medidor", "o que houve", "o que fazer"], rows)


def session_metadata(db: Database, days: Sequence[date]) -> Metadata:
    """Sessions since these days began, until a day after them."""
    with db.connect() as conn:
        sessions, meters, octets, retries, drift_s = _one(conn, _TRAFFIC, [days[0], days[-1]])
    return {
        "dagster/partition_row_count": sessions,
        "meters": meters,
        "octets": octets,
        "retries": retries,
        "largest_drift_s": drift_s or 0.0,
    }


def reading_metadata(db: Database, windows: Sequence[Window]) -> Metadata:
    """What is there of the active energy channel of the installed meters."""
    totals = [0] * 5
    with db.connect() as conn:
        for window in windows:
            span = [window.first_day, window.last_day]
            row = _one(conn, _VECTORS, [window.shards, window.shard, *span, *span])
            totals = [total + value for total, value in zip(totals, row, strict=True)]
    installed, read, vectors, intervals, missing = totals
    return {
        "dagster/partition_row_count": vectors,
        "meters_installed": installed,
        "meters_read": read,
        "meters_without_reading": installed - read,
        "intervals": intervals - missing,
        "missing": missing,
        "completeness": share(intervals - missing, intervals),
    }


def _one(conn: Any, query: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] = conn.execute(query, parameters).fetchone()
    return row
