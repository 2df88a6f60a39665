"""Many sessions at once in one collector, against a bare asyncio client that exchanges the same frames.

Run: python tests/benchmarks/bench_sessions.py [SESSIONS] [DAYS] [--profile]. Limits: peak memory of the
collector process under 150 MB with 2,000 sessions, and at least half the bare client's frames per second. The
meters are a process of their own that plays back what simulated meters answer: as cheap as a peer can be, so
that the clients are what is measured. All connections are open before the first ENQ, all sessions at once.

The bare client counts ENQ, sends a command, takes its blocks and sends ACK: no CRC, no checks, no storing.
The collector does all it does in production, on a PostgreSQL of its own with default durability: queue,
evidence before decoding, decoding, merging, outcomes. What is judged is the rate of the frames exchanged.
Decoding comes behind it; the rate until the last session is decoded, merged and answered is printed too,
against what so many lines of 9,600 bit/s can bring at most and against the bare client.
"""

from __future__ import annotations

import asyncio
import cProfile
import logging
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psycopg
import structlog

from collector.drain import Progress, drain
from collector.work.worklist import request_missing
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.frames import ACK, COMMAND_SIZE, ENQ, RESPONSE_SIZE, serial_octets
from protocols.nbr14522.messages import LimitUnit, Period, request_for
from storage.database import Database
from storage.settings import CollectorSettings, DatabaseSettings, Settings

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 21, 6, 7, tzinfo=UTC)
YESTERDAY = date(2026, 11, 20)
FIRST_SERIAL = 10_000_000
ENQ_PERIOD_S = 0.25
# ENQ are sent to a part of the idle lines at a time, as meters that know nothing of each other would.
ENQ_PARTS = 25
MEMORY_LIMIT_MB = 150
RATIO_LIMIT = 0.5
# A meter's port: NBR 14522 section 6 has 9,600 bit/s, ten bits an octet; each block is answered by an ACK.
LINE_OCTETS_PER_S = 960


def requests(days: int) -> list[bytes]:
    """The commands that the collector sends for so many past days: its own script is checked against this."""
    parts = [
        request_for(0x21),
        request_for(0x80),
        request_for(0x23),
        request_for(0x25, period=Period.CURRENT),
        request_for(0x28),
        request_for(0x51, unit=LimitUnit.DAYS, amount=days + 1),
        request_for(0x52),
    ]
    return [request.encode("000001") for request in parts]


# --- the meters --------------------------------------------------------------------------------------------


def recorded_answers(days: int) -> dict[int, list[bytes]]:
    """What one simulated meter answers to each command, by code."""
    # The product's protocol side of the meter; only here, since the collector's process must not carry it.
    from protocols.nbr14522.messages import decode_request
    from simulator.nbr14522.answers import Conversation
    from tests.collector.world import meter

    conversation = Conversation(meter(f"{FIRST_SERIAL}").meter)
    return {frame[0]: conversation.answer(decode_request(frame), NOW) for frame in requests(days)}


class CannedMeter(asyncio.Protocol):
    """One connection to a meter that plays back its answers."""

    idle: set[CannedMeter]
    connected = 0
    most_connected = 0

    def __init__(self, serial: int, answers: dict[int, list[bytes]]) -> None:
        self._serial = serial
        self._answers = answers
        self._blocks: list[bytes] = []
        self._next = 0
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        CannedMeter.idle.add(self)
        CannedMeter.connected += 1
        CannedMeter.most_connected = max(CannedMeter.most_connected, CannedMeter.connected)

    def connection_lost(self, exc: Exception | None) -> None:
        CannedMeter.idle.discard(self)
        CannedMeter.connected -= 1

    def data_received(self, data: bytes) -> None:
        self._held += data
        if self._held[0] == ACK:
            self._held = self._held[1:]
            self._next += 1
            if self._next < len(self._blocks):
                self.transport.write(self._blocks[self._next])
            else:
                CannedMeter.idle.add(self)
        if len(self._held) >= COMMAND_SIZE:
            code, self._held = self._held[0], self._held[COMMAND_SIZE:]
            CannedMeter.idle.discard(self)
            # Each meter's blocks carry its own serial, and so a CRC of their own.
            head = serial_octets(f"{self._serial}", 4, "serial")
            self._blocks = [sealed(block[:1] + head + block[5:-2]) for block in self._answers[code]]
            self._next = 0
            self.transport.write(self._blocks[0])


async def serve_meters(count: int, days: int) -> None:
    """Serve until stdin closes; ports on stdout. `go N` on stdin: send no ENQ before N are connected."""
    answers = recorded_answers(days)
    CannedMeter.idle = set()
    loop = asyncio.get_running_loop()
    ports = []
    for number in range(count):
        server = await loop.create_server(
            partial(CannedMeter, FIRST_SERIAL + number, answers), "127.0.0.1", 0
        )
        ports.append(server.sockets[0].getsockname()[1])
    print(orjson.dumps(ports).decode(), flush=True)
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    while line := await told.readline():
        if line == b"report\n":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            seen = {"most": CannedMeter.most_connected, "cpu_s": usage.ru_utime + usage.ru_stime}
            print(orjson.dumps(seen).decode(), flush=True)
            CannedMeter.most_connected = 0
            continue
        while CannedMeter.connected < count:  # noqa: ASYNC110 -- a benchmark's meters may look now and then
            await asyncio.sleep(0.01)
        print("go", flush=True)
        pace = asyncio.create_task(send_enq())
        while CannedMeter.connected:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0.05)
        pace.cancel()


async def send_enq() -> None:
    while True:
        for part in range(ENQ_PARTS):
            for meter in tuple(CannedMeter.idle):
                if meter._serial % ENQ_PARTS == part:
                    meter.transport.write(bytes([ENQ]))
            await asyncio.sleep(ENQ_PERIOD_S / ENQ_PARTS)


# --- the bare client ---------------------------------------------------------------------------------------


class BareClient(asyncio.Protocol):
    """Exchanges the frames of one session and does nothing else."""

    def __init__(self, commands: list[bytes], done: asyncio.Future[None]) -> None:
        self._commands = iter(commands)
        self._done = done
        self._command = b""
        self._enq = 0
        self._got = 0
        self.frames = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._command = next(self._commands)

    def data_received(self, data: bytes) -> None:
        if self._enq < 2:
            self._enq += data.count(ENQ)
            if self._enq >= 2:
                self._transport.write(self._command)
                self.frames += 1
            return
        if not self._got:
            self._is_last = self._command[0] != 0x52 or bool(data[5] & 0x10)
        self._got += len(data)
        if self._got < RESPONSE_SIZE:
            return
        self._got = 0
        self.frames += 1
        self._transport.write(bytes([ACK]))
        if self._is_last:
            self._enq = 0
            self._command = next(self._commands, b"")
            if not self._command:
                self._transport.close()
                self._done.set_result(None)


async def run_bare(ports: list[int], days: int) -> None:
    loop = asyncio.get_running_loop()
    commands = requests(days)
    clients = []
    for port in ports:
        done: asyncio.Future[None] = loop.create_future()
        _, client = await loop.create_connection(partial(BareClient, commands, done), "127.0.0.1", port)
        clients.append((client, done))
    print("connected", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    await asyncio.gather(*(done for _, done in clients))
    report = {
        "frames": sum(client.frames for client, _ in clients),
        "s": time.perf_counter() - begun,
        "cpu_s": time.process_time(),
    }
    print(orjson.dumps(report).decode(), flush=True)


# --- the collector -----------------------------------------------------------------------------------------


def run_collector(url: str, days: int, sessions: int, profiled: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = Settings(
        database=DatabaseSettings(url=url, data_dir=Path("unused")),
        collector=CollectorSettings(
            max_sessions=sessions, per_host_limit=sessions, connect_timeout_s=60.0, lease_s=600.0
        ),
    )
    db = Database(url, settings)
    imports_mb = peak_mb()
    wanted = [YESTERDAY - timedelta(days=n) for n in range(days)]
    ids = request_missing(db, wanted, NOW, "benchmark")
    begun: list[float] = []
    opened: list[float] = []
    frames_seen, last_frame = [0], [0.0]
    threads: dict[str, float] = {}

    async def work() -> list[str]:
        go = asyncio.create_task(asyncio.to_thread(wait_for_go))
        found = await drain(db, ids, lambda: NOW, note)
        await go
        return [one.state for one in found]

    def wait_for_go() -> None:
        sys.stdin.readline()
        begun.append(time.perf_counter())
        opened.append(peak_mb())

    def note(told: Progress) -> None:
        if told.frames != frames_seen[0]:
            frames_seen[0], last_frame[0] = told.frames, time.perf_counter()
        for thread in threading.enumerate():
            if thread.native_id is not None:
                threads[thread.name] = thread_cpu_s(thread.native_id)

    profiler = cProfile.Profile()
    print("ready", flush=True)
    if profiled:
        profiler.enable()
    states = asyncio.run(work())
    ended = time.perf_counter()
    if profiled:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(35)
    report = {
        "done": states.count("done"),
        "s": last_frame[0] - begun[0],
        "merged_s": ended - begun[0],
        "cpu_s": time.process_time(),
        "threads_s": threads,
        "imports_mb": imports_mb,
        "opened_mb": opened[0],
        "peak_mb": peak_mb(),
    }
    print(orjson.dumps(report).decode(), flush=True)


def thread_cpu_s(native_id: int) -> float:
    stat = Path(f"/proc/self/task/{native_id}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb() -> float:
    """VmHWM, not getrusage: that of a child begins with its parent's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


# --- all together ------------------------------------------------------------------------------------------


class Child:
    """Another process of a benchmark."""

    def __init__(self, *words: object, script: str = __file__) -> None:
        self._process = subprocess.Popen(
            [sys.executable, script, *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a process of the benchmark ended early: {self._process.args}")
        return line.strip()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def register(db: Database, ports: list[int]) -> None:
    count = len(ports)
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
        conn.execute("INSERT INTO meter_model (code, profile) VALUES ('M', 'default')")
        numbers = "FROM generate_series(0, %s - 1) AS i"
        agent = "(SELECT id FROM agent)"
        conn.execute(
            f"INSERT INTO uc (code, name, agent_id) SELECT i::text, 'UC', {agent} {numbers}", [count]
        )
        conn.execute("INSERT INTO point (code, uc_id) SELECT 'P' || code, id FROM uc")
        conn.execute(
            "INSERT INTO meter (serial, model_id) "
            f"SELECT (%s + i)::text, (SELECT id FROM meter_model) {numbers}",
            [FIRST_SERIAL, count],
        )
        conn.execute(
            "INSERT INTO unit (code, url) SELECT 'U' || (n - 1), 'tcp://127.0.0.1:' || port "
            "FROM unnest(%s::int[]) WITH ORDINALITY AS t (port, n)",
            [ports],
        )
        conn.execute(
            "INSERT INTO installation (meter_id, point_id, unit_id, role, valid, pulse_energy_num, "
            "pulse_energy_den) SELECT m.id, p.id, u.id, 'main', tstzrange('2026-01-01Z', NULL), 9, 1250 "
            "FROM uc JOIN point p ON p.uc_id = uc.id JOIN unit u ON u.code = 'U' || uc.code "
            "JOIN meter m ON m.serial = (%s + uc.code::int)::text",
            [FIRST_SERIAL],
        )


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    sessions = int(words[0]) if words else 2000
    days = int(words[1]) if len(words) > 1 else 8
    meters = Child("meters", sessions, days)
    ports = orjson.loads(meters.hear())
    try:
        bare = measure_bare(meters, ports, days)
        with tempfile.TemporaryDirectory(prefix="smf-bench-") as folder:
            settings = Settings(database=DatabaseSettings(url=None, data_dir=Path(folder)))
            with Database.open(settings) as db:
                db.migrate()
                register(db, ports)
                collector, stored = measure_collector(meters, db, sessions, days)
    finally:
        meters.end()
    return judge(sessions, bare, collector, stored)


def measure_bare(meters: Child, ports: list[int], days: int) -> dict[str, float]:
    bare = Child("bare", days)
    bare.tell(orjson.dumps(ports).decode())
    assert bare.hear() == "connected"
    meters.tell("go")
    assert meters.hear() == "go"
    bare.tell("go")
    report: dict[str, float] = orjson.loads(bare.hear())
    bare.end()
    meters.tell("report")
    report["most"] = orjson.loads(meters.hear())["most"]
    return report


def measure_collector(
    meters: Child, db: Database, sessions: int, days: int
) -> tuple[dict[str, Any], dict[str, float]]:
    profile = ["--profile"] if "--profile" in sys.argv else []
    collector = Child("collector", db.url, days, sessions, *profile)
    assert collector.hear() == "ready"
    meters.tell("go")
    assert meters.hear() == "go"
    collector.tell("go")
    report = orjson.loads(collector.hear())
    collector.end()
    meters.tell("report")
    report["most"] = orjson.loads(meters.hear())["most"]
    with db.connect() as conn:
        stored = one_row(conn)
    return report, stored


def one_row(conn: psycopg.Connection[object]) -> dict[str, float]:
    frames, outcomes, vectors, slots = conn.execute(  # type: ignore[misc]
        "SELECT (SELECT count(*) FROM frame), (SELECT count(*) FROM session WHERE outcome = 'complete'), "
        "count(*), sum(cardinality(array_remove(pulses, NULL))) FROM reading_day"
    ).fetchone()
    return {"frames": frames, "complete": outcomes, "vectors": vectors, "slots": slots}


def judge(sessions: int, bare: dict[str, float], collector: dict[str, Any], stored: dict[str, float]) -> int:
    frames = stored["frames"]
    bare_rate = bare["frames"] / bare["s"]
    rate, merged_rate = frames / collector["s"], frames / collector["merged_s"]
    print(f"sessions at once: {collector['most']} (bare client: {bare['most']:.0f}), {frames} frames each")
    print(f"stored: {stored['complete']} complete sessions, {stored['vectors']} day vectors")
    bare_us, cpu_us = 1e6 * bare["cpu_s"] / bare["frames"], 1e6 * collector["cpu_s"] / frames
    print(f"bare client: {bare['s']:.1f} s, {bare_rate:,.0f} frames/s, {bare_us:.0f} us CPU a frame")
    print(f"collector:   {collector['s']:.1f} s to the last frame, {rate:,.0f} frames/s;")
    print(f"             {collector['merged_s']:.1f} s until all is decoded, merged and answered;")
    print(f"             {cpu_us:.0f} us CPU a frame, of which")
    for name, spent in sorted(collector["threads_s"].items(), key=lambda item: -item[1]):
        print(f"  {1e6 * spent / frames:6.1f} us in {name}")
    ratio, merged_ratio = rate / bare_rate, merged_rate / bare_rate
    print(f"frames exchanged per second, against the bare client: {ratio:.2f} (limit {RATIO_LIMIT})")
    lines_rate = sessions * LINE_OCTETS_PER_S / (RESPONSE_SIZE + 1)
    line_ratio = merged_rate / lines_rate
    print(
        f"until all is merged: {line_ratio:.2f} of what {sessions} lines of 9,600 bit/s bring "
        f"at most, {merged_ratio:.2f} of the bare client"
    )
    peak = collector["peak_mb"]
    print(
        f"peak memory: {peak:.0f} MB (limit {MEMORY_LIMIT_MB}); {collector['imports_mb']:.0f} MB before any "
        f"session, {collector['opened_mb']:.0f} MB with all open"
    )
    complete = stored["complete"] == sessions and frames == bare["frames"]
    if not complete:
        print(f"NOT the same frames: bare {bare['frames']:.0f}, collector {frames}")
    return 0 if complete and ratio >= RATIO_LIMIT and peak < MEMORY_LIMIT_MB else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["meters", count, days]:
            asyncio.run(serve_meters(int(count), int(days)))
        case ["bare", days]:
            asyncio.run(run_bare(orjson.loads(sys.stdin.readline()), int(days)))
        case ["collector", url, days, sessions, *rest]:
            run_collector(url, int(days), int(sessions), bool(rest))
        case _:
            sys.exit(main())
