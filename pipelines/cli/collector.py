"""`smf collector`: the service that reads meters, a read on demand, and how the queue stands."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import structlog
import typer
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from collector import drain as draining
from collector.drain import ReadSummary, drain
from collector.service import Collector, Stats, utc_now
from collector.streams.reader import StreamStatus
from collector.work.monitoring import end_monitoring
from collector.work.monitoring import monitor as start_monitoring
from collector.work.planning import SequenceName
from collector.work.points import PointStatus, points_status
from collector.work.worklist import find_meter
from faults import Actor, OperatorFault
from faults.market_time import to_local
from pipelines.cli.output import EXIT_BY_ACTOR, console, emit_json, faults_to_exit, login_name
from pipelines.cli.period import parse_day
from storage import queue
from storage.database import Database
from storage.queue import Priority
from storage.settings import Settings

app = typer.Typer(help="The service that reads meters.")

Json = Annotated[bool, typer.Option("--json", help="Output as JSON.")]


@app.callback(invoke_without_command=True)
def _service(context: typer.Context) -> None:
    """The service that reads meters; without a command it runs, as `smf collector run` does."""
    if context.invoked_subcommand is None:
        run()


@app.command()
def run(
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus metrics on this port.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for each session.")] = False,
) -> None:
    """Work through the queue and the schedules until SIGTERM or Ctrl-C; running sessions may end first."""
    with faults_to_exit(), Database.open() as db:
        _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
        asyncio.run(_serve(db, metrics_port))


async def _serve(db: Database, metrics_port: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    collector = Collector(db)
    if metrics_port is not None:
        registry = CollectorRegistry()
        registry.register(_Metrics(collector))
        try:
            start_http_server(metrics_port, registry=registry)
        except OSError as error:
            raise OperatorFault(
                f"port {metrics_port} cannot be used: {error.strerror}",
                where="--metrics-port",
                remedy="choose a free port",
            ) from error
    structlog.get_logger(__name__).info("collector.started", name=collector.name, database=db.safe_url)
    await collector.run(stop)
    structlog.get_logger(__name__).info("collector.stopped", sessions=dict(collector.stats.sessions))


class _Metrics:
    """The service's counters in Prometheus' form, read when asked."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        yield from self._sessions(self._collector.stats, self._collector.frames)
        yield from self._streams(self._collector.streams.status())

    @staticmethod
    def _streams(lines: Sequence[StreamStatus]) -> Iterable[Metric]:
        is_open = GaugeMetricFamily("smf_stream_open", "Whether a stream's line is open", labels=["meter"])
        good = CounterMetricFamily("smf_stream_records", "Blocks or packets understood", labels=["meter"])
        octets = CounterMetricFamily("smf_stream_octets", "Octets heard", labels=["meter"])
        skipped = CounterMetricFamily(
            "smf_stream_skipped", "Octets that belong to no good record", labels=["meter", "reason"]
        )
        opened = CounterMetricFamily("smf_stream_opened", "Times the line was opened", labels=["meter"])
        last = GaugeMetricFamily(
            "smf_stream_last_record_seconds", "Time of the newest good record", labels=["meter"]
        )
        for one in lines:
            is_open.add_metric([one.serial], one.line.is_open)
            opened.add_metric([one.serial], one.line.opened)
            good.add_metric([one.serial], one.quality.good)
            octets.add_metric([one.serial], one.quality.octets)
            for reason, count in sorted(one.quality.skipped.items()):
                skipped.add_metric([one.serial, reason], count)
            if one.quality.last_good_s is not None:
                last.add_metric([one.serial], one.quality.last_good_s)
        yield from (is_open, opened, good, octets, skipped, last)

    @staticmethod
    def _sessions(stats: Stats, frames: int) -> Iterable[Metric]:
        yield GaugeMetricFamily("smf_sessions_active", "Sessions open now", stats.active)
        yield GaugeMetricFamily(
            "smf_requests_waiting", "Claimed requests that wait for a gate", stats.waiting
        )
        ended = CounterMetricFamily("smf_sessions", "Sessions ended", labels=["outcome"])
        for outcome, count in sorted(stats.sessions.items()):
            ended.add_metric([outcome], count)
        yield ended
        yield CounterMetricFamily("smf_frames", "Frames recorded", frames)
        traffic = CounterMetricFamily("smf_bytes", "Octets exchanged", labels=["direction"])
        traffic.add_metric(["sent"], stats.bytes_sent)
        traffic.add_metric(["received"], stats.bytes_received)
        yield traffic


def _log_to_stderr(level: int) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def read(
    meter: Annotated[str, typer.Argument(help="Meter serial or UC code.")],
    sequence: Annotated[
        str,
        typer.Option(help="missing, verification, recovery, closing, fiscal_page or whole."),
    ] = SequenceName.VERIFICATION.value,
    day: Annotated[
        list[str] | None, typer.Option(help="With missing: day wanted (YYYY-MM-DD); default yesterday.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read a meter now, before all routine work, and show what came."""
    with faults_to_exit(as_json), Database.open() as db:
        _log_to_stderr(logging.WARNING)
        name = _sequence(sequence)
        days = [parse_day(text) for text in day or ()] or [_yesterday(db.settings)]
        with db.connect() as conn:
            meter_id = find_meter(conn, meter)
            number = queue.enqueue(
                conn,
                queue.JobRequest(
                    kind="read",
                    requested_by="smf collector read",
                    meter_id=meter_id,
                    parameters={"sequence": name.value, "days": [one.isoformat() for one in days]},
                    dedup_key=f"on-demand:{meter_id}:{name.value}",
                    priority=int(Priority.ON_DEMAND),
                ),
            )
        with _progress(as_json) as told:
            (summary,) = asyncio.run(drain(db, [number], utc_now, told))
        if as_json:
            emit_json(asdict(summary))
        else:
            _show_read(db, summary)
        if summary.actor is not None:
            raise typer.Exit(EXIT_BY_ACTOR[Actor(summary.actor)])


def _sequence(text: str) -> SequenceName:
    try:
        return SequenceName(text)
    except ValueError as error:
        names = ", ".join(SequenceName)
        raise OperatorFault(
            f"no sequence {text!r}", where="--sequence", remedy=f"use one of: {names}"
        ) from error


def _yesterday(settings: Settings) -> date:
    return to_local(datetime.now(UTC), settings.market.tzinfo).date() - timedelta(days=1)


@contextmanager
def _progress(as_json: bool) -> Iterator[Any]:
    if as_json:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("waiting for a collector", total=None)

        def told(seen: draining.Progress) -> None:
            state = (
                "reading" if seen.running else "waiting to try again" if seen.waiting_for_retry else "queued"
            )
            bar.update(task, description=f"{state}, {seen.frames} frames")

        yield told


def _show_read(db: Database, summary: ReadSummary) -> None:
    table = Table(
        title=f"Meter {summary.serial}: {summary.state}", title_justify="left", box=None, show_header=False
    )
    table.add_row("attempts, sessions", f"{summary.attempts}, {summary.sessions}")
    table.add_row("octets sent, received", f"{summary.bytes_sent}, {summary.bytes_received}")
    if summary.drift_s is not None:
        table.add_row("clock", f"{summary.drift_s:+.1f} s against the reference (resolution 1 s)")
    table.add_row("memory blocks", str(summary.blocks))
    table.add_row("days with something new", ", ".join(map(str, summary.days_changed)) or "none")
    if summary.exhausted_days:
        table.add_row("not in the meter's memory", ", ".join(map(str, summary.exhausted_days)))
    if summary.message:
        table.add_row("failed", f"{summary.stage}: {summary.message}")
        table.add_row("who must act", summary.actor or "")
        table.add_row("what to do", summary.remedy)
    console.print(table)
    with db.connect() as conn:
        registers = conn.execute(
            "SELECT r.channel, to_char(r.at AT TIME ZONE 'UTC' + %s, 'YYYY-MM-DD HH24:MI:SS'), "
            "r.values ->> 'total_pulses' FROM register_reading r JOIN session s ON s.id = r.session_id "
            "WHERE s.request_id = %s AND r.command = %s ORDER BY 1",
            [db.settings.market.tzinfo.utcoffset(None), summary.request_id, 0x23],
        ).fetchall()
    if registers:
        shown = Table(
            "channel", "meter clock", "total, pulses", title="Registers", title_justify="left", box=None
        )
        for channel, at, total in registers:
            shown.add_row(str(channel), at, total)
        console.print(shown)
    _show_fiscal_page(db, summary)


def _show_fiscal_page(db: Database, summary: ReadSummary) -> None:
    with db.connect() as conn:
        row = conn.execute(
            "SELECT p.values FROM meter_parameters p JOIN session s ON s.id = p.session_id "
            "WHERE s.request_id = %s AND p.command = %s ORDER BY s.id DESC LIMIT 1",
            [summary.request_id, 0x14],
        ).fetchone()
    if row is not None:
        shown = Table("quantity", "value", title="Fiscal page", title_justify="left", box=None)
        for name, value in row[0].items():
            if isinstance(value, (int, float, str)):
                shown.add_row(name, f"{value:g}" if isinstance(value, float) else str(value))
        console.print(shown)


@app.command()
def monitor(
    point: Annotated[str, typer.Argument(help="Point code.")],
    hours: Annotated[float, typer.Option(help="For so long; 0 ends the monitoring now.")] = 24.0,
    reason: Annotated[str, typer.Option("--why", help="Why, for those who see the traffic.")] = "",
    as_json: Json = False,
) -> None:
    """Read a point every 15 minutes for a limited time; then its schedule holds again."""
    with faults_to_exit(as_json), Database.open() as db:
        now = datetime.now(UTC)
        until = now + timedelta(hours=hours)
        with db.connect() as conn:
            if hours == 0:
                ended = end_monitoring(conn, point, now)
            else:
                start_monitoring(conn, point, now, until, login_name(), reason)
                ended = 0
        if as_json:
            emit_json({"point": point, "until": until.isoformat(), "ended": ended})
        elif hours == 0:
            console.print(f"{point}: {ended} monitorings ended")
        else:
            local = to_local(until, db.settings.market.tzinfo)
            console.print(f"{point}: every 15 minutes until {local:%Y-%m-%d %H:%M}")


@app.command()
def status(
    points: Annotated[int, typer.Option(help="Points shown, those in most need first.", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """How the queue stands, who collects, how the last day's sessions ended, and how the points stand."""
    with faults_to_exit(as_json), Database.open() as db:
        with db.connect() as conn:
            found = draining.status(conn)
            standing = points_status(conn, db.settings, utc_now())
        if as_json:
            emit_json(found | {"points": [one.to_json() for one in standing]})
            return
        found["points"] = [_point_row(one) for one in standing[:points]]
        for title, rows in found.items():
            table = Table(title=title.replace("_", " "), title_justify="left", box=None)
            if not rows:
                console.print(f"{title.replace('_', ' ')}: none")
                continue
            for name in rows[0]:
                table.add_column(name)
            for row in rows:
                table.add_row(*("" if value is None else str(value) for value in row.values()))
            console.print(table)


def _point_row(one: PointStatus) -> dict[str, str | None]:
    traffic, left_s = one.traffic, one.left_s
    return {
        "point": one.point,
        "meter": one.meter,
        "schedule": one.schedule + ("" if one.monitored_until is None else " (monitored)"),
        "traffic": None if traffic is None else f"{float(traffic.used_share):.0%} of the plan",
        "at month's end": None
        if traffic is None
        else f"{traffic.forecast_bytes / 2**20:.1f} of {traffic.plan_bytes / 2**20:.0f} MiB"
        + (" OVER" if traffic.is_over else ""),
        "connectivity, 7 days": None if one.connectivity is None else f"{one.connectivity:.0%}",
        "days to overwrite": None if left_s is None else f"{left_s / 86_400:.1f}",
    }
