"""`smf series UC FROM TO`: a UC's series on the screen, and as a file: any layer, with origin and reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from documents import Language
from documents.wording import day as written_day
from documents.wording import number
from faults import OperatorFault
from pipelines.cli.language import LangOption
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit, login_name
from pipelines.cli.period import parse_day

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(help="A UC's series: plot, table, files.", add_completion=False)

_BARS = " ▁▂▃▄▅▆▇█"
# One mark each half hour fits a screen of 80 columns.
_MARKS = 48
# Colour of a mark by the weakest origin in it.
_ORIGINS = ("measured", "backup", "estimated", "edited", "missing")
_STYLES = {
    "measured": "blue", "backup": "cyan", "estimated": "yellow", "edited": "magenta", "missing": "red",
}  # fmt: skip
_WORDS = {
    Language.PORTUGUESE: {
        "measured": "medido", "backup": "retaguarda", "estimated": "estimado", "edited": "editado",
        "missing": "ausente", "day": "Dia", "energy": "kWh", "curve": "Curva (uma marca por meia hora)",
        "stretches": "O que não foi medido", "from": "De", "to": "Até", "n": "Intervalos", "origin": "Origem",
        "reason": "Motivo", "method": "Método", "error": "Erro esperado", "all": "Tudo foi medido.",
        "at": "Fim",
    },
    Language.ENGLISH: {
        "measured": "measured", "backup": "backup", "estimated": "estimated", "edited": "edited",
        "missing": "missing", "day": "day", "energy": "kWh", "curve": "curve (a mark each half hour)",
        "stretches": "What was not measured", "from": "from", "to": "to", "n": "intervals",
        "origin": "origin", "reason": "reason", "method": "method", "error": "expected error",
        "all": "All was measured.", "at": "end",
    },
}  # fmt: skip


@app.command()
def series(
    uc: Annotated[str, typer.Argument(help="Code of the UC, leading zeros included; an old code works.")],
    first: Annotated[str, typer.Argument(metavar="FROM", help="First day, YYYY-MM-DD.")],
    last: Annotated[str, typer.Argument(metavar="[TO]", help="Last day, included; default the first.")] = "",
    layer: Annotated[str, typer.Option(help="primary, validated, estimated, adjusted or ccee.")] = "ccee",
    intervals: Annotated[bool, typer.Option("--intervals", help="A line for each interval.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Each interval as CSV.")] = False,
    target: Annotated[
        Path | None,
        typer.Option("--file", help="Write a new file, .csv, .xlsx or .parquet.", dir_okay=False),
    ] = None,
    actor: Annotated[
        str | None, typer.Option("--as", help="Who asks for the file; default: your login.")
    ] = None,
    lang: LangOption = Language.ENGLISH,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a UC's energy by day, as a curve and with what was not measured; any layer.

    Exit code 1: there is no series for these days.
    """
    with faults_to_exit(as_json):
        from exchange.series_files import SeriesRequest, SeriesRows, export_series
        from storage.database import Database
        from storage.series import Layer

        if layer.upper() not in Layer.__members__:
            names = ", ".join(known.name.lower() for known in Layer)
            raise OperatorFault(f"there is no layer {layer!r}", where="--layer", remedy=f"use one of {names}")
        begin = parse_day(first, "FROM")
        end = parse_day(last, "TO") if last else begin
        if end < begin:
            raise OperatorFault(f"{end} is before {begin}", where="TO", remedy="give the earlier day first")
        wanted = Layer[layer.upper()]
        with Database.open() as db:
            if target is not None:
                request = SeriesRequest((uc,), begin, end, wanted, target, actor or login_name("--as"))
                made = export_series(db, request)
                console.print(
                    f"written {target}: {made.rows:,} intervals, SHA-256 {made.sha256}",
                    highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip
                return
            rows = SeriesRows.of(db, wanted, begin, end, (uc,))
            frames = list(rows.frames())
        frame = frames[0] if frames else None
        if as_json:
            emit_json(_document(uc, layer, frame))
        elif frame is None:
            console.print(f"UC {uc}: no series from {begin} to {end}; derive the days first (smf run daily)")
        elif as_csv:
            frame.write_csv(sys.stdout, datetime_format="%Y-%m-%dT%H:%M:%S")
        else:
            _show(uc, layer, frame, lang, each=intervals)
    if frame is None:
        raise typer.Exit(EXIT_ATTENTION)


def _document(uc: str, layer: str, frame: pl.DataFrame | None) -> dict[str, Any]:
    rows = [] if frame is None else frame.drop("uc").to_dicts()
    return {"uc_code": uc, "layer": layer, "intervals": rows}


@dataclass(frozen=True)
class _Stretch:
    """Intervals that follow each other and have one origin, reason and method."""

    start: datetime
    end: datetime
    intervals: int
    origin: str
    reason: str
    method: str
    error_share: float | None


def _show(uc: str, layer: str, frame: pl.DataFrame, lang: Language, *, each: bool) -> None:
    words = _WORDS[lang]
    console.print(f"[bold]UC {escape(frame['uc'][0])}[/]  {layer}", highlight=False)
    rows = frame.to_dicts()
    top = max((row["energy_kwh"] for row in rows if row["origin"] != "missing"), default=Decimal(0))
    table = Table(box=None, pad_edge=False)
    table.add_column(words["day"], no_wrap=True)
    table.add_column(words["energy"], justify="right", no_wrap=True)
    table.add_column(words["curve"], no_wrap=True)
    for day, of_day in _by_day(rows):
        energy = sum((row["energy_kwh"] for row in of_day if row["origin"] != "missing"), Decimal(0))
        table.add_row(written_day(day, lang), number(energy, lang, 3), _curve(of_day, top))
    console.print(table, highlight=False)
    console.print("  ".join(f"[{_STYLES[one]}]█[/] {words[one]}" for one in _ORIGINS), highlight=False)
    if each:
        _show_intervals(rows, lang)
    else:
        _show_stretches(rows, lang)


def _by_day(rows: list[dict[str, Any]]) -> Iterator[tuple[date, list[dict[str, Any]]]]:
    days: dict[date, list[dict[str, Any]]] = {}
    for row in rows:
        days.setdefault(row["interval_start"].date(), []).append(row)
    yield from days.items()


def _curve(rows: list[dict[str, Any]], top: Decimal) -> str:
    """One mark each half hour: its height the mean, its colour the weakest origin in it."""
    marks = []
    size = max(1, len(rows) // _MARKS)
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        origin = max((row["origin"] for row in part), key=_ORIGINS.index)
        mean = sum((row["energy_kwh"] or Decimal(0) for row in part), Decimal(0)) / len(part)
        height = int(mean / top * (len(_BARS) - 1)) if top else 0
        mark = "x" if origin == "missing" else _BARS[max(0, min(height, len(_BARS) - 1))]
        marks.append(f"[{_STYLES[origin]}]{mark}[/]")
    return "".join(marks)


def _show_stretches(rows: list[dict[str, Any]], lang: Language) -> None:
    words = _WORDS[lang]
    stretches = _stretches(rows)
    if not stretches:
        console.print(words["all"])
        return
    table = Table(box=None, pad_edge=False, title=words["stretches"], title_justify="left")
    for title in (words["from"], words["to"]):
        table.add_column(title, no_wrap=True)
    table.add_column(words["n"], justify="right", no_wrap=True)
    table.add_column(words["origin"], no_wrap=True)
    table.add_column(words["reason"], overflow="fold")
    for stretch in stretches:
        end = stretch.end
        is_same_day = stretch.start.date() == end.date()
        method = f"; {words['method'].lower()} {stretch.method}" if stretch.method else ""
        error = "" if stretch.error_share is None else f"; {words['error'].lower()} {stretch.error_share:.1%}"
        table.add_row(
            f"{stretch.start:%Y-%m-%d %H:%M}",
            f"{end:%H:%M}" if is_same_day else f"{end:%Y-%m-%d %H:%M}",
            str(stretch.intervals),
            f"[{_STYLES[stretch.origin]}]{words[stretch.origin]}[/]",
            escape(_reason(stretch.reason, lang) + method + error),
        )
    console.print(table, highlight=False)


def _stretches(rows: list[dict[str, Any]]) -> list[_Stretch]:
    stretches: list[_Stretch] = []
    for row in rows:
        if row["origin"] == "measured":
            continue
        key = (row["origin"], row["reason"], row["method"] or "")
        last = stretches[-1] if stretches else None
        start, count = row["interval_start"], 1
        if last and last.end == start and (last.origin, last.reason, last.method) == key:
            stretches.pop()
            start, count = last.start, last.intervals + 1
        stretches.append(_Stretch(start, row["interval_end"], count, *key, row["expected_error_share"]))
    return stretches


def _show_intervals(rows: list[dict[str, Any]], lang: Language) -> None:
    words = _WORDS[lang]
    table = Table(box=None, pad_edge=False)
    table.add_column(words["at"], no_wrap=True)
    table.add_column(words["energy"], justify="right", no_wrap=True)
    for title in (words["origin"], words["reason"], words["method"]):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['interval_end']:%Y-%m-%d %H:%M}",
            "" if row["origin"] == "missing" else number(row["energy_kwh"], lang),
            f"[{_STYLES[row['origin']]}]{words[row['origin']]}[/]",
            escape(_reason(row["reason"], lang)),
            escape(row["method"] or ""),
        )
    console.print(table, highlight=False)


def _reason(name: str, lang: Language) -> str:
    """The reason in words in Portuguese; in English its name says it."""
    from vee.quality import Reason, describe_reason

    if lang is Language.PORTUGUESE:
        return describe_reason(Reason[name.upper()]).text_pt
    return name.replace("_", " ")
