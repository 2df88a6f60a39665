"""`smf inspect`: what a meter's serial output is worth, by the rules of its specification."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from collector.lines.recording import record
from collector.lines.transports import parse_url
from faults import OperatorFault
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit
from protocols.captures import Capture, format_capture, parse_capture
from protocols.celesc.catalogue import CelescMeter, meter_named
from protocols.celesc.inspection import MeterVerdict, Status, judge_meter
from protocols.celesc.report import About, render
from protocols.celesc.sampling import LotStatus, LotVerdict, SamplingPlan, example_plan, judge_lot, load_plan
from storage.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Judge a meter's serial output by its specification.")


@app.callback()
def _group() -> None:
    """Judge a meter's serial output by its specification."""


@app.command()
def celesc(
    sources: Annotated[
        list[str], typer.Argument(help="Capture files, folders of them (*.cap), or URLs to listen to.")
    ],
    model: Annotated[str, typer.Option(help="Material code of the meters: 27182, 36291 ...")],
    lot: Annotated[
        str | None, typer.Option(help="Code of the lot; with --lot-size the lot is judged.")
    ] = None,
    lot_size: Annotated[int | None, typer.Option(help="Meters in the lot.", min=1)] = None,
    plan: Annotated[Path | None, typer.Option(help="Sampling plan (TOML); without: an example.")] = None,
    number: Annotated[str | None, typer.Option(help="Number on the plate, when one meter is judged.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to listen to each URL.", min=1.0)] = 20.0,
    rate: Annotated[int, typer.Option(help="Rate that a serial port is set to, bit/s.", min=75)] = 2400,
    record_to: Annotated[
        Path | None, typer.Option("--record", help="Folder that keeps what was heard, as capture files.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report for people here.")] = None,
    inspector: Annotated[str, typer.Option(help="Who answers for the inspection, for the report.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Output as JSON.")] = False,
) -> None:
    """Record or take recordings, judge each rule of Annex A, and judge the lot by a sampling plan.

    Exit code 1 if a meter or the lot is not accepted. The form of captures: docs/saida_serial.md.
    """
    with faults_to_exit(as_json):
        meter = meter_named(model)
        if (lot is None) != (lot_size is None):
            raise OperatorFault(
                "one without the other", where="--lot, --lot-size", remedy="give both, or none"
            )
        captures = [
            found
            for source in sources
            for found in _captures(source, rate, seconds, record_to, number, as_json)
        ]
        if number is not None and len(captures) > 1:
            raise OperatorFault(
                "one number for several recordings",
                where="--number",
                remedy="write '# meter = NUMBER' into each capture",
            )
        verdicts = [judge_meter(capture, meter, source, number) for source, capture in captures]
        judged = judge_lot(lot, lot_size, _plan(plan), verdicts) if lot and lot_size else None
        if html is not None:
            now = datetime.now(Settings.load().market.tzinfo)
            _write(html, render(verdicts, judged, About(now, meter, inspector)))
        if as_json:
            emit_json(_document(verdicts, judged, meter))
        else:
            _show(verdicts, judged)
        if judged is not None:
            if judged.status is not LotStatus.ACCEPTED:
                raise typer.Exit(EXIT_ATTENTION)
        elif any(verdict.status is not Status.PASS for verdict in verdicts):
            raise typer.Exit(EXIT_ATTENTION)


def _captures(
    source: str, rate: int, seconds: float, record_to: Path | None, number: str | None, as_json: bool
) -> list[tuple[str, Capture]]:
    if "://" in source:
        if not as_json:
            console.print(f"listening to {source} for {seconds:g} s", highlight=False)
        started = time.time() - time.monotonic()
        capture = asyncio.run(record(parse_url(source), rate, seconds, lambda: started + time.monotonic()))
        if number is not None:
            # Kept with the recording, so that a lot's folder can be judged later.
            capture = replace(capture, facts={**capture.facts, "meter": number})
        if record_to is not None:
            _keep(record_to, capture)
        return [(source, capture)]
    path = Path(source)
    paths = sorted(path.glob("*.cap")) if path.is_dir() else [path]
    if not paths:
        raise OperatorFault("no capture files (*.cap)", where=source, remedy="name files or another folder")
    return [(str(one), parse_capture(_text(one), str(one))) for one in paths]


def _keep(folder: Path, capture: Capture) -> None:
    """Under the time that it is: what heard nothing has none of its own."""
    stem = f"{datetime.now(Settings.load().market.tzinfo):%Y%m%dT%H%M%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    names = (f"{stem}{suffix}.cap" for suffix in chain([""], (f"-{number}" for number in count(2))))
    path = next(folder / name for name in names if not (folder / name).exists())
    _write(path, format_capture(capture.chunks, capture.facts))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read: {error}", where=str(path), remedy="name a file that exists"
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OperatorFault:
    return OperatorFault(
        f"cannot write: {error.strerror}", where=str(path), remedy="name a place that you may write to"
    )


def _plan(path: Path | None) -> SamplingPlan:
    return example_plan() if path is None else load_plan(_text(path), str(path))


def _document(
    verdicts: list[MeterVerdict], judged: LotVerdict | None, meter: CelescMeter
) -> dict[str, object]:
    return {
        "model": meter.code,
        "lot": None if judged is None else asdict(judged),
        "meters": [asdict(verdict) | {"status": verdict.status} for verdict in verdicts],
    }


_COLOURS = {Status.PASS: "green", Status.FAIL: "red", Status.INCONCLUSIVE: "yellow"}


def _show(verdicts: list[MeterVerdict], judged: LotVerdict | None) -> None:
    table = Table("meter", "verdict", "packets", "rules not passed", box=None)
    table.add_column("recording", overflow="fold")
    for verdict in verdicts:
        colour = _COLOURS[verdict.status]
        open_rules = [
            f"{finding.rule}: {finding.status}"
            + "".join(f" ({remark}{' ' + about if about else ''})" for remark, about in finding.remarks)
            for finding in verdict.findings
            if finding.status is not Status.PASS
        ]
        table.add_row(
            verdict.meter_number or "?",
            f"[{colour}]{verdict.status}[/]",
            str(verdict.packets),
            "\n".join(open_rules),
            verdict.source,
        )
    console.print(table)
    if judged is not None:
        example = " (an EXAMPLE plan)" if judged.plan.is_example else ""
        console.print(
            f"lot {judged.lot} of {judged.size}: [bold]{judged.status}[/]; {judged.inspected} of a sample of "
            f"{judged.sample} inspected, {judged.failed} failed, {judged.inconclusive} inconclusive; "
            f"accepted up to {judged.accept}{example}",
            highlight=False,
        )
