"""The closing of a month as an asset, partitioned by month.

What belongs here: the asset and its metadata; the closing itself is `closing.run`. It reads what became
of each UC-day and each submission, so it depends on both; Dagster has no mapping from a month to its days
times shards, so on all of their partitions.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import dagster as dg

from assets.links import CLOSING, link
from assets.metadata import FRESHNESS_REASON, OWNERS, Metadata, md_table, sample, share, tags
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from closing.document import Closing, outlook_words, verdict
from closing.run import close, write
from derivation.parameters import parameters_in_force

GROUP = "closing"
NAME = "closing_month"
WHOLE = "month_is_whole"


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset `closing_month`."""

    @dg.asset(
        name=NAME,
        deps=[
            dg.AssetDep(upstream, partition_mapping=dg.AllPartitionMapping())
            for upstream in ("series_ccee", "ccee_submissions")
        ],
        partitions_def=partitions.monthly,
        group_name=GROUP,
        owners=OWNERS,
        tags=tags("fechamento", "resultado"),
        kinds={"postgres"},
        code_version="2",
        description=(
            "Fechamento do mês M: dias de UC em falta com a causa e quem age, conflitos de MUSD (decidir até "
            "MS+2du, cadastro até MS+3du), previsão e prazos até MS+7du. De MS+1du em diante estima o mês "
            "outra vez com uma só janela de histórico. Depois de MS+7du congela o mês: o que a CCEE aceitou "
            "fica definitivo, o resto está perdido e é avisado; o certificado não muda mais, e o que mudar "
            "depois entra na lista de recontabilização."
        ),
        check_specs=[
            dg.AssetCheckSpec(
                WHOLE,
                asset=NAME,
                description=(
                    "Mês aberto: nenhum agente perde o prazo no ritmo atual. Mês congelado: nada se "
                    "perdeu e nada "
                    "mudou desde então."
                ),
                partitions_def=partitions.monthly,
            )
        ],
        metadata={
            FRESHNESS_REASON: "Feito de MS+1du a MS+9du; depois de MS+7du congela o mês, e então nunca mais."
        },
    )
    def closing_month(
        context: dg.AssetExecutionContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        month, profile = date.fromisoformat(context.partition_key), ccee.profile()
        with metering.open() as db:
            done = close(
                db,
                month,
                profile,
                parameters_in_force(db.settings.market, profile.musd.params),
                now=clock.now(),
                as_of=clock.as_of(),
                run_id=context.run.run_id,
            )
            written = write(done, db.data_dir / "closing")

            def page(name: str) -> dg.MetadataValue[Any]:
                return link(db.settings, CLOSING, name)

            metadata: Metadata = {
                "verdict": verdict(done).text,
                "report": page(written.html.name),
                "report_xlsx": page(written.xlsx.name),
                "report_pdf": page(written.pdf.name),
                **_metadata(done),
                **_certificate(done, page),
            }
        yield dg.MaterializeResult(metadata=metadata)
        yield _whole(done)

    return closing_month


def _whole(closing: Closing) -> dg.AssetCheckResult:
    """What is lost cannot be mended any more, and what will be can: the one stops a person, the other "
    "warns."""
    if closing.frozen is not None:
        changes = len(closing.recount.changes) if closing.recount else 0
        is_whole = not closing.frozen.lost and not changes
        severity = dg.AssetCheckSeverity.ERROR
    else:
        is_whole = not any(agent.outlook.misses for agent in closing.report.agents)
        severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        check_name=WHOLE, passed=is_whole, severity=severity, metadata={"verdict": verdict(closing).text}
    )


def _metadata(closing: Closing) -> Metadata:
    report, whole = closing.report, closing.report.whole
    metadata: Metadata = {
        "is_complete": report.is_complete,
        "last_due_day": str(report.last_due_day or ""),
        "uc_days_due": report.days_due,
        "uc_days_delivered": report.days_delivered,
        "uc_days_to_resend": whole.days_to_resend,
        "completeness": share(report.days_delivered, report.days_due),
        "sent_kwh": float(whole.sent_kwh),
        "zeroed_kwh": float(whole.zeroed_kwh),
        "unsent_kwh": float(whole.unsent_kwh),
        "adjusted_share": round(float(whole.adjusted_share), 6),
        "missing_by_cause": md_table(
            ("causa", "quem age", "agir até", "dias de UC", "o que fazer"),
            [
                (text, who, f"{by:%d/%m/%Y}", count, remedy)
                for (by, who, text, remedy), count in sorted(_by_cause(closing).items())
            ],
        ),
        "missing_sample": sample(f"{row.uc_code} {row.day}: {row.text}" for row in report.missing),
        "forecast": md_table(
            ("agente", "faltam", "previsão para MS+7du"),
            [
                (
                    one.agent_code or "sem agente",
                    one.outlook.backlog,
                    outlook_words(one.outlook, report.deadline.day),
                )
                for one in report.agents
            ],
        ),
        "agents_missing_the_deadline": sum(one.outlook.misses for one in report.agents),
        "musd_conflict_hours": len(report.musd_conflicts),
        "musd_conflict_kwh": float(report.conflict_kwh),
        "musd_conflict_sample": sample(
            f"{row['uc_code']} {row['day']} hora {row['hour']}: {row['energy_kwh']} > {row['limit_kwh']} kWh"
            for row in report.musd_conflicts
        ),
        "musd_unconfirmed": len(report.musd_unconfirmed),
        "musd_unconfirmed_sample": sample(row["uc_code"] for row in report.musd_unconfirmed),
        "deadlines": md_table(
            ("prazo", "data", "faltam (dias)", "o quê"),
            [(row.label, f"{row.day:%d/%m/%Y}", row.days_left, row.text) for row in report.milestones],
        ),
    }
    if closing.again is not None:
        metadata |= {
            "estimated_again_ucs": closing.again.ucs,
            "estimated_again_uc_days_changed": closing.again.uc_days_changed,
            "history_month": f"{closing.again.history_month:%Y-%m}",
        }
    return metadata


def _by_cause(closing: Closing) -> Counter[tuple[date, str, str, str]]:
    counts: Counter[tuple[date, str, str, str]] = Counter()
    for run in closing.report.runs:
        counts[run.act_by, run.who, run.text, run.remedy] += run.days
    return counts


def _certificate(closing: Closing, page: Callable[[str], dg.MetadataValue[Any]]) -> Metadata:
    if closing.frozen is None:
        return {}
    first, newest = closing.certificates[0], closing.certificates[-1]
    changes = closing.recount.changes if closing.recount else []
    return {
        "uc_days_final": closing.frozen.final,
        "uc_days_lost": closing.frozen.lost,
        "certificate": page(first.file_name),
        "certificate_sha256": first.sha256.hex(),
        "certificate_versions": len(closing.certificates),
        "newest_version": page(newest.file_name),
        "uc_days_to_recount": len(changes),
        "recount_kwh": float(closing.recount.difference_kwh) if closing.recount else 0.0,
    }
