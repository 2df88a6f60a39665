"""The whole main job on simulated meters, once, with a summary for a person.

What belongs here: the order of the phases, the settings of a demonstration (short waits), and the questions
whose answers the summary shows. What does not: the surroundings (`demo_world`), the registry file
(`demo_registry`), any part of the job itself, and how the summary is drawn (`pipelines.cli.demo`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from psycopg import sql
from psycopg.rows import dict_row

from assets import delivery
from assets.resources import Clock
from ccee.profile import DEFAULT_PROFILE, load_profile
from collector.drain import Progress, drain
from collector.worklist import request_missing
from derivation.expectations import docs_folder
from derivation.parameters import parameters_in_force
from derivation.run import derive
from faults import DeveloperFault, OperatorFault
from pipelines.definitions import build_defs
from pipelines.demo.registry import write_registry
from pipelines.demo.world import World, running_world
from pipelines.runs import RunOutcome, run_daily
from simulator.fleets.demo import DemoPoint, Scenario, demo_fleet
from storage.database import Database
from storage.registry import load_registry
from storage.settings import Settings
from vee.calendars import Period, last_closed_month, market_calendars
from vee.filling import EstimationParams
from vee.quality import Cause, describe_cause

# A demonstration waits seconds where an operation waits minutes: the silent meter is given up soon.
DEMO_ENVIRONMENT: Mapping[str, str] = {
    "SMF_CCEE_ENVIRONMENT": "standin",
    "SMF_COLLECTOR_NAME": "demo",
    "SMF_COLLECTOR_CONNECT_TIMEOUT_S": "2",
    "SMF_COLLECTOR_IDLE_TIMEOUT_S": "3",
    "SMF_COLLECTOR_BACKOFF_BASE_S": "0.2",
    "SMF_COLLECTOR_BACKOFF_MAX_S": "1",
}
# Just after midnight: the history is there to read, and nothing of the day itself has happened to the meters.
HISTORY_AT = timedelta(minutes=2)
DAILY_AT = timedelta(days=1, minutes=10)
# Beyond this the clock of a meter is somebody's business (vee_rules.md, V09: 1 to 60 minutes).
CLOCK_ALARM_S = 60

WHO_ACTS: Mapping[Cause, str] = {
    Cause.NO_READING: "operator",
    Cause.LINK_FAILED: "operator, then field crew",
    Cause.MEMORY_GAP: "analyst",
    Cause.SUSPECT: "analyst",
    Cause.NO_HISTORY_NEEDS_APPROVAL: "analyst",
    Cause.SUSPENDED: "nobody",
    Cause.OUTSIDE_ACTIVE_PERIOD: "nobody",
    Cause.DAY_NOT_OVER: "nobody",
}

Row = dict[str, Any]
Follow = Callable[[str], None]
"""Told the name of each phase, and of each step in it, when it begins."""


@dataclass(frozen=True)
class DemoOptions:
    """What to demonstrate. `day` None: the day of the demonstration that is there, else yesterday."""

    points: int = 24
    day: date | None = None
    seed: int = 0
    is_fresh: bool = False


@dataclass(frozen=True)
class NotDelivered:
    """A UC-day that CCEE did not get, and why."""

    uc_code: str
    uc_name: str
    state: str
    cause: str
    cause_text: str
    remedy: str
    who_acts: str
    missing: int


@dataclass(frozen=True)
class MusdHour:
    """An hour that CCEE counts as zero."""

    uc_code: str
    hour: int
    energy_kwh: Decimal
    limit_kwh: Decimal


@dataclass(frozen=True)
class ClockAlarm:
    """A meter whose clock is off by more than `CLOCK_ALARM_S`."""

    serial: str
    uc_code: str
    drift_s: float


@dataclass(frozen=True)
class Example:
    """A value worth tracing: the UC, the END of the interval, and what is special about it."""

    uc_code: str
    interval_end: datetime
    what: str


@dataclass(frozen=True)
class DemoResult:
    """What a demonstration came to. Counts are of the day, and of the whole fleet.

    Attributes:
        delivered: UC-days that CCEE has; this very run sent `sent_now`, and left `unchanged` alone.
        rejected: intervals that validation refused or held.
        seconds: wall time by phase.
    """

    day: date
    points: int
    points_read: int
    sessions: int
    failed_sessions: int
    octets: int
    intervals: Mapping[str, int]
    rejected: int
    energy_kwh: Decimal
    delivered: int
    sent_now: int
    unchanged: int
    receipts: int
    not_delivered: Sequence[NotDelivered]
    musd_hours: Sequence[MusdHour]
    clock_alarms: Sequence[ClockAlarm]
    examples: Sequence[Example]
    checks_failed: Sequence[str]
    registry_path: Path
    data_docs_path: Path | None
    run_id: str
    seconds: Mapping[str, float] = field(default_factory=dict)


class _Phases:
    """Times each phase and tells the follower."""

    def __init__(self, follow: Follow) -> None:
        self._follow = follow
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._follow(name)
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 2)


def run_demo(options: DemoOptions, follow: Follow, on_step: Follow) -> DemoResult:
    """Run the demonstration in the data folder of the settings, or continue the one that is there.

    Args:
        follow: told each phase when it begins. on_step: told how the reads and Dagster's steps go on.
    Raises:
        OperatorFault: the database holds somebody's real data, or the day is not over.
        DeveloperFault: a step of the daily run failed.
    """
    phases = _Phases(follow)
    with ExitStack() as stack:
        stack.enter_context(_environment(DEMO_ENVIRONMENT))
        home = Settings.load().database.data_dir / "demo"
        dlms_secrets = home / "dlms_secrets.toml"
        stack.enter_context(_environment({"SMF_COLLECTOR_DLMS_SECRETS_PATH": str(dlms_secrets)}))
        settings = Settings.load()
        with phases("database"):
            options = _settled(settings, options, home)
            day = _day(options)
            db = stack.enter_context(Database.open(settings))
            db.migrate()
            points = demo_fleet(options.points, day, options.seed)
            _check_database(db, points)
            home.mkdir(parents=True, exist_ok=True)
            _state_path(home).write_bytes(orjson.dumps(_state(options)))
            _write_secrets(dlms_secrets, points)
        with phases("meters and stand-in"):
            secrets = {point.agent_code: f"demo-{point.agent_code}" for point in points}
            world = stack.enter_context(
                running_world(options.points, day, options.seed, home / "ccee.jsonl", secrets)
            )
            stack.enter_context(_environment(_way_to(world, secrets)))
        with phases("registry"):
            registry_path = write_registry(points, world.meter_urls, home / "registry")
            load_registry(db, registry_path, actor="smf demo")
        zone = settings.market.tzinfo
        midnight = datetime.combine(day, datetime.min.time(), zone)
        with phases("history"):
            _read_history(db, _set_clock(world, midnight + HISTORY_AT), day, on_step)
        with phases("daily run"):
            clock = _set_clock(world, midnight + DAILY_AT)
            outcome = run_daily(
                db, day, 0, lambda step: on_step(f"{step.step} {step.state}"), _definitions(clock)
            )
        if any(failure.kind == "DagsterExecutionInterruptedError" for failure in outcome.failures):
            raise KeyboardInterrupt  # Dagster has taken the Ctrl-C and ended its step in order.
        if not outcome.is_success:
            first = outcome.failures[0] if outcome.failures else None
            raise DeveloperFault(
                first.message if first else "the run failed without a failed step",
                where=f"run {outcome.run_id}" + (f", step {first.step}" if first else ""),
                remedy="open the run in Dagster's interface: make ui",
            )
        return summary(db, points, day, outcome, registry_path, phases.seconds)


class RunningClock(Clock):
    """Simulated time that goes on: `at` was when the machine's steady clock showed `since_s`."""

    since_s: float = 0.0

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at) + timedelta(seconds=time.monotonic() - self.since_s)


def _set_clock(world: World, instant: datetime) -> RunningClock:
    """Meters, CCEE and ourselves live at this instant from now on."""
    world.set_clock(instant)
    return RunningClock(at=instant.isoformat(), since_s=time.monotonic())


def _definitions(clock: RunningClock) -> dg.Definitions:
    return build_defs(resources={"clock": clock})


def _read_history(db: Database, clock: RunningClock, day: date, on_step: Follow) -> None:
    """The days that rule A looks back to, read from the meters' memories and derived; once."""
    # The date that decides which months are closed is the one of the daily run.
    closed = last_closed_month(day + timedelta(days=1), market_calendars(db.settings.market))
    first_day = Period.month(closed).following - timedelta(days=EstimationParams().window_days)
    days = [first_day + timedelta(n) for n in range((day - first_day).days)]
    with db.connect() as conn:
        if conn.execute("SELECT 1 FROM series_day WHERE day = %s LIMIT 1", [days[-1]]).fetchone():
            return
    requests = request_missing(db, days, clock.now(), "smf demo, history")

    def follow(progress: Progress) -> None:
        on_step(f"{progress.done} of {progress.total} meters, {progress.frames} frames")

    asyncio.run(drain(db, requests, clock.now, follow))
    on_step("deriving")
    profile = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
    parameters = parameters_in_force(db.settings.market, profile.musd.params)
    derive(db, days[0], days[-1], as_of=clock.now(), run_id="demo-history", parameters=parameters)


def _settled(settings: Settings, options: DemoOptions, home: Path) -> DemoOptions:
    """The options with a day; a demonstration of another fleet or day is cleared away first."""
    zone = settings.market.tzinfo
    latest = (datetime.now(zone) - timedelta(days=1)).date()
    known = orjson.loads(_state_path(home).read_bytes()) if _state_path(home).is_file() else None
    if options.day is None:
        day = latest
        if known and not options.is_fresh:
            day = date.fromisoformat(known["day"])
        options = replace(options, day=day)
    if _day(options) > latest:
        raise OperatorFault(
            f"{options.day} is not over yet",
            where="--day",
            remedy=f"the last day that is over is {latest}",
        )
    first_day = date.fromisoformat(settings.dagster.first_day)
    if _day(options) < first_day:
        raise OperatorFault(
            f"{options.day} has no partition",
            where="--day",
            remedy=f"give a day from {first_day} on, or set [dagster] first_day",
        )
    if known and (options.is_fresh or known != _state(options)):
        _clear(settings, home)
    return options


def _day(options: DemoOptions) -> date:
    assert options.day is not None  # `_settled` has chosen one.
    return options.day


def _state_path(home: Path) -> Path:
    return home / "demo.json"


def _state(options: DemoOptions) -> Row:
    return {"points": options.points, "day": str(options.day), "seed": options.seed}


def _clear(settings: Settings, home: Path) -> None:
    """Drop the databases of the demonstration that was; only ever called where its state file is."""
    with Database.open(settings) as db:
        if not db.is_embedded:
            raise OperatorFault(
                "another demonstration is in this database",
                where=db.safe_url,
                remedy="give the same --points, --day and --seed, or name an empty database",
            )
        with db.sibling("postgres").connect(autocommit=True) as conn:
            for name in (db.name, f"{db.name}_dagster"):
                conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    shutil.rmtree(home)


def _write_secrets(path: Path, points: Sequence[DemoPoint]) -> None:
    """The passwords of the fleet's DLMS meters, as the collector wants them: for their owner alone."""
    with open(path, "w", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        for point in points:
            for meter in point.meters:
                if meter.dlms is not None:
                    file.write(f'[meters."{meter.serial}"]\npassword = "{meter.dlms.password.decode()}"\n')


def _check_database(db: Database, points: Sequence[DemoPoint]) -> None:
    """Refuse a database that holds other UCs: a demonstration never mixes with real data."""
    with db.connect() as conn:
        other = conn.execute(
            "SELECT code FROM uc WHERE code <> ALL (%s) LIMIT 1", [[point.uc_code for point in points]]
        ).fetchone()
    if other is not None:
        raise OperatorFault(
            f"the database holds UC {other[0]}, which is not of this demonstration",
            where=db.safe_url,
            remedy="set SMF_DATA_DIR to another folder, or SMF_DATABASE_URL to an empty database",
        )


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the time of a demonstration, whatever the user's are: it must never reach CCEE."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _way_to(world: World, secrets: Mapping[int, str]) -> dict[str, str]:
    way = {"SMF_CCEE_BASE_URL": world.ccee_url}
    for code, secret in secrets.items():
        way[f"SMF_AGENT_{code}_CLIENT_ID"] = f"CONCESSIONARIA_{code}"
        way[f"SMF_AGENT_{code}_CLIENT_SECRET"] = secret
    return way


# --- what it came to ------------------------------------------------------------------------------------

_COLLECTED = """
    SELECT count(DISTINCT p.uc_id) FILTER (WHERE r.meter_id IS NOT NULL) AS points_read
    FROM point p
    JOIN installation i ON i.point_id = p.id AND i.role = 'main'
    LEFT JOIN reading_day r ON r.meter_id = i.meter_id AND r.channel = i.active_channel AND r.day = %(day)s
"""
_SESSIONS = """
    SELECT count(*) AS sessions, count(*) FILTER (WHERE outcome <> 'complete') AS failed,
           coalesce(sum(bytes_sent + bytes_received), 0)::bigint AS octets
    FROM session
"""
_INTERVALS = """
    SELECT coalesce(sum(measured), 0)::int AS measured, coalesce(sum(backup), 0)::int AS backup,
           coalesce(sum(estimated), 0)::int AS estimated, coalesce(sum(edited), 0)::int AS edited,
           coalesce(sum(missing), 0)::int AS missing, coalesce(sum(energy_kwh), 0) AS energy_kwh
    FROM uc_day_outcome WHERE day = %(day)s
"""
_REJECTED = """
    SELECT coalesce(sum(last_slot - first_slot + 1), 0)::int AS rejected
    FROM verdict WHERE day = %(day)s AND result IN ('refused', 'held')
"""
_DELIVERED = """
    SELECT count(DISTINCT s.uc_id) AS delivered,
           count(DISTINCT s.uc_id) FILTER (WHERE a.receipt IS NOT NULL) AS receipts
    FROM submission_state s
    LEFT JOIN submission_attempt a ON a.submission_id = s.id AND a.outcome IN ('accepted', 'processing')
    WHERE s.day = %(day)s AND s.state IN ('aceito', 'em_processamento', 'rejeitado_musd', 'definitivo')
"""
_NOT_DELIVERED = """
    SELECT uc.code, uc.name, o.state, o.cause, o.missing
    FROM uc_day_outcome o JOIN uc ON uc.id = o.uc_id
    WHERE o.day = %(day)s AND NOT EXISTS (
        SELECT FROM submission_state s
        WHERE s.uc_id = o.uc_id AND s.day = o.day
          AND s.state IN ('aceito', 'em_processamento', 'rejeitado_musd', 'definitivo'))
    ORDER BY o.state, uc.code
"""
_MUSD = """
    SELECT uc.code, m.hour, m.energy_kwh, trim_scale(m.limit_kwh)
    FROM musd_hour m JOIN uc ON uc.id = m.uc_id
    WHERE m.day = %(day)s AND m.is_rejected ORDER BY uc.code, m.hour
"""
_CLOCKS = """
    SELECT DISTINCT ON (m.serial) m.serial, uc.code, s.drift_s
    FROM session s
    JOIN meter m ON m.id = s.meter_id
    JOIN installation i ON i.meter_id = m.id
    JOIN point p ON p.id = i.point_id
    JOIN uc ON uc.id = p.uc_id
    WHERE abs(s.drift_s) > %(limit)s
    ORDER BY m.serial, s.started_at DESC
"""
# The middle of the longest estimated run, by rule A where there is one: what a person would want explained.
_ESTIMATED = """
    SELECT uc.code, e.method, (e.first_slot + e.last_slot) / 2 AS slot, d.interval_s
    FROM estimate e
    JOIN uc ON uc.id = e.uc_id
    JOIN series_day d ON (d.uc_id, d.day, d.version, d.layer) = (e.uc_id, e.day, e.version, 5)
    WHERE e.day = %(day)s
    ORDER BY e.method <> 'A', e.last_slot - e.first_slot DESC LIMIT 1
"""


def summary(
    db: Database,
    points: Sequence[DemoPoint],
    day: date,
    outcome: RunOutcome,
    registry_path: Path,
    seconds: Mapping[str, float],
) -> DemoResult:
    """What the database now says about the day, and what this run did for it."""
    keys = {"day": day, "limit": CLOCK_ALARM_S}
    sent = next((asset.metadata for asset in outcome.assets if asset.asset == delivery.NAME), {})
    with db.connect() as conn:
        conn.row_factory = dict_row

        def ask(query: str) -> list[Row]:
            return conn.execute(query, keys).fetchall()

        docs_path = docs_folder(db.data_dir, day, 0, db.settings.dagster.shards) / "index.html"
        sessions, delivered, intervals = ask(_SESSIONS)[0], ask(_DELIVERED)[0], ask(_INTERVALS)[0]
        return DemoResult(
            day=day,
            points=len(points),
            points_read=ask(_COLLECTED)[0]["points_read"],
            sessions=sessions["sessions"],
            failed_sessions=sessions["failed"],
            octets=sessions["octets"],
            energy_kwh=intervals.pop("energy_kwh"),
            intervals=intervals,
            rejected=ask(_REJECTED)[0]["rejected"],
            delivered=delivered["delivered"],
            sent_now=int(sent.get("sent", 0)),
            unchanged=int(sent.get("unchanged", 0)),
            receipts=delivered["receipts"],
            not_delivered=[_not_delivered(row) for row in ask(_NOT_DELIVERED)],
            musd_hours=[MusdHour(*row.values()) for row in ask(_MUSD)],
            clock_alarms=[
                ClockAlarm(row["serial"], row["code"], float(row["drift_s"])) for row in ask(_CLOCKS)
            ],
            examples=_examples(points, day, ask(_ESTIMATED), db.settings.market.tzinfo),
            checks_failed=[
                f"{check.asset}: {check.check}"
                for check in outcome.checks
                if not check.is_passed and check.severity == "ERROR"
            ],
            registry_path=registry_path,
            data_docs_path=docs_path if docs_path.is_file() else None,
            run_id=outcome.run_id,
            seconds=seconds,
        )


def _not_delivered(row: Row) -> NotDelivered:
    cause = Cause(row["cause"]) if row["cause"] else None
    info = describe_cause(cause) if cause else None
    return NotDelivered(
        uc_code=row["code"],
        uc_name=row["name"],
        state=row["state"],
        cause=row["cause"],
        cause_text=info.text_pt if info else "",
        remedy=info.remedy_pt if info else "",
        who_acts=WHO_ACTS.get(cause, "analyst") if cause else "",
        missing=row["missing"],
    )


def _examples(
    points: Sequence[DemoPoint], day: date, estimated: Sequence[Row], zone: timezone
) -> list[Example]:
    """One measured value with losses, one of a DLMS meter, and one estimated, where there are such."""
    midnight = datetime.combine(day, datetime.min.time(), zone)
    with_losses = [point for point in points if point.scenario is Scenario.LOSSES]
    chosen = (with_losses or points)[0]
    found = [
        Example(
            chosen.uc_code,
            midnight + timedelta(hours=10, minutes=5),
            "measured, raised by losses" if with_losses else "measured",
        )
    ]
    found += [
        Example(point.uc_code, midnight + timedelta(hours=10, minutes=5), "measured, read by DLMS")
        for point in points
        if point.scenario is Scenario.DLMS
    ][:1]
    for row in estimated:
        end = midnight + timedelta(seconds=(row["slot"] + 1) * row["interval_s"])
        found.append(Example(row["code"], end, f"estimated, method {row['method']}"))
    return found
