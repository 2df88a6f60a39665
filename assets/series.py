"""The five layers from pulses to the series that CCEE gets: one step, five outputs.

What belongs here: the declaration of the layers, their columns and where each comes from, and the metadata of
a run. What does not: how a layer is made (`vee`), in what order and in which transaction (`derivation`).

One step, since a chunk's five layers are written in one transaction and a later layer needs the earlier one's
rows in memory; five outputs, since each layer has its own readers, checks and freshness.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import dagster as dg

from assets.links import DAYS, image, traced
from assets.metadata import (
    NEWEST_DAY,
    OWNERS,
    SAMPLE,
    Column,
    Metadata,
    kwh,
    lineage,
    md_table,
    share,
    table,
    tags,
    uc_names,
)
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from closing.acting import acting_on
from derivation.day_picture import day_curve, store_picture
from derivation.parameters import parameters_in_force
from derivation.run import CODE_VERSION, DeriveSummary, derive
from derivation.window import Window
from documents import Language
from storage.database import Database

GROUP = "series"
READINGS = "meter_readings"
# In order; each is made from the one before it.
LAYERS = ("series_primary", "series_validated", "series_estimated", "series_adjusted", "series_ccee")
DESCRIPTIONS = {
    "series_primary": "Energia por intervalo, exata: pulsos × constante, medidor principal e de retaguarda.",
    "series_validated": "Depois da análise crítica (V01 a V22): o que foi recusado ou retido fica sem valor.",
    "series_estimated": "Faltas preenchidas pela estratégia da UC (PdC 1.8, anexo 7.2), cada uma explicada.",
    "series_adjusted": "Série com as perdas de transformação e de linha aplicadas, ainda sem arredondamento.",
    "series_ccee": "Série pronta para a CCEE: arredondada uma vez, meio para cima, em milésimos de kWh.",
}
# When the inputs were read: what is touched later is late (sensors.late_data).
AS_OF = "as_of"


def _columns(upstream: str, *, is_first: bool) -> list[Column]:
    """Columns of one layer; the first is made from pulses, the others from the layer below."""
    value = [(upstream, "pulses")] if is_first else [(upstream, "numerators"), (upstream, "denominator")]
    return [
        Column("uc_id", "bigint", "Unidade consumidora", [(upstream, "meter_id" if is_first else "uc_id")]),
        Column("day", "date", "Dia civil, horário do mercado", [(upstream, "day")]),
        Column("version", "integer", "Versão do UC-dia, a mesma nas cinco camadas"),
        Column("interval_s", "integer", "Duração do intervalo, s", [(upstream, "interval_s")]),
        Column("denominator", "bigint", "Denominador comum dos valores", value),
        Column(
            "numerators", "bigint[]", "Valor do intervalo = numerador / denominador, kWh; NULL = falta", value
        ),
        Column(
            "origin",
            "bytea",
            "Um octeto por intervalo: vee.quality.Origin",
            value if is_first else [(upstream, "origin")],
        ),
        Column(
            "reason",
            "bytea",
            "Um octeto por intervalo: vee.quality.Reason",
            value if is_first else [(upstream, "reason")],
        ),
        Column("input_version", "integer", "Versão da camada de origem", [(upstream, "version")]),
        Column("run_id", "text", "Execução do Dagster que gravou a linha"),
    ]


COLUMNS = {
    name: _columns(upstream, is_first=upstream == READINGS)
    for upstream, name in zip((READINGS, *LAYERS), LAYERS, strict=False)
}


def layer_specs(partitions: Partitions) -> list[dg.AssetSpec]:
    specs = []
    for upstream, name in zip((READINGS, *LAYERS), LAYERS, strict=False):
        specs.append(
            dg.AssetSpec(
                name,
                deps=[upstream, "registry"] if name in _READS_REGISTRY else [upstream],
                group_name=GROUP,
                owners=OWNERS,
                kinds={"polars", "postgres"},
                description=DESCRIPTIONS[name],
                code_version=CODE_VERSION,
                tags=tags("medicao", "resultado" if name == LAYERS[-1] else "insumo"),
                metadata={
                    **table(f"series_day (layer {LAYERS.index(name) + 1})", COLUMNS[name]),
                    **NEWEST_DAY,
                },
            )
        )
    return specs


# Constants and installations; statuses; strategies; losses. Rounding needs nothing but the layer below.
_READS_REGISTRY = {"series_primary", "series_validated", "series_estimated", "series_adjusted"}


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The multi-asset of the five layers."""

    @dg.multi_asset(
        name="series_layers",
        specs=layer_specs(partitions),
        partitions_def=partitions.daily,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def series_layers(
        context: dg.AssetExecutionContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> Iterator[dg.MaterializeResult[None]]:
        as_of, windows = clock.as_of(), partitions.windows(context.partition_keys)
        with metering.open() as db:
            parameters = parameters_in_force(db.settings.market, ccee.profile().musd.params)
            summaries = [
                derive(
                    db,
                    window.first_day,
                    window.last_day,
                    window.shard,
                    window.shards,
                    as_of=as_of,
                    run_id=context.run.run_id,
                    parameters=parameters,
                )
                for window in windows
            ]
            # Of many days none is drawn: each has its own page.
            drawn = _picture(db, windows[0]) if len(windows) == 1 and len(windows[0].days) == 1 else None
            names = uc_names(db, [uc_id for part in summaries for uc_id, _, _ in part.not_ready])
            links = {
                (uc_id, day): [traced(db.settings, names[uc_id][0], day), names[uc_id][1]]
                for part in summaries
                for uc_id, day, _ in part.not_ready
            }
        yield from results(summaries, as_of, drawn, links)

    return series_layers


def _picture(db: Database, window: Window) -> dg.MetadataValue[Any] | None:
    curve = day_curve(db, window, window.first_day)
    if not curve.ucs:
        return None
    path = store_picture(curve, db.data_dir, window, window.first_day)
    return image(db.settings, f"Carga de {curve.ucs} UCs em {window.first_day:%d/%m/%Y}", DAYS, path.name)


def results(
    summaries: Iterable[DeriveSummary],
    as_of: datetime,
    drawn: dg.MetadataValue[Any] | None,
    whose: Mapping[tuple[int, date], Sequence[str]],
) -> Iterator[dg.MaterializeResult[None]]:
    """One materialisation a layer, with what a person wants to know first.

    Args:
        whose: code, leading to the trace of the day, and name of the UC-days that are not ready.
    """
    total = DeriveSummary.total(summaries)
    for name, layer in zip(LAYERS, total.layers, strict=True):
        metadata: Metadata = {
            **lineage(COLUMNS[name]),
            AS_OF: as_of.isoformat(),
            "dagster/partition_row_count": layer.uc_days,
            "uc_days_written": layer.written,
            "uc_days_unchanged": layer.uc_days - layer.written,
            "intervals": layer.intervals,
            "missing": layer.missing,
            "completeness": share(layer.intervals - layer.missing, layer.intervals),
            "energy_kwh": kwh(layer.energy_kwh),
        }
        if name == LAYERS[1]:
            metadata["verdicts"] = dict(total.verdicts)
            metadata["suspects"] = dict(total.suspects)
            metadata["not_judged"] = dict(total.skipped)
        if name == LAYERS[2]:
            metadata["estimated_intervals"] = total.estimated
            metadata["methods"] = dict(total.methods)
            metadata["estimated_share"] = share(total.estimated, layer.intervals - layer.missing)
        if name == LAYERS[4]:
            if drawn is not None:
                metadata["dia"] = drawn
            metadata["outcomes"] = dict(total.outcomes)
            metadata["causes"] = _causes(total.causes)
            metadata["not_ready"] = _not_ready(total.not_ready, whose)
            metadata["quarantined"] = total.quarantined
            metadata["hours_above_musd_limit"] = total.musd_hours
            metadata["trace"] = dg.MetadataValue.md(
                "`smf trace UC INSTANTE` explica um valor até os bytes do medidor."
            )
        yield dg.MaterializeResult(asset_key=name, metadata=metadata)


def _causes(counts: Mapping[str, int]) -> dg.MetadataValue[Any]:
    rows = []
    for cause, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        text, who, remedy = acting_on(cause).words(Language.PORTUGUESE)
        rows.append([text, count, who, remedy])
    return md_table(["causa", "UC-dias", "quem age", "o que fazer"], rows)


def _not_ready(
    uc_days: Sequence[tuple[int, date, str]], whose: Mapping[tuple[int, date], Sequence[str]]
) -> dg.MetadataValue[Any]:
    rows = []
    for uc_id, day, cause in uc_days[:SAMPLE]:
        rows.append([*whose[uc_id, day], f"{day:%d/%m/%Y}", *acting_on(cause).words(Language.PORTUGUESE)])
    return md_table(["UC", "nome", "dia", "por quê", "quem age", "o que fazer"], rows)
