"""The registry as an external asset: people and imports write it, Dagster only shows who depends on it."""

from __future__ import annotations

import dagster as dg

from assets.metadata import FRESHNESS_REASON, OWNERS, Column, table

GROUP = "registry"


def build() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            "registry",
            group_name=GROUP,
            owners=OWNERS,
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
