"""Ways to a meter, on the simulator: units that call, gateways, serial lines, several meters of a line.

Over 500 lines: one world of lines and units for all ways to a meter.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from collector.lines.dial_in_kinds import load_kinds, recognise
from collector.lines.transports import parse_url
from collector.work.worklist import request_missing
from faults import OperatorFault
from protocols.nbr14522.models import add_catalogue, remove_catalogue
from protocols.nbr14522.profiles import DEFAULT, P2_GENERIC, P8_GENERIC
from simulator.nbr14522.line import Bus
from simulator.nbr14522.meter_end import MeterEnd
from simulator.nbr14522.server import PtyMeterServer, Rfc2217MeterServer, TcpMeterServer
from simulator.wires.faultplan import TELNET_OPTIONS, FaultPlan
from simulator.wires.virtual_time import run_virtual
from tests.collector.lines.ways import KINDS, add_line, answers, listening, patience_for, unit_at
from tests.collector.world import (
    DAY,
    NOW,
    assert_day_is_exact,
    collect,
    meter,
    query,
    quick,
    register,
    served,
    sessions,
)

HELLO = b"UNIDADE u7;"


async def until(is_so, limit_s=60):
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 -- the other side is a socket
            await asyncio.sleep(0.02)


def strangers(db):
    return query(db, "SELECT reason, detail FROM quarantine WHERE stage = 'dial-in' ORDER BY id")


@pytest.mark.req("TR-5.5a")
@pytest.mark.parametrize(
    ("profile", "hello"),
    [(P8_GENERIC, HELLO), (P8_GENERIC, b"\x0210000001\x03"), (P8_GENERIC, b""), (DEFAULT, b"")],
    ids=["hello-code", "hello-serial", "asked-p8", "asked-plain"],
)
def test_a_unit_that_calls_is_identified_kept_ready_and_read_twice(embedded_db, tmp_path, profile, hello):
    """The request is there first and waits; the second read uses the same connection."""
    station = meter(profile=profile)
    ids = add_line(embedded_db, ("10000001", "dialin://u7", profile.name))

    async def work():
        async with listening(embedded_db, tmp_path, **patience_for(hello)) as (collector, ready, requests):
            requests += request_missing(ready, [DAY], NOW, "test")
            await until(lambda: collector.stats.waiting == 1)
            assert not sessions(ready), "waiting takes no session"
            async with unit_at(collector, station, hello) as unit:
                (summary,) = (await answers(ready, requests)).values()
                assert (summary.state, summary.sessions) == ("done", 1), summary
                again = request_missing(ready, [DAY.replace(day=19)], NOW, "test")
                requests += again
                (summary,) = (await answers(ready, again)).values()
                assert summary.state == "done", summary
                assert (unit.calls, unit.connections) == (1, 1)
            return ready

    ready = asyncio.run(work())
    assert_day_is_exact(ready, ids["10000001"], station)
    assert not strangers(ready)


@pytest.mark.req("TR-5.5a")
def test_a_unit_that_never_calls_is_a_matter_for_the_field_crew(embedded_db, tmp_path):
    add_line(embedded_db, ("10000001", "dialin://u7", "p8-generic"))

    async def work():
        async with listening(embedded_db, tmp_path, dial_in_wait_s=0.4) as (_, ready, requests):
            requests += request_missing(ready, [DAY], NOW, "test")
            (summary,) = (await answers(ready, requests)).values()
            return summary

    summary = asyncio.run(work())
    assert (summary.state, summary.actor) == ("failed", "field_crew")
    assert summary.stage == "unit not connected"
    assert "u7" in summary.message
    assert summary.sessions == 0


def test_without_a_listener_the_operator_is_told(embedded_db):
    add_line(embedded_db, ("10000001", "dialin://u7", "p8-generic"))
    (summary,) = asyncio.run(collect(quick(embedded_db))).values()
    assert (summary.state, summary.actor) == ("failed", "operator")
    assert "listen_port" in summary.remedy


@pytest.mark.req("TR-5.5a", "TR-5.12a")
def test_of_two_connections_of_a_unit_the_newest_is_used(embedded_db, tmp_path):
    """The unit restarted: its first connection is open here and nobody answers on it."""
    station = meter(profile=P8_GENERIC)
    ids = add_line(embedded_db, ("10000001", "dialin://u7", "p8-generic"))

    async def work():
        async with (
            listening(embedded_db, tmp_path) as (collector, ready, requests),
            unit_at(collector, station, HELLO) as unit,
        ):
            counts = collector.callers.dial_in.counts
            await until(lambda: counts.identified == 1)
            assert await unit.duplicate(old_is_dead=True)
            await until(lambda: counts.identified == 2)
            requests += request_missing(ready, [DAY], NOW, "test")
            (summary,) = (await answers(ready, requests)).values()
            assert (summary.state, summary.sessions) == ("done", 1), "a dead connection would cost a session"
            assert await unit.duplicate(old_is_dead=False)
            assert await unit.duplicate(old_is_dead=False)
            await until(lambda: unit.connections <= 2)
            return ready

    assert_day_is_exact(asyncio.run(work()), ids["10000001"], station)


@pytest.mark.req("TR-5.5a", "TR-5.12a")
def test_a_meter_is_read_over_the_next_connection_when_one_breaks(embedded_db, tmp_path):
    station = meter(profile=P8_GENERIC, plan=FaultPlan(drop_first=2, drop_at_block=8))
    ids = add_line(embedded_db, ("10000001", "dialin://u7", "p8-generic"))

    async def work():
        async with (
            listening(embedded_db, tmp_path) as (collector, ready, requests),
            unit_at(collector, station, HELLO),
        ):
            requests += request_missing(ready, [DAY], NOW, "test")
            (summary,) = (await answers(ready, requests)).values()
            assert summary.state == "done", summary
            assert summary.sessions == 3
            return ready

    assert_day_is_exact(asyncio.run(work()), ids["10000001"], station)


@pytest.mark.req("TR-5.12a")
def test_strangers_are_recorded_and_closed_and_limits_hold(embedded_db, tmp_path):
    add_line(embedded_db, ("10000001", "dialin://u7", "p8-generic"))

    async def work():
        limits = {
            "dial_in_hello_s": 0.3,
            "dial_in_identify_s": 1.0,
            "dial_in_unidentified": 3,
            "dial_in_idle_octets": 500,
        }
        async with listening(embedded_db, tmp_path, **limits) as (collector, ready, _):

            async def call(octets):
                reader, writer = await asyncio.open_connection("127.0.0.1", collector.callers.listening_port)
                writer.write(octets)
                heard = b""
                try:
                    while data := await asyncio.wait_for(reader.read(1000), 10):
                        heard += data
                except ConnectionResetError:
                    pass  # closed with octets unread: as good as closed
                writer.close()
                return heard

            await call(b"UNIDADE nobody;")
            await call(b"GET / HTTP/1.1\r\n\r\n")
            await call(HELLO + bytes(600))
            silent = [asyncio.create_task(call(b"")) for _ in range(6)]
            await asyncio.gather(*silent)
            counts = collector.callers.dial_in.counts
            assert collector.callers.dial_in.connected == 0
            assert counts.refused == 9
            await until(lambda: len(strangers(ready)) >= 4)
            return strangers(ready)

    found = dict(run_virtual(work()))
    assert found.keys() == {
        "nobody of that name dials in, by the registry",
        "did not say who it is",
        "says too much while nobody asks",
        "too many callers that are not identified yet",
    }
    assert found["nobody of that name dials in, by the registry"]["named"] == "unit nobody"
    assert bytes.fromhex(found["did not say who it is"]["heard_hex"]).startswith(b"GET /")


@pytest.mark.req("TR-5.5a")
def test_several_meters_behind_one_unit_that_calls_with_keep_alives(embedded_db, tmp_path):
    stations = [meter(f"1000000{n}", profile=replace(P2_GENERIC, address=n)) for n in (1, 2, 3)]
    ids = add_line(
        embedded_db,
        *((f"1000000{n}", f"dialin://u7?address={n:02}", "p2-generic") for n in (1, 2, 3)),
    )

    async def work():
        async with (
            listening(embedded_db, tmp_path) as (collector, ready, requests),
            unit_at(
                collector,
                Bus(stations, FaultPlan()),
                HELLO,
                keep_alive=bytes.fromhex("00FF00FF"),
                keep_alive_s=0.02,
            ),
        ):
            requests += request_missing(ready, [DAY], NOW, "test")
            found = await answers(ready, requests)
            assert {one.state for one in found.values()} == {"done"}, found
            return ready

    ready = asyncio.run(work())
    for station in stations:
        assert_day_is_exact(ready, ids[station.meter.spec.serial], station)
    assert not overlapping(ready)


def overlapping(db):
    """Pairs of sessions on one line at the same time, as the database saw them."""
    return query(
        db,
        "SELECT a.id, b.id FROM session a JOIN session b ON a.id < b.id "
        "AND split_part(a.url, '?', 1) = split_part(b.url, '?', 1) "
        "JOIN (SELECT session_id, min(at) AS first, max(at) AS last FROM frame GROUP BY 1) f "
        "ON f.session_id = a.id "
        "JOIN (SELECT session_id, min(at) AS first, max(at) AS last FROM frame GROUP BY 1) g "
        "ON g.session_id = b.id WHERE a.outcome IS NULL AND b.outcome IS NULL",
    )


class OneAtATime(TcpMeterServer):
    """A gateway that notes when a second client came while it had one."""

    overlaps = 0

    def take_over(self, end):
        self.overlaps += self._talking is not None
        super().take_over(end)


@pytest.mark.req("TR-5.5a")
@pytest.mark.parametrize("profile", [P8_GENERIC, P2_GENERIC], ids=["p8", "p2"])
def test_several_meters_behind_one_address_are_read_one_after_the_other(embedded_db, profile):
    stations = [meter(f"1000000{n}", profile=replace(profile, address=n)) for n in (1, 2, 3)]

    async def work():
        async with OneAtATime(Bus(stations, FaultPlan())) as server:
            options = "?address={:02}" if profile is P2_GENERIC else ""
            ids = add_line(
                embedded_db,
                *((f"1000000{n}", server.url + options.format(n), profile.name) for n in (1, 2, 3)),
            )
            found = await collect(quick(embedded_db))
            assert {one.state for one in found.values()} == {"done"}, found
            assert server.overlaps == 0
            return ids

    ids = asyncio.run(work())
    for station in stations:
        assert_day_is_exact(embedded_db, ids[station.meter.spec.serial], station)


@pytest.mark.req("TR-5.5a")
@pytest.mark.parametrize("kind", [PtyMeterServer, Rfc2217MeterServer], ids=["serial", "rfc2217"])
def test_several_meters_of_one_serial_line_or_gateway(embedded_db, kind):
    stations = [meter(f"1000000{n}", profile=P8_GENERIC) for n in (1, 2)]

    async def work():
        async with kind(Bus(stations, FaultPlan())) as server:
            ids = add_line(embedded_db, *((s.meter.spec.serial, server.url, "p8-generic") for s in stations))
            found = await collect(quick(embedded_db))
            assert {(one.state, one.sessions) for one in found.values()} == {("done", 1)}, found
            return ids

    ids = asyncio.run(work())
    for station in stations:
        assert_day_is_exact(embedded_db, ids[station.meter.spec.serial], station)


@pytest.mark.req("TR-5.5a", "TR-5.12a")
def test_an_rfc2217_gateway_that_drops_is_called_again(embedded_db):
    station = meter(plan=FaultPlan(drop_first=1, drop_at_block=6))

    async def work():
        async with served(station, kind=Rfc2217MeterServer) as servers:
            ids = register(embedded_db, servers)
            (summary,) = (await collect(quick(embedded_db))).values()
            assert (summary.state, summary.sessions) == ("done", 2), summary
            return ids

    ids = asyncio.run(work())
    assert_day_is_exact(embedded_db, ids["10000001"], station)


class Echo:
    """An optical head: what the reader sends comes back to it, too."""

    def receive(self, data):
        return data, data

    def encode(self, data):
        return data


class OpticalHead(TcpMeterServer):
    def _new_end(self):
        return MeterEnd(self, Echo())


@pytest.mark.req("TR-5.5a")
@pytest.mark.parametrize(
    "hello",
    [TELNET_OPTIONS, b"RING\r\n\r\nCONNECT 9600\r\n", bytes(range(0x80, 0xFF)), b"NO CARRIER\x06\x15\x10"],
    ids=["telnet", "modem", "noise", "signals"],
)
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC], ids=["p0", "p8"])
def test_what_gateways_and_modems_say_at_connect_is_passed_over(embedded_db, profile, hello):
    station = meter(profile=profile, plan=FaultPlan(hello=hello))

    async def work():
        async with served(station) as servers:
            ids = register(embedded_db, servers)
            (summary,) = (await collect(quick(embedded_db))).values()
            assert (summary.state, summary.sessions) == ("done", 1), summary
            return ids

    ids = asyncio.run(work())
    assert_day_is_exact(embedded_db, ids["10000001"], station)


@pytest.mark.req("TR-5.5a")
@pytest.mark.parametrize("profile", [DEFAULT, P8_GENERIC], ids=["p0", "p8"])
def test_an_optical_head_that_echoes(embedded_db, profile):
    station = meter(profile=profile)

    async def work():
        async with served(station, kind=OpticalHead) as servers:
            ids = register(embedded_db, servers)
            (summary,) = (await collect(quick(embedded_db))).values()
            assert (summary.state, summary.sessions) == ("done", 1), summary
            return ids

    ids = asyncio.run(work())
    assert_day_is_exact(embedded_db, ids["10000001"], station)


@pytest.mark.req("TR-5.12a")
def test_the_good_blocks_of_a_session_that_broke_are_kept(embedded_db):
    """The line drops in the memory and never comes back: the oldest intervals are there."""
    station = meter(plan=FaultPlan(drop_first=99, drop_at_block=9))

    async def work():
        async with served(station) as servers:
            ids = register(embedded_db, servers)
            (summary,) = (await collect(quick(embedded_db))).values()
            assert summary.state == "failed", summary
            return ids

    ids = asyncio.run(work())
    rows = query(embedded_db, "SELECT day, pulses FROM reading_day WHERE channel = 1 ORDER BY day")
    held = sum(value is not None for _, pulses in rows for value in pulses)
    assert held > 0
    assert {one["outcome"] for one in sessions(embedded_db, ids["10000001"])} == {"partial"}


RESUMING = """
[models.resuming]
extends = "p8-generic"
description = "A meter that remembers where an answer broke off."
confidence = "C"
resumes_broken_answer = true
"""


@pytest.fixture
def resuming(tmp_path):
    path = tmp_path / "nbr14522.toml"
    path.write_text(RESUMING)
    add_catalogue(str(path), RESUMING)
    yield tmp_path
    remove_catalogue(str(path))


class Remembering:
    """A place whose meter keeps its answer over connections, which break as the plan says."""

    def __init__(self, station, plan):
        self._inner = station
        self._line = None
        self._breaks = replace(station, faults=plan)

    @property
    def stations(self):
        return self._inner.stations

    def connect(self, now_s, pace):
        faults = self._breaks.connect(now_s, pace).faults
        if self._line is None:
            self._line = self._inner.connect(now_s, pace)
        self._line.faults = faults
        return self._line


@pytest.mark.req("TR-5.12a")
@pytest.mark.parametrize("remembers", [True, False], ids=["goes-on", "starts-over"])
def test_a_broken_answer_is_taken_up_in_a_new_connection(embedded_db, resuming, monkeypatch, remembers):
    monkeypatch.setattr("collector.nbr14522.session._TAKE_UP_PAUSE_S", 0.05)
    plan = FaultPlan(drop_first=1, drop_at_block=9)
    profile = replace(P8_GENERIC, name="resuming")
    station = meter(profile=profile, plan=FaultPlan() if remembers else plan)

    async def work():
        async with TcpMeterServer(Remembering(station, plan) if remembers else station) as server:
            ids = add_line(embedded_db, ("10000001", server.url, "resuming"))
            (summary,) = (await collect(quick(embedded_db, meter_models_path=resuming))).values()
            # One that starts over has forgotten the limit of 51: it gives other blocks, and is read anew.
            assert (summary.state, summary.sessions) == ("done", 1 if remembers else 2), summary
            return ids

    ids = asyncio.run(work())
    assert_day_is_exact(embedded_db, ids["10000001"], station)
    blocks = query(
        embedded_db,
        "SELECT get_byte(payload, 5), get_byte(payload, 6), count(*) FROM frame WHERE direction = '<' "
        "AND crc_ok AND command IN (38, 82) GROUP BY 1, 2",
    )
    repeated = sum(count - 1 for *_, count in blocks)
    assert repeated == 0 or not remembers, "a meter that goes on sends no block twice"
    assert not remembers or not query(embedded_db, "SELECT reason FROM quarantine")


class TestKinds:
    def test_a_hello_is_found_from_the_first_octet(self, tmp_path):
        path = tmp_path / "kinds.toml"
        path.write_text(KINDS)
        kinds = load_kinds(path)
        assert recognise(b"UNIDADE u7;rest", kinds).unit == "u7"
        assert recognise(b"\x0212345678\x03", kinds).serial == "12345678"
        assert recognise(b" UNIDADE u7;", kinds) is None
        assert recognise(b"UNIDADE u7", kinds) is None

    @pytest.mark.parametrize(
        "entry",
        [
            "hello = 'x'",
            "hello = '(?P<unit>'",
            "reply_hex = '06'",
            "hello = '(?P<unit>.)'\nkeep_alive_hex = '06'",
            "hello = '(?P<unit>.)'\nreply_hex = 'zz'",
            "hello = '(?P<unit>.)'\nmaker = 'x'",
        ],
    )
    def test_a_wrong_entry_is_named(self, tmp_path, entry):
        path = tmp_path / "kinds.toml"
        path.write_text(f"[kinds.bad]\n{entry}\n")
        with pytest.raises(OperatorFault) as caught:
            load_kinds(path)
        assert "bad" in caught.value.where

    def test_urls_of_the_new_ways(self):
        unit = parse_url("dialin://Caixa%2012?address=07&total_s=60")
        assert (unit.unit, unit.address, unit.line) == ("Caixa 12", 7, "dialin://Caixa%2012")
        assert unit.applied_to(P2_GENERIC).address == 7
        assert parse_url("rfc2217://[::1]:4001?baud=2400").baud == 2400
        for bad in (
            "dialin://",
            "dialin://u/7",
            "tcp://h:1?address=100",
            "tcp://h:1?address=x",
            "rfc2217://h",
        ):
            with pytest.raises(OperatorFault):
                parse_url(bad)
