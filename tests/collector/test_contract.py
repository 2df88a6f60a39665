"""One contract for every way a meter's readings come: the same load gives the same intervals, and what was
stored as evidence gives them once more.

A new driver is another entry of WAYS: it brings the day of the same simulated load into the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from collector.files.importing import import_file
from collector.merging import merge_sessions
from collector.session import EndedSession
from collector.streams.reader import open_session, stream_targets
from exchange.export import ExportRequest
from exchange.public_files import export_public
from protocols.celesc.catalogue import meter_named
from protocols.dlms import models
from protocols.public_format import FileKind
from protocols.ssu import Format
from simulator.load.grid import local_seconds
from simulator.streams.output import CelescOutput, SsuOutput, StreamOutput
from storage import sessions
from storage.database import Database
from tests.collector.dlms.peers import world as dlms
from tests.collector.streams.hearing import frames_of, heard
from tests.collector.world import DAY, NOW, add_meter, collect, meter, query, quick, register, served, truth

pytestmark = [pytest.mark.slow, pytest.mark.req("X-sim", "TR-5.1")]

SERIAL = "10000001"
STATION = meter(SERIAL)
PULSE_KWH = 0.036
FIRST_S = int(local_seconds(datetime(2026, 11, 20, 3, tzinfo=UTC)))


def over_nbr14522(db: Database, folder: Path) -> None:
    async def work() -> None:
        async with served(meter(SERIAL)) as servers:
            register(db, servers)
            await collect(db)

    asyncio.run(work())


def over_dlms(model: str) -> Callable[[Database, Path], None]:
    def bring(db: Database, folder: Path) -> None:
        secrets = folder / "secrets.toml"
        secrets.write_text(
            f'[meters.{SERIAL}]\npassword = "{dlms.PASSWORD}"\nencryption_key = "{dlms.ENCRYPTION}"\n'
            f'authentication_key = "{dlms.AUTHENTICATION}"\n'
        )
        secrets.chmod(0o600)
        ready = quick(db, dlms_secrets_path=secrets)

        async def work() -> None:
            async with dlms.server(model=model, station=meter(SERIAL)) as way:
                dlms.registered(ready, way, model)
                await collect(ready)

        asyncio.run(work())

    return bring


def over_a_stream(profile: str, output: StreamOutput) -> Callable[[Database, Path], None]:
    """What a receiver heard from a minute before the day until a minute after, as one session of frames."""

    def bring(db: Database, folder: Path) -> None:
        rows = frames_of(heard(output, FIRST_S - 60, 86_400 + 120), profile)
        with db.connect() as conn:
            conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
            conn.execute(
                "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'A', id FROM distributor"
            )
            # A register of CELESC counts whole kWh: V11 holds what is registered otherwise.
            constant = (1, 1) if profile.startswith("celesc") else (9, 1250)
            add_meter(conn, 1, SERIAL, "tcp://127.0.0.1:1", profile, constant=constant)
            (target,) = stream_targets(conn, NOW)
            number = open_session(conn, "heard", target, NOW)
            assert number is not None
            octets = [
                sessions.encode_frame(number, row.seq, row.at, False, 1, None, row.payload) for row in rows
            ]
            sessions.write_frames(conn, octets)
            merge_sessions(conn, [EndedSession(number, outcome="complete")], db.settings, NOW)

    return bring


def from_a_file(kind: FileKind) -> Callable[[Database, Path], None]:
    """Read, exported, forgotten, and imported from the file."""

    def bring(db: Database, folder: Path) -> None:
        over_nbr14522(db, folder)
        # The intervals in which a file begins and ends belong to the days beside it.
        export_public(db, ExportRequest(None, DAY, DAY, folder / "out", "ana"))
        with db.connect() as conn:
            conn.execute("DELETE FROM reading_day")
        (path,) = (
            path for path in (folder / "out").rglob("*.*") if ("&" in path.name) == (kind is FileKind.TEXT)
        )
        done = import_file(db, path, "rui", NOW + timedelta(minutes=5))
        assert done.merged is not None

    return bring


@dataclass(frozen=True)
class Way:
    """How the day comes.

    Attributes:
        kwh_off: by how much an interval may differ, for what carries whole kWh only.
        reactive: channels of reactive energy, each with the columns of the truth that it counts.
    """

    bring: Callable[[Database, Path], None]
    kwh_off: float = 0.0
    kwh_per_pulse: float = PULSE_KWH
    reactive: Mapping[int, tuple[int, ...]] = field(default_factory=lambda: {2: (1,), 3: (2,)})


SOURCE = STATION.meter.spec.source
CELESC = CelescOutput(SOURCE, (36, 1000), meter_named("27182"), SERIAL.rjust(10, "0"), FIRST_S - 12 * 300)
WAYS = {
    "nbr14522": Way(over_nbr14522),
    "dlms-wrapper": Way(over_dlms("dlms-test")),
    "dlms-hdlc": Way(over_dlms("dlms-test-hdlc")),
    "dlms-gmac": Way(over_dlms("dlms-test-gmac")),
    # A normal block has one reactive counter for both signs (ssu.md 2).
    "ssu-normal": Way(over_a_stream("ssu-normal", SsuOutput(SOURCE, Format.NORMAL)), reactive={2: (1, 2)}),
    # A block shows the registers of its quadrant only: the others count nothing.
    "ssu-extended": Way(over_a_stream("ssu-extended", SsuOutput(SOURCE))),
    "ssu-mixed": Way(over_a_stream("ssu-mixed", SsuOutput(SOURCE, Format.MIXED))),
    # The conflict of the hour post (ssu.md 4) does not touch what is counted.
    "ssu-mixed-other-post": Way(
        over_a_stream("ssu-mixed", SsuOutput(SOURCE, Format.MIXED, mixed_hour_post="extended"))
    ),
    # Registers of whole kWh, shown every three seconds: each end is the floor of a value that old.
    "celesc": Way(over_a_stream("celesc-27182", CELESC), kwh_off=1.2, kwh_per_pulse=1.0, reactive={}),
    "fk7": Way(from_a_file(FileKind.FK7)),
    "public-text": Way(from_a_file(FileKind.TEXT)),
}


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("test", dlms.MODELS)
    yield
    models.remove_catalogue("test")


def rows(db: Database) -> list[tuple[object, ...]]:
    return query(
        db, "SELECT channel, day, version, interval_s, pulses FROM reading_day ORDER BY channel, day, version"
    )


@pytest.mark.parametrize("name", WAYS)
def test_the_same_load_gives_the_same_intervals_also_from_evidence_alone(
    embedded_db: Database, tmp_path: Path, name: str
) -> None:
    way, db = WAYS[name], quick(embedded_db)

    way.bring(db, tmp_path)

    before = rows(db)
    ((pulses, interval_s),) = query(
        db, "SELECT pulses, interval_s FROM reading_day WHERE day = %s AND channel = 1", DAY
    )
    assert (len(pulses), interval_s) == (288, 300)
    assert None not in pulses
    counted_kwh = truth(STATION)[:, 0] * PULSE_KWH
    off_kwh = np.abs(np.array(pulses) * way.kwh_per_pulse - counted_kwh)
    assert off_kwh.max() <= way.kwh_off + 1e-9
    assert abs(sum(pulses) * way.kwh_per_pulse - counted_kwh.sum()) <= way.kwh_off + 1e-6
    for channel, columns in way.reactive.items():
        ((pulses,),) = query(
            db, "SELECT pulses FROM reading_day WHERE day = %s AND channel = %s", DAY, channel
        )
        counted = truth(STATION)[:, columns].sum(axis=1).tolist()
        assert pulses == counted
    assert query(db, "SELECT reason FROM quarantine") == []

    # Whoever finds the session open decodes its frames anew: nothing else is asked, nothing comes twice.
    ((last,),) = query(db, "SELECT max(id) FROM session")
    with db.connect() as conn:
        conn.execute("DELETE FROM reading_day")
        conn.execute("UPDATE session SET outcome = NULL, ended_at = NULL WHERE id = %s", [last])
        merge_sessions(conn, [EndedSession(last)], db.settings, NOW + timedelta(minutes=10))
    again = rows(db)
    assert [row for row in again if row[1] == DAY] == [row for row in before if row[1] == DAY]
    with db.connect() as conn:
        conn.execute("UPDATE session SET outcome = NULL, ended_at = NULL WHERE id = %s", [last])
        merge_sessions(conn, [EndedSession(last)], db.settings, NOW + timedelta(minutes=10))
    assert rows(db) == again
    assert query(db, "SELECT reason FROM quarantine") == []
