"""`smf demo`: the whole main job on simulated meters, and a summary for a person."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from documents import Language
from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, errors, faults_to_exit

if TYPE_CHECKING:
    from closing.standing import UcStanding
    from pipelines.demo.summary import DemoResult

app = typer.Typer(help="The whole main job on simulated meters.", add_completion=False)

EXIT_INTERRUPTED = 130
# Of each cause and kind; `--json` has all.
MOST_SHOWN = 8


@app.command()
def demo(
    points: Annotated[int, typer.Option(min=1, max=5000, help="Consumer units of the fleet.")] = 24,
    day: Annotated[str, typer.Option(help="Day to collect and deliver, YYYY-MM-DD; default yesterday.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other loads, names and codes.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh/--keep", help="Begin anew, or go on with the demonstration there is.")
    ] = False,
    keep_meters: Annotated[
        bool,
        typer.Option("--keep-meters", help="Leave meters and stand-in answering until Ctrl-C."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Collect a day from simulated meters over NBR 14522, derive it, deliver it to a stand-in for CCEE.

    Run again, it finds everything delivered and sends nothing twice. All data are in the data folder.
    """
    with faults_to_exit(as_json):
        wanted = _date(day) if day else None
        from pipelines.demo.job import DemoOptions, run_demo

        options = DemoOptions(points, wanted, seed, fresh)
        try:
            with _Follower(is_quiet=as_json) as follower:

                def keep(made: DemoResult) -> None:
                    follower.stop()
                    _print(made, as_json)
                    errors.print(
                        "meters and stand-in go on answering; see them with `make ui`; Ctrl-C ends them"
                    )
                    signal.pause()

                result = run_demo(
                    options, follower.phase, follower.step, keep if keep_meters else lambda made: None
                )
        except KeyboardInterrupt:
            errors.print("stopped; everything that was started is ended. Run it again to go on.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    _print(result, as_json)
    if result.checks_failed:
        raise typer.Exit(EXIT_ATTENTION)


def _print(result: DemoResult, as_json: bool) -> None:
    if as_json:
        emit_json(asdict(result))
    else:
        console.print(shown(result), highlight=False)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise OperatorFault(f"{text!r} is not a date", where="--day", remedy="write YYYY-MM-DD") from error


class _Follower:
    """One line a phase, with a spinner and the time; steps of Dagster's run beside their phase."""

    def __init__(self, *, is_quiet: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        # Where nobody watches a screen, a plain line a phase.
        self._is_plain = not is_quiet and not errors.is_terminal
        self._progress = Progress(*columns, console=errors, disable=is_quiet or self._is_plain)
        self._task: int | None = None
        self._name = ""

    def __enter__(self) -> _Follower:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._end()
        self._progress.stop()

    def phase(self, name: str) -> None:
        self._end()
        if self._is_plain:
            errors.print(f"demo: {name}")
        self._name = name
        self._task = self._progress.add_task(name, total=1)

    def step(self, name: str) -> None:
        if self._task is not None:
            self._progress.update(self._progress.task_ids[-1], description=f"{self._name}: {name}")

    def _end(self) -> None:
        if self._task is not None:
            task = self._progress.task_ids[-1]
            self._progress.update(task, description=self._name, completed=1)


def shown(result: DemoResult) -> Group:
    """The summary, top down: what was done, what is missing, where to look next."""
    parts: list[object] = ["", _done(result)]
    if result.not_delivered:
        parts += ["", _missing(result)]
    parts += ["", _attention(result), "", _next(result)]
    return Group(*parts)  # type: ignore[arg-type]  # strings and tables are renderables


def _done(result: DemoResult) -> Table:
    table = Table(title=f"Day {result.day}", title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    intervals = result.intervals
    table.add_row("points read", f"{result.points_read} of {result.points}")
    table.add_row(
        "sessions",
        f"{result.sessions}, {result.failed_sessions} of them failed; "
        f"{result.octets / 1e6:.1f} MB on the line",
    )
    table.add_row(
        "intervals",
        f"{intervals['measured']} measured, {intervals['estimated']} estimated, "
        f"{intervals['backup']} from the backup meter, {result.rejected} rejected, "
        f"{intervals['missing']} missing",
    )
    table.add_row(
        "energy", f"{result.energy_kwh:,.3f} kWh derived, {result.delivered_kwh:,.3f} kWh delivered"
    )
    table.add_row(
        "delivered", f"[bold green]{result.delivered}[/] UC-days, {result.receipts} with a receipt number"
    )
    if result.sent_now:
        table.add_row("sent now", f"{result.sent_now} UC-days; {result.unchanged} were delivered before")
    else:
        table.add_row("sent now", "[bold]nothing[/]: all that can be delivered was delivered before")
    table.add_row("time", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items()))
    return table


def _missing(result: DemoResult) -> Table:
    table = Table(title="Not delivered, and why", title_justify="left", box=None)
    table.add_column("UC", no_wrap=True)
    for name in ("name", "cause", "who acts", "what to do"):
        table.add_column(name, overflow="fold")
    by_cause: dict[str, list[UcStanding]] = {}
    for uc in result.not_delivered:
        by_cause.setdefault(uc.cause, []).append(uc)
    for ucs in by_cause.values():
        for uc in ucs[:MOST_SHOWN]:
            cause, who, remedy = uc.words(Language.ENGLISH)
            table.add_row(uc.uc_code, uc.uc_name, f"{cause} ({uc.cause})", who, remedy)
        if len(ucs) > MOST_SHOWN:
            table.add_row(_others(ucs), "", f"the same ({ucs[0].cause})", "", "")
    return table


def _others(items: Sequence[object]) -> str:
    return f"and {len(items) - MOST_SHOWN} others"


def _attention(result: DemoResult) -> Table:
    table = Table(title="Delivered, but look at it", title_justify="left", box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for hour in result.musd_hours[:MOST_SHOWN]:
        table.add_row(
            "MUSD",
            f"UC {hour.uc_code}, hour {hour.hour}: {hour.energy_kwh} kWh is above {hour.limit_kwh} "
            f"(125 % of the MUSD); CCEE counts these [bold]{hour.energy_kwh} kWh as zero[/]",
        )
    if len(result.musd_hours) > MOST_SHOWN:
        table.add_row("MUSD", _others(result.musd_hours))
    for clock in result.clock_alarms[:MOST_SHOWN]:
        table.add_row("clock", f"UC {clock.uc_code}, meter {clock.serial}: {clock.drift_s:+.0f} s")
    if len(result.clock_alarms) > MOST_SHOWN:
        table.add_row("clock", _others(result.clock_alarms))
    for check in result.checks_failed:
        table.add_row("[red]check[/]", escape(check))
    return table


def _next(result: DemoResult) -> Table:
    table = Table(title="Where to look next", title_justify="left", box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for example in result.examples:
        table.add_row(
            f"smf trace {example.uc_code} {example.interval_end:%Y-%m-%dT%H:%M}",
            f"a value explained: {example.what}",
        )
    first = result.examples[0].uc_code
    table.add_row(f"smf ccee body {first} {result.day}", "the exact JSON that was sent")
    table.add_row(
        f"smf status --day {result.day}", "the same for any day: what CCEE lacks, who acts, by when"
    )
    table.add_row("make ui", "Dagster: lineage, runs, checks, schedules; evidence pages")
    if result.data_docs_path is not None:
        table.add_row(str(result.data_docs_path), "Data Docs of the day, for auditors (open in a browser)")
    table.add_row(str(result.registry_path), "the registry that was loaded")
    return table
