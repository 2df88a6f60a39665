"""`smf read nbr14522`: one meter, now: what it says, or which layer of the line failed."""

from __future__ import annotations

import asyncio
import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from collector.decoded import Decoded, Frame, MeterContext
from collector.lines.transports import Endpoint, Timeouts, parse_url
from collector.nbr14522.decode import decode_session
from collector.nbr14522.password_session import Desk, guarded
from collector.nbr14522.passwords import find_passwords
from collector.nbr14522.sequences import fixed
from collector.nbr14522.session import Line, read_meter
from collector.session import SessionResult
from faults import DeveloperFault, Fault, OperatorFault, RetryFault
from pipelines.cli.output import EXIT_BY_ACTOR, console, emit_json, errors, fault_document, faults_to_exit
from pipelines.cli.read.survey import survey_meter
from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.errors import RemoteProtocolError
from protocols.nbr14522.frames import ANY_METER, unwrap_response
from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.nbr14522.messages import LimitUnit, Period, Request, Response, decode_response, request_for
from protocols.nbr14522.profile import READ_COMMANDS, MeterProfile
from protocols.nbr14522.profiles import profile_named
from protocols.nbr14522.survey import proposal, untried
from storage.settings import Settings

# A person waits: shorter than the service's time-outs.
_TIMEOUTS = Timeouts(connect_s=10.0, idle_s=40.0, total_s=900.0)
_WIRE_SERIAL = re.compile(r"[0-9A-F]{8}")
_SHOWN_INTERVALS = 12
_SHOWN_OCTETS = 32


def register(app: typer.Typer) -> None:
    """Add the protocol to `smf read`."""
    app.command("nbr14522")(nbr14522)


@dataclass
class _Reading:
    """One visit: its frames, and what became of it."""

    profile: MeterProfile
    frames: list[Frame] = field(default_factory=list)
    result: SessionResult | None = None

    def record(self, at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes) -> None:
        self.frames.append(Frame(len(self.frames) + 1, at, is_sent, crc_ok is not False, payload))

    def answers(self) -> list[Response]:
        """Typed single answers, in order; blocks of a memory are in `decoded`."""
        found = []
        for frame in self.frames:
            if frame.is_sent or not frame.crc_ok:
                continue
            try:
                response = decode_response(unwrap_response(frame.payload, self.profile.addressing))
            except RemoteProtocolError:
                continue  # `decoded` lists it among the issues
            if response.code not in COMPOSITE_CODES:
                found.append(response)
        return found

    def decoded(self, settings: Settings) -> Decoded:
        # No registry was asked: it has no serial to compare with, and no channel.
        context = MeterContext(meter_id=0, serial="", active_channel=0, zone=settings.market.tzinfo)
        return decode_session(self.frames, self.profile, context)


def nbr14522(
    url: Annotated[str, typer.Argument(help="tcp://HOST:PORT, rfc2217://HOST:PORT or serial:///dev/NAME")],
    commands: Annotated[str, typer.Option(help="Codes in the order of asking.")] = "21,80,23,26",
    profile: Annotated[str, typer.Option(help="Meter profile.")] = "default",
    serial: Annotated[
        str, typer.Option(help="Meter to address on a shared line, and whose password is meant.")
    ] = ANY_METER,
    days: Annotated[int | None, typer.Option(help="Limit of 51, days.", min=1, max=99)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for frames.txt, answers.json, intervals.csv.")
    ] = None,
    survey: Annotated[
        bool, typer.Option(help="Find out how a strange meter speaks, and propose its catalogue entry.")
    ] = False,
    address: Annotated[int, typer.Option(help="Two-digit address that the survey tries.", min=0, max=99)] = 1,
    open_session: Annotated[
        bool,
        typer.Option(
            help="Open a password session (13 and 11) before what the profile protects, with the password of "
            "--serial in collector.meter_passwords_path. Tried once; a meter may lock after a few wrong ones."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON document.")] = False,
) -> None:
    """Ask a meter these commands and show its answers: smf read nbr14522 tcp://10.0.0.7:4059."""
    with faults_to_exit(as_json):
        settings = Settings.load()
        requests = _requests(commands, days)
        endpoint = parse_url(url)
        if survey:
            _survey(settings, endpoint, serial, address, as_json)
            return
        reading = _Reading(endpoint.applied_to(profile_named(profile)))
        script = fixed(requests)
        if open_session:
            script = guarded(script, reading.profile, _desk(settings, serial, reading.profile))
        line = Line(
            endpoint=endpoint,
            profile=reading.profile,
            meter_serial=_addressed(reading.profile, serial),
            reader_serial=settings.collector.reader_serial,
            timeouts=endpoint.timeouts(_TIMEOUTS),
        )
        shown = nullcontext(None) if as_json else console.status(f"reading {url}")
        with shown as status:
            seen = 0

            def progress(response: Response) -> None:
                nonlocal seen
                seen += 1
                if status is not None:
                    status.update(f"reading {url}: {seen} blocks, the last of command {response.code:02X}")

            reading.result = asyncio.run(
                read_meter(line, script, reading.record, lambda: datetime.now(UTC), progress)
            )
        decoded = reading.decoded(settings)
        if out is not None:
            _write(out, reading, decoded)
        if as_json:
            emit_json(_document(reading, decoded))
        else:
            _show(reading, decoded)
        fault = reading.result.fault
        if fault is not None:
            if not as_json:
                _diagnose(reading, fault)
            raise typer.Exit(EXIT_BY_ACTOR[fault.actor])


def _addressed(profile: MeterProfile, serial: str) -> str:
    """The eight digits by which a meter is addressed whose serial is given as it is printed."""
    digits = profile.addressed_serial(serial)
    if not _WIRE_SERIAL.fullmatch(digits):
        raise OperatorFault(
            f"{serial!r} is not a serial of eight digits",
            where="--serial",
            remedy="name it as the meter shows it, or leave it out on a line of one meter",
        )
    return digits


def _desk(settings: Settings, serial: str, profile: MeterProfile) -> Desk:
    """Of a person who decides each time: no queue knows here which passwords were refused before."""
    if not profile.password_commands:
        raise OperatorFault(
            f"profile {profile.name} protects nothing with a password",
            where="--open-session",
            remedy="name the commands in password_commands of the profile, or leave the option out",
        )
    if serial == ANY_METER:
        raise OperatorFault(
            "whose password is not said",
            where="--open-session",
            remedy="name the meter with --serial, as its entry in collector.meter_passwords_path does",
        )

    async def permit(since: datetime) -> None:
        pass

    path = settings.collector.meter_passwords_path
    return Desk(serial, partial(find_passwords, path, serial, profile.name), permit)


def _survey(settings: Settings, endpoint: Endpoint, serial: str, address: int, as_json: bool) -> None:
    def line(profile: MeterProfile) -> Line:
        return Line(
            endpoint=endpoint,
            profile=profile,
            meter_serial=serial,
            reader_serial=settings.collector.reader_serial,
            timeouts=endpoint.timeouts(_TIMEOUTS),
        )

    say = (lambda text: None) if as_json else (lambda text: errors.print(text, highlight=False))
    found = asyncio.run(survey_meter(line, address, say))
    text = proposal(found)
    if as_json:
        emit_json(
            {
                "meter_serial": found.parameters.meter_serial,
                "model_code": found.parameters.model,
                "addressing": found.profile.addressing,
                "enq_required": found.profile.enq_required,
                "has": sorted(found.has),
                "lacks": sorted(found.lacks),
                "untried": untried(),
                "packing": found.packing,
                "toml": text,
            }
        )
    else:
        typer.echo(text, nl=False)


def _why_not(word: str, code: int) -> str:
    """Why a command is not sent by a reading."""
    info = COMMANDS.get(word.upper())
    if code == 0x20:
        return "20 is not a command that only reads: it resets the demand and closes the billing period"
    if info is None:
        return f"{word!r} is not a command that only reads: no such command is known"
    return f"{word} ({info.name}) is not a command that only reads"


def _requests(commands: str, days: int | None) -> list[Request]:
    requests: list[Request] = []
    period = Period.CURRENT
    for word in commands.replace(" ", "").split(","):
        try:
            code = int(word, 16)
        except ValueError:
            code = -1
        if code not in READ_COMMANDS or code == 0x20:
            known = ", ".join(f"{known:02X}" for known in sorted(READ_COMMANDS - {0x20}))
            raise OperatorFault(
                _why_not(word, code),
                where="--commands",
                remedy=f"use {known}; what changes a meter goes through the queue, with its approval",
            )
        if code in (0x21, 0x22):
            period = Period.CURRENT if code == 0x21 else Period.PREVIOUS
        if code == 0x25:
            requests.append(request_for(code, period=period))
        elif code == 0x51 and days is not None:
            requests.append(request_for(code, unit=LimitUnit.DAYS, amount=days))
        elif code == 0x51:
            requests.append(request_for(code, unit=LimitUnit.EVERYTHING))
        else:
            requests.append(request_for(code))
    return requests


# --- for programs ------------------------------------------------------------------------------------------


def _document(reading: _Reading, decoded: Decoded) -> dict[str, Any]:
    result = _result(reading)
    fault = result.fault
    return {
        "outcome": result.outcome,
        "failed_stage": result.failed_stage,
        "error": None if fault is None else fault_document(fault),
        "bytes_sent": result.bytes_sent,
        "bytes_received": result.bytes_received,
        "retries": result.retries,
        "skipped": [
            {"reason": reason.value, "octets": count, "first_hex": sample.hex(" ")}
            for reason, count, sample in result.skipped
        ],
        "meter_serial": decoded.meter_serial,
        "drift_s": decoded.clock.drift_s if decoded.clock else None,
        "answers": [_plain(answer) for answer in reading.answers()],
        "intervals": [
            {"end": end.isoformat(), "pulses": {str(channel): count for channel, count in pulses.items()}}
            for end, pulses in sorted(_intervals(decoded).items())
        ],
        "issues": [
            {"stage": issue.stage, "reason": issue.reason, **issue.detail} for issue in decoded.issues
        ],
        "frames": [
            {
                "at": frame.at,
                "direction": ">" if frame.is_sent else "<",
                "crc_ok": frame.crc_ok,
                "hex": frame.payload.hex(),
            }
            for frame in reading.frames
        ],
    }


def _plain(answer: Response) -> dict[str, Any]:
    return {name: value for name, value in answer.to_json().items() if name != "octets"}


def _result(reading: _Reading) -> SessionResult:
    if reading.result is None:
        raise DeveloperFault("the session has not run", where="smf read")
    return reading.result


def _intervals(decoded: Decoded) -> dict[datetime, dict[int, int]]:
    """Pulses by interval end (meter local) and channel."""
    found: dict[datetime, dict[int, int]] = defaultdict(dict)
    for vector in decoded.vectors:
        midnight = datetime.combine(vector.day, datetime.min.time())
        for slot, (pulses, is_here) in enumerate(zip(vector.pulses.tolist(), vector.present, strict=True)):
            if is_here:
                end = midnight + timedelta(seconds=(slot + 1) * vector.interval_s)
                found[end][vector.channel] = pulses
    return found


def _write(folder: Path, reading: _Reading, decoded: Decoded) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"{frame.at.isoformat()} {'>' if frame.is_sent else '<'} {'ok ' if frame.crc_ok else 'BAD'} "
            f"{frame.payload.hex(' ')}\n"
            for frame in reading.frames
        ]
        (folder / "frames.txt").write_text("".join(lines), encoding="ascii")
        answers = orjson.dumps(
            [_plain(answer) for answer in reading.answers()], option=orjson.OPT_INDENT_2, default=str
        )
        (folder / "answers.json").write_bytes(answers)
        channels = sorted({vector.channel for vector in decoded.vectors})
        with (folder / "intervals.csv").open("w", newline="", encoding="ascii") as file:
            writer = csv.writer(file)
            writer.writerow(["interval_end_local", *(f"pulses_ch{channel}" for channel in channels)])
            for end, pulses in sorted(_intervals(decoded).items()):
                writer.writerow([end.isoformat(), *(pulses.get(channel, "") for channel in channels)])
    except OSError as error:
        raise OperatorFault(
            f"cannot write: {error.strerror}", where=str(folder), remedy="name a folder you may write to"
        ) from error


# --- for people --------------------------------------------------------------------------------------------


def _show(reading: _Reading, decoded: Decoded) -> None:
    result = _result(reading)
    if decoded.meter_serial:
        drift = f", clock {decoded.clock.drift_s:+.1f} s (resolution 1 s)" if decoded.clock else ""
        console.print(f"[bold]Meter {decoded.meter_serial}[/]{drift}")
    for answer in reading.answers():
        _show_answer(answer)
    if decoded.vectors:
        _show_memory(decoded)
    for issue in decoded.issues:
        console.print(f"[yellow]not taken[/] {escape(issue.reason)} {escape(str(issue.detail or ''))}")
    console.print(
        f"{result.outcome}: {result.bytes_sent} octets sent, {result.bytes_received} received, "
        f"{result.retries} repeats"
    )


def _show_answer(answer: Response) -> None:
    values = _plain(answer)
    title = f"{answer.code:02X} {values.pop('kind')}"
    for name in ("code", "meter_serial", "problems"):
        values.pop(name, None)
    channels = values.pop("channels", None)
    table = Table("field", "value", title=title, title_justify="left", box=None)
    for name, value in values.items():
        text = _text(value)
        if text:
            table.add_row(name, escape(text))
    if table.row_count:
        console.print(table)
    if channels:
        _show_channels(title, channels)


def _show_channels(title: str, channels: Sequence[dict[str, Any] | None]) -> None:
    present = [channel or {} for channel in channels]
    table = Table("register", title=title, title_justify="left", box=None)
    for number in range(1, len(present) + 1):
        table.add_column(f"channel {number}", justify="right")
    for name in present[0]:
        if name != "problems":
            table.add_row(name, *(_text(channel.get(name)) for channel in present))
    console.print(table)


def _text(value: Any) -> str:
    if value is None or value == [] or value == "":
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(text for text in map(_text, value) if text)
    if isinstance(value, dict):
        return " ".join(_text(part) for part in value.values() if part not in (None, [], ""))
    return str(value)


def _show_memory(decoded: Decoded) -> None:
    channels = sorted({vector.channel for vector in decoded.vectors})
    by_day = Table("day", "intervals", title="Mass memory, pulses by day", title_justify="left", box=None)
    last = Table("interval end", title="Last intervals, pulses", title_justify="left", box=None)
    for channel in channels:
        by_day.add_column(f"channel {channel}", justify="right")
        last.add_column(f"channel {channel}", justify="right")
    for day in sorted({vector.day for vector in decoded.vectors}):
        here = {vector.channel: vector for vector in decoded.vectors if vector.day == day}
        count = max(int(vector.present.sum()) for vector in here.values())
        sums = [str(int(here[c].pulses[here[c].present].sum())) if c in here else "" for c in channels]
        by_day.add_row(day.isoformat(), str(count), *sums)
    for end, pulses in sorted(_intervals(decoded).items())[-_SHOWN_INTERVALS:]:
        last.add_row(end.isoformat(sep=" "), *(str(pulses.get(channel, "")) for channel in channels))
    console.print(by_day)
    console.print(last)


_LAYERS = {
    "connect": "the connection: nothing was reached at the address",
    "synchronise": "the link: connected, but no ENQ was heard",
}


def _diagnose(reading: _Reading, fault: Fault) -> None:
    """Say which layer failed, with the octets that were on the line last."""
    result = _result(reading)
    stage = result.failed_stage or ""
    layer = _LAYERS.get(stage, f"{stage}: the meter was reached, this was not answered as it should be")
    errors.print(f"[bold red]failed[/] {layer}", highlight=False)
    errors.print(f"[bold]reason[/] {escape(fault.message)}", highlight=False)
    if isinstance(fault, RetryFault) and stage == "synchronise":
        errors.print("[bold]what to do[/] check baud rate, cable or gateway, and the profile (P0, P8, P2)")
    elif fault.remedy:
        errors.print(f"[bold]what to do[/] {escape(fault.remedy)}", highlight=False)
    errors.print(f"heard {result.bytes_received} octets, sent {result.bytes_sent}", highlight=False)
    for reason, count, sample in result.skipped:
        errors.print(f"  {count} octets passed over ({reason.value}): {_hex(sample)}", highlight=False)
    for frame in reading.frames[-2:]:
        arrow = ">" if frame.is_sent else "<"
        errors.print(f"  {arrow} {_hex(frame.payload)}", highlight=False)


def _hex(octets: bytes) -> str:
    more = f" ... {len(octets)} octets" if len(octets) > _SHOWN_OCTETS else ""
    return octets[:_SHOWN_OCTETS].hex(" ").upper() + more
