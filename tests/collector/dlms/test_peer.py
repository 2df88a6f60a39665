"""A DLMS meter that nobody here wrote (pydlms' simulator, its own process): wrapper, HDLC, password, GMAC."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from collector.dlms import driver as dlms_driver
from collector.dlms.script import discovery
from collector.drain import drain
from collector.work.worklist import request_missing
from protocols.dlms import apdu, models
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import octets
from protocols.dlms.clock import decode_date_time, encode_date_time
from simulator.load.clock import SettableClock
from storage.database import Database
from storage.settings import AcquisitionSettings
from tests.collector.dlms.clock_case import passing
from tests.collector.dlms.peers.world import patient
from tests.collector.dlms.pydlms import (
    AUTHENTICATION,
    CLIENTS,
    ENCRYPTION,
    GMAC,
    MODELS,
    PASSWORD,
    SERIAL,
    everything,
    visit,
)
from tests.collector.world import MARKET, add_meter, collect, query, sessions, stored

pytestmark = pytest.mark.req("TR-5.12a")


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("peer", MODELS)
    yield
    models.remove_catalogue("peer")


@pytest.mark.parametrize("name", ["dlms-peer", "dlms-peer-hdlc", "dlms-peer-small", "dlms-peer-all"])
def test_registers_clock_and_profile(simulate, name):
    url = simulate(*CLIENTS, *(["--hdlc"] if name.endswith("hdlc") else []))
    result, found, heard = visit(url, name, everything)
    assert (result.outcome, result.fault) == ("complete", None)
    assert found.meter_serial == SERIAL
    assert found.clock is not None
    assert found.clock.meter_time == datetime(2024, 5, 1, 10, tzinfo=UTC)
    values = {row.channel: row.values for row in found.registers}
    assert values[1] == {"raw": 12345678, "scaler": 0, "unit": 30}
    assert values[2] == {"raw": 4321, "scaler": 0, "unit": 30}
    counts = [int(count) for vector in found.vectors for count in vector.pulses[vector.present]]
    # The first of 96 running totals has nothing to differ from.
    assert counts == [7] * 95
    assert found.last_end == datetime(2024, 5, 1, 21)
    if name == "dlms-peer-small":
        assert max(one.blocks for one in heard) > 5


def test_rows_by_entry(simulate):
    # Counted back from today the whole buffer is asked for: the peer's rows are of 2024.
    _, found, heard = visit(simulate(*CLIENTS), "dlms-peer-entry", everything)
    assert any(one.selector == 2 for one in heard)
    assert sum(int(vector.present.sum()) for vector in found.vectors) == 95


def test_objects_are_discovered(simulate):
    def work(client, model):
        yield from discovery(client)

    _, _, (answer,) = visit(simulate(*CLIENTS), "dlms-peer", work)
    found = [tuple(element[2]) for element in answer.value.plain()]
    assert (1, 0, 99, 1, 0, 255) in found
    assert len(found) >= 11


def test_a_wrong_password_is_the_operators_matter_at_once(simulate):
    result, _, heard = visit(simulate(*CLIENTS), "dlms-peer", everything, password=b"87654321")
    assert (result.outcome, result.failed_stage, result.retries) == ("failed", "association", 0)
    assert result.fault is not None
    assert result.fault.actor.value == "operator"
    assert heard == [], "nothing is asked after it"


def test_a_ciphered_meter_is_collected_and_its_counter_only_grows(simulate, embedded_db, tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        f'[models.dlms-peer-gmac]\nencryption_key = "{ENCRYPTION}"\nauthentication_key = "{AUTHENTICATION}"\n'
    )
    secrets.chmod(0o600)
    db = patient(embedded_db, secrets)
    # The peer's clock stands still; a person has looked at it.
    judging = AcquisitionSettings(clock_ceiling_s=1e9, clock_hour_tolerance_s=0.0)
    db = Database(db.url, replace(db.settings, acquisition=judging))
    url = simulate(*GMAC)
    now = datetime(2024, 5, 3, 6, 7, tzinfo=UTC)
    day = date(2024, 5, 1)
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
        meter_id = add_meter(conn, 1, SERIAL, url, "dlms-peer-gmac", since="2024-01-01Z")
        conn.execute(
            "UPDATE installation SET interval_s = 900, pulse_energy_num = 1, pulse_energy_den = 1000"
        )
    counters = []
    for _ in range(2):
        with db.connect() as conn:
            conn.execute("DELETE FROM reading_day")
            conn.execute("UPDATE job_request SET result = NULL")
        summary = asyncio.run(collect(db, [day], now))[SERIAL]
        assert summary.state == "done", summary
        got = stored(db, meter_id, day)
        assert got is not None
        # The peer's rows end at 21:00 of market time.
        assert got == [7] * 84 + [None] * 12
        counters.append(query(db, "SELECT last_used FROM dlms_counter")[0][0])
    assert counters[1] > counters[0]
    assert [row["outcome"] for row in sessions(db)] == ["partial", "partial"]
    kept = query(db, "SELECT payload FROM frame")
    secret = bytes.fromhex(ENCRYPTION)
    assert all(secret not in payload for (payload,) in kept)
    tags = {payload[8] for (payload,) in kept if payload[:2] == b"\0\1"}
    assert {0xC8, 0xCC} <= tags, "services went ciphered"


@pytest.mark.req("TR-5.6d")
@pytest.mark.parametrize(
    ("name", "options", "method", "verdict"),
    [
        ("dlms-peer-set", CLIENTS, "set", "confirmed"),
        ("dlms-peer-set-hdlc", [*CLIENTS, "--hdlc"], "set", "confirmed"),
        # It answers shift_time with success and leaves its clock as it was: only reading back tells.
        ("dlms-peer-hdlc", [*CLIENTS, "--hdlc"], "shift", "mismatch"),
        ("dlms-peer-gmac", GMAC, "shift", "mismatch"),
    ],
)
def test_the_clock_is_corrected_through_the_queue(
    simulate, embedded_db, tmp_path, monkeypatch, name, options, method, verdict
):
    """Two minutes slow, at the beginning of an interval; what is off by days is left to persons."""
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        f'[meters.{SERIAL}]\npassword = "{PASSWORD.decode()}"\nencryption_key = "{ENCRYPTION}"\n'
        f'authentication_key = "{AUTHENTICATION}"\n'
    )
    secrets.chmod(0o600)
    db = patient(embedded_db, secrets)
    url = simulate(*options)
    # The meter says 10:00:00 until it is set: time stands still here, too, but for what a command waits.
    clock = SettableClock(datetime(2024, 5, 1, 10, 2, tzinfo=UTC), is_running=False)
    monkeypatch.setattr(dlms_driver, "Tools", passing(clock))
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
        add_meter(conn, 1, SERIAL, url, name, since="2024-01-01Z")
        conn.execute(
            "UPDATE installation SET interval_s = 900, pulse_energy_num = 1, pulse_energy_den = 1000"
        )
    day = date(2024, 4, 30)
    (summary,) = asyncio.run(drain(db, request_missing(db, [day], clock(), "test"), clock, deadline_s=60))
    assert summary.state == "done", summary
    waiting = query(db, "SELECT id FROM job_request WHERE kind = 'command' AND state = 'queued'")
    asyncio.run(drain(db, [request_id for (request_id,) in waiting], clock, deadline_s=60))
    ((asked_by, found, detail),) = query(db, "SELECT requested_by, verdict, detail FROM command_status")
    assert (asked_by, found, detail["method"]) == ("clock rule", verdict, method)
    assert detail["step_s"] == 120
    assert detail["drift_after_s"] == 0 or method == "shift"
    touched = query(db, "SELECT day::text, first_slot, last_slot FROM interval_flag")
    assert touched == [("2024-05-01", 28, 28)]


@pytest.mark.parametrize("largest", [0xFFFF, 26], ids=["whole", "in blocks"])
def test_the_clock_is_set(simulate, monkeypatch, largest):
    """By the protocol core alone; the peer offers no small APDU, so the client is made to believe in one."""
    clock = Attribute(8, "0-0:1.0.0.255", 2)
    offered = apdu.parse_initiate
    monkeypatch.setattr(
        apdu,
        "parse_initiate",
        lambda octets: replace(offered(octets), max_apdu=min(largest, offered(octets).max_apdu or largest)),
    )
    told = datetime(2026, 11, 21, 3, 7, 30, tzinfo=MARKET)

    def work(client, model):
        yield from client.set(clock, octets(encode_date_time(told)))
        yield from client.get(clock)

    result, _, heard = visit(simulate(*CLIENTS), "dlms-peer", work)
    assert (result.outcome, result.fault) == ("complete", None)
    assert (result.answers > 8) == (largest == 26), "seven blocks, each acknowledged"
    seen = decode_date_time(heard[-1].value.value, MARKET).at
    assert seen == told
