"""`smf export`: readings for other systems, in the public formats or in columns of their choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from derivation.scores.expected_errors import NOT_SCORED
from exchange.export import ExportRequest, ExportResult, list_exports
from exchange.import_profile import export_by_profile, load_import_profile
from exchange.public_files import export_originals, export_public
from exchange.series_files import SeriesRequest, export_series
from faults import OperatorFault
from pipelines.cli.output import AsOption, console, emit_json, errors, faults_to_exit, login_name
from protocols.public_format import FileKind
from storage.database import Database
from storage.series import Layer

app = typer.Typer(
    no_args_is_help=True, help="Readings and series for other systems: FK7, text, CSV, XLSX, Parquet."
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document.")]

_FORMATS = {"fk7": (FileKind.FK7,), "text": (FileKind.TEXT,), "both": (FileKind.FK7, FileKind.TEXT)}
_SHOWN_FILES = 20


@app.command()
def public(
    target: Annotated[Path, typer.Argument(help="A new archive (NAME.zip) or an empty folder.")],
    first_day: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last_day: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")],
    uc: Annotated[list[str] | None, typer.Option(help="Code of a UC; repeat it; without it all UCs.")] = None,
    kind: Annotated[str, typer.Option("--format", help="fk7, text or both.")] = "both",
    profile: Annotated[
        str | None, typer.Option(help="CSV by an import profile instead: csv, or a TOML file of yours.")
    ] = None,
    original: Annotated[
        bool, typer.Option("--original", help="The imported files themselves, octet by octet as they came.")
    ] = False,
    actor: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write stored readings as files of the public formats: smf export public maio.zip --from ... --to ...

    Readings that are exactly the closed period (SALV) of the text file that brought them go out as one again.
    """
    with faults_to_exit(as_json), Database.open() as db:
        if original and profile is not None:
            raise OperatorFault(
                "two kinds of files", where="--original, --profile", remedy="name one of them"
            )
        if kind not in _FORMATS:
            raise OperatorFault(f"format {kind!r}", where="--format", remedy="use fk7, text or both")
        request = ExportRequest(
            uc_codes=tuple(uc) if uc else None,
            first_day=first_day.date(),
            last_day=_not_before(last_day.date(), first_day.date()),
            target=target,
            requested_by=actor or login_name("--as"),
            formats=_FORMATS[kind],
        )
        wanted = None if profile is None else load_import_profile(profile)
        db.migrate()
        with _progress(as_json) as step:
            if original:
                result = export_originals(db, request, step)
            elif wanted is None:
                result = export_public(db, request, step)
            else:
                result = export_by_profile(db, request, wanted, step)
    _show(result, target, as_json)


@app.command()
def series(
    target: Annotated[Path, typer.Argument(help="A new file; .csv, .xlsx or .parquet says which kind.")],
    first_day: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last_day: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")],
    uc: Annotated[list[str] | None, typer.Option(help="Code of a UC; repeat it; without it all UCs.")] = None,
    layer: Annotated[str, typer.Option(help="primary, validated, estimated, adjusted or ccee.")] = "ccee",
    actor: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write derived series, each estimate with its method and expected error, into one table."""
    with faults_to_exit(as_json), Database.open() as db:
        if layer.upper() not in Layer.__members__:
            names = ", ".join(one.name.lower() for one in Layer)
            raise OperatorFault(f"layer {layer!r}", where="--layer", remedy=f"use one of {names}")
        request = SeriesRequest(
            uc_codes=tuple(uc) if uc else None,
            first_day=first_day.date(),
            last_day=_not_before(last_day.date(), first_day.date()),
            layer=Layer[layer.upper()],
            target=target,
            requested_by=actor or login_name("--as"),
        )
        db.migrate()
        with _progress(as_json) as step:
            made = export_series(db, request, step)
    if as_json:
        emit_json({"target": str(target), **asdict(made)})
        return
    scored = f"score run {made.score_run}" if made.score_run else NOT_SCORED
    console.print(
        f"Wrote {made.rows:,} intervals of {made.ucs:,} UCs to {escape(str(target))}, {made.estimated:,} of "
        f"them estimated; expected errors: {scored}. SHA-256 {made.sha256}",
        soft_wrap=True,
        highlight=False,
    )


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """Who exported what, when, with the hash of each file."""
    with faults_to_exit(as_json), Database.open() as db:
        db.migrate()
        with db.connect() as conn:
            found = list_exports(conn, limit)
    if as_json:
        emit_json(found)
        return
    table = Table("export", "at", "by", "format", "days", "UCs", "files", "where", title="Exports")
    for one in found:
        files = one["files"] or []
        ucs = sorted({code for file in files for code in file["ucs"] or ()})
        table.add_row(
            str(one["id"]),
            f"{one['at']:%Y-%m-%d %H:%M}",
            escape(one["requested_by"]),
            escape(", ".join(one["formats"])),
            f"{one['first_day']} to {one['last_day']}",
            escape(", ".join(ucs)) if len(ucs) < 4 else f"{len(ucs):,}",
            f"{len(files):,}",
            escape(one["target"]),
        )
    console.print(table)
    console.print("SHA-256 of each file: --json")


def _not_before(last: date, first: date) -> date:
    if last < first:
        raise OperatorFault(f"{last} is before {first}", where="--to", remedy="name a later last day")
    return last


@contextmanager
def _progress(as_json: bool) -> Iterator[Any]:
    """A function of (done, total) that people see as a bar."""
    if as_json:
        yield lambda done, total: None
        return
    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task("meters", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(result: ExportResult, target: Path, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "export_id": result.export_id,
                "target": str(target),
                "files": [
                    {
                        "path": one.facts.path,
                        "first_start": one.facts.first_start,
                        "last_end": one.facts.last_end,
                        "intervals": one.facts.intervals,
                        "octets": one.octets,
                        "sha256": one.sha256.hex(),
                    }
                    for one in result.files
                ],
                "ucs_without_readings": result.ucs_without_readings,
                "left_out": result.left_out,
            }
        )
        return
    console.print(
        f"Wrote {len(result.files):,} files to {escape(str(target))}, export {result.export_id}.",
        soft_wrap=True,
    )
    for one in result.files[:_SHOWN_FILES]:
        console.print(f"  {escape(one.facts.path)}: {one.facts.intervals:,} intervals, {one.octets:,} octets")
    if len(result.files) > _SHOWN_FILES:
        console.print(f"  and {len(result.files) - _SHOWN_FILES:,} more: smf export list --json")
    if result.ucs_without_readings:
        codes = ", ".join(result.ucs_without_readings[:_SHOWN_FILES])
        console.print(
            f"[yellow]without readings[/] {len(result.ucs_without_readings):,} UCs: {escape(codes)}"
        )
    for lost in result.left_out[:_SHOWN_FILES]:
        console.print(
            f"[yellow]left out[/] UC {escape(lost['uc_code'])}, channel {lost['channel']}: "
            f"{lost['intervals']:,} intervals, {lost['reason']}"
        )
