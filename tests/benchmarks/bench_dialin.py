"""Thousands of dial-in and dial-out sessions open at once, against a bare asyncio client in the same place.

Run: python -m tests.benchmarks.bench_dialin [SESSIONS] [DAYS] [--profile]. Default: 5,000 sessions, half of
them with units that call, one day. The meters are those of bench_sessions, played back by a process of their
own; all connections are open before the first ENQ. The bare client is called and calls, exchanges the same
frames and does nothing else. Printed as ratios: frames per second, CPU a frame, scheduling delay of the event
loop (how late a task that sleeps 20 ms wakes), memory a session.
"""

from __future__ import annotations

import asyncio
import cProfile
import logging
import pstats
import resource
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import orjson
import structlog

from collector.service import Collector
from collector.work.worklist import request_missing
from storage.database import Database
from storage.settings import CollectorSettings, DatabaseSettings, Settings
from tests.benchmarks import bench_sessions as base

LAG_STEP_S = 0.02
KINDS = "[kinds.bench]\nhello = 'U(?P<unit>[0-9]+);'\n"
# Nobody sends ENQ until all are connected, and no time-out may strike because the machine is busy: the meters
# that are played back know no NAK.
MODELS = """
[models.bench]
extends = "default"
timing = { synchronise_s = 600.0, max_char_gap_s = 60.0, max_response_s = 120.0, enq_in_flight_s = 60.0 }
"""
DIALLING_AT_ONCE = 100


def many_sockets() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Lag:
    """How late the loop wakes a task, in seconds."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_STEP_S
            await asyncio.sleep(LAG_STEP_S)
            self._late.append(loop.time() - due)

    def report(self) -> dict[str, float]:
        self._task.cancel()
        late = sorted(self._late)
        return {
            "median_ms": 1e3 * late[len(late) // 2],
            "p99_ms": 1e3 * late[len(late) * 99 // 100],
            "most_ms": 1e3 * late[-1],
        }


def memory_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


# --- the meters --------------------------------------------------------------------------------------------


async def serve_meters(called: int, calling: int, days: int) -> None:
    """`dial PORT` on stdin: the calling ones call; `go`: ENQ once all are connected."""
    answers = base.recorded_answers(days)
    base.CannedMeter.idle = set()
    loop = asyncio.get_running_loop()
    ports = []
    for number in range(called):
        meter = partial(base.CannedMeter, base.FIRST_SERIAL + number, answers)
        server = await loop.create_server(meter, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    print(orjson.dumps(ports).decode(), flush=True)
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    pace: asyncio.Task[None] | None = None
    while line := (await told.readline()).split():
        if line[0] == b"dial":
            if pace is not None:
                pace.cancel()
            gate = asyncio.Semaphore(DIALLING_AT_ONCE)
            await asyncio.gather(*(dial(called + n, int(line[1]), answers, gate) for n in range(calling)))
        else:
            while base.CannedMeter.connected < called + calling:  # noqa: ASYNC110 -- a benchmark's meters
                await asyncio.sleep(0.05)
            pace = asyncio.create_task(base.send_enq())
        print("done", flush=True)


async def dial(number: int, port: int, answers: dict[int, list[bytes]], gate: asyncio.Semaphore) -> None:
    async with gate:
        transport, _ = await asyncio.get_running_loop().create_connection(
            partial(base.CannedMeter, base.FIRST_SERIAL + number, answers), "127.0.0.1", port
        )
        transport.write(b"U%d;" % number)


# --- the bare client ---------------------------------------------------------------------------------------


async def run_bare(ports: list[int], calling: int, days: int) -> None:
    loop = asyncio.get_running_loop()
    commands = base.requests(days)
    clients: list[base.BareClient] = []
    ends: list[asyncio.Future[None]] = []

    def client() -> base.BareClient:
        ends.append(loop.create_future())
        clients.append(base.BareClient(commands, ends[-1]))
        return clients[-1]

    before_mb = memory_mb("VmRSS")
    server = await loop.create_server(client, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    for port in ports:
        await loop.create_connection(client, "127.0.0.1", port)
    while len(clients) < len(ports) + calling:  # noqa: ASYNC110 -- nothing tells of it; before the clock
        await asyncio.sleep(0.05)
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    lag = Lag()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    await asyncio.gather(*ends)
    report = {
        "frames": sum(client.frames for client in clients),
        "s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu_begun,
        "mb": memory_mb("VmHWM") - before_mb,
        **lag.report(),
    }
    print(orjson.dumps(report).decode(), flush=True)


# --- the collector -----------------------------------------------------------------------------------------


def run_collector(url: str, folder: str, sessions: int, days: int, profiled: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    kinds, models = Path(folder, "kinds.toml"), Path(folder, "models")
    models.mkdir(exist_ok=True)
    kinds.write_text(KINDS)
    Path(models, "nbr14522.toml").write_text(MODELS)
    settings = CollectorSettings(
        max_sessions=sessions,
        per_host_limit=sessions,
        connect_timeout_s=120.0,
        lease_s=600.0,
        session_timeout_s=3600.0,
        idle_timeout_s=3600.0,
        listen_host="127.0.0.1",
        listen_port=0,
        dial_in_kinds_path=kinds,
        dial_in_unidentified=sessions,
        meter_models_path=models,
    )
    db = Database(url, Settings(DatabaseSettings(url=url, data_dir=Path("unused")), collector=settings))
    ids = request_missing(
        db, [base.YESTERDAY.replace(day=base.YESTERDAY.day - n) for n in range(days)], base.NOW, "benchmark"
    )
    profiler = cProfile.Profile()
    report = asyncio.run(collect(db, ids, sessions, profiler if profiled else None))
    if profiled:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(35)
    print(orjson.dumps(report).decode(), flush=True)


async def collect(
    db: Database, ids: list[int], sessions: int, profiler: cProfile.Profile | None
) -> dict[str, object]:
    stop = asyncio.Event()
    before_mb = memory_mb("VmRSS")
    threads: dict[str, float] = {}
    settled = 0

    def note(_: object) -> None:
        nonlocal settled
        settled += 1
        if settled % max(1, sessions // 10) == 0:
            for thread in threading.enumerate():
                if thread.native_id is not None:
                    threads[thread.name] = base.thread_cpu_s(thread.native_id)
        if settled >= sessions:
            stop.set()

    collector = Collector(db, now=lambda: base.NOW, only=ids, on_session=note)
    work = asyncio.create_task(collector.run(stop))
    while collector.callers.listening_port is None:  # noqa: ASYNC110 -- nothing tells of it; before the clock
        await asyncio.sleep(0.02)
    print(collector.callers.listening_port, flush=True)
    while collector.stats.active < sessions:  # noqa: ASYNC110 -- nothing tells of it; before the clock
        await asyncio.sleep(0.1)
    opened_mb = memory_mb("VmRSS")
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    lag = Lag()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    if profiler is not None:
        profiler.enable()
    await stop.wait()
    if profiler is not None:
        profiler.disable()
    seconds, cpu_s, late = time.perf_counter() - begun, time.process_time() - cpu_begun, lag.report()
    await work
    return {
        "s": seconds,
        "cpu_s": cpu_s,
        "before_mb": before_mb,
        "open_mb": opened_mb - before_mb,
        "mb": memory_mb("VmHWM") - before_mb,
        "threads_s": threads,
        "outcomes": dict(collector.stats.sessions),
        **late,
    }


# --- all together ------------------------------------------------------------------------------------------


def exchange(meters: base.Child, client: base.Child) -> dict[str, object]:
    meters.tell(f"dial {client.hear()}")
    meters.hear()
    assert client.hear() == "connected"
    meters.tell("go")
    meters.hear()
    client.tell("go")
    report: dict[str, object] = orjson.loads(client.hear())
    client.end()
    return report


def child(*words: object) -> base.Child:
    return base.Child(*words, script=__file__)


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    sessions = int(words[0]) if words else 5000
    days = int(words[1]) if len(words) > 1 else 1
    calling = sessions // 2
    called = sessions - calling
    meters = child("meters", called, calling, days)
    ports = orjson.loads(meters.hear())
    try:
        client = child("bare", calling, days)
        client.tell(orjson.dumps(ports).decode())
        bare = exchange(meters, client)
        with tempfile.TemporaryDirectory(prefix="smf-bench-") as folder:
            settings = Settings(database=DatabaseSettings(url=None, data_dir=Path(folder)))
            with Database.open(settings) as db:
                db.migrate()
                base.register(db, ports + [1] * calling)
                with db.connect() as conn:
                    conn.execute("UPDATE meter_model SET profile = 'bench'")
                    conn.execute(
                        "UPDATE unit SET url = 'dialin://' || substr(code, 2) "
                        "WHERE substr(code, 2)::int >= %s",
                        [called],
                    )
                profile = ["--profile"] if "--profile" in sys.argv else []
                collector = exchange(meters, child("collector", db.url, folder, sessions, days, *profile))
                with db.connect() as conn:
                    stored = base.one_row(conn)
    finally:
        meters.end()
    return judge(sessions, calling, bare, collector, stored)


def judge(
    sessions: int,
    calling: int,
    bare: dict[str, object],
    collector: dict[str, object],
    stored: dict[str, float],
) -> int:
    frames = stored["frames"]

    def of(report: dict[str, object], key: str) -> float:
        return float(str(report[key]))

    rows = [
        ("frames per second", of(bare, "frames") / of(bare, "s"), frames / of(collector, "s")),
        (
            "us CPU a frame",
            1e6 * of(bare, "cpu_s") / of(bare, "frames"),
            1e6 * of(collector, "cpu_s") / frames,
        ),
        ("ms late, median", of(bare, "median_ms"), of(collector, "median_ms")),
        ("ms late, 99 %", of(bare, "p99_ms"), of(collector, "p99_ms")),
        ("ms late, most", of(bare, "most_ms"), of(collector, "most_ms")),
        ("KiB a session", 1024 * of(bare, "mb") / sessions, 1024 * of(collector, "mb") / sessions),
    ]
    print(f"{sessions} sessions open at once, {calling} of them called us; {frames:.0f} frames stored")
    print(f"{'':24}{'bare client':>14}{'collector':>14}{'ratio':>9}")
    for name, one, other in rows:
        print(f"{name:24}{one:14,.1f}{other:14,.1f}{other / one:9.2f}")
    before, opened, peak = of(collector, "before_mb"), of(collector, "open_mb"), of(collector, "mb")
    print(f"collector's memory: {before:.0f} MB at rest, +{opened:.0f} MB all open, +{peak:.0f} MB at most")
    threads = collector["threads_s"]
    assert isinstance(threads, dict)
    for name, spent in sorted(threads.items(), key=lambda item: -item[1]):
        print(f"  {1e6 * spent / frames:6.1f} us a frame in {name}, since the process began")
    is_whole = stored["complete"] == sessions and frames == of(bare, "frames")
    if not is_whole:
        print(f"NOT the same frames: bare {bare['frames']}, outcomes {collector['outcomes']}")
    return 0 if is_whole else 1


if __name__ == "__main__":
    many_sockets()
    match sys.argv[1:]:
        case ["meters", called, calling, days]:
            asyncio.run(serve_meters(int(called), int(calling), int(days)))
        case ["bare", calling, days]:
            asyncio.run(run_bare(orjson.loads(sys.stdin.readline()), int(calling), int(days)))
        case ["collector", url, folder, sessions, days, *rest]:
            run_collector(url, folder, int(sessions), int(days), bool(rest))
        case _:
            sys.exit(main())
