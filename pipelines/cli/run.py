"""`smf run`: the scheduled jobs by hand, and Dagster's interface.

A run goes through the same instance and the same jobs as a scheduled one, so it shows in the interface.
Dagster takes seconds to import and is loaded only when a command runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from documents import Language
from faults import Actor, OperatorFault
from pipelines.cli.language import LangOption
from pipelines.cli.output import EXIT_ATTENTION, EXIT_BY_ACTOR, console, emit_json, errors, faults_to_exit
from pipelines.cli.period import AsOfOption, FromOption, MonthOption, ToOption, chosen_days, parse_moment
from pipelines.cli.status import show_standing, standing_of
from storage.database import Database
from storage.settings import Settings
from vee.calendars import parse_month

if TYPE_CHECKING:
    from assets.partitions import Partitions
    from pipelines.runs import RunOutcome, StepState

app = typer.Typer(help="The scheduled jobs, by hand, and Dagster's interface.", no_args_is_help=True)

DEFAULT_PORT = 3000
# A run over many days ends with how the last ones stand; `smf status` shows any.
_DAYS_SHOWN = 3
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Shard = Annotated[int, typer.Option(min=0, help="Part of the fleet, see [dagster] shards.")]

# Shown of each asset, in this order, where its metadata has it.
_COLUMNS = ("dagster/partition_row_count", "dagster/row_count", "energy_kwh", "completeness", "missing")


@app.command()
def daily(
    day: Annotated[str, typer.Option(help="Day, YYYY-MM-DD; default the last that is over.")] = "",
    first: FromOption = "",
    last: ToOption = "",
    month: MonthOption = "",
    as_of: AsOfOption = "",
    shard: Shard = 0,
    lang: LangOption = Language.ENGLISH,
    as_json: Json = False,
) -> None:
    """Collect what is missing of one day or several, derive, deliver, and make the reports."""
    _run_days("run_daily", day, (first, last, month), as_of, shard, lang, as_json)


@app.command()
def delivery(
    day: Annotated[str, typer.Option(help="Day, YYYY-MM-DD; default the last that is over.")] = "",
    first: FromOption = "",
    last: ToOption = "",
    month: MonthOption = "",
    as_of: AsOfOption = "",
    shard: Shard = 0,
    lang: LangOption = Language.ENGLISH,
    as_json: Json = False,
) -> None:
    """Send what is ready and CCEE does not have, of one day or several; collects and derives nothing."""
    _run_days("run_delivery", day, (first, last, month), as_of, shard, lang, as_json)


def _run_days(
    job: str, day: str, span: tuple[str, str, str], as_of: str, shard: int, lang: Language, as_json: bool
) -> None:
    """Run a job of `pipelines.runs` over days, and end with how the last ones stand."""
    with faults_to_exit(as_json), _database() as db:
        from pipelines import runs

        moment = parse_moment(as_of, db.settings)
        partitions, latest = _calendar(db, moment)
        days = chosen_days([day] if day else [], *span) or [latest]
        if span[2]:  # of a month that runs, the days that are over
            days = [wanted for wanted in days if partitions.first_day <= wanted <= latest] or days
        for wanted in days:
            _checked(partitions, wanted, latest, shard)
        name = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
        with _progress(name, quiet=as_json) as follow:
            run = getattr(runs, job)
            outcome = run(db, days[0], shard, follow, runs.as_at(moment), last_day=days[-1])
        if not as_json:
            _show(outcome)
            console.print()
            for wanted in days[-_DAYS_SHOWN:]:
                show_standing(standing_of(db, wanted, moment or datetime.now(UTC)), lang)
    _finish(outcome, as_json, is_shown=True)


@app.command()
def closing(
    month: Annotated[str, typer.Option(help="Month, YYYY-MM.")],
    as_of: AsOfOption = "",
    as_json: Json = False,
) -> None:
    """List what a month still lacks and why, its MUSD conflicts and deadlines; store the certificate."""
    with faults_to_exit(as_json), _database() as db:
        from pipelines import runs

        first, moment = parse_month(month), parse_moment(as_of, db.settings)
        partitions, latest = _calendar(db, moment)
        if not partitions.first_day.replace(day=1) <= first <= latest.replace(day=1):
            raise OperatorFault(
                f"{month} has no partition",
                where="--month",
                remedy=f"from {partitions.first_day:%Y-%m} ([dagster] first_day) to {latest:%Y-%m}",
            )
        with _progress(month, quiet=as_json) as follow:
            outcome = runs.run_closing(db, first, follow, runs.as_at(moment))
    _finish(outcome, as_json)


@app.command()
def history(
    first: FromOption = "",
    last: ToOption = "",
    month: MonthOption = "",
    as_of: AsOfOption = "",
    shard: Shard = 0,
    as_json: Json = False,
) -> None:
    """Derive the layers of past days from stored readings, in one run; collects and sends nothing."""
    with faults_to_exit(as_json), _database() as db:
        from pipelines import runs

        moment = parse_moment(as_of, db.settings)
        partitions, latest = _calendar(db, moment)
        days = chosen_days([], first, last, month)
        if not days:
            raise OperatorFault("no days are named", where="--from, --to", remedy="give both, or a --month")
        begin, end = (_checked(partitions, day, latest, shard) for day in (days[0], days[-1]))
        with _progress(f"{begin} to {end}", quiet=as_json) as follow:
            outcome = runs.run_history(db, begin, end, shard, follow, runs.as_at(moment))
    _finish(outcome, as_json)


@app.command()
def ui(
    port: Annotated[
        int, typer.Option(help="Port; the next free one is taken where it is in use.")
    ] = DEFAULT_PORT,
) -> None:
    """Open Dagster's interface and the evidence pages on the same data, until Ctrl-C."""
    with faults_to_exit(), _database() as db:
        from pipelines import ui as interface

        console.print("Starting Dagster's webserver and daemon ...")
        code = interface.serve(
            db,
            interface.free_port(port),
            partial(_say_ready, db.settings),
        )
    raise typer.Exit(code)


def _say_ready(settings: Settings, address: str) -> None:
    console.print(f"[bold green]ready[/] {address}   (Ctrl-C stops all)", highlight=False)
    console.print(f"      {settings.dagster.evidence_url}   evidence pages, read only", highlight=False)
    if settings.dagster.automation == "off":
        console.print(
            "      schedules and sensors are off: switch them on under Automation, or start with "
            "SMF_DAGSTER_AUTOMATION=on",
            highlight=False,
        )


@contextmanager
def _database() -> Iterator[Database]:
    with Database.open(Settings.load()) as db:
        db.migrate()
        yield db


def _calendar(db: Database, moment: datetime | None) -> tuple[Partitions, date]:
    """The partitions, and the last day that is over at `moment`, default now."""
    from assets.partitions import Partitions

    partitions = Partitions.of(db.settings)
    return partitions, partitions.latest_day(moment or datetime.now(UTC))


def _checked(partitions: Partitions, day: date, latest: date, shard: int) -> date:
    if shard >= partitions.shards:
        raise OperatorFault(
            f"there is no shard {shard}",
            where="--shard",
            remedy=f"[dagster] shards is {partitions.shards}; shards count from 0",
        )
    if not partitions.first_day <= day <= latest:
        raise OperatorFault(
            f"{day} has no partition",
            where="day",
            remedy=f"from {partitions.first_day} ([dagster] first_day) to {latest}, the last that is over",
        )
    return day


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[StepState], None]]:
    """One line per step while it runs, ticked off when it is done; nothing with --json."""
    if quiet:
        yield lambda step: None
        return
    if not errors.is_terminal:  # a line when a step ends: a log is read from above, and nothing moves in it
        errors.print(f"starting {what}", highlight=False)

        def tell(step: StepState) -> None:
            if step.state != "started":
                errors.print(
                    f"{datetime.now().astimezone():%H:%M:%S} {step.step} {step.state}", highlight=False
                )

        yield tell
        return
    columns = (SpinnerColumn(finished_text="•"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=errors) as progress:
        tasks = {"": progress.add_task(f"starting {what}", total=1)}

        def follow(step: StepState) -> None:
            progress.update(tasks[""], visible=False)
            if step.step not in tasks:
                tasks[step.step] = progress.add_task(step.step, total=1)
            if step.state != "started":
                mark = "" if step.state == "done" else " [bold red]failed[/]"
                progress.update(tasks[step.step], completed=1, description=f"{step.step}{mark}")

        yield follow


def _finish(outcome: RunOutcome, as_json: bool, *, is_shown: bool = False) -> None:
    if as_json:
        emit_json(asdict(outcome))
    elif not is_shown:
        _show(outcome)
    if not outcome.is_success:
        # The class of the fault says who must act; anything else is a bug of ours.
        by_class = {
            "RetryFault": Actor.RETRY,
            "OperatorFault": Actor.OPERATOR,
            "FieldCrewFault": Actor.FIELD_CREW,
        }
        kind = outcome.failures[0].kind if outcome.failures else ""
        raise typer.Exit(EXIT_BY_ACTOR[by_class.get(kind, Actor.DEVELOPER)])
    if outcome.needs_attention:
        raise typer.Exit(EXIT_ATTENTION)


def _show(outcome: RunOutcome) -> None:
    table = Table(title=f"{outcome.job} {outcome.partition}", title_justify="left", box=None)
    table.add_column("Asset", style="bold")
    for name in ("rows", "energy kWh", "complete", "missing"):
        table.add_column(name, justify="right")
    for asset in outcome.assets:
        rows = asset.metadata.get(_COLUMNS[0], asset.metadata.get(_COLUMNS[1], ""))
        completeness = asset.metadata.get("completeness")
        table.add_row(
            asset.asset,
            str(rows),
            str(asset.metadata.get("energy_kwh", "")),
            f"{completeness:.2%}" if isinstance(completeness, float) else "",
            str(asset.metadata.get("missing", "")),
        )
    console.print(table)
    for asset in outcome.assets:
        _show_report(asset.metadata)
    failed = [check for check in outcome.checks if not check.is_passed]
    console.print(f"checks: {len(outcome.checks) - len(failed)} passed, {len(failed)} not")
    for check in failed:
        console.print(f"  [yellow]{check.severity.lower()}[/] {check.asset}: {check.check}", highlight=False)
    for failure in outcome.failures:
        errors.print(f"[bold red]error[/] {failure.step}: {failure.message}", highlight=False)
    console.print(f"run {outcome.run_id}")


def _show_report(metadata: Mapping[str, Any]) -> None:
    """What an asset says to people: its verdict, its tables, and where the whole report is."""
    if "verdict" not in metadata:
        return
    console.print(f"\n[bold]{escape(metadata['verdict'])}[/]\n", highlight=False)
    for name in ("missing_by_cause", "forecast", "deadlines"):
        console.print(Markdown(metadata[name]))
    for name in ("report", "report_xlsx", "report_pdf", "certificate", "newest_version"):
        if name in metadata:
            console.print(f"{name}: {metadata[name]}", highlight=False, soft_wrap=True)
