"""The Great Expectations suite of the CCEE-ready series, and its Data Docs for auditors.

What belongs here: what an auditor may expect of every delivered UC-day, said in Great Expectations' words,
and the pages that show whether it held. What does not: rules that make or refuse a value (`vee`), counts that
only operators need (`checking`).

One row per UC-day, so that a day of a large fleet stays small. Great Expectations takes seconds to import and
is loaded on first use only.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from derivation.data_docs import finish

SUITE = "series_ccee"
SITE = "auditoria"
DENOMINATOR = 1000
UC_CODE_LONGEST = 15

# Columns the suite judges, made by `checking.ready_days`.
SCHEMA: dict[str, Any] = {
    "uc_code": pl.String,
    "day": pl.String,
    "version": pl.Int64,
    "denominator": pl.Int64,
    "slots": pl.Int64,
    "expected_slots": pl.Int64,
    "missing": pl.Int64,
    "measured": pl.Int64,
    "adjusted": pl.Int64,
    "intervals_by_kind": pl.Int64,
    "smallest_milli_kwh": pl.Int64,
    "energy_milli_kwh": pl.Int64,
    "outcome_milli_kwh": pl.Int64,
}


@dataclass(frozen=True)
class SuiteResult:
    """What the suite says of one day.

    Args:
        is_met: every expectation held.
        expectations: how many were judged.
        failed: name, column and number of unexpected rows of each that did not hold.
        page: the day's Data Docs, `index.html`.
    """

    is_met: bool
    expectations: int
    failed: list[str]
    page: Path


def docs_folder(data_dir: Path, day: date, shard: int, shards: int) -> Path:
    """Where a day's pages are kept; a shard has its own where there are several."""
    name = day.isoformat() if shards == 1 else f"{day.isoformat()}-{shard}"
    return data_dir / "data_docs" / name


def validate(frame: pl.DataFrame, folder: Path, run_name: str) -> SuiteResult:
    """Judge the UC-days that are ready for CCEE, and write the pages.

    Args:
        frame: columns of `SCHEMA`, one row per UC-day.
        folder: of the day's pages; earlier runs of the day stay listed there.
        run_name: shown on the pages; the Dagster run.
    """
    # Read at import: no usage data leaves the machine.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # For expectations about distributions, of which there are none: a third of the time that importing takes.
    _load_on_first_use("scipy.stats")
    import great_expectations as gx
    from great_expectations.checkpoint.actions import UpdateDataDocsAction
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        FilesystemStoreBackendDefaults,
        ProgressBarsConfig,
    )

    # Results are kept as files beside the pages, so that a repeated day lists each of its runs.
    folder.mkdir(parents=True, exist_ok=True)
    stores = FilesystemStoreBackendDefaults(root_directory=str(folder.resolve() / "store"))
    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=stores,
            progress_bars=ProgressBarsConfig(globally=False),
            data_docs_sites={},
        ),
    )
    context.add_data_docs_site(
        SITE,
        {
            "class_name": "SiteBuilder",
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder.resolve()),
            },
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    batch = (
        context.data_sources.add_pandas("smf")
        .add_dataframe_asset(SUITE)
        .add_batch_definition_whole_dataframe(folder.name)
    )
    suite = context.suites.add_or_update(
        gx.ExpectationSuite(name=SUITE, expectations=_expectations(gx.expectations))
    )
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=SUITE, data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name=SUITE,
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name=SITE, site_names=[SITE])],
        )
    )
    outcome = checkpoint.run(
        batch_parameters={"dataframe": frame.select(list(SCHEMA)).to_pandas()},
        run_id=gx.RunIdentifier(run_name=run_name),
    )
    page = finish(folder, f"Auditoria do dia {folder.name}: série pronta para a CCEE")
    results = [result for run in outcome.run_results.values() for result in run.results]
    return SuiteResult(
        is_met=bool(outcome.success),
        expectations=len(results),
        failed=[_describe(result) for result in results if not result.success],
        page=page.resolve(),
    )


def _load_on_first_use(name: str) -> None:
    """A package's module is loaded when something in it is asked for; one that is loaded stays so."""
    if name not in sys.modules and (spec := importlib.util.find_spec(name)) and spec.loader:
        spec.loader = importlib.util.LazyLoader(spec.loader)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        package, _, last = name.rpartition(".")
        # Where the package has it, `from package import module` does not look into it.
        setattr(sys.modules[package], last, module)


def _expectations(gxe: Any) -> list[Any]:
    def described(kind: Any, notes: str, **arguments: Any) -> Any:
        return kind(**arguments, meta={"notes": {"format": "markdown", "content": [notes]}})

    return [
        described(
            gxe.ExpectCompoundColumnsToBeUnique, "Uma linha por UC e dia", column_list=["uc_code", "day"]
        ),
        described(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "Código da UC presente (REN 1.000 art. 659-A: até 15 dígitos)",
            column="uc_code",
            min_value=1,
            max_value=UC_CODE_LONGEST,
        ),
        described(
            gxe.ExpectColumnPairValuesToBeEqual,
            "Todos os intervalos do dia (PdC 1.8 item 3.27)",
            column_A="slots",
            column_B="expected_slots",
        ),
        described(
            gxe.ExpectColumnValuesToBeInSet,
            "Nenhum intervalo sem valor em um dia pronto",
            column="missing",
            value_set=[0],
        ),
        described(
            gxe.ExpectColumnPairValuesToBeEqual,
            "Todo intervalo é MEDIDO ou AJUSTADO",
            column_A="intervals_by_kind",
            column_B="slots",
        ),
        described(
            gxe.ExpectColumnValuesToBeInSet,
            "Valores em milésimos de kWh, arredondados uma única vez",
            column="denominator",
            value_set=[DENOMINATOR],
        ),
        described(
            gxe.ExpectColumnValuesToBeBetween,
            "Nenhum consumo negativo",
            column="smallest_milli_kwh",
            min_value=0,
        ),
        described(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A energia do dia é a soma dos seus intervalos",
            column_A="energy_milli_kwh",
            column_B="outcome_milli_kwh",
        ),
    ]


def _describe(result: Any) -> str:
    config = result.expectation_config
    columns = [str(value) for key, value in config.kwargs.items() if key.startswith("column")]
    found = result.result.get("unexpected_count", "?")
    return f"{config.type}({', '.join(columns)}): {found}"
