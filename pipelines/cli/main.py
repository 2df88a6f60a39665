"""The root command: finds the group that a word belongs to and loads only that module."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.cli.output import console, errors, faults_to_exit, set_up_logging, tell_defect
from storage.settings import Settings

# Word on the command line -> (module with a Typer `app`, one line of help).
GROUPS: dict[str, tuple[str, str]] = {
    "calendar": ("pipelines.cli.calendar", "Milestones and deadlines of a measurement month"),
    "ccee": ("pipelines.cli.ccee", "The stand-in server, exact bodies, deliveries and their receipts"),
    "clock": ("pipelines.cli.clock", "Meters' clocks: drift, forecast, correction"),
    "collector": ("pipelines.cli.collector", "The service that reads meters"),
    "command": ("pipelines.cli.command", "Commands to meters: preview, request, approval, verdict"),
    "db": ("pipelines.cli.db", "The database: start, migrate, connect"),
    "decode": ("pipelines.cli.decode.app", "Octets into words, one JSON object a record"),
    "decide": ("pipelines.cli.decide", "A person's word on what waits; agree, refuse, undo"),
    "demo": ("pipelines.cli.demo", "The whole main job on simulated meters"),
    "import": ("pipelines.cli.import_files", "Files that technicians collected, into the readings"),
    "inspect": ("pipelines.cli.inspect", "Judge a meter's serial output by its specification"),
    "edit": ("pipelines.cli.edit", "Values of a UC-day: set, scale, copy, estimate anew"),
    "export": (
        "pipelines.cli.export",
        "Readings and series for other systems: FK7, text, CSV, XLSX, Parquet",
    ),
    "find": ("pipelines.cli.find", "UCs by code, name, serial, old code, unit"),
    "lots": ("pipelines.cli.lots", "Lots of meters: warranty, failure rates, systemic faults"),
    "model": ("pipelines.cli.model", "The meter models that are known, of every protocol"),
    "queue": ("pipelines.cli.queue", "What waits for a person's decision, worst first"),
    "read": ("pipelines.cli.read.app", "Read one meter now, without the queue"),
    "registry": ("pipelines.cli.registry", "Load and write back the registry (CSV, XLSX)"),
    "rules": ("pipelines.cli.rules", "The rules that judge, and what differs for some UCs"),
    "run": ("pipelines.cli.run", "The scheduled jobs, by hand"),
    "scores": ("pipelines.cli.scores", "The expected error of estimates, and scoring them anew"),
    "series": ("pipelines.cli.series", "A UC's series, any layer: plot, table, CSV, XLSX, Parquet"),
    "simulate": ("pipelines.cli.simulate.app", "Meters that answer on sockets and ptys"),
    "status": ("pipelines.cli.status", "How a day stands: delivered, missing, why, who acts, by when"),
    "trace": ("pipelines.cli.trace", "From a delivered value back to the frame's bytes"),
}


EXIT_USAGE = 2
CSV = "--csv"
_HELP = frozenset({"--help", "-h", "help"})
_VERSION = frozenset({"--version", "-V"})


def _overview() -> Table:
    table = Table(title="smf: from the meter's bytes to CCEE's receipt", box=None, title_justify="left")
    table.add_column("Command", style="bold")
    table.add_column("What it does")
    for word, (_, help_line) in sorted(GROUPS.items()):
        table.add_row(f"smf {word}", help_line)
    return table


def _use_own_meter_models() -> None:
    """Before any group is loaded, so that whatever looks a profile up finds the utility's own, too."""
    folder = Settings.load().collector.meter_models_path
    if folder is not None:
        # Loaded only then: it brings numpy, which most commands do without.
        importlib.import_module("collector.meter_models").use_meter_models(folder)


def _declares(app: typer.Typer, words: Sequence[str], option: str) -> bool:
    """Whether the command that the words name has the option itself, with all rows instead of those shown."""
    command = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return any(option in parameter.opts for parameter in command.params)


def main(argv: list[str] | None = None) -> int:
    """Entry point of the `smf` script: the first word names the group; the rest is the group's."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in _HELP:
        console.print(_overview())
        console.print(
            "\nEach takes --help and --json, and --csv where it prints tables. `smf --version` says which "
            "one this is."
        )
        return 0
    if words[0] in _VERSION:
        # Loaded only then, as everything that `--help` does without.
        version = importlib.import_module("importlib.metadata").version("smf")
        console.print(f"smf {version}", highlight=False)
        return 0
    if words[0] not in GROUPS:
        near = difflib.get_close_matches(words[0], GROUPS, 3, 0.5)
        meant = f"; did you mean {' or '.join(f'smf {word}' for word in near)}?" if near else ""
        errors.print(f"[bold red]error[/] unknown command {escape(words[0])!r}{meant}", highlight=False)
        if not near:
            errors.print(_overview())
        return EXIT_USAGE
    set_up_logging()
    if not _HELP.intersection(words):  # whoever asks for help may have no settings yet, or wrong ones
        try:
            with faults_to_exit("--json" in words):
                _use_own_meter_models()
        except typer.Exit as stop:
            return stop.exit_code
    app: typer.Typer = importlib.import_module(GROUPS[words[0]][0]).app
    if CSV in words and not _declares(app, words[1:], CSV):
        words = [word for word in words if word != CSV]
        console.as_csv = True
    # Help is about the command; nobody completes `smf WORD` by the options of one word.
    app._add_completion = False
    # A trace of our own: Typer's box cuts lines, and its exit code would say "needs attention".
    app.pretty_exceptions_enable = False
    try:
        app(args=words[1:], prog_name=f"smf {words[0]}")
    except Exception as error:
        return tell_defect(error, "--json" in words)
    finally:
        is_without = console.as_csv and not console.tables
        console.as_csv, console.tables = False, 0
        if is_without:
            errors.print(
                f"[bold red]error[/] {CSV}: `smf {' '.join(words)}` printed no table", highlight=False
            )
    return 0
