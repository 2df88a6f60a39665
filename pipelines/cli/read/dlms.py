"""`smf read dlms`: one DLMS meter, now, without the queue: clock, registers, load profile, objects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Annotated, Any, Self

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from collector.coverage import covered, is_short
from collector.decoded import Decoded, Frame, Issue, MeterContext
from collector.dlms import counters as dlms_counters
from collector.dlms import script as dlms_script
from collector.dlms.decode import decode_dlms, text_of
from collector.dlms.secrets import secrets_for
from collector.dlms.session import DlmsLine, read_dlms, steps
from collector.lines.transports import Timeouts, open_stream, parse_url
from collector.session import SessionResult
from collector.work.planning import Span
from faults import OperatorFault
from faults.market_time import to_local
from pipelines.cli.output import (
    EXIT_ATTENTION,
    EXIT_BY_ACTOR,
    console,
    emit_json,
    errors,
    fault_document,
    faults_to_exit,
)
from protocols.dlms.client import DlmsClient, Steps
from protocols.dlms.errors import RemoteProtocolError
from protocols.dlms.mode_e import opening_frame
from protocols.dlms.models import DlmsModel, model_named
from protocols.dlms.objects import decode_object_list, known_object
from protocols.dlms.transcript import Exchange, Recorded, exchanges
from storage.database import Database
from storage.settings import Settings

# A person waits: shorter than the service's time-outs.
_TIMEOUTS = Timeouts(connect_s=10.0, idle_s=40.0, total_s=900.0)
_SHOWN_ROWS = 12
_FIRST_YEAR = 2000


def register(app: typer.Typer) -> None:
    """Add the protocol to `smf read`."""
    app.command("dlms")(dlms)


@dataclass
class _Reading:
    """One visit: its frames, and what became of it."""

    model: DlmsModel
    frames: list[Frame] = field(default_factory=list)

    def record(self, at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes) -> None:
        self.frames.append(Frame(len(self.frames) + 1, at, is_sent, crc_ok is not False, payload))

    def decoded(self, zone: timezone) -> Decoded:
        said = next(
            (text_of(e.value) for e in self.exchanges() if e.value is not None and self._is_serial(e)), ""
        )
        return decode_dlms(self.frames, self.model, MeterContext(0, said or "", 0, zone))

    def opened_as(self) -> str | None:
        """What the meter said it is when its optical port was opened."""
        lines = (opening_frame(frame.payload) for frame in self.frames if not frame.is_sent)
        return next((line[1] for line in lines if line is not None and line[0] == "identification"), None)

    def _is_serial(self, exchange: Exchange) -> bool:
        return exchange.attribute.obis == self.model.serial_object

    def exchanges(self) -> list[Exchange]:
        record = (Recorded(frame.at, frame.is_sent, frame.payload) for frame in self.frames)
        return list(exchanges(record, self.model.tolerates_trailing))


def dlms(
    url: Annotated[str, typer.Argument(help="tcp://, rfc2217:// or serial:// URL; ?address= on a bus.")],
    model: Annotated[str, typer.Option(help="DLMS model: framing, client, authentication, objects.")],
    serial: Annotated[str, typer.Option(help="The meter's serial, for its own secrets.")] = "",
    days: Annotated[
        int | None, typer.Option(help="Load profile of so many days; 1 with --first-day.", min=0, max=3660)
    ] = None,
    first_day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First of them; default: the last is today.")
    ] = None,
    objects: Annotated[bool, typer.Option("--objects", help="List the meter's objects.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Read the event logs of the model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON document.")] = False,
) -> None:
    """Read a DLMS meter's clock and registers: smf read dlms tcp://10.0.0.7:4059 --model dlms-generic.

    Keys and passwords come from the file named by collector.dlms_secrets_path.
    """
    with faults_to_exit(as_json):
        settings = Settings.load()
        reading = _Reading(model_named(model))
        zone = settings.market.tzinfo
        now = to_local(_now(), zone)
        spans = _spans(days, first_day, now)

        def work(client: DlmsClient) -> Steps[None]:
            yield from dlms_script.identity(client, reading.model)
            yield from dlms_script.registers(client, reading.model.registers)
            if objects:
                yield from dlms_script.discovery(client)
            if logs:
                for log in reading.model.event_logs:
                    yield from dlms_script.whole_log(client, log)
            if spans:
                yield from dlms_script.load_profile(client, reading.model, spans, now, zone)

        with _Counters(settings) as counters:
            line = _line(url, reading.model, serial, settings, counters)
            result = asyncio.run(read_dlms(line, steps(work), reading.record, _now, open_stream))
        asked = spans if result.outcome != "failed" else []
        found = covered(reading.decoded(zone), asked, to_local(_now(), zone))
        if result.outcome == "complete" and is_short(found):
            result = replace(result, outcome="partial")
        if as_json:
            emit_json(_document(reading, result, found))
        else:
            _show(reading, result, found)
        if result.fault is not None:
            if not as_json:
                errors.print(f"{result.failed_stage}: {result.fault}", highlight=False, markup=False)
            raise typer.Exit(EXIT_BY_ACTOR[result.fault.actor])
        if is_short(found):
            raise typer.Exit(EXIT_ATTENTION)


def _now() -> datetime:
    return datetime.now(UTC)


def _spans(days: int | None, first_day: datetime | None, now: datetime) -> list[Span]:
    if days is None:
        days = 0 if first_day is None else 1
    if not days:
        return []
    if first_day is not None and not (first_day.year >= _FIRST_YEAR and first_day <= now):
        raise OperatorFault(
            f"no meter has rows of {first_day:%Y-%m-%d}",
            where="--first-day",
            remedy=f"give a day of {_FIRST_YEAR} to today",
        )
    midnight = first_day or datetime.combine(now.date() - timedelta(days=days - 1), time.min)
    return [Span(midnight + timedelta(seconds=1), min(midnight + timedelta(days=days), now))]


class _Counters:
    """Invocation counters of the service's database, reached when a ciphered session asks for one.

    Two stores of one key's counters would use a value twice.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._conn: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._conn is None:
            db = self._stack.enter_context(Database.open(self._settings))
            self._conn = self._stack.enter_context(db.connect(autocommit=True))
        return self._conn

    async def reserve(self, key_id: str, title: str, above: int, count: int) -> int:
        try:
            return dlms_counters.reserve(self._connection(), key_id, title, above, count)
        except psycopg.errors.UndefinedTable as error:
            raise OperatorFault(
                "the database has no place for invocation counters: it is older than this program",
                where="database",
                remedy="smf db migrate, then read again",
            ) from error


def _line(url: str, model: DlmsModel, serial: str, settings: Settings, counters: _Counters) -> DlmsLine:
    endpoint = parse_url(url)
    model = model.at_address(endpoint.address)
    return DlmsLine(
        endpoint=endpoint,
        model=model,
        timeouts=endpoint.timeouts(_TIMEOUTS),
        secrets=secrets_for(settings.collector.dlms_secrets_path, model, serial),
        title=bytes.fromhex(settings.collector.dlms_client_title),
        reserve=counters.reserve,
    )


def _rows(found: Decoded) -> list[tuple[datetime, dict[int, int]]]:
    """Pulses by interval end (meter local) and channel."""
    rows: dict[datetime, dict[int, int]] = {}
    for vector in found.vectors:
        midnight = datetime.combine(vector.day, time.min)
        for slot, is_here in enumerate(vector.present):
            if is_here:
                end = midnight + timedelta(seconds=(slot + 1) * vector.interval_s)
                rows.setdefault(end, {})[vector.channel] = int(vector.pulses[slot])
    return sorted(rows.items())


def _objects(reading: _Reading) -> tuple[list[dict[str, Any]], list[Issue]]:
    """What the object list holds, where it was asked for, and what is wrong with it."""
    listed, issues = [], []
    for exchange in reading.exchanges():
        if exchange.attribute.class_id == dlms_script.ASSOCIATION and exchange.value is not None:
            try:
                found = decode_object_list(exchange.value)
            except RemoteProtocolError as error:
                issues.append(Issue("decode", str(error), {}))
                continue
            listed += [
                {"class": one.class_id, "version": one.version, "obis": one.obis, "object": _name(one.obis)}
                for one in found
            ]
    return listed, issues


def _name(obis: str) -> str | None:
    """What the Brazilian list calls an object."""
    known = known_object(obis)
    return None if known is None else known.name


def _document(reading: _Reading, result: SessionResult, found: Decoded) -> dict[str, Any]:
    fault, clock = result.fault, found.clock
    registers = [row.values["registers"] for row in found.parameters if "registers" in row.values]
    objects, issues = _objects(reading)
    return {
        "outcome": result.outcome,
        "failed_stage": result.failed_stage,
        "error": None if fault is None else fault_document(fault),
        "bytes_sent": result.bytes_sent,
        "bytes_received": result.bytes_received,
        "retries": result.retries,
        "opened_as": reading.opened_as(),
        "meter_serial": found.meter_serial,
        "clock": None if clock is None else {"meter_time": clock.meter_time, "drift_s": clock.drift_s},
        "clock_facts": None if found.clock_facts is None else asdict(found.clock_facts),
        "statement": None if found.statement is None else found.statement.document(),
        "registers": registers[0] if registers else {},
        "profile": next((row.values for row in found.parameters if "columns" in row.values), None),
        "intervals": [
            {"end": end.isoformat(), "pulses": {str(channel): count for channel, count in pulses.items()}}
            for end, pulses in _rows(found)
        ],
        "events": [{"at": one.at, "code": one.code, "log": one.reader_serial} for one in found.changes],
        "objects": objects,
        "issues": [
            {"stage": issue.stage, "reason": issue.reason, **issue.detail}
            for issue in (*found.issues, *issues)
        ],
        "frames": [
            {"at": frame.at, "direction": ">" if frame.is_sent else "<", "hex": frame.payload.hex()}
            for frame in reading.frames
        ],
    }


def _show(reading: _Reading, result: SessionResult, found: Decoded) -> None:
    if found.meter_serial:
        drift = f", clock {found.clock.drift_s:+.1f} s" if found.clock else ""
        console.print(f"[bold]Meter {escape(found.meter_serial)}[/]{drift}")
    document = _document(reading, result, found)
    if document["opened_as"]:
        console.print(f"optical port opened as {document['opened_as']}", highlight=False, markup=False)
    _table(
        "Registers",
        ("object", "NBR 16968", "value"),
        [
            (obis, _name(obis) or "", f"{one['value']} {one['unit']}")
            for obis, one in document["registers"].items()
        ],
    )
    _table(
        "Objects",
        ("object", "class", "NBR 16968"),
        [(one["obis"], str(one["class"]), one["object"] or "") for one in document["objects"]],
    )
    _table(
        "Events",
        ("at", "code", "log"),
        [(one["at"].isoformat(), str(one["code"]), one["log"]) for one in document["events"]],
    )
    channels = sorted({vector.channel for vector in found.vectors})
    _table(
        "Load profile, last intervals, pulses",
        ("interval end", *(f"channel {channel}" for channel in channels)),
        [
            (end.isoformat(), *(str(pulses.get(channel, "")) for channel in channels))
            for end, pulses in _rows(found)[-_SHOWN_ROWS:]
        ],
    )
    for issue in document["issues"]:
        detail = {key: value for key, value in issue.items() if key not in ("stage", "reason")}
        console.print(f"[yellow]not taken[/] {escape(issue['reason'])} {escape(str(detail or ''))}")
    for decision in [] if found.statement is None else found.statement.decisions:
        console.print(
            f"{decision.action} {decision.count} x {decision.reason}", highlight=False, markup=False
        )
    if found.statement is not None and found.statement.coverage is not None:
        console.print(found.statement.coverage.words, highlight=False)
    console.print(
        f"{result.outcome}: {result.bytes_sent} octets sent, {result.bytes_received} received, "
        f"{result.retries} retries",
        highlight=False,
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        table = Table(*columns, title=title, title_justify="left", box=None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
