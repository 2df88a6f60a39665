"""Intervals of meters that speak by themselves, traced to the octets that a line brought."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from audit.parts import Trace
from audit.trace import trace
from ccee.profile import load_profile
from collector.merging import merge_sessions
from collector.session import EndedSession
from collector.streams.reader import open_session, stream_targets
from derivation.run import derive
from pipelines.cli.trace import _plain, tree
from protocols.captures import Chunk
from protocols.celesc.catalogue import meter_named
from protocols.ssu import Format, decode_block
from simulator.load.grid import local_seconds
from simulator.streams.output import BadLine, CelescOutput, SsuOutput, StreamOutput
from storage import sessions
from storage.database import Database
from tests.collector.streams.hearing import SOURCE, frames_of, heard
from tests.collector.world import DAY, MARKET, NOW, add_meter, quick

pytestmark = pytest.mark.req("X-trace", "TR-5.1")

MIDNIGHT = datetime(2026, 11, 20, tzinfo=MARKET)
NOON = MIDNIGHT + timedelta(hours=12)
FIRST_SLOT = 144  # of 5 minutes, from noon
SLOTS = 4
FIRST_S = int(local_seconds(NOON))
FORMATS = {"ssu-normal": Format.NORMAL, "ssu-extended": Format.EXTENDED, "ssu-mixed": Format.MIXED}


def ssu(profile: str) -> SsuOutput:
    return SsuOutput(SOURCE, FORMATS[profile])


def celesc(**changes: object) -> CelescOutput:
    begun_s = FIRST_S - 12 * 300
    return CelescOutput(SOURCE, (36, 1000), meter_named("27182"), "0010000001", begun_s, **changes)


def bring(
    db: Database, profile: str, output: StreamOutput, *, line: BadLine | None = None, piece: int = 99
) -> Database:
    """What was heard around noon as a session, of reads of so many octets, and a derived day."""
    ready = quick(db)
    whole = heard(output, FIRST_S - 40, SLOTS * 300 + 60, line)
    chunks = [
        Chunk(chunk.at_s, chunk.octets[first : first + piece])
        for chunk in whole
        for first in range(0, len(chunk.octets), piece)
    ]
    with ready.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
        conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'A', id FROM distributor")
        add_meter(conn, 1, "10000001", "dialin://u1", profile)
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc"
        )
        if profile.startswith("celesc"):
            conn.execute("UPDATE installation SET pulse_energy_num = 1, pulse_energy_den = 1")
        (target,) = stream_targets(conn, NOW)
        number = open_session(conn, "c", target, NOW)
        assert number is not None
        rows = [
            sessions.encode_frame(number, row.seq, row.at, False, 1, None, row.payload)
            for row in frames_of(chunks, profile)
        ]
        sessions.write_frames(conn, rows)
        merge_sessions(conn, [EndedSession(number, outcome="complete")], ready.settings, NOW)
    derive(ready, DAY, DAY, run_id="t", as_of=NOW)
    return ready


def traced(db: Database, slot: int) -> Trace:
    return trace(db, load_profile(), "0000000001", MIDNIGHT + (slot + 1) * timedelta(minutes=5))


def assert_parts_are_the_record(found: Trace) -> None:
    assert found.is_identical, [check for check in found.checks if not check.is_identical]
    assert {"count in the frame's octets", "count decoded from the session's frames"} <= {
        check.what for check in found.checks
    }
    assert found.reading is not None
    assert found.reading.place is not None
    assert found.reading.session is not None
    assert found.reading.session["url"] == "dialin://u1"
    for record in found.reading.place.records:
        assert b"".join(part.octets for part in record.parts) == record.octets
        first = record.first_octet - 1
        assert record.octets[first : first + len(record.value_octets)] == record.value_octets
        for part in record.parts:
            assert part.payload[part.first_octet - 1 :][: len(part.octets)] == part.octets


@pytest.mark.parametrize("piece", [99, 4], ids=["whole", "in pieces"])
@pytest.mark.parametrize("profile", FORMATS)
def test_a_value_of_ssu_is_traced_to_its_closing_block(
    embedded_db: Database, profile: str, piece: int
) -> None:
    db = bring(embedded_db, profile, ssu(profile), piece=piece)
    for slot in range(FIRST_SLOT, FIRST_SLOT + SLOTS):
        found = traced(db, slot)
        assert_parts_are_the_record(found)
        (record,) = found.reading.place.records
        counted = int(SOURCE.pulses(FIRST_S // 300 + slot - FIRST_SLOT, 1)[0, 0])
        assert found.reading.place.pulses == found.reading.pulses == counted
        assert int.from_bytes(record.value_octets, "little") == record.value == counted
        block = decode_block(record.octets)
        assert (block.format, block.seconds_left) == (FORMATS[profile], 0)
        assert abs(record.at - found.interval_end) <= timedelta(seconds=3)
        assert len(record.parts) == -(-len(record.octets) // piece)


def test_a_value_through_noise_is_traced_past_it(embedded_db: Database) -> None:
    """Places count the octets of the noise, too."""
    db = bring(embedded_db, "ssu-extended", ssu("ssu-extended"), line=BadLine(0.01, 0.01, seed=5))
    found = [traced(db, slot) for slot in range(FIRST_SLOT, FIRST_SLOT + SLOTS)]
    measured = [one for one in found if one.reading is not None and one.reading.place is not None]
    assert len(measured) >= 3
    for one in measured:
        assert_parts_are_the_record(one)


@pytest.mark.parametrize("is_turning", [False, True])
def test_a_value_of_celesc_is_traced_to_both_packets(embedded_db: Database, is_turning: bool) -> None:
    """Also where the register begins again within the interval."""
    # The register has counted for an hour, and is to turn in the third interval after noon.
    counted_kwh = int(SOURCE.pulses(FIRST_S // 300 - 12, 14)[:, 0].sum()) * 36 // 1000
    start_kwh = 99_999 - counted_kwh - 1 if is_turning else 0
    db = bring(embedded_db, "celesc-27182", celesc(start_kwh=start_kwh), piece=7)
    turned = 0
    for slot in range(FIRST_SLOT + 1, FIRST_SLOT + SLOTS):
        found = traced(db, slot)
        assert_parts_are_the_record(found)
        start, end = found.reading.place.records
        assert [int(one.value_octets.hex()) for one in (start, end)] == [start.value, end.value]
        assert [one.octets[8:10] for one in (start, end)] == [b"\x0a\x02"] * 2
        assert (end.value - start.value) % 10**5 == found.reading.pulses == found.reading.place.pulses
        turned += end.value < start.value
        for one, at in ((start, found.interval_start), (end, found.interval_end)):
            assert timedelta(0) < at - one.at <= timedelta(seconds=15)
    assert turned == is_turning


def test_a_trace_is_shown_and_given_as_json(embedded_db: Database) -> None:
    db = bring(embedded_db, "celesc-27182", celesc(), piece=7)
    found = traced(db, FIRST_SLOT + 1)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(tree(found), highlight=False)
    shown = capture.get()
    start, end = found.reading.place.records
    assert f"CELESC packet: {end.value} - {start.value} = {found.reading.pulses} pulses" in shown
    assert f"frame {end.parts[0].frame_seq}, octets {end.parts[0].first_octet} to" in shown
    assert "AA 55 00 10 00 00 01 05 0A 02" in shown
    assert "celesc over dialin://u1" in shown
    assert "recomputed identical" in shown
    document = json.loads(json.dumps(_plain(asdict(found)), default=str))
    assert document["reading"]["place"]["records"][1]["octets"] == end.octets.hex(" ")


def test_octets_that_do_not_tell_the_value_are_told(embedded_db: Database) -> None:
    db = bring(embedded_db, "ssu-extended", ssu("ssu-extended"))
    with db.connect() as conn:
        conn.execute(
            "UPDATE reading_day SET pulses[%s] = pulses[%s] + 1 WHERE channel = 1",
            [FIRST_SLOT + 2, FIRST_SLOT + 2],
        )
    found = traced(db, FIRST_SLOT + 1)
    assert not found.is_identical
    wrong = {check.what for check in found.checks if not check.is_identical}
    assert {"count in the frame's octets", "count decoded from the session's frames"} <= wrong
    assert replace(found, checks=[]).is_identical is False
