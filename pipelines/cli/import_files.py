"""`smf import`: files that technicians collected into the readings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from collector.files.importing import Imported, import_source
from collector.files.pulse_importing import import_pulses
from collector.files.pulse_lines import PULSE_CSV
from collector.files.sources import Source, Unreadable, read_sources
from faults import Fault, OperatorFault, RetryFault
from pipelines.cli.output import (
    EXIT_ATTENTION,
    EXIT_BY_ACTOR,
    console,
    emit_json,
    errors,
    fault_document,
    faults_to_exit,
    login_name,
)
from protocols.pulse_csv.layout import DELIVERED, layout_text
from storage.database import Database
from storage.review import quarantine

app = typer.Typer(no_args_is_help=True, help="Files of other systems and technicians into the readings.")


@app.callback()
def _group() -> None:
    """Files of other systems and technicians into the readings."""


@app.command()
def public(
    files: Annotated[
        list[Path],
        typer.Argument(help="FK7 and text files as they were collected, or .zip archives of them."),
    ],
    meter: Annotated[str | None, typer.Option(help="Serial that all the files must be of.")] = None,
    actor: Annotated[
        str | None, typer.Option("--as", help="Who answers for them; default: your login.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Take the readings out of files: smf import public '12345&AB.CDE' ...

    An archive (.zip), such as smf export public writes, brings each of its files.
    Each file is one session of purpose import, its octets the evidence; what contradicts stored readings, and
    what is damaged, goes to quarantine. A refused file stores nothing and does not keep the others out.
    Exit code 1 where something went to quarantine; that of the first refusal where a file was refused.
    """
    with faults_to_exit(as_json):
        refused: list[Fault] = []
        results: list[dict[str, Any]] = []
        with Database.open() as db:
            db.migrate()
            for source in (source for path in files for source in _sources(path)):
                if isinstance(source, Unreadable):
                    refused.append(source.fault)
                    results.append(_refusal(source.name, source.fault))
                else:
                    try:
                        done = import_source(
                            db, source, actor or login_name("--as"), datetime.now(UTC), meter
                        )
                    except Fault as fault:
                        refused.append(fault)
                        results.append(_refusal(source.label, fault))
                    else:
                        results.append(_result(source.label, done, _conflicts(db, done.session_id)))
                if not as_json:
                    _show(results[-1])
    if as_json:
        emit_json(results)
    if refused:
        raise typer.Exit(EXIT_BY_ACTOR[refused[0].actor])
    if any(result["quarantined"] or result["error"] for result in results):
        raise typer.Exit(EXIT_ATTENTION)


@app.command()
def pulses(
    files: Annotated[list[Path], typer.Argument(help="CSV files of intervals, or .zip archives of them.")],
    layout: Annotated[
        str, typer.Option(help="pulses, kwh, or the path of your own layout (TOML).")
    ] = DELIVERED,
    actor: Annotated[
        str | None, typer.Option("--as", help="Who answers for them; default: your login.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Take intervals out of CSV files: smf import pulses pulsos.csv.

    One line is one interval of one meter, or UC. The layout says which column is what; the delivered ones are
    pulses (meter_serial;interval_end;pulses) and kwh (uc_code;interval_end;active_energy_kwh). The lines of
    each meter are a session of purpose import, judged as any reading is: what cannot be used is held or goes
    to quarantine with its lines. Exit code 1 where something did; that of the first refusal where a meter or
    a file was refused.
    """
    with faults_to_exit(as_json):
        refused: list[Fault] = []
        results: list[dict[str, Any]] = []
        text = layout_text(layout)
        with Database.open() as db:
            db.migrate()
            for source in (source for path in files for source in _sources(path)):
                for result, fault in _pulses_of(db, source, layout, text, actor or login_name("--as")):
                    results.append(result)
                    refused += [] if fault is None else [fault]
                    if not as_json:
                        _show(result)
    if as_json:
        emit_json(results)
    if refused:
        raise typer.Exit(EXIT_BY_ACTOR[refused[0].actor])
    if any(result["quarantined"] or result["held"] or result["error"] for result in results):
        raise typer.Exit(EXIT_ATTENTION)


def _pulses_of(
    db: Database, source: Source | Unreadable, layout: str, text: str, actor: str
) -> Iterator[tuple[dict[str, Any], Fault | None]]:
    """What became of each meter of a file, and of the file where it was refused."""
    if isinstance(source, Unreadable):
        yield _refusal(source.name, source.fault), source.fault
        return
    try:
        for done in import_pulses(db, source, layout, text, actor, datetime.now(UTC)):
            name = f"{source.label}, {done.key}" if done.key else source.label
            if done.fault is not None or done.session_id is None:
                fault = done.fault or RetryFault("a collector is finishing this import", where=name)
                yield _refusal(name, fault) | {"held": 0}, fault
                continue
            found = Imported(
                name, PULSE_CSV, "", done.meter_serial, done.session_id, done.known_session, done.merged
            )
            held = [] if done.merged is None else list(done.merged.decoded.held)
            yield _result(name, found, _conflicts(db, done.session_id)) | {"held": len(held)}, None
    except OperatorFault as fault:
        yield _refusal(source.label, fault) | {"held": 0}, fault


def _sources(path: Path) -> Iterator[Source | Unreadable]:
    try:
        yield from read_sources(path)
    except OperatorFault as fault:
        yield Unreadable(path.name, fault)


def _conflicts(db: Database, session_id: int) -> list[dict[str, Any]]:
    """What of a session is in quarantine."""
    with db.connect() as conn:
        return quarantine.of_session(conn, session_id)


def _refusal(name: str, fault: Fault) -> dict[str, Any]:
    return {
        "file": name,
        "state": "refused",
        "quarantined": [],
        "error": fault_document(fault),
    }


def _result(name: str, done: Imported, quarantined: list[dict[str, Any]]) -> dict[str, Any]:
    merged = done.merged
    fault = merged.fault if merged else None
    return {
        "file": name,
        "state": "known" if merged is None else merged.outcome,
        "format": done.format_name,
        "sha256": done.sha256,
        "meter_serial": done.meter_serial,
        "session_id": done.session_id,
        "days_read": sorted({vector.day for vector in merged.decoded.vectors}) if merged else [],
        "days_changed": list(merged.touched) if merged else [],
        "quarantined": quarantined,
        "error": None if fault is None else fault_document(fault),
    }


def _show(result: dict[str, Any]) -> None:
    error = result["error"]
    if error is not None:
        errors.print(f"[bold red]{result['state']}[/] {escape(result['file'])}: {escape(error['message'])}")
        if error["remedy"]:
            errors.print(f"[bold]what to do[/] {escape(error['remedy'])}", highlight=False)
        return
    name = f"[bold]{escape(result['file'])}[/]"
    if result["state"] == "known":
        console.print(f"{name}: imported before, session {result['session_id']}; nothing changed")
        return
    changed = result["days_changed"]
    days = f"{len(changed)} days changed, {changed[0]} to {changed[-1]}" if changed else "no day changed"
    console.print(
        f"{name}: {result['format']}, meter {result['meter_serial']}, session {result['session_id']}, "
        f"{result['state']}; {len(result['days_read'])} days read, {days}"
    )
    if result.get("held"):
        console.print(f"  [yellow]held[/] {result['held']} days and channels: smf queue shows them")
    for one in result["quarantined"]:
        console.print(f"  [yellow]quarantine[/] {one['day'] or ''} {escape(one['reason'])}")
    if result["state"] == "partial":
        console.print("  [bold]what to do[/] copy the file again and import it: what came in stays")
