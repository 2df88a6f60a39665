"""The whole main job on simulated meters, once, with a summary for a person.

What belongs here: the order of the phases and the settings of a demonstration (short waits). What does not:
the surroundings (`world`), the registry file (`registry`), any part of the job itself, what the summary
shows (`summary`) and how it is drawn (`pipelines.cli.demo`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from psycopg import sql

from assets.resources import Clock
from ccee.profile import DEFAULT_PROFILE, load_profile
from closing.standing import day_standing
from collector.drain import Progress, drain
from collector.work.worklist import request_missing
from derivation.parameters import parameters_in_force
from derivation.run import derive
from faults import DeveloperFault, OperatorFault
from pipelines.definitions import build_defs
from pipelines.demo.registry import write_registry
from pipelines.demo.summary import (
    DemoResult,
    summary,
)
from pipelines.demo.world import World, running_world
from pipelines.runs import run_daily
from simulator.fleets.demo import DemoPoint, demo_fleet
from storage.database import Database
from storage.registry import load_registry
from storage.settings import Settings
from vee.calendars import Period, last_closed_month, market_calendars
from vee.strategies.filling import EstimationParams

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
Follow = Callable[[str], None]
"""Told the name of each phase, and of each step in it, when it begins."""


@dataclass(frozen=True)
class DemoOptions:
    """What to demonstrate. `day` None: the day of the demonstration that is there, else yesterday."""

    points: int = 24
    day: date | None = None
    seed: int = 0
    is_fresh: bool = False


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


def run_demo(
    options: DemoOptions,
    follow: Follow,
    on_step: Follow,
    keep_meters: Callable[[DemoResult], None] = lambda result: None,
) -> DemoResult:
    """Run the demonstration in the data folder of the settings, or continue the one that is there.

    Args:
        follow: told each phase when it begins. on_step: told how the reads and Dagster's steps go on.
        keep_meters: gets the result while meters and stand-in still answer; they end when it returns.
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
        profile = load_profile(db.settings.ccee.profile_path or DEFAULT_PROFILE)
        standing = day_standing(db, day, profile, datetime.now(zone))
        result = summary(db, points, standing, outcome, registry_path, phases.seconds)
        keep_meters(result)
        return result


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
    """The options with a day; with `is_fresh` what was there is cleared away first.

    Raises:
        OperatorFault: a demonstration of another fleet or day is there; nobody said that it may go.
    """
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
    if known and options.is_fresh:
        _clear(settings, home)
    elif known and known != _state(options):
        there = "{points} points, day {day}, seed {seed}".format_map(known)
        raise OperatorFault(
            f"another demonstration is there: {there}",
            where=str(home),
            remedy="give the same --points, --day and --seed to go on with it; --fresh deletes it first, "
            "with all that was read and sent in it",
        )
    return options


def _day(options: DemoOptions) -> date:
    assert options.day is not None  # `_settled` has chosen one.
    return options.day


def _state_path(home: Path) -> Path:
    return home / "demo.json"


def _state(options: DemoOptions) -> dict[str, Any]:
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
