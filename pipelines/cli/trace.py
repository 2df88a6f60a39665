"""`smf trace UC TIMESTAMP`: from a delivered interval back to the frame's octets, computed anew."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from documents import Language
from faults.market_time import fixed_offset
from pipelines.cli.document import show_document, tell_written, write_file
from pipelines.cli.explain import explanation_of
from pipelines.cli.output import EXIT_ATTENTION, console, emit_json, faults_to_exit

if TYPE_CHECKING:
    from audit.parts import Reading, Released, Trace

app = typer.Typer(help="From a delivered value back to the frame's bytes.", add_completion=False)


@app.command()
def trace(
    uc: Annotated[str, typer.Argument(help="Code of the consumer unit, leading zeros included.")],
    when: Annotated[
        str,
        typer.Argument(
            metavar="INSTANT|DAY",
            help="END of the interval, market time: 2026-11-20T10:05. Or a whole day: 2026-11-20.",
        ),
    ],
    version: Annotated[int, typer.Option(help="Version of the UC-day; default the last delivered.")] = 0,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write the explanation as a page.", dir_okay=False)
    ] = None,
    pdf_file: Annotated[
        Path | None, typer.Option("--pdf", help="Write the explanation as PDF.", dir_okay=False)
    ] = None,
    lang: Annotated[
        Language, typer.Option(envvar="SMF_LANG", help="Language of the page and of a day's explanation.")
    ] = Language.PORTUGUESE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Explain one interval, or a whole day, from CCEE's receipt back to the meter's bytes; compute it anew.

    Exit code 1 when what is computed anew differs from what is stored, or a part could not be compared.
    """
    with faults_to_exit(as_json):
        from audit.pages import day_page, interval_page
        from audit.parts import Trace, parse_interval_end
        from ccee.profile import DEFAULT_PROFILE, load_profile
        from storage.database import Database
        from storage.settings import Settings

        settings = Settings.load()
        profile = load_profile(settings.ccee.profile_path or DEFAULT_PROFILE)
        zone = fixed_offset(settings.market.zone)
        day = _day(when)
        with Database.open(settings) as db:
            if day is None:
                at = parse_interval_end(when, settings.market.zone)
                page = interval_page(db, profile, uc, at, lang, zone, version=version or None)
            else:
                page = day_page(db, profile, uc, day, lang, zone, version=version or None)
        found = page.found
        for file in (html_file, pdf_file):
            if file is not None:
                write_file(page.document, file)
    if as_json:
        emit_json(_document(found) if isinstance(found, Trace) else _plain(asdict(found)))
    elif html_file or pdf_file:
        console.print(escape(page.document.verdict.text), highlight=False)
        tell_written(html_file, pdf_file)
    elif isinstance(found, Trace):
        console.print(tree(found), highlight=False)
    else:
        show_document(page.document)
    if not page.is_identical:
        raise typer.Exit(EXIT_ATTENTION)


def _day(text: str) -> date | None:
    """The day, where the text is one and nothing more."""
    try:
        return date.fromisoformat(text) if len(text) == len("2026-11-20") else None
    except ValueError:
        return None


def _document(found: Trace) -> dict[str, Any]:
    from audit.evidence import locator_of, with_frames_once

    document = asdict(found) | {"is_identical": found.is_identical}
    inputs = document["inputs"]
    for holder in (
        document,
        *document["points"],
        *inputs,
        *(point for traced in inputs for point in traced["points"]),
    ):
        reading = holder["reading"]
        if reading is None:
            continue
        place = reading.pop("place")
        if place is not None:
            reading[locator_of(reading["session"]["protocol"]).key] = place
        holder["reading"] = with_frames_once(reading)
    return {key: _plain(value) for key, value in document.items()}


def _plain(value: Any) -> Any:
    """For JSON: exact fractions as text, octets as hexadecimal."""
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex(" ")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def tree(found: Trace) -> Tree:
    """The whole explanation, receipt first."""
    root = Tree(
        f"[bold]UC {escape(found.uc_code)}[/] {escape(found.uc_name)}: interval "
        f"{found.interval_start:%Y-%m-%d %H:%M} to {found.interval_end:%H:%M %z}, slot {found.slot} "
        f"of {found.day}, version {found.version}"
    )
    if found.newer_version:
        root.add(
            f"[yellow]version {found.newer_version} is newer and was not delivered[/] (--version shows it)"
        )
    _delivery(root, found)
    _layers(root, found)
    _estimate(root, found)
    _decisions(root, found)
    _registry(root, found)
    _points(root, found)
    _reading(root, found)
    _replay(root, found)
    return root


def _delivery(root: Tree, found: Trace) -> None:
    if found.delivery is None:
        outcome = found.outcome
        why = (
            f"{outcome['state']} {outcome['cause']} {outcome['cause_text']}".strip()
            if outcome
            else "no run yet"
        )
        root.add(f"[bold]1 not delivered[/]: {escape(why)}")
        return
    told = found.delivery.submission
    node = root.add(
        f"[bold]1 CCEE[/]: submission {told['id']}, version {told['version']}, [bold]{told['state']}[/] "
        f"at {told['state_at']:%Y-%m-%d %H:%M:%S %Z}, profile {told['profile']}, cause {told['cause']}"
    )
    for attempt in found.delivery.attempts:
        answer = attempt["http_status"] or attempt["error"] or "no reply seen"
        node.add(
            f"attempt {attempt['attempt']} at {attempt['started_at']:%H:%M:%S}: {answer} "
            f"{attempt['outcome']}, receipt [bold]{escape(str(attempt['receipt'] or '–'))}[/]"
        )
    told_hash = bytes(told["body_sha256"])
    if found.delivery.body_sha256 is None:
        verdict = f"[yellow]not rendered anew: {escape(found.delivery.not_rendered)}[/]"
    elif told_hash == found.delivery.body_sha256:
        verdict = "rendered anew, same hash"
    else:
        verdict = "[red]RENDERED ANEW, OTHER HASH[/]"
    node.add(f"body of {told['body_bytes']} octets, SHA-256 {told_hash.hex()}: {verdict}")
    if found.delivery.record is not None:
        node.add(escape(str(found.delivery.record)))


def _layers(root: Tree, found: Trace) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("layer", "kWh", "exact", "origin", "reason"):
        table.add_column(name, overflow="fold")
    for layer in reversed(found.layers):
        value = layer.value_kwh
        exact = "missing" if value is None else f"{value.numerator}/{value.denominator}"
        table.add_row(
            f"{layer.layer} {layer.name}", layer.decimal or "–", exact, layer.origin, layer.reason_text
        )
    node = root.add("[bold]2 layers[/], newest first")
    node.add(table)
    last = found.layers[-1]
    node.add(f"run {last.run_id}, recorded {last.recorded_at:%Y-%m-%d %H:%M:%S %Z}")
    for derivation in {layer.derivation_id: layer for layer in found.layers}.values():
        parameters = ", ".join(f"{key}={value}" for key, value in derivation.parameters.items())
        node.add(
            escape(f"derivation {derivation.derivation_id}, code {derivation.code_version}: {parameters}")
        )
    for verdict in found.verdicts:
        words = f"{verdict['words']}; " if verdict["words"] else ""
        node.add(escape(f"rule {verdict['rule']}: {verdict['result']} {words}{verdict['detail'] or ''}"))


def _decisions(root: Tree, found: Trace) -> None:
    for row in found.decisions:
        second = f", agreed by {row['answered_by']}" if row["answered_by"] else ""
        undone = f", undone by {row['undone_by']}" if row["undone_by"] else ""
        root.add(
            f"[bold]decision D{row['id']}[/]: {row['kind']}, {row['state']}, by {escape(row['asked_by'])}"
            f"{escape(second + undone)}: {escape(row['reason'])}"
        )


def _estimate(root: Tree, found: Trace) -> None:
    for row in found.replaced:
        root.add(f"[bold]  measured late[/]: {escape(row['words'])}")
    if found.estimate is None:
        return
    estimate = found.estimate
    node = root.add(
        f"[bold]  estimate[/]: {estimate['strategy']}, method [bold]{estimate['method']}[/], slots "
        f"{estimate['first_slot']} to {estimate['last_slot']}"
        + (f", approved by {escape(estimate['approved_by'])}" if estimate["approved_by"] else "")
    )
    if found.expected_error is not None:
        node.add(escape(found.expected_error["words"]))
    for key, value in estimate["detail"].items():
        node.add(escape(f"{key}: {value}"))
    if found.inputs:
        inputs = node.add("the values that went in")
    for one in found.inputs:
        primary = one.layers[0]
        place = _where(one.reading)
        verdict = "recomputed identical" if one.is_identical else "[red]recomputed DIFFERENT[/]"
        inputs.add(
            f"{one.interval_end:%Y-%m-%d %H:%M}: {primary.decimal or 'missing'} kWh, {primary.origin}, "
            f"{one.reading.pulses if one.reading else '–'} pulses, {place}, {verdict}"
        )


def _where(reading: Reading | None) -> str:
    """The place of a count in one line."""
    if reading is None or reading.session is None or reading.place is None:
        return "no frame"
    return explanation_of(reading.session["protocol"]).in_one_line(reading.session["id"], reading.place)


def _registry(root: Tree, found: Trace) -> None:
    node = root.add(f"[bold]3 registry[/] as of {found.day}")
    for name in ("status", "musd", "contract", "strategy"):
        facts = found.registry[name]
        shown = (
            "not said"
            if facts is None
            else ", ".join(f"{k} {v}" for k, v in facts.items() if v not in (None, ""))
        )
        node.add(escape(f"{name}: {shown}"))
    for loss in found.registry["losses"]:
        node.add(
            escape(f"{loss['kind']} loss {loss['percent']} %, by {loss['compensated_at']}, {loss['valid']}")
        )
    for meter in found.registry["installations"]:
        included = "ratios included" if meter["constant_includes_ratios"] else "ratios on top"
        node.add(
            escape(
                f"{meter['role']} meter {meter['serial']} ({meter['model']}), "
                f"channel {meter['active_channel']}, "
                f"{meter['pulse_energy_num']}/{meter['pulse_energy_den']} kWh a pulse, "
                f"TP {meter['tp_ratio']}, TC {meter['tc_ratio']} ({included}), "
                f"{meter['url'] or 'no address'}, {meter['valid']}"
            )
        )


def _reading(root: Tree, found: Trace) -> None:
    reading = found.reading
    if reading is None or reading.session is None:
        root.add("[bold]4 reading[/]: none; no session brought this interval")
        return
    session = reading.session
    node = root.add(
        f"[bold]4 reading[/]: [bold]{reading.pulses} pulses[/], meter {escape(reading.meter['serial'])}, "
        f"stored version {reading.version}"
    )
    drift = "" if session["drift_s"] is None else f", clock {session['drift_s']:+.0f} s"
    node.add(
        escape(
            f"session {session['id']}: {session['purpose']} by {session['collector']}, "
            f"{session['protocol']} over {session['url']}, "
            f"{session['started_at']:%Y-%m-%d %H:%M:%S %Z}, {session['outcome']}, "
            f"{session['bytes_sent']} octets out, {session['bytes_received']} in, "
            f"{session['retries']} retries{drift}"
        )
    )
    if reading.hold is not None:
        _hold(node, reading.hold)
    if reading.place is not None:
        explanation_of(session["protocol"]).show(node, reading.place)


def _hold(node: Tree, hold: Released) -> None:
    rule = f"{hold.rule}, " if hold.rule else ""
    shown = node.add(f"[bold]held[/] as H{hold.hold_id} ({rule}{hold.reason}): {escape(str(hold.evidence))}")
    moved = f"shifted by {hold.shift_s:+d} s" if hold.shift_s else "released as it was"
    shown.add(
        escape(
            f"{moved} by {hold.decided_by} at {hold.decided_at:%Y-%m-%d %H:%M:%S %Z}: {hold.why}; "
            f"the frames say {hold.told_end:%Y-%m-%d %H:%M}"
        )
    )


def _points(root: Tree, found: Trace) -> None:
    if not found.points:
        return
    node = root.add("[bold]  points[/]: the UC is the sum of sign × share × energy")
    for part in found.points:
        sign = "+" if part.sign > 0 else "−"
        energy = "missing" if part.energy_kwh is None else f"{part.energy_kwh} kWh"
        node.add(
            escape(
                f"{sign} {part.share} × point {part.point}: {energy}, "
                f"{part.reading.pulses if part.reading else '–'} pulses, {_where(part.reading)}"
            )
        )


def _replay(root: Tree, found: Trace) -> None:
    if found.is_identical:
        root.add(f"[bold green]recomputed identical[/]: {'; '.join(check.what for check in found.checks)}")
        return
    differs = any(not check.is_identical and not check.not_made for check in found.checks)
    node = root.add(
        "[bold red]recomputed, and it differs[/]"
        if differs
        else "[bold yellow]recomputed, but not all of it[/]"
    )
    for check in found.checks:
        if check.not_made:
            node.add(f"{escape(check.what)}: [yellow]NOT COMPARED[/], {escape(check.not_made)}")
            continue
        mark = "same" if check.is_identical else "[red]DIFFERENT[/]"
        node.add(
            f"{escape(check.what)}: stored {escape(check.stored)}, computed {escape(check.computed)}: {mark}"
        )
