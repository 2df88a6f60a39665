"""The registry as an external asset: people and imports write it, Dagster shows what it holds.

What belongs here: the asset, and an observation of it (rows, last change, findings of the pre-flight). What
does not: what a finding is (`closing.preflight`), when it is looked at (`sensors.registry`, `collection`).
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from assets.metadata import FRESHNESS_REASON, OWNERS, SAMPLE, Column, md_table, table, tags
from ccee.profile import Profile
from closing.preflight import Known, Severity, preflight
from exchange.registry_rules import MeterProfiles, fault_of_url
from storage.database import Database
from storage.registry.summary import RegistrySummary, registry_summary
from vee.calendars import Period, market_calendars
from vee.layers.estimation import STRATEGIES

GROUP = "registry"
NAME = "registry"
SEVERITIES = {Severity.BLOCKS: "impede", Severity.ATTENTION: "atenção", Severity.INFO: "informação"}


def build() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            NAME,
            group_name=GROUP,
            owners=OWNERS,
            tags=tags("cadastro", "fonte"),
            kinds={"postgres", "csv"},
            description=(
                "Cadastro: UCs, pontos, medidores instalados, perdas, MUSD e contratos, tudo com vigência "
                "(`smf registry import`)."
            ),
            metadata={
                **table(
                    "uc, point, installation, point_loss, uc_musd ...",
                    [
                        Column("uc_code", "text", "Código da UC, com zeros à esquerda"),
                        Column("meter_id", "bigint", "Medidor instalado no ponto, principal ou retaguarda"),
                        Column("valid", "daterange", "Vigência de cada linha"),
                    ],
                ),
                FRESHNESS_REASON: "Muda quando o cadastro muda, não por hora marcada.",
            },
        )
    ]


def summary(db: Database) -> RegistrySummary:
    with db.connect() as conn:
        return registry_summary(conn)


def observation(db: Database, profile: Profile, now: datetime, found: RegistrySummary) -> dg.AssetObservation:
    """What the registry holds, and what the pre-flight says of the month of `now`."""
    month = Period.month(now.astimezone(db.settings.market.tzinfo).date()).start
    known = Known(MeterProfiles(), STRATEGIES, fault_of_url, profile.musd.default_kw)
    report = preflight(db, month, market_calendars(db.settings.market), known)
    return dg.AssetObservation(
        NAME,
        description=f"{report.ucs} UCs enviadas em {month:%m/%Y}, {len(report.findings)} achados",
        metadata={
            "dagster/row_count": sum(found.rows.values()),
            "rows": md_table(["tabela", "linhas"], list(found.rows.items())),
            "last_change": f"{found.changed_at:%Y-%m-%d %H:%M:%S %Z}" if found.changed_at else "nunca",
            "changed_by": found.changed_by or "–",
            "ucs_submitted": report.ucs,
            **{f"findings_{severity.value}": report.count(severity) for severity in Severity},
            "findings": md_table(
                ["gravidade", "onde", "o quê", "o que a CCEE faz", "o que fazer"],
                [
                    [SEVERITIES[item.severity], item.where, item.what, item.ccee, item.remedy]
                    for item in report.findings[:SAMPLE]
                ],
            ),
        },
    )
