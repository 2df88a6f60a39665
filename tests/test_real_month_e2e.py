"""A month that a real meter counted, through the whole path, exact in each of its 8,641 intervals.

The recording is served by the simulator, read over TCP in the ordinary way, derived and delivered, once as
it is and once with losses. The recording may not be distributed, so the test is left out where it is absent.
"""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from ccee.client import CceeClient, Credentials
from ccee.delivery import deliver_day
from ccee.profile import load_profile
from ccee.standin import rules as standin_rules
from ccee.standin.records import Unit
from ccee.standin.rules import StandIn
from ccee.standin.server import serve_in_thread
from collector.drain import drain
from collector.work.worklist import request_missing
from derivation.run import derive
from protocols.nbr14522.profiles import DEFAULT
from simulator.fleets.single import end_of, recorded_meter
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.grid import MARKET_ZONE
from simulator.load.recording import read_pulses_csv
from simulator.nbr14522.line import Station
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.server import TcpMeterServer
from simulator.wires.faultplan import FaultPlan
from storage.database import Database
from storage.registry import load_registry
from storage.registry.sheets import BY_NAME
from vee.calendars import load_calendars

RECORDING = Path(__file__).parents[2] / "shared" / "data" / "pulses_5min_2016-09-28_2016-10-28.csv"
NUM, DEN = 72, 10_000
AGENT, SECRET = 4127, "not-a-real-secret"
# UC code -> meter serial; the second has losses.
METERS = {"000001000000471": "16092801", "000001000000552": "16092802"}
PLAIN, WITH_LOSSES = METERS
FACTOR = {PLAIN: Fraction(1), WITH_LOSSES: Fraction("1.025") * Fraction("1.012")}
FIRST_DAY, LAST_DAY = date(2016, 9, 28), date(2016, 10, 27)
COMPLETE_DAYS = [FIRST_DAY + timedelta(n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
# The first label of the recording is 00:00 of the 28th: the last interval of the 27th.
EDGE = FIRST_DAY - timedelta(days=1)

pytestmark = [
    pytest.mark.skipif(not RECORDING.is_file(), reason="real data absent (../shared/data)"),
    pytest.mark.timeout(1200),
]


@contextmanager
def served(urls: dict[str, str]) -> Iterator[SettableClock]:
    """Both meters on TCP ports, two seconds after the last recorded interval."""
    recording = read_pulses_csv(RECORDING, NUM / DEN)
    clock = SettableClock(end_of(recording) + timedelta(seconds=2), is_running=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = []
    try:
        for serial in METERS.values():
            spec = recorded_meter(
                recording, serial=serial, constant=(NUM, DEN), profile=DEFAULT, clock=ClockModel(clock())
            )
            server = TcpMeterServer(Station(SimulatedMeter(spec), clock, FaultPlan()))
            asyncio.run_coroutine_threadsafe(server.start(), loop).result()
            servers.append(server)
            urls[serial] = server.url
        yield clock
    finally:
        for server in servers:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def write_registry(folder: Path, urls: Mapping[str, str]) -> Path:
    rows: dict[str, list[dict[str, object]]] = {
        "distributors": [{"code": "D", "name": "Distribuidora"}],
        "agents": [{"code": AGENT, "name": "Agente", "distributor_code": "D"}],
        "ucs": [{"code": uc, "name": uc, "agent_code": AGENT} for uc in METERS],
        "status": [{"uc_code": uc, "status": "active"} for uc in METERS],
        "musd": [{"uc_code": uc, "musd_kw": 300} for uc in METERS],
        "points": [{"code": f"P{uc}", "uc_code": uc} for uc in METERS],
        "losses": [
            {"point_code": f"P{WITH_LOSSES}", "kind": "transformation", "percent": "2.5"},
            {"point_code": f"P{WITH_LOSSES}", "kind": "line", "percent": "1.2"},
        ],
        "meter_models": [{"code": "M", "profile": "default"}],
        "meters": [{"serial": serial, "model_code": "M"} for serial in METERS.values()],
        "units": [{"code": serial, "url": urls[serial]} for serial in METERS.values()],
        "installations": [
            {
                "meter_serial": serial,
                "point_code": f"P{uc}",
                "unit_code": serial,
                "role": "main",
                "pulse_energy_num": NUM,
                "pulse_energy_den": DEN,
            }
            for uc, serial in METERS.items()
        ],
    }
    for name, lines in rows.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, BY_NAME[name].names)
            writer.writeheader()
            writer.writerows(lines)
    return folder


@dataclass
class Month:
    db: Database
    counts: list[int]
    bodies: dict[tuple[str, date], dict[str, object]]
    operator: StandIn


@pytest.fixture
def month(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Month:
    """Read, derived, delivered."""
    # The market's system begins in 2024; the month is older, and nothing else depends on its date.
    monkeypatch.setattr(standin_rules, "FIRST_DAY", date(2016, 1, 1))
    registry, journal, urls = tmp_path / "registry", tmp_path / "ccee.jsonl", {}
    registry.mkdir()
    with served(urls) as clock:
        load_registry(db, write_registry(registry, urls))
        requests = request_missing(db, [EDGE, *COMPLETE_DAYS], clock(), "test")
        asyncio.run(drain(db, requests, clock))
    derive(db, EDGE, LAST_DAY, as_of=clock(), run_id="test")
    units = [Unit(uc, AGENT, musd={date.min: Decimal(300)}) for uc in METERS]
    operator = StandIn(load_profile(), load_calendars(), {AGENT: SECRET}, units, clock, journal)
    with serve_in_thread(operator) as serving:
        # Each civil month before its own deadline.
        for now, days in (
            (datetime(2016, 10, 5, 8, tzinfo=MARKET_ZONE), [d for d in COMPLETE_DAYS if d.month == 9]),
            (datetime(2016, 11, 3, 8, tzinfo=MARKET_ZONE), [d for d in COMPLETE_DAYS if d.month == 10]),
        ):
            clock.set(now)
            deliver(db, serving.base_url, [EDGE, *days] if now.month == 10 else days, now)
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    bodies = [json.loads(entry["body"]) for entry in entries if entry.get("op") == "day"]
    recorded = read_pulses_csv(RECORDING, NUM / DEN).counts.tolist()
    return Month(
        db,
        recorded,
        {
            (body["codigoUnidadeConsumidora"], date.fromisoformat(body["diaReferencia"])): body
            for body in bodies
        },
        operator,
    )


def deliver(db: Database, base_url: str, days: Sequence[date], now: datetime) -> None:
    profile = load_profile()

    def client(agent_code: int) -> CceeClient:
        pair = Credentials(f"CONCESSIONARIA_{AGENT}", SECRET)
        return CceeClient(profile, profile.environment("standin", base_url), {agent_code: pair})

    deliver_day(db, days, profile, client, load_calendars(), now=now, run_id="test")


def half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


@pytest.mark.req("TR-2a", "TR-2c", "TR-5.5a", "X-sim")
def test_a_real_month_comes_out_of_the_database_and_of_the_bodies_exactly(month: Month) -> None:
    check_each_interval(month)
    check_the_edge(month)
    check_what_ccee_counts(month)


def check_each_interval(month: Month) -> None:
    """Each of the 8,641 counts and energies in the database, each of the 8,640 values in the bodies."""
    counts = month.counts
    assert (len(counts), sum(counts)) == (8641, 2_373_475)
    per_pulse = Fraction(NUM, DEN)
    with month.db.connect() as conn:
        for uc, serial in METERS.items():
            read = conn.execute(
                "SELECT pulses FROM reading_day r JOIN meter m ON m.id = r.meter_id"
                " WHERE m.serial = %s AND channel = 1 ORDER BY day",
                [serial],
            ).fetchall()
            stored = [pulses for row in read for pulses in row[0] if pulses is not None]
            assert stored == counts

            energy: list[Fraction] = []
            adjusted: list[Fraction] = []
            for layer, values in ((1, energy), (4, adjusted)):
                rows = conn.execute(
                    "SELECT numerators, denominator FROM series_day s JOIN uc ON uc.id = s.uc_id"
                    " WHERE uc.code = %s AND layer = %s ORDER BY day",
                    [uc, layer],
                ).fetchall()
                values += [Fraction(n, row[1]) for row in rows for n in row[0] if n is not None]
            assert energy == [count * per_pulse for count in counts]
            assert sum(energy) == Fraction("17089.02")
            assert adjusted == [count * per_pulse * FACTOR[uc] for count in counts]

    for uc in METERS:
        sent = []
        for day in COMPLETE_DAYS:
            body = month.bodies[uc, day]
            records = [record for hour in body["horas"] for record in hour["medicoes"]]  # type: ignore[attr-defined]
            assert {record["tipoConsumo"] for record in records} == {"MEDIDO"}
            sent += [Fraction(str(record["consumo"])) for record in records]
        expected = [Fraction(half_up(count * per_pulse * FACTOR[uc] * 1000), 1000) for count in counts[1:]]
        assert sent == expected


def check_the_edge(month: Month) -> None:
    """The day of which one interval is known is not delivered, and says why."""
    assert not [key for key in month.bodies if key[1] == EDGE]
    with month.db.connect() as conn:
        rows = conn.execute(
            "SELECT state, measured, missing, cause FROM uc_day_outcome WHERE day = %s", [EDGE]
        ).fetchall()
    assert {row[:3] for row in rows} == {("incomplete", 1, 287)}
    assert all(row[3] for row in rows)


def check_what_ccee_counts(month: Month) -> None:
    """The month as the operator would count it is the month that was sent."""
    counted = month.operator.month(PLAIN, date(2016, 10, 1))
    days = [day for day in COMPLETE_DAYS if day.month == 10]
    assert counted["horasConsistidas"] == 24 * len(days)
    first = 1 + 288 * len([day for day in COMPLETE_DAYS if day.month == 9])
    milli = [half_up(Fraction(count * NUM * 1000, DEN)) for count in month.counts[first:]]
    assert Decimal(counted["totalKwh"]) == Decimal(sum(milli)) / 1000
