"""DLMS meters read by the collector over real sockets: the same load gives the same readings as NBR 14522.

Over 500 lines: one simulated meter and its whole way through the collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import traceback
import tty
from dataclasses import replace
from datetime import datetime

import numpy as np
import psycopg
import pytest

from collector.dlms import counters as dlms_counters
from collector.dlms.secrets import secrets_for
from collector.dlms.session import _counter
from collector.work.worklist import request_missing
from faults import FieldCrewFault, OperatorFault
from protocols.dlms import models
from protocols.dlms.apdu import AccessResult, Mechanism
from protocols.dlms.axdr import Data, Tag
from protocols.dlms.security import Keys
from simulator.dlms.end import Association, HdlcEnd, WrapperEnd
from simulator.dlms.meter import SERIAL as SERIAL_OBJECT
from simulator.dlms.meter import AccessRefusal, DlmsMeter
from tests.collector.dlms.peers.world import (
    AUTHENTICATION,
    ENCRYPTION,
    KEYS,
    PASSWORD,
    SERIAL,
    SPEC,
    assert_exact,
    patient,
    registered,
    scenario,
    server,
)
from tests.collector.lines.ways import add_line, answers, listening
from tests.collector.world import (
    DAY,
    NOW,
    collect,
    meter,
    query,
    register,
    served,
    sessions,
    stored,
    truth,
)


@pytest.mark.req("TR-5.1", "TR-5.12a")
@pytest.mark.parametrize("model", ["dlms-test", "dlms-test-hdlc", "dlms-test-gmac", "dlms-test-gmac-hdlc"])
def test_a_day_is_read_completely_and_exactly(embedded_db, secrets, model):
    ready, way, meter_id, summary = scenario(embedded_db, secrets, model=model)
    assert (summary.state, summary.sessions) == ("done", 1), summary
    assert_exact(ready, meter_id, way)
    (session,) = sessions(ready)
    assert (session["protocol"], session["outcome"], session["drift_s"]) == ("dlms", "complete", 0)
    assert session["meter_serial"] == SERIAL
    assert query(ready, "SELECT reason FROM quarantine") == []


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize(
    "changes",
    [
        {"with_totals": True},
        {"refuses_ranges": True},
        {"refuses_ranges": True, "refuses_entries": True},
        {"with_null_clocks": False, "block_octets": 100},
        {"is_newest_first": True},
        {"is_newest_first": True, "refuses_ranges": True, "with_totals": True},
    ],
    ids=["totals", "by entry", "whole buffer", "small blocks", "newest first", "newest first by entry"],
)
def test_other_makes_give_the_same_readings(embedded_db, secrets, changes):
    ready, way, meter_id, summary = scenario(embedded_db, secrets, spec=replace(SPEC, **changes))
    assert summary.state == "done", summary
    assert_exact(ready, meter_id, way)


@pytest.mark.req("TR-5.1", "TR-5.5a")
def test_the_same_load_gives_the_same_rows_as_nbr_14522(embedded_db, secrets):
    ready = patient(embedded_db, secrets)
    rows = (
        "SELECT channel, quantity_code, interval_s, pulses FROM reading_day WHERE day = %s ORDER BY channel"
    )

    async def work():
        station = meter()
        async with served(station) as servers:
            register(ready, servers)
            await collect(ready)
            before = query(ready, rows, DAY)
            with ready.connect() as conn:
                conn.execute("DELETE FROM reading_day")
                conn.execute("UPDATE job_request SET result = NULL")
            async with server(station=station) as way:
                with ready.connect() as conn:
                    conn.execute("INSERT INTO meter_model (code, profile) VALUES ('d', 'dlms-test')")
                    conn.execute("UPDATE meter SET model_id = (SELECT id FROM meter_model WHERE code = 'd')")
                    conn.execute("UPDATE unit SET url = %s", [way.url])
                await collect(ready)
        return before, query(ready, rows, DAY)

    before, after = asyncio.run(work())
    assert len(before) == 3
    assert before == after
    assert [row["protocol"] for row in sessions(ready)] == ["nbr14522", "dlms"]


@pytest.mark.req("TR-5.12a")
def test_a_killed_collector_recovers_from_frames_without_meter_or_keys(embedded_db, secrets):
    ready, way, meter_id, _ = scenario(embedded_db, secrets, model="dlms-test-gmac-hdlc")
    with ready.connect() as conn:
        conn.execute("DELETE FROM reading_day")
        conn.execute("UPDATE session SET outcome = NULL, ended_at = NULL, collector = 'gone:0'")
        conn.execute(
            "UPDATE job_request SET state = 'running', claimed_by = 'gone:0', finished_at = NULL, "
            "result = NULL, lease_until = now() + interval '1 hour'"
        )
    secrets.unlink()
    found = asyncio.run(collect(ready))
    assert (found[SERIAL].state, found[SERIAL].outcome) == ("done", "present")
    assert [row["outcome"] for row in sessions(ready)] == ["aborted"]
    assert_exact(ready, meter_id, way)


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize("model", ["dlms-test", "dlms-test-hdlc", "dlms-test-gmac"])
def test_no_secret_is_kept_or_shown(embedded_db, secrets, model, capfd):
    ready, _, _, _ = scenario(embedded_db, secrets, model=model)
    frames = query(ready, "SELECT payload, direction FROM frame ORDER BY seq")
    assert len(frames) > 10
    hidden = [PASSWORD.encode(), KEYS.encryption, KEYS.authentication]
    assert not any(secret in payload for payload, _ in frames for secret in hidden)
    told = str(capfd.readouterr()) + str(
        query(ready, "SELECT s::text, j::text FROM session s, job_request j")
    )
    for text in (PASSWORD, ENCRYPTION, AUTHENTICATION):
        assert text.lower() not in told.lower()


@pytest.mark.req("TR-5.12a")
class TestSecrets:
    def test_a_file_that_others_may_read_is_refused(self, embedded_db, secrets):
        secrets.chmod(0o644)
        ready, _, _, summary = scenario(embedded_db, secrets)
        assert (summary.state, summary.actor) == ("failed", "operator")
        assert "chmod 600" in sessions(ready)[0]["error"]["remedy"]

    @pytest.mark.parametrize("text", ["meters = 3", "[meters]\n10000001 = 4", "models = []"])
    def test_a_file_without_tables_is_refused_with_its_place(self, tmp_path, text):
        path = tmp_path / "secrets.toml"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(OperatorFault, match=r"must be (tables|a table)") as told:
            secrets_for(path, models.model_named("dlms-test"), SERIAL)
        assert told.value.where.startswith(str(path))

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ('[models.x]\npassword = "sesamo\n', "line 2"),
            ('password = "sesamo', "end of document"),
        ],
    )
    def test_what_is_no_toml_is_told_by_its_place_alone(self, tmp_path, text, place):
        path = tmp_path / "secrets.toml"
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(OperatorFault) as told:
            secrets_for(path, models.model_named("dlms-test"), SERIAL)
        assert (told.value.message, told.value.where) == ("not TOML", f"{path}, {place}")
        assert "sesamo" not in "".join(traceback.format_exception(told.value))

    def test_a_wrong_password_is_not_tried_again(self, embedded_db, secrets):
        spec = replace(SPEC, password=b"another")
        ready, _, _, summary = scenario(embedded_db, secrets, spec=spec)
        assert (summary.state, summary.actor, summary.attempts) == ("failed", "operator", 1)
        assert sessions(ready)[0]["failed_stage"] == "association"

    def test_wrong_keys_are_found_out(self, embedded_db, secrets):
        other = Keys(bytes(16), KEYS.authentication)
        ready, _, _, summary = scenario(
            embedded_db, secrets, spec=replace(SPEC, keys=other), model="dlms-test-gmac"
        )
        assert summary.state == "failed"
        assert query(ready, "SELECT count(*) FROM reading_day")[0][0] == 0


@pytest.mark.req("TR-5.12a")
def test_counters_go_on_above_the_meters_and_are_never_used_twice(embedded_db, secrets):
    ready, way, _, _ = scenario(
        embedded_db, secrets, spec=replace(SPEC, counter=70_000), model="dlms-test-gmac", times=2
    )
    # The simulated meter refuses a counter that is not above the last.
    assert [row["outcome"] for row in sessions(ready)] == ["complete", "complete"]
    assert way.meter.counter_seen > 70_000
    stored_last = query(ready, "SELECT last_used FROM dlms_counter")[0][0]
    assert stored_last >= way.meter.counter_seen
    with ready.connect() as conn, pytest.raises(psycopg.errors.RaiseException):
        conn.execute("UPDATE dlms_counter SET last_used = 1")
    with ready.connect() as conn:
        taken = [dlms_counters.reserve(conn, "k", "t", above, 10) for above in (0, 0, 5, 100)]
    assert taken == [1, 11, 21, 101]


@pytest.mark.req("TR-5.12a")
def test_a_key_used_by_another_system_continues_above_the_meters_counter(embedded_db, secrets):
    ready = patient(embedded_db, secrets)

    async def work():
        async with server(model="dlms-test-gmac") as way:
            registered(ready, way, "dlms-test-gmac")
            await collect(ready)
            way.meter.counter_seen += 1_000_000
            with ready.connect() as conn:
                conn.execute("DELETE FROM reading_day")
            await collect(ready)

    asyncio.run(work())
    assert [row["outcome"] for row in sessions(ready)] == ["complete", "complete"]


_KILLED = """
import os, signal, sys, psycopg
from collector.dlms import counters as dlms_counters
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    with conn.transaction():
        first = dlms_counters.reserve(conn, "k", "t", 0, 64)
    print(first, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.req("TR-5.12a")
def test_counters_that_a_killed_collector_took_are_never_taken_again(embedded_db):
    taken = []
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", _KILLED, embedded_db.url], capture_output=True, text=True, check=False
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        taken.append(int(child.stdout))
    with embedded_db.connect() as conn:
        taken.append(dlms_counters.reserve(conn, "k", "t", 0, 64))
    assert taken == [1, 65, 129]


@pytest.mark.req("TR-5.12a")
def test_a_line_cannot_use_the_counters_up(embedded_db):
    with embedded_db.connect() as conn:
        assert dlms_counters.reserve(conn, "k", "t", 70_000, 10) == 70_001
    with embedded_db.connect() as conn, pytest.raises(OperatorFault, match="above ours: none is used"):
        dlms_counters.reserve(conn, "k", "t", (1 << 32) - 20, 10)
    with embedded_db.connect() as conn:
        assert dlms_counters.reserve(conn, "k", "t", 0, 10) == 70_011
        with pytest.raises(FieldCrewFault, match="used up"):
            dlms_counters.reserve(conn, "new", "t", (1 << 32) - 5, 10)


@pytest.mark.req("TR-5.12a")
def test_counters_are_taken_to_their_very_limits(embedded_db):
    """The last of 32 bits, and as far ahead as two systems that share a key may be."""
    with embedded_db.connect() as conn:
        assert dlms_counters.reserve(conn, "last", "t", (1 << 32) - 11, 10) == (1 << 32) - 10
        assert dlms_counters.reserve(conn, "k", "t", 0, 10) == 1
        assert dlms_counters.reserve(conn, "k", "t", 10 + (1 << 24), 10) == 11 + (1 << 24)
    with embedded_db.connect() as conn:
        with pytest.raises(FieldCrewFault, match="used up"):
            dlms_counters.reserve(conn, "last", "t", 0, 1)
        with pytest.raises(OperatorFault, match="none is used"):
            dlms_counters.reserve(conn, "k", "t", 21 + (2 << 24), 10)


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize("counter", [-1, 1 << 32, True, b"x"])
def test_a_counter_that_is_none_is_the_models_matter(counter):
    def said(client, *_):
        return Data(Tag.INT64, counter)
        yield

    class Client:
        get = said

    with pytest.raises(OperatorFault, match="none") as told:
        next(_counter(Client(), "0-0:43.1.5"))
    assert told.value.where == "0-0:43.1.5"


@pytest.mark.req("TR-5.1")
class TestWhatAMeterReports:
    def test_rows_marked_invalid_are_left_out_with_a_reason(self, embedded_db, secrets):
        bad = datetime(2026, 11, 20, 10, 5)
        spec = replace(SPEC, statuses={bad: 0x80, datetime(2026, 11, 20, 11): 0x02}, with_null_clocks=False)
        ready, way, meter_id, _ = scenario(embedded_db, secrets, spec=spec)
        expected = truth(way.meter)[:, 0].tolist()
        expected[10 * 12] = None
        assert stored(ready, meter_id) == expected
        reasons = query(ready, "SELECT reason, detail ->> 'end' FROM quarantine")
        assert reasons == [("the meter marks rows of its load profile as invalid", bad.isoformat())]
        flags = query(ready, "SELECT values -> 'flags' FROM meter_parameters WHERE command = 7")[0][0]
        assert flags == {"invalid": 1, "power_failure": 1}

    def test_another_meter_than_the_registry_names_is_held(self, embedded_db, secrets):
        ready = patient(embedded_db, secrets)

        async def work():
            async with server() as way:
                meter_id = registered(ready, way, "dlms-test")
                with ready.connect() as conn:
                    conn.execute("UPDATE meter SET serial = '10000002' WHERE id = %s", [meter_id])
                return await collect(ready)

        found = asyncio.run(work())
        assert found["10000002"].actor == "operator"
        assert query(ready, "SELECT count(*) FROM reading_day")[0][0] == 0

    def test_a_meter_that_does_not_say_who_it_is_is_held(self, embedded_db, secrets, monkeypatch):
        told = DlmsMeter.get

        def get(self, attribute, *rest):
            if attribute.obis == SERIAL_OBJECT:
                raise AccessRefusal(AccessResult.READ_WRITE_DENIED)
            return told(self, attribute, *rest)

        monkeypatch.setattr(DlmsMeter, "get", get)
        ready, _, _, summary = scenario(embedded_db, secrets)
        assert (summary.state, summary.actor) == ("failed", "operator")
        assert query(ready, "SELECT count(*) FROM reading_day")[0][0] == 0
        assert query(ready, "SELECT reason FROM quarantine")[0][0].startswith("V10: the meter does not tell")

    def test_clock_registers_and_events_are_kept(self, embedded_db, secrets):
        station = meter(offset_s=42.0)
        ready, _, _, summary = scenario(embedded_db, secrets, station=station)
        assert summary.state == "done"
        assert sessions(ready)[0]["drift_s"] == 42
        registers = query(ready, "SELECT channel, values FROM register_reading ORDER BY channel")
        assert registers[0][1]["unit"] == 30
        # The resets of October and November, from the event log.
        assert query(ready, "SELECT code, reader_serial FROM meter_change") == [(0x20, "0-0:99.98.0.255")] * 2


@pytest.mark.req("TR-5.12a")
def test_a_unit_that_dials_in_brings_a_dlms_meter(embedded_db, secrets, tmp_path):
    async def work():
        async with listening(embedded_db, tmp_path, dlms_secrets_path=secrets, dial_in_hello_s=20.0) as calls:
            collector, ready, ids = calls
            station = meter()
            add_line(ready, (SERIAL, "dialin://u7", "dlms-test"))
            ids += request_missing(ready, [DAY], NOW, "test")
            reader, writer = await asyncio.open_connection("127.0.0.1", collector.callers.listening_port)
            writer.write(b"UNIDADE u7;")
            end = WrapperEnd(DlmsMeter(station.meter, SPEC))
            found = asyncio.create_task(answers(ready, ids))
            while not found.done():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        data = await reader.read(4096)
                        if not data:
                            break
                        writer.write(end.receive(data, NOW))
            summaries = await found
            writer.close()
            return ready, station, summaries

    ready, station, summaries = asyncio.run(work())
    assert summaries[SERIAL].state == "done", summaries
    assert np.array_equal(stored(ready, 1), truth(station)[:, 0])


@pytest.mark.req("TR-5.12a")
def test_a_serial_line_is_read_like_a_socket(embedded_db, secrets):
    ready = patient(embedded_db, secrets)
    station = meter()
    master, slave = os.openpty()
    tty.setraw(slave)
    end = HdlcEnd(DlmsMeter(station.meter, SPEC))

    async def work():
        loop = asyncio.get_running_loop()
        loop.add_reader(master, lambda: os.write(master, end.receive(os.read(master, 4096), NOW)))
        register(ready, [])
        add_line(ready, (SERIAL, f"serial://{os.ttyname(slave)}?baud=9600", "dlms-test-hdlc"))
        try:
            return await collect(ready)
        finally:
            loop.remove_reader(master)

    try:
        summary = asyncio.run(work())[SERIAL]
    finally:
        os.close(master)
        os.close(slave)
    assert summary.state == "done", summary
    assert np.array_equal(stored(ready, 1), truth(station)[:, 0])


class TestACounterThatTheMeterStates:
    """A refusal by exception (D8 01 06) tells the meter's counter, without proof."""

    STATED = 70_000

    def read(self, db, secrets, monkeypatch, model):
        told = Association._associate

        def associate(self, request):
            # The ciphered InitiateRequest: tag, length and security control, then the counter.
            _, _, sealed = request.partition(b"\x21\x1f\x30")
            counter = int.from_bytes(sealed[:4], "big")
            low = self._mechanism is Mechanism.GMAC and counter <= TestACounterThatTheMeterStates.STATED
            return bytes.fromhex("d8010600011170") if low else told(self, request)

        monkeypatch.setattr(Association, "_associate", associate)
        return scenario(db, secrets, model=model)

    def test_it_is_told_and_not_used(self, embedded_db, secrets, monkeypatch):
        ready, _, _, summary = self.read(embedded_db, secrets, monkeypatch, "dlms-test-gmac")
        ((message,),) = query(ready, "SELECT error ->> 'message' FROM session")
        assert (summary.actor, summary.attempts, "70000" in message) == ("operator", 1, True)

    @pytest.mark.parametrize("framing", ["", "-hdlc"])
    def test_it_is_gone_on_from_where_the_model_lets_it(self, embedded_db, secrets, monkeypatch, framing):
        models.add_catalogue(
            "trusting",
            f'[models.dlms-test-trusting{framing}]\nextends = "dlms-test-gmac{framing}"\n'
            "trusts_told_counter = true\n",
        )
        try:
            model = f"dlms-test-trusting{framing}"
            ready, way, meter_id, _ = self.read(embedded_db, secrets, monkeypatch, model)
            assert_exact(ready, meter_id, way)
            ((last,),) = query(ready, "SELECT last_used FROM dlms_counter")
            assert last > self.STATED
        finally:
            models.remove_catalogue("trusting")
