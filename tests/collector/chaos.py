"""A collector, its database and a mixed fleet on bad links, living days in simulated time.

The database's clock is simulated, too: the queue's back-off and leases go by `clock_timestamp()`, which a
function of the same name, found first on the search path, answers with the loop's time.

Over 500 lines: one simulated world, which its parts share.
"""

from __future__ import annotations

import asyncio
import random
import tomllib
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from collector import evidence, service
from collector.commands.policy import parse_policy
from collector.commands.store import Person, approve, ask
from collector.nbr14522 import driver
from collector.service import Collector
from collector.streams import reader as streams
from collector.work.monitoring import monitor
from collector.work.planning import SequenceName
from protocols.nbr14522.models import add_catalogue, remove_catalogue
from simulator.fleets.file import plan_fleet
from simulator.fleets.runner import PlannedFleetServer
from simulator.load.grid import MARKET_ZONE
from simulator.nbr14522.meter import Stretch
from simulator.nbr14522.server import MeterServer
from simulator.wires.virtual_time import run_virtual, virtual_loop
from storage import queue
from storage.database import Database
from storage.queue import Priority
from tests.collector import world

LISTEN_PORT = 39_000
KINDS = """
[kinds.unidade]
hello = 'UNIDADE (?P<unit>[^;]{1,64});'
"""
POLICY = """
[default]
roles = ["engineer"]
[command.20]
second_person = true
[people]
ana = ["engineer"]
bruno = ["engineer"]
"""
# Groups in which people close the period of some meters while the fleet is being read.
RESET_GROUPS = ("plain", "addressed", "calling", "shared-serials", "shared-addresses")
BEGIN = datetime(2026, 11, 29, 18, tzinfo=MARKET_ZONE)  # the automatic reset of the 1st falls inside
EPOCH = datetime(1970, 1, 1)
CATALOGUE = Path(__file__).parents[2] / "deploy" / "modelos_de_treino.toml"

# Parts of a fleet of 100; the last groups cannot give all, each for a reason of its own.
FLEET = """
[fleet]
seed = {seed}
now = 2026-11-29T18:00:00-03:00
collector = "127.0.0.1:{port}"
history_days = 60
[[group]]
name = "plain"
count = {30}
link = "gprs"
loads = ["supermarket", "commerce"]
enq_period_s = 2.0
clock = {{ offset_s = [-40.0, 40.0], drift_ppm = [-8.0, 8.0] }}
outages_per_year = 40
outage_min = [0.5, 180.0]
[[group]]
name = "addressed"
count = {20}
model = "p8-generic"
link = "gprs-bad"
clock = {{ offset_s = [-40.0, 40.0], drift_ppm = [-20.0, 20.0] }}
[[group]]
name = "short-address"
count = {12}
model = "p2-generic"
link = "gprs"
interval_min = 15
[[group]]
name = "old"
count = {10}
model = "old-3ch"
link = "3g"
enq_period_s = 2.0
faults = {{ wait_count = 1, bad_crc = 0.02 }}
[[group]]
name = "twelve"
count = {8}
model = "treino-12-canais"
link = "gprs"
interval_min = 15
enq_period_s = 2.0
channels = ["kwh", "kvarh-ind", "kvarh-cap", "kwh-rev", "kvarh-ind-rev", "kvarh-cap-rev",
            "vh-a", "vh-b", "vh-c", "ih-a", "ih-b", "ih-c"]
generation_kw = 40.0
[[group]]
name = "drifting"
count = {8}
model = "treino-completo"
link = "4g"
enq_period_s = 2.0
clock = {{ offset_s = [-900.0, 900.0], drift_ppm = [-60.0, 60.0] }}
[[group]]
name = "set-by-30"
count = {4}
link = "4g"
enq_period_s = 2.0
clock = {{ offset_s = [-200.0, 200.0], drift_ppm = [-30.0, 30.0] }}
[[group]]
name = "refusing"
count = {3}
link = "gprs"
enq_period_s = 2.0
faults = {{ refuse_first = 4, drop_first = 3 }}
[[group]]
name = "cleared"
count = {3}
model = "p8-generic"
link = "gprs"
[[group]]
name = "calling"
count = {5}
model = "p8-generic"
link = "gprs"
transport = "dial_in"
dial = {{ hello = "UNIDADE {{unit}};", back_off_s = 20.0 }}
[[group]]
name = "calling-together"
count = {4}
per_unit = 2
model = "p8-generic"
link = "gprs-bad"
transport = "dial_in"
dial = {{ hello = "UNIDADE {{unit}};", back_off_s = 20.0 }}
[[group]]
name = "shared-serials"
count = {6}
per_unit = 3
model = "p8-generic"
link = "gprs"
[[group]]
name = "shared-addresses"
count = {6}
per_unit = 3
model = "p2-generic"
link = "gprs"
interval_min = 15
[[group]]
name = "silent"
count = {2}
link = "gprs"
enq_period_s = 2.0
faults = {{ silent = 1.0 }}
"""


def document(meters, seed):
    """The fleet file scaled to so many meters (at least one of each group)."""
    text = FLEET.replace("{seed}", str(seed)).replace("{port}", str(LISTEN_PORT))
    lines = []
    for line in text.replace("{{", "{").replace("}}", "}").splitlines():
        if line.startswith("count = {"):
            share = int(line.removeprefix("count = {").removesuffix("}"))
            count = max(1, round(meters * share / 100))
            line = f"count = {count}"
        elif line.startswith("per_unit"):
            # As many to a unit, but whole units: a small fleet has one of each.
            size = int(line.split("=")[1])
            lines[-1] = (
                lines[-1] if lines[-1].startswith("name") else f"count = {max(size, count // size * size)}"
            )
        lines.append(line)
    return tomllib.loads("\n".join(lines))


def simulate_server_clock(db):
    """From the next connection on, the database's now is a row of its own."""
    with db.connect(autocommit=True) as conn:
        conn.execute("CREATE UNLOGGED TABLE simulated_clock (at timestamptz NOT NULL) WITH (fillfactor = 10)")
        conn.execute("INSERT INTO simulated_clock VALUES (%s)", [BEGIN])
        for name in ("clock_timestamp", "now"):
            conn.execute(
                f"CREATE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE sql VOLATILE "
                "AS 'SELECT at FROM public.simulated_clock'"
            )
        conn.execute("ALTER TABLE job_request ALTER requested_at SET DEFAULT public.now()")
        (name,) = conn.execute("SELECT current_database()").fetchone()
        conn.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")


@dataclass
class Witness:
    """What nobody in the system knows that it is seen doing."""

    talking: Counter = field(default_factory=Counter)
    most: Counter = field(default_factory=Counter)
    broken_off: Counter = field(default_factory=Counter)

    @contextmanager
    def watching(self, monkeypatch):
        read, take_over = driver.read_meter, MeterServer.take_over

        async def watched(line, *rest, **ways):
            self.talking[line.meter_serial] += 1
            self.most[line.meter_serial] = max(self.most[line.meter_serial], self.talking[line.meter_serial])
            try:
                return await read(line, *rest, **ways)
            finally:
                self.talking[line.meter_serial] -= 1

        def arrived(server, end):
            if server._talking is not None and server._talking.is_open:
                self.broken_off[server.station.stations[0].meter.spec.serial] += 1
            take_over(server, end)

        with monkeypatch.context() as patch:
            patch.setattr(driver, "read_meter", watched)
            patch.setattr(MeterServer, "take_over", arrived)
            yield self


@dataclass
class Lived:
    """The fleet after its days."""

    db: Database
    end: datetime
    stations: dict
    groups: dict
    ids: dict
    resets: dict
    witness: Witness
    sessions: Counter
    bytes: int


def live(db, meters, days, seed, monkeypatch, folder):
    """Let the fleet live from `BEGIN` until 08:00 after so many whole days."""
    for name, text in (("kinds.toml", KINDS), ("policy.toml", POLICY)):
        (folder / name).write_text(text)
    db = world.quick(
        db,
        poll_s=120.0,
        lease_s=3600.0,
        connect_timeout_s=40.0,
        backoff_base_s=60.0,
        backoff_max_s=1800.0,
        stop_grace_s=900.0,
        per_host_limit=200,
        recovery_every_s=21600.0,
        recovery_days=days,
        listen_host="127.0.0.1",
        listen_port=LISTEN_PORT,
        dial_in_kinds_path=folder / "kinds.toml",
        command_policy_path=folder / "policy.toml",
    )
    simulate_server_clock(db)
    monkeypatch.setattr(service, "_SCHEDULE_S", 300.0)
    # Time is free here and the database is not: frames are stored before they are settled all the same.
    monkeypatch.setattr(evidence, "_WAIT_S", 30.0)
    monkeypatch.setattr(streams, "StreamPace", partial(streams.StreamPace, look_s=3600.0))
    # Loading the catalogue is the collector's own setting; the fleet names its models, too.
    add_catalogue(CATALOGUE.name, CATALOGUE.read_text(encoding="utf-8"))
    plan = _with_losses(plan_fleet(document(meters, seed), "chaos", BEGIN), days, random.Random(seed))
    witness = Witness()
    try:
        with witness.watching(monkeypatch):
            return run_virtual(_live(db, plan, days, witness, random.Random(seed)))
    finally:
        remove_catalogue(CATALOGUE.name)


def _with_losses(plan, days, chance):
    """The group `cleared` loses its memory at a moment of these days, at an hour no schedule has read yet."""
    units = []
    for unit in plan.units:
        meter = unit.meters[0]
        if meter.group == "cleared":
            at = BEGIN.replace(tzinfo=None) + timedelta(
                days=chance.randrange(days), hours=chance.uniform(12, 29)
            )
            unit = replace(unit, meters=(replace(meter, spec=replace(meter.spec, memory_cleared=(at,))),))
        units.append(unit)
    return replace(plan, units=tuple(units))


async def _live(db, plan, days, witness, rng):
    clock = virtual_loop().clock(BEGIN)
    first_day = BEGIN.date() + timedelta(days=1)
    end = datetime.combine(first_day + timedelta(days=days), datetime.min.time(), MARKET_ZONE)
    end += timedelta(hours=8)
    async with PlannedFleetServer(plan, clock) as fleet:
        ids = _register(db, fleet, first_day)
        collector = Collector(db, now=clock, rng=rng)
        stop = asyncio.Event()
        ticking = asyncio.create_task(_tick(db, clock))
        work = asyncio.create_task(collector.run(stop))
        await asyncio.sleep(8 * 3600.0)
        _ask_on_demand(db, ids, clock())
        resets = _ask_resets(db, ids, fleet, clock())
        await asyncio.wait([work], timeout=(end - clock()).total_seconds())
        stop.set()
        await work
        ticking.cancel()
        return Lived(
            db=db,
            end=clock(),
            stations=fleet.stations,
            groups={row.serial: row.group for row in fleet.meters},
            ids=ids,
            resets=resets,
            witness=witness,
            sessions=collector.stats.sessions,
            bytes=collector.stats.bytes_sent + collector.stats.bytes_received,
        )


def _ask_on_demand(db, ids, now):
    """People ask in the middle of the night's work: every sequence, and one point watched for half a day."""
    names = [name.value for name in SequenceName]
    with db.connect() as conn:
        for number, meter_id in enumerate(ids.values()):
            if number % 5 == 0:
                parameters = {"sequence": names[number // 5 % len(names)], "days": []}
                request = queue.JobRequest(
                    "read", "person", meter_id, parameters, priority=int(Priority.ON_DEMAND)
                )
                queue.enqueue(conn, request)
        monitor(conn, "P00000", now, now + timedelta(hours=12), "person")


def _ask_resets(db, ids, fleet, now):
    """Two people have the demand of some meters reset, among all that reads them; request ids by serial."""
    policy = parse_policy(POLICY, "chaos")
    person = Person("ana", policy.roles_of("ana"))
    chosen = [row.serial for row in fleet.meters if row.group in RESET_GROUPS][::3]
    with db.connect() as conn:
        asked = {
            serial: ask(conn, db.settings, policy, person, ids[serial], "20", {}, "chaos", now).request_id
            for serial in chosen
        }
        for request_id in asked.values():
            approve(conn, policy, request_id, "bruno")
    return asked


async def _tick(db, clock):
    with db.connect(autocommit=True) as conn:
        while True:
            conn.execute("UPDATE public.simulated_clock SET at = %s", [clock()])
            await asyncio.sleep(60.0)


def _url(row):
    """The registry's address of a meter: its unit's name where that calls, its own where a line is shared."""
    url = f"dialin://{row.unit}" if row.group.startswith("calling") else row.url
    return f"{url}?address={row.address}" if row.group == "shared-addresses" else url


def _register(db, fleet, first_day):
    ids = {}
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'Distribuidora')")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor"
        )
        for number, row in enumerate(fleet.meters):
            meter = fleet.stations[row.serial].meter
            meter_id = world.add_meter(
                conn,
                number,
                row.serial,
                _url(row),
                row.model,
                f"cell-{number % 10}",
                f"{first_day}T00:00-03:00",
                constant=meter.spec.pulse_constant,
                interval_s=meter.interval_s,
            )
            kind = "hourly" if number % 25 == 3 else "quarter_hourly" if number % 100 == 7 else "daily"
            conn.execute(
                "INSERT INTO point_schedule (point_id, valid, kind) SELECT point_id, '[2026-01-01,)', %s "
                "FROM installation WHERE meter_id = %s",
                [kind, meter_id],
            )
            ids[row.serial] = meter_id
    return ids


# --- what must hold --------------------------------------------------------------------------------------


@dataclass
class Account:
    """Intervals by what became of them, and all that is wrong."""

    exact: int = 0
    lost_by_meter: int = 0
    unreachable: int = 0
    wrong: list = field(default_factory=list)


def account(lived, days):
    """Every interval of every channel and day against what the meter counted."""
    found = defaultdict(dict)
    first_day = BEGIN.date() + timedelta(days=1)
    with lived.db.connect() as conn:
        rows = conn.execute(
            "SELECT meter_id, channel, day, interval_s, pulses, version FROM reading_day WHERE day >= %s",
            [first_day],
        )
        for meter_id, channel, day, interval_s, pulses, version in rows:
            assert version == 1
            assert (channel, day) not in found[meter_id], "the interval is there twice"
            assert len(pulses) * interval_s == 86_400
            found[meter_id][channel, day] = pulses
        exhausted = {
            (meter_id, day)
            for meter_id, day in conn.execute(
                "SELECT meter_id, jsonb_array_elements_text(result -> 'exhausted_days')::date "
                "FROM job_request WHERE result ? 'exhausted_days'"
            )
        }
        failed = {
            meter_id: (actor, stage)
            for meter_id, actor, stage in conn.execute(
                "SELECT meter_id, error ->> 'actor', error ->> 'stage' FROM job_request "
                "WHERE error IS NOT NULL AND kind = 'read' ORDER BY id"
            )
        }
    told = Account()
    for serial, station in lived.stations.items():
        meter, meter_id = station.meter, lived.ids[serial]
        held = meter.whole_memory(lived.end)
        slots = 86_400 // meter.interval_s
        for number in range(days):
            day = first_day + timedelta(days=number)
            first = (datetime.combine(day, datetime.min.time()) - EPOCH) // timedelta(
                seconds=meter.interval_s
            )
            truth = meter.pulses(Stretch(first, first + slots))
            could = np.arange(first, first + slots) >= held.first
            for channel in range(1, meter.channels + 1):
                stored = found[meter_id].get((channel, day), [None] * slots)
                missing = np.array([value is None for value in stored])
                same = np.array([-1 if value is None else value for value in stored]) == truth[:, channel - 1]
                told.exact += int(same.sum())
                if (~missing & ~same).any():
                    told.wrong.append((lived.groups[serial], serial, day, channel, "another value"))
                if (missing & ~could).any():
                    told.lost_by_meter += int((missing & ~could).sum())
                    if (meter_id, day) not in exhausted:
                        told.wrong.append(
                            (lived.groups[serial], serial, day, channel, "lost, cause not told")
                        )
                if (missing & could).any():
                    told.unreachable += int((missing & could).sum())
                    if not station.faults.silent or failed.get(meter_id, ("", ""))[1] not in (
                        "connect",
                        "synchronise",
                    ):
                        told.wrong.append((lived.groups[serial], serial, day, channel, "not fetched"))
    return told


def overlapping_sessions(db):
    """Pairs of sessions of one meter that ran at the same time."""
    return world.query(
        db,
        "SELECT a.meter_id, a.id, b.id FROM session a JOIN session b ON b.meter_id = a.meter_id "
        "AND b.id > a.id AND b.started_at < a.ended_at AND a.started_at < b.ended_at",
    )


def resets(lived):
    """By meter whose period people closed: (resets that its log has from us, verdict of the request)."""
    verdicts = dict(
        world.query(
            lived.db,
            "SELECT request_id, verdict FROM command_status WHERE request_id = ANY(%s)",
            list(lived.resets.values()),
        )
    )
    reader = lived.db.settings.collector.reader_serial
    return {
        serial: (
            sum(by == reader for _, by in lived.stations[serial].meter.resets(lived.end)),
            verdicts[request_id],
        )
        for serial, request_id in lived.resets.items()
    }


def shared_lines(db):
    """Pairs of sessions that ran on one line at the same time: several meters answer at one address."""
    return world.query(
        db,
        "WITH s AS (SELECT id, split_part(url, '?', 1) AS line, started_at, ended_at FROM session) "
        "SELECT a.id, b.id FROM s a JOIN s b ON b.line = a.line AND b.id > a.id "
        "AND b.started_at < a.ended_at AND a.started_at < b.ended_at",
    )


def writes(lived):
    """By meter: changes in the simulators' logs that came from outside, writes on record, confirmed ones."""
    recorded = dict(
        world.query(
            lived.db,
            "SELECT j.meter_id, count(*) FILTER (WHERE x.step = 'writing') FROM command_execution x "
            "JOIN job_request j ON j.id = x.request_id GROUP BY j.meter_id",
        )
    )
    confirmed = dict(
        world.query(
            lived.db,
            "SELECT j.meter_id, count(*) FROM command_execution x JOIN job_request j ON j.id = x.request_id "
            "WHERE x.verdict = 'confirmed' GROUP BY j.meter_id",
        )
    )
    told = {}
    for serial, station in lived.stations.items():
        done = [
            c
            for c in station.meter.changes(lived.end)
            if c.reader == lived.db.settings.collector.reader_serial
        ]
        meter_id = lived.ids[serial]
        told[serial] = (len(done), recorded.get(meter_id, 0), confirmed.get(meter_id, 0))
    return told
