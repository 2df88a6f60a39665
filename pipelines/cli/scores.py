"""`smf scores`: how far each method's estimates lie from what is measured, and scoring them anew."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated

import polars as pl
import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from ccee.profile import DEFAULT_PROFILE, load_profile
from derivation.parameters import parameters_in_force
from derivation.scores.expected_errors import LENGTH_WORDS, NOT_SCORED, class_words
from derivation.scores.scoring import score_estimates
from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, errors, faults_to_exit
from storage import scores as store
from storage.database import Database
from storage.settings import ScoreSettings, Settings
from vee.scores.classes import ALL

app = typer.Typer(help="The expected error of estimates, by method, length of the gap and class of UC.")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="All rows as CSV.")]


@app.callback(invoke_without_command=True)
def scores(
    context: typer.Context,
    run: Annotated[int | None, typer.Option(help="Number of a run; default the latest.")] = None,
    method: Annotated[str, typer.Option(help="Only this method: A, B, E4 ...")] = "",
    by_class: Annotated[bool, typer.Option("--by-class", help="Show classes of UCs apart.")] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show the latest score. Exit code 1: nothing was scored yet."""
    if context.invoked_subcommand is not None:
        return
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        with db.connect() as conn:
            known = store.latest_run(conn, run)
            if known is None and run is not None:
                raise OperatorFault(
                    f"no score run {run}", where="--run", remedy="smf scores shows the latest and its number"
                )
            found = store.scores_of(conn, known.id) if known else pl.DataFrame()
    if known is None:
        if as_json:
            emit_json({"run": None, "scores": []})
        else:
            console.print(NOT_SCORED)
        raise typer.Exit(EXIT_ATTENTION)
    if method:
        found = found.filter(method=method)
    _tell(known, found, as_json=as_json, as_csv=as_csv, by_class=by_class)


@app.command("run")
def score_anew(
    uc_days: Annotated[int | None, typer.Option(min=1, help="UC-days that get a gap, at most.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draw.")] = None,
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", formats=["%Y-%m-%dT%H:%M"], help="As at that time, market.")
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Mask good days with the gaps of the last months, estimate them, and keep what they differ by."""
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        settings = db.settings
        contract = load_profile(settings.ccee.profile_path or DEFAULT_PROFILE).musd.params
        now = datetime.now(UTC)
        with Progress(console=errors, transient=True, disable=as_json or as_csv) as bar:
            task = bar.add_task("days", total=None)
            summary = score_estimates(
                db,
                as_of=now if as_of is None else as_of.replace(tzinfo=settings.market.tzinfo),
                run_id=f"smf scores run {now:%Y-%m-%dT%H:%M:%SZ}",
                chosen=_chosen(settings, uc_days, seed),
                parameters=parameters_in_force(settings.market, contract),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    _tell(summary.run, summary.scores, as_json=as_json, as_csv=as_csv, by_class=False)


def _chosen(settings: Settings, uc_days: int | None, seed: int | None) -> ScoreSettings:
    known = settings.scores
    return replace(
        known,
        uc_days=known.uc_days if uc_days is None else uc_days,
        seed=known.seed if seed is None else seed,
    )


def _tell(run: store.ScoreRun, found: pl.DataFrame, *, as_json: bool, as_csv: bool, by_class: bool) -> None:
    if as_json:
        emit_json({"run": asdict(run), "scores": found.to_dicts()})
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(["score_run", *found.columns])
        writer.writerows([run.id, *row] for row in found.iter_rows())
    else:
        _show(run, found, by_class=by_class)


def _show(run: store.ScoreRun, found: pl.DataFrame, *, by_class: bool) -> None:
    drawn = f"{run.gaps:,} gaps in {run.uc_days:,} UC-days from {run.first_day} to {run.last_day}"
    left = f"{run.not_filled:,} not filled, {run.replaced:,} replaced by late readings"
    console.print(
        f"score {run.id} of {run.made_at:%Y-%m-%d %H:%M %Z}: {drawn}, shapes {escape(_shapes(run))}, "
        f"code {run.code_version}, parameters {run.hash[:12]}; {left}",
        highlight=False,
    )
    shown = found if by_class else found.filter(uc_class=ALL)
    table = Table(box=None, title="Estimated against measured", title_justify="left")
    for name in ("Source", "Strategy", "Method", "Gaps", "Class"):
        table.add_column(name, no_wrap=name != "Class")
    for name in ("n", "Bias", "Error", "Per interval", "9 of 10 within"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown.iter_rows(named=True):
        table.add_row(
            row["source"],
            row["strategy"],
            escape(row["method"]),
            LENGTH_WORDS.get(row["gap_length"], row["gap_length"]),
            class_words(row["uc_class"]) if row["uc_class"] != ALL else "all",
            f"{row['gaps']:,}",
            _percent(row["bias_share"], sign=True),
            _percent(row["mae_share"]),
            _percent(row["interval_mae_share"]),
            _percent(row["p90_share"]),
        )
    console.print(table)
    if not by_class:
        console.print("classes of UCs apart: --by-class; all rows: --csv, --json", highlight=False)


def _shapes(run: store.ScoreRun) -> str:
    return "of the gaps stored" if run.shapes_from == "stored" else "of the setting [scores] default_gaps"


def _percent(share: float | None, *, sign: bool = False) -> str:
    if share is None:
        return ""
    return f"{share:+.2%}" if sign else f"{share:.2%}"
