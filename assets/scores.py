"""The score of estimates as an asset: good days masked, estimated as ever, compared; once a week.

What belongs here: the asset, its check and metadata. What does not: the score and its pictures
(`derivation.scores`).
"""

from typing import Any

import dagster as dg
import polars as pl

from assets.links import SCORES, image, manual
from assets.metadata import FRESHNESS_REASON, OWNERS, SAMPLE, Column, Metadata, md_table, sample, table, tags
from assets.resources import CceeAccess, Clock, Metering
from derivation.parameters import parameters_in_force
from derivation.scores.expected_errors import above_limit
from derivation.scores.pictures import LENGTHS_PT, store_pictures
from derivation.scores.scoring import MASKED, SCORE_VERSION, ScoreSummary, score_estimates
from storage import scores as store
from storage.settings import Settings
from vee.scores.classes import ALL

GROUP = "scores"
NAME = "estimate_scores"
CHECK = "expected_error_limit"
COLUMNS = [
    Column("score_run_id", "bigint", "Execução do placar"),
    Column("source", "text", "masked: lacunas postas em dias bons; replaced: dados tardios de verdade"),
    Column("strategy", "text", "Estratégia de estimativa"),
    Column(
        "method", "text", "Método; +E0 quando os registradores limitaram", [("series_estimated", "reason")]
    ),
    Column("gap_length", "text", "Duração da lacuna dentro do dia"),
    Column("uc_class", "text", "Classe de UC: energia por dia e constância"),
    Column("gaps", "bigint", "Lacunas comparadas"),
    Column(
        "mae_share",
        "double precision",
        "Σ|estimado − medido| / Σ medido",
        [("series_estimated", "numerators")],
    ),
    Column("bias_share", "double precision", "Σ(estimado − medido) / Σ medido"),
    Column("p90_share", "double precision", "Nove de cada dez lacunas erram menos"),
]


def build() -> dg.AssetsDefinition:
    """The asset `estimate_scores`. It reads the days of a window, so it has no partitions of its own."""

    @dg.asset(
        name=NAME,
        deps=["series_estimated", "registry"],
        group_name=GROUP,
        owners=OWNERS,
        tags=tags("medicao", "resultado"),
        kinds={"polars", "postgres"},
        code_version=SCORE_VERSION,
        description=(
            "Placar das estimativas: dias bons recebem lacunas como as dos últimos 90 dias, são estimados "
            "pelo mesmo código e comparados com o que foi medido. Erro esperado por método, duração e classe "
            "de UC; substituições por dados tardios contam à parte."
        ),
        metadata={
            **table("estimate_score", COLUMNS),
            FRESHNESS_REASON: "Feito uma vez por semana; o placar vale até o próximo.",
        },
    )
    def estimate_scores(
        context: dg.AssetExecutionContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> dg.MaterializeResult[None]:
        with metering.open() as db:
            summary = score_estimates(
                db,
                as_of=clock.as_of(),
                run_id=context.run.run_id,
                chosen=db.settings.scores,
                parameters=parameters_in_force(db.settings.market, ccee.profile().musd.params),
            )
            pictures = store_pictures(summary.run.id, summary.scores, summary.errors, db.data_dir)
            return dg.MaterializeResult(
                metadata=_metadata(summary, db.settings, [path.name for path in pictures])
            )

    return estimate_scores


def build_check() -> dg.AssetChecksDefinition:
    """Warns where a method in use is expected to err by more than the setting."""

    @dg.asset_check(
        name=CHECK,
        asset=NAME,
        description="Nenhum método em uso tem erro esperado acima de [scores] warn_share.",
    )
    def expected_error_limit(
        context: dg.AssetCheckExecutionContext, metering: Metering, ccee: CceeAccess
    ) -> dg.AssetCheckResult:
        with metering.open() as db:
            chosen = db.settings.scores
            parameters = parameters_in_force(db.settings.market, ccee.profile().musd.params)
            with db.connect() as conn:
                run = store.latest_run(conn)
                found = store.scores_of(conn, run.id) if run else pl.DataFrame()
                used = store.strategies_in_use(conn) | {parameters.estimation.default_strategy}
        above = above_limit(found, used, chosen.least_gaps, chosen.warn_share) if run else []
        return dg.AssetCheckResult(
            passed=run is not None and not above,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "limit": chosen.warn_share,
                "score_run": run.id if run else "nenhuma",
                "above": sample(
                    f"{row['strategy']} {row['method']} {LENGTHS_PT[row['gap_length']]}: "
                    f"{row['mae_share']:.1%} (n = {row['gaps']})"
                    for row in above
                ),
            },
        )

    return expected_error_limit


def _metadata(summary: ScoreSummary, settings: Settings, pictures: list[str]) -> Metadata:
    run = summary.run
    of_all = summary.scores.filter(pl.col("uc_class") == ALL, pl.col("gap_length") == ALL)
    return {
        "placar": md_table(
            ["origem", "estratégia", "método", "n", "viés", "erro médio", "por intervalo", "9 de 10 até"],
            [
                [
                    "mascarado" if row["source"] == MASKED else "tardio",
                    row["strategy"],
                    row["method"],
                    row["gaps"],
                    *(_percent(row[name]) for name in _SHARES),
                ]
                for row in of_all.head(SAMPLE).iter_rows(named=True)
            ],
        ),
        "erro_por_metodo": image(settings, "Erro médio por método e duração da lacuna", SCORES, pictures[0]),
        "lacunas": image(settings, "Estimado contra medido, uma marca por lacuna", SCORES, pictures[1]),
        "como_ler": manual(settings, "estimativas"),
        "score_run": run.id,
        "first_day": str(run.first_day),
        "last_day": str(run.last_day),
        "uc_days": run.uc_days,
        "gaps": run.gaps,
        "not_filled": run.not_filled,
        "replaced_by_late_readings": run.replaced,
        "shapes": f"{run.shapes} ({'das lacunas guardadas' if run.shapes_from == 'stored' else 'do ajuste'})",
        "parameters_hash": run.hash,
    }


_SHARES = ("bias_share", "mae_share", "interval_mae_share", "p90_share")


def _percent(share: Any) -> str:
    return "" if share is None else f"{100 * share:.2f} %".replace(".", ",")
