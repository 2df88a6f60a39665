"""Delivery to CCEE as an asset: what is ready is told, and what came back is kept.

What belongs here: the asset, its metadata and what makes its run red. What does not: what is sent, to whom
and how often (`ccee`).
"""

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

import dagster as dg

from assets.links import STANDING, link, traced
from assets.metadata import (
    NEWEST_DAY,
    OWNERS,
    SAMPLE,
    Column,
    Metadata,
    lineage,
    md_table,
    sample,
    share,
    table,
    tags,
)
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from ccee.delivery import deliver_day, practice_only
from ccee.sending import DeliverySummary
from closing.standing import DayStanding, day_standing
from closing.standing_document import waiting_table
from documents import Language
from faults import OperatorFault
from storage.settings import Settings
from vee.calendars import market_calendars

GROUP = "delivery"
NAME = "ccee_submissions"
DELIVERED, READY_IS_SENT = "delivered", "ready_is_sent"
UNSENT = "unsent"
# One step at a time: CCEE's limits are per agent, and the client sends in parallel by itself.
POOL = "ccee_api"

_COLUMNS = [
    Column("uc_id", "bigint", "Unidade consumidora", [("series_ccee", "uc_id")]),
    Column("day", "date", "Dia civil, horário do mercado", [("series_ccee", "day")]),
    Column("version", "integer", "Versão do que foi dito à CCEE sobre o UC-dia"),
    Column("series_version", "integer", "Versão da série representada", [("series_ccee", "version")]),
    Column(
        "body_sha256",
        "bytea",
        "Resumo dos bytes exatos do corpo",
        [("series_ccee", "numerators"), ("series_ccee", "origin"), ("registry", "uc_code")],
    ),
    Column("state", "text", "Último evento: aceito, rejeitado, resultado desconhecido ..."),
    Column("receipt", "text", "Identificador da resposta, quando ela traz um"),
]


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset `ccee_submissions`."""

    @dg.asset(
        name=NAME,
        deps=["series_ccee", "registry"],
        partitions_def=partitions.daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        owners=OWNERS,
        kinds={"postgres", "http"},
        code_version="1",
        pool=POOL,
        tags=tags("entrega", "resultado"),
        description="Envios à CCEE (livro de registro): corpo, versão, tentativas, recibos e rejeições.",
        metadata={**table("submission, submission_event, submission_attempt", _COLUMNS), **NEWEST_DAY},
        check_specs=[
            dg.AssetCheckSpec(
                DELIVERED,
                asset=NAME,
                description="Tudo o que estava pronto foi entregue e aceito; o contrário pede uma pessoa.",
                partitions_def=partitions.daily,
            )
        ],
    )
    def ccee_submissions(
        context: dg.AssetExecutionContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        days = sorted({day for window in partitions.windows(context.partition_keys) for day in window.days})
        if clock.reference:
            practice_only(ccee.address())
        with metering.open() as db:
            summary = deliver_day(
                db,
                days,
                ccee.profile(),
                lambda agent_code: ccee.client(frozenset([agent_code])),
                market_calendars(db.settings.market),
                now=clock.now(),
                as_of=clock.as_of(),
                run_id=context.run.run_id,
            )
            # Of many days none is shown: each has its own standing.
            standing = day_standing(db, days[0], ccee.profile(), clock.as_of()) if len(days) == 1 else None
            shown = _standing_metadata(standing, db.settings)
        yield dg.MaterializeResult(metadata={**_metadata(summary), **shown})
        yield _delivered(summary)

    return ccee_submissions


def build_checks(partitions: Partitions) -> dg.AssetChecksDefinition:
    """What makes a run red: UC-days that are ready and could not be sent.

    A step of its own, after the delivery and beside the marts: one agent's trouble must not keep the others'
    reports from being made, and must not pass for a good run either.
    """

    @dg.multi_asset_check(
        name="delivery_checks",
        specs=[
            dg.AssetCheckSpec(
                READY_IS_SENT,
                asset=NAME,
                description="Todo UC-dia pronto foi enviado; se não, a execução falha e nomeia os agentes.",
                partitions_def=partitions.daily,
            )
        ],
    )
    def delivery_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        unsent = _unsent_of(context)
        count = sum(row["uc_days"] for row in unsent)
        yield dg.AssetCheckResult(
            asset_key=NAME,
            check_name=READY_IS_SENT,
            passed=not unsent,
            metadata={"ready_not_sent": count, "agents": _unsent_table(unsent)},
        )
        if unsent:
            raise OperatorFault(
                f"{count} UC-days are ready and were not sent: "
                + "; ".join(
                    f"agent {row['agent']}, {row['uc_days']} UC-days: {row['reason']}" for row in unsent
                ),
                where="delivery to CCEE",
                remedy="; ".join(dict.fromkeys(row["remedy"] for row in unsent if row["remedy"])),
            )

    return delivery_checks


def _unsent_of(context: dg.AssetCheckExecutionContext) -> list[dict[str, Any]]:
    """What the newest delivery of these very days said of it; its reasons are in no table.

    Raises:
        OperatorFault: no delivery of them is on record, or none that counted: that is no proof of anything.
    """
    days = list(context.partition_keys)
    found = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(NAME), asset_partitions=days), limit=1
    ).records
    made = found[0].asset_materialization if found else None
    value = made.metadata.get(UNSENT) if made else None
    rows = value.data if isinstance(value, dg.JsonMetadataValue) else None
    if not isinstance(rows, list):
        raise OperatorFault(
            "no delivery on record says what it left unsent",
            where=f"{NAME}, {', '.join(map(str, days[:SAMPLE]))}",
            remedy=f"materialise {NAME} for these days; it sends nothing twice",
        )
    return rows


def _unsent_table(unsent: list[dict[str, Any]]) -> dg.MetadataValue[Any]:
    rows = [[row["agent"], row["uc_days"], row["reason"], row["remedy"]] for row in unsent]
    return md_table(["agente", "UC-dias", "motivo", "o que fazer"], rows)


def _delivered(summary: DeliverySummary) -> dg.AssetCheckResult:
    """What CCEE refused is a matter of data and waits; what it was not told is an error of the delivery."""
    is_untold = bool(
        summary.problems or summary.blocked or summary.transient or summary.unknown or summary.after_deadline
    )
    return dg.AssetCheckResult(
        check_name=DELIVERED,
        passed=not summary.needs_attention,
        severity=dg.AssetCheckSeverity.ERROR if is_untold else dg.AssetCheckSeverity.WARN,
        metadata={"summary": summary.sentence(), "problems": sample(summary.problems)},
    )


def _standing_metadata(standing: DayStanding | None, settings: Settings) -> Metadata:
    """What CCEE lacks of the day, for people; and how long after the day's end it had the last of it."""
    if standing is None:
        return {}
    table = waiting_table(standing.waiting, "", Language.PORTUGUESE)
    metadata: Metadata = {
        "uc_days_due": standing.due,
        "uc_days_delivered": standing.delivered,
        "delivered_share": share(standing.delivered, standing.due),
        "not_delivered": md_table(
            [column.title for column in table.columns],
            [
                [traced(settings, uc.uc_code, standing.day), *row[1:]]
                for uc, row in zip(standing.waiting, table.rows[:SAMPLE], strict=False)
            ],
        ),
        "prazo": f"{standing.deadline.label}: {standing.deadline.day:%d/%m/%Y}",
        "situacao": link(settings, STANDING, str(standing.day)),
    }
    if standing.last_delivery is not None:
        zone = standing.last_delivery.tzinfo
        day_end = datetime.combine(standing.day + timedelta(days=1), time.min, zone)
        metadata["minutes_until_delivered"] = round(
            (standing.last_delivery - day_end).total_seconds() / 60, 1
        )
    return metadata


def _metadata(summary: DeliverySummary) -> Metadata:
    counted = (
        "planned", "resent", "sent", "attempts", "accepted", "processing", "rejected", "transient", "unknown",
        "receipts", "musd_hours", "notices", "unchanged", "refused", "not_ready", "held", "suspended",
        "not_expected", "after_deadline",
    )  # fmt: skip
    return {
        **lineage(_COLUMNS),
        "dagster/partition_row_count": summary.unchanged + summary.sent,
        "summary": summary.sentence(),
        **{name: getattr(summary, name) for name in counted},
        "blocked_sample": sample(f"{uc_code}: {reason}" for uc_code, reason in summary.blocked.items()),
        "problems": sample(summary.problems),
        "ready_not_sent": summary.ready_not_sent,
        UNSENT: [
            {"agent": row.agent_code, "uc_days": row.uc_days, "reason": row.reason, "remedy": row.remedy}
            for row in summary.unsent
        ],
        "bodies": dg.MetadataValue.md("`smf ccee body UC DIA` mostra o JSON exato de um envio."),
    }
