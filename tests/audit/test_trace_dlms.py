"""Intervals read by DLMS, traced to the octets of their rows, whatever carried them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from audit.dlms_evidence import locate_row
from audit.evidence import Evidence
from audit.parts import Trace
from audit.trace import trace
from ccee.profile import load_profile
from collector.decoded import MeterContext
from collector.dlms.decode import decode_dlms
from derivation.run import derive
from pipelines.cli.trace import _document, _plain, tree
from protocols.dlms.axdr import OctetCursor
from protocols.dlms.models import model_named
from tests.collector.dlms.peers import world as dlms
from tests.collector.dlms.peers.world import SPEC, catalogue, scenario, secrets
from tests.collector.world import DAY, MARKET, NOW, query, truth

__all__ = ["catalogue", "secrets"]
pytestmark = pytest.mark.req("X-trace", "TR-5.1")

MODELS = ("dlms-test", "dlms-test-hdlc", "dlms-test-gmac", "dlms-test-gmac-hdlc")
TOTALS = replace(SPEC, with_totals=True)
# Rows of some 40 octets in pieces of 50: most cells are cut by a block sooner or later.
SMALL_BLOCKS = replace(SPEC, with_null_clocks=False, block_octets=50)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=MARKET)


def traced(db, slot: int) -> Trace:
    derive(db, DAY, DAY, run_id="t", as_of=NOW)
    return trace(db, load_profile(), "0000000001", MIDNIGHT + (slot + 1) * timedelta(minutes=5))


def number_in(parts) -> int:
    return OctetCursor(b"".join(part.octets for part in parts)).data().value


def assert_points_to_the_value(found: Trace, pulses: int, rows: int) -> None:
    assert found.is_identical, [check for check in found.checks if not check.is_identical]
    assert found.reading is not None
    place = found.reading.place
    assert place is not None
    assert (place.pulses, found.reading.pulses, len(place.rows)) == (pulses, pulses, rows)
    raw = [number_in(row.value.told_by or row.value.octets) for row in place.rows]
    assert raw == [row.raw for row in place.rows]
    # 7.2 Wh a pulse, scaler -3.
    assert raw[-1] - (raw[0] if rows == 2 else 0) == pulses * 7200
    assert place.rows[-1].end == found.interval_end.replace(tzinfo=None)
    scaler = OctetCursor(b"".join(part.octets for part in place.scaler_octets)).data().plain()
    assert scaler == [-3, 30] == [place.scaler, 30]
    assert b"\x09\x06\x01\x00\x01" in b"".join(part.octets for part in place.column_octets)
    for cell in (cell for row in place.rows for cell in (row.clock, row.value)):
        for part in (*cell.octets, *cell.told_by):
            first = part.first_octet - 1
            assert part.payload[first : first + len(part.octets)] == part.octets


@pytest.mark.parametrize(("spec", "rows"), [(SPEC, 1), (TOTALS, 2)], ids=["increments", "totals"])
@pytest.mark.parametrize("model", MODELS)
def test_a_value_is_traced_to_its_octets(embedded_db, secrets, model, spec, rows):
    ready, way, _, _ = scenario(embedded_db, secrets, model=model, spec=spec)
    slot = 123
    found = traced(ready, slot)
    assert_points_to_the_value(found, int(truth(way.meter)[slot, 0]), rows)
    checks = {check.what for check in found.checks}
    assert {"count in the frame's octets", "count decoded from the session's frames"} <= checks
    place = found.reading.place
    # The clock is null in all rows but the first of an answer.
    assert place.rows[-1].clock.is_null
    assert b"".join(part.octets for part in place.rows[-1].clock.octets) == b"\0"
    (first_row,) = {row.clock.told_by_row for row in place.rows}
    assert first_row == 1
    # In cipher the evidence is the plain APDU that was recorded beside it.
    parts = [part for row in place.rows for part in row.value.octets]
    assert {part.is_plain for part in parts} == {"gmac" in model}


def test_a_value_is_traced_where_the_newest_row_comes_first(embedded_db, secrets):
    spec = replace(TOTALS, is_newest_first=True)
    ready, way, _, _ = scenario(embedded_db, secrets, spec=spec)
    found = traced(ready, 123)
    assert_points_to_the_value(found, int(truth(way.meter)[123, 0]), 2)
    older, newer = found.reading.place.rows
    assert older.value.row == newer.value.row + 1
    console = Console(width=200)
    with console.capture() as shown:
        console.print(tree(found))
    assert f"null: {newer.clock.row - 1} periods before row 1" in " ".join(shown.get().split())


def test_a_value_cut_by_a_block_has_two_parts(embedded_db, secrets):
    ready, way, _, _ = scenario(embedded_db, secrets, spec=SMALL_BLOCKS)
    ((session_id,),) = query(ready, "SELECT id FROM session")
    model = model_named("dlms-test")
    with ready.connect() as conn:
        frames = _frames(conn, session_id)
    cut = None
    for slot, counts in enumerate(truth(way.meter)):
        end = datetime(2026, 11, 20) + (slot + 1) * timedelta(minutes=5)
        for channel in (1, 2, 3):
            place = locate_row(frames, model, MARKET, end, channel)
            assert place is not None
            assert place.pulses == counts[channel - 1]
            (row,) = place.rows
            assert not row.clock.is_null
            if channel == 1 and len(row.value.octets) == 2:
                cut = slot
        if cut is not None and slot > 20:
            break
    assert cut is not None
    found = traced(ready, cut)
    assert_points_to_the_value(found, int(truth(way.meter)[cut, 0]), 1)
    first, second = found.reading.place.rows[0].value.octets
    assert first.frame_seq < second.frame_seq


@pytest.mark.parametrize("model", ["dlms-test-hdlc"])
def test_a_value_cut_by_an_hdlc_segment_has_two_parts(embedded_db, secrets, model):
    ready, way, _, _ = scenario(embedded_db, secrets, model=model, spec=TOTALS)
    ((session_id,),) = query(ready, "SELECT id FROM session")
    with ready.connect() as conn:
        frames = _frames(conn, session_id)
    counts, cut = truth(way.meter), 0
    for slot in range(0, 60, 2):
        end = MIDNIGHT.replace(tzinfo=None) + (slot + 1) * timedelta(minutes=5)
        for channel in (1, 2, 3):
            place = locate_row(frames, model_named(model), MARKET, end, channel)
            assert place is not None
            assert place.pulses == counts[slot, channel - 1]
            cut += sum(len({part.frame_seq for part in row.value.octets}) == 2 for row in place.rows)
    assert cut


def test_places_and_decoder_agree_on_every_interval_of_damaged_records(embedded_db, secrets):
    """Frames that a record lacks take place and value alike."""
    ready, _, _, _ = scenario(embedded_db, secrets, model="dlms-test-hdlc", spec=TOTALS)
    ((session_id,),) = query(ready, "SELECT id FROM session")
    model, context = model_named("dlms-test-hdlc"), MeterContext(1, dlms.SERIAL, 1, MARKET)
    with ready.connect() as conn:
        frames = _frames(conn, session_id)
    for lost in range(0, len(frames), len(frames) // 8):
        record = [frame for number, frame in enumerate(frames) if number != lost]
        decoded = {
            (vector.day, index): int(vector.pulses[index])
            for vector in decode_dlms(record, model, context).vectors
            if vector.channel == 1
            for index in range(288)
            if vector.present[index]
        }
        for slot in (0, 1, 143, 287):
            end = MIDNIGHT.replace(tzinfo=None) + (slot + 1) * timedelta(minutes=5)
            place = locate_row(record, model, MARKET, end, 1)
            assert decoded.get((DAY, slot)) == (None if place is None else place.pulses)


@pytest.mark.parametrize("model", ["dlms-test", "dlms-test-gmac"])
def test_it_is_shown_to_people_and_to_programs(embedded_db, secrets, model):
    ready, _, _, _ = scenario(embedded_db, secrets, model=model, spec=TOTALS)
    found = traced(ready, 40)
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(tree(found))
    text = " ".join(shown.get().split())
    place = found.reading.place
    assert f"= {place.pulses} pulses" in text
    assert "x 10^-3 Wh, 36/5 Wh a pulse" in text
    for row in place.rows:
        assert f"row {row.value.row} of its answer, to 2026-11-20 {row.end:%H:%M}" in text
    assert "null: " in text
    assert ("plain text of the ciphered frames" in text) == ("gmac" in model)
    assert "recomputed identical" in text
    # Each frame once, and of a long one the lines about the value.
    frames = {part.frame_seq for row in place.rows for part in row.value.octets}
    assert text.count(f"frame {min(frames)} at") == 1
    assert "…" in text
    for row in place.rows:
        assert row.value.octets[0].octets.hex(" ").upper() in text
    told = json.loads(json.dumps(_plain(asdict(found)), default=str))["reading"]["place"]
    assert told["rows"][1]["value"]["octets"][0]["octets"].startswith("15 ")
    for secret in (dlms.PASSWORD.encode().hex(" "), dlms.KEYS.encryption.hex(" ")):
        assert secret not in json.dumps(_plain(asdict(found)), default=str)


@pytest.mark.parametrize("model", ["dlms-test-hdlc", "dlms-test-gmac"])
def test_a_program_is_told_each_frame_once(embedded_db, secrets, model):
    ready, _, _, _ = scenario(embedded_db, secrets, model=model, spec=TOTALS)
    found = traced(ready, 40)
    told = json.loads(json.dumps(_document(found), default=str))["reading"]
    place = found.reading.place
    for row, shown in zip(place.rows, told["dlms"]["rows"], strict=True):
        for part, reference in zip(row.value.octets, shown["value"]["octets"], strict=True):
            assert reference.keys() == {"frame_seq", "first_octet", "octets"}
            (frame,) = [frame for frame in told["frames"] if frame["seq"] == reference["frame_seq"]]
            assert bytes.fromhex(frame["payload"]) == part.payload
            assert frame["at"] == str(part.frame_at)
            assert frame["is_plain"] == part.is_plain == ("gmac" in model)
            first = reference["first_octet"] - 1
            octets = bytes.fromhex(reference["octets"])
            assert octets == part.octets == part.payload[first : first + len(octets)]
    numbers = [frame["seq"] for frame in told["frames"]]
    assert numbers == sorted(set(numbers))
    assert json.dumps(told).count('"payload"') == len(numbers)


def _frames(conn, session_id):
    from psycopg.rows import dict_row

    conn.row_factory = dict_row
    return Evidence(conn).frames(session_id)
