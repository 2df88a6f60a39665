"""Asset checks: what must hold of a day, shown beside the assets it is about.

https://docs.dagster.io/guides/test/asset-checks
What belongs here: which statement belongs to which asset, whether it stops the run, and how it is shown. What
does not: the statements (`checking`, `expectations`). Checks of the marts are dbt's tests (`dbt/`).

One pass over the rows judges all statements about layers, so they share a step. Those that would mean a fault
of ours (energy lost between layers, a gap turned into zero) stop the run before anything is sent.
"""

from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg

from assets.links import DATA_DOCS, link, manual
from assets.metadata import SAMPLE, sample
from assets.partitions import Partitions
from assets.resources import Metering
from audit.readings import readings_against_frames
from derivation import checking, expectations

REGISTERS = "register_against_intervals"
NEVER_ZERO = "missing_is_never_zero"
BY_LOSSES = "energy_conserved_by_losses"
BY_ROUNDING = "energy_conserved_by_rounding"
COMPLETE = "complete"
AS_READ, AS_WRITTEN = "counts_are_as_read", "values_are_as_written"
AUDIT = "auditors_expectations"


def build(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """All asset checks, by day and shard."""

    def spec(name: str, asset: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking, partitions_def=partitions.daily
        )

    evidence_specs = [
        spec(
            AS_READ,
            "meter_readings",
            "Cada contagem guardada é a que os octetos da sessão dizem, decodificados de novo.",
            blocking=True,
        )
    ]

    @dg.multi_asset_check(name="reading_checks", specs=evidence_specs)
    def reading_checks(
        context: dg.AssetCheckExecutionContext, metering: Metering
    ) -> Iterator[dg.AssetCheckResult]:
        with metering.open() as db:
            zone = db.settings.market.tzinfo
            found = [
                readings_against_frames(db, window, zone)
                for window in partitions.windows(context.partition_keys)
            ]
        yield _result(AS_READ, "meter_readings", found)

    layer_specs = [
        spec(
            AS_WRITTEN,
            "series_ccee",
            "Os valores guardados de cada camada e versão são os do resumo gravado com eles.",
            blocking=True,
        ),
        spec(
            REGISTERS,
            "series_primary",
            "O que o registrador andou entre duas leituras é o que os intervalos somam, em pulsos.",
        ),
        spec(
            NEVER_ZERO,
            "series_validated",
            "Falta nunca vira zero: sem valor é sem origem, e um valor só aparece com motivo registrado.",
            blocking=True,
        ),
        spec(
            BY_LOSSES,
            "series_adjusted",
            "Energia ajustada = energia estimada × fator de perdas do cadastro, exata em cada intervalo.",
            blocking=True,
        ),
        spec(
            BY_ROUNDING,
            "series_ccee",
            "Cada valor a até meio milésimo de kWh do valor ajustado, arredondado meio para cima.",
            blocking=True,
        ),
        spec(
            COMPLETE,
            "series_ccee",
            "Todo UC-dia esperado tem um desfecho, e um dia pronto não tem falta.",
        ),
    ]

    @dg.multi_asset_check(name="series_checks", specs=layer_specs)
    def series_checks(
        context: dg.AssetCheckExecutionContext, metering: Metering
    ) -> Iterator[dg.AssetCheckResult]:
        windows = partitions.windows(context.partition_keys)
        with metering.open() as db:
            layers = [checking.layers(db, window) for window in windows]
            registers = [checking.registers(db, window) for window in windows]
            complete = [checking.completeness(db, window) for window in windows]
            as_written = [checking.as_written(db, window) for window in windows]
        yield _result(REGISTERS, "series_primary", registers)
        yield _result(NEVER_ZERO, "series_validated", [found.never_zero for found in layers])
        yield _result(BY_LOSSES, "series_adjusted", [found.by_losses for found in layers])
        yield _result(BY_ROUNDING, "series_ccee", [found.by_rounding for found in layers])
        yield _result(COMPLETE, "series_ccee", complete)
        yield _result(AS_WRITTEN, "series_ccee", as_written)

    @dg.asset_check(
        name=AUDIT,
        asset="series_ccee",
        description="Suíte do Great Expectations sobre os UC-dias prontos, com páginas para auditoria.",
        partitions_def=partitions.daily,
    )
    def auditors_expectations(
        context: dg.AssetCheckExecutionContext, metering: Metering
    ) -> dg.AssetCheckResult:
        verdicts = []
        with metering.open() as db:
            for window in partitions.windows(context.partition_keys):
                for frame in checking.ready_days(db, window).partition_by("day", maintain_order=True):
                    day = date.fromisoformat(frame["day"][0])
                    folder = expectations.docs_folder(db.data_dir, day, window.shard, window.shards)
                    verdicts.append(expectations.validate(frame, folder, context.run.run_id))
        return dg.AssetCheckResult(
            passed=all(verdict.is_met for verdict in verdicts),
            metadata={
                "expectations": sum(verdict.expectations for verdict in verdicts),
                "failed": sample(text for verdict in verdicts for text in verdict.failed),
                **{
                    f"auditoria_{verdict.page.parent.name}": link(
                        db.settings, DATA_DOCS, verdict.page.parent.name, verdict.page.name
                    )
                    for verdict in verdicts[:SAMPLE]
                },
                "como_ler": manual(db.settings, "regras"),
            },
        )

    return [reading_checks, series_checks, auditors_expectations]


def _result(name: str, asset: str, findings: Sequence[checking.Finding]) -> dg.AssetCheckResult:
    broken = {key: how for finding in findings for key, how in finding.broken.items()}
    numbers: dict[str, float] = {}
    for finding in findings:
        for key, value in finding.numbers.items():
            numbers[key] = numbers.get(key, 0) + value
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=not broken,
        metadata={
            "judged": sum(finding.judged for finding in findings),
            "broken": len(broken),
            "sample": sample(f"{key}: {how}" for key, how in broken.items()),
            **{key: round(value, 3) for key, value in numbers.items()},
        },
    )
