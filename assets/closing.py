"""The closing of a month as an asset, partitioned by month.

What belongs here: the asset and its metadata; the report itself is `month`. It reads what became of each
UC-day and each submission, so it depends on both; Dagster has no mapping from a month to its days times
shards, so on all of their partitions.
"""

from datetime import date
from typing import Any

import dagster as dg

from assets.links import CLOSING, link
from assets.metadata import FRESHNESS_REASON, OWNERS, Metadata, sample, share, tags
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from ccee.deadlines import closing_of
from closing.freeze import close_month
from closing.report import ClosingReport, closing_report, store_certificate
from storage import audit
from vee import calendars

GROUP = "closing"
NAME = "closing_month"
ACTOR = "dagster"


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
        code_version="1",
        description=(
            "Fechamento do mês M: UC-dias em falta com a causa, conflitos de MUSD (decidir até MS+2du, "
            "cadastro até MS+3du), prazos até MS+7du e o certificado do mês. Depois de MS+7du, congela o "
            "mês: o que a CCEE aceitou fica definitivo, o resto está perdido e é avisado."
        ),
        metadata={
            FRESHNESS_REASON: "Feito de MS+1du a MS+9du; depois de MS+7du congela o mês, e então nunca mais."
        },
    )
    def closing_month(
        context: dg.AssetExecutionContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> dg.MaterializeResult[None]:
        now, month, profile = clock.now(), date.fromisoformat(context.partition_key), ccee.profile()
        as_of = clock.as_of()
        latest = partitions.latest_day(as_of)
        frozen: tuple[int, int] | None = None
        with metering.open() as db:
            known = calendars.market_calendars(db.settings.market)
            # Freezing is for good: no month is frozen ahead of its time.
            if min(latest, partitions.latest_day(now)) >= closing_of(known, month).data:
                frozen = close_month(db, month, profile, known, now=now)
            report = closing_report(
                db, month, as_of=as_of, latest_day=latest, musd_default_kw=profile.musd.default_kw
            )
            path, sha256 = store_certificate(report, db.data_dir / "closing")
            with db.connect() as conn:
                audit.append(
                    conn,
                    actor=ACTOR,
                    action="closing.certificate",
                    object=f"month/{report.month}",
                    after={"sha256": sha256, "run_id": context.run.run_id, "is_complete": report.is_complete},
                )
        metadata = _metadata(report, link(db.settings, CLOSING, path.name), sha256)
        if frozen is not None:
            metadata |= {"uc_days_final": frozen[0], "uc_days_lost": frozen[1]}
        return dg.MaterializeResult(metadata=metadata)

    return closing_month


def _metadata(report: ClosingReport, certificate: dg.MetadataValue[Any], sha256: str) -> Metadata:
    causes: dict[str, int] = {}
    for missing in report.missing:
        causes[missing.cause] = causes.get(missing.cause, 0) + 1
    return {
        "is_complete": report.is_complete,
        "last_due_day": str(report.last_due_day or ""),
        "uc_days_due": report.days_due,
        "uc_days_delivered": report.days_delivered,
        "completeness": share(report.days_delivered, report.days_due),
        "missing_by_cause": causes,
        "missing_sample": sample(f"{row.uc_code} {row.day}: {row.text}" for row in report.missing),
        "musd_conflict_hours": len(report.musd_conflicts),
        "musd_conflict_sample": sample(
            f"{row['uc_code']} {row['day']} hora {row['hour']}: {row['energy_kwh']} > {row['limit_kwh']} kWh"
            for row in report.musd_conflicts
        ),
        "musd_unconfirmed": len(report.musd_unconfirmed),
        "musd_unconfirmed_sample": sample(row["uc_code"] for row in report.musd_unconfirmed),
        "deadlines": dg.MetadataValue.md(
            "\n".join(
                ["| prazo | data | faltam (dias) | o quê |", "|---|---|---|---|"]
                + [
                    f"| {row.label} | {row.day:%d/%m/%Y} | {row.days_left} | {row.text} |"
                    for row in report.milestones
                ]
            )
        ),
        "certificate": certificate,
        "certificate_sha256": sha256,
    }
