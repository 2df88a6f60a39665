"""Collected files into the readings: the same as read over TCP, the file as evidence, nothing wrong taken."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from rich.console import Console
from typer.testing import CliRunner

from audit.file_evidence import FilePlace
from audit.nbr14522_evidence import Word
from audit.trace import trace
from ccee.profile import load_profile
from collector.decoded import MeterContext
from collector.files.decode import FK7, decode_file
from collector.files.importing import import_file
from collector.merging import merge_sessions
from collector.session import EndedSession
from derivation.run import derive
from exchange.export import ExportRequest
from exchange.public_files import export_public
from faults import OperatorFault, RetryFault
from pipelines.cli import import_files
from pipelines.cli.trace import tree
from protocols.nbr14522.messages import Parameters, memory_blocks
from protocols.nbr14522.profile import DEFAULT
from protocols.public_format import FileKind, TextFile, read_text, write_text
from storage import sessions
from storage.database import Database
from storage.readings import read_reading_days
from storage.review.holds import HoldReason, open_holds
from tests.collector.world import (
    DAY,
    MARKET,
    NOW,
    assert_day_is_exact,
    query,
    quick,
    stored,
    truth,
)
from tests.exchange.meters import DAYS, SERIAL, read_and_export, with_meter


def readings(db: Database) -> pl.DataFrame:
    frame = read_reading_days(db, DAYS[0], DAY, active_only=False)
    return frame.drop("source_sessions")


@pytest.mark.req("TR-5.6a")
@pytest.mark.parametrize("kind", list(FileKind))
def test_an_exported_file_gives_the_same_readings_in_an_empty_database(embedded_db, db, tmp_path, kind):
    files, station = read_and_export(embedded_db, tmp_path)
    meter_id = with_meter(db)
    done = import_file(db, files[kind], "rui", NOW)
    assert done.merged is not None
    assert (done.merged.outcome, done.merged.fault, done.merged.decoded.issues) == ("complete", None, ())
    assert_frame_equal(readings(db), readings(embedded_db))
    for day in DAYS:
        assert_day_is_exact(db, meter_id, station, day)
    assert query(db, "SELECT DISTINCT meter_id, day FROM touched_day ORDER BY day") == [
        (meter_id, day) for day in DAYS
    ]
    octets = files[kind].read_bytes()
    ((collector, purpose, protocol, url, drift, payload),) = query(
        db,
        "SELECT collector, purpose, protocol, url, drift_s, payload FROM session JOIN frame "
        "ON session_id = id",
    )
    assert collector.startswith("import rui")
    assert (purpose, drift, payload) == ("import", None, octets)
    assert url == f"file:{files[kind].name}?sha256={hashlib.sha256(octets).hexdigest()}"
    assert protocol == ("fk7" if kind is FileKind.FK7 else "public-text")
    # A chosen period tells nothing of the depth of the meter's memory.
    assert query(db, "SELECT capacity_words FROM meter_memory") == [(None,)]
    ((values,),) = query(db, "SELECT values FROM meter_parameters")
    ((read,),) = query(embedded_db, "SELECT values FROM meter_parameters WHERE command = x'21'::int")
    same = {"meter_time", "weekday", "last_interval_end", "code"}
    told = {name: value for name, value in values.items() if name not in same}
    assert told == {name: read[name] for name in told}
    assert ("has_command_14" in told) == (kind is FileKind.FK7)
    again = import_file(db, files[kind], "rui", NOW)
    assert (again.known_session, again.session_id) == (True, done.session_id)
    assert query(db, "SELECT count(*) FROM session") == [(1,)]
    asked = ExportRequest(None, DAYS[0], DAY, tmp_path / "again", "ana", (kind,))
    export_public(db, asked)
    (path,) = (tmp_path / "again").rglob("*.*")
    assert (path.name, path.read_bytes()) == (files[kind].name, octets)


@pytest.mark.req("TR-5.6a")
def test_readings_that_contradict_are_quarantined_in_both_versions(embedded_db, tmp_path):
    files, station = read_and_export(embedded_db, tmp_path)
    file = read_text(files[FileKind.TEXT].read_bytes())
    words = list(file.current_words)
    words[288 * 3] += 7
    forged = tmp_path / files[FileKind.TEXT].name
    forged.write_bytes(write_text(type(file)(**{**vars(file), "current_words": tuple(words)})))
    done = import_file(embedded_db, forged, "rui", NOW)
    assert done.merged.touched == ()
    ((stage, session_id, detail),) = query(
        embedded_db, "SELECT stage, session_id, detail FROM quarantine WHERE day = %s", DAY
    )
    true_count = int(truth(station)[0, 0])
    assert (stage, session_id, detail["slots"]) == ("merge", done.session_id, [0])
    assert (detail["kept"], detail["refused"]) == ([true_count], [true_count + 7])
    assert detail["refused_sessions"] == [done.session_id]


def test_a_copy_appended_to_itself_is_the_file_once(embedded_db, tmp_path):
    files, _ = read_and_export(embedded_db, tmp_path)
    octets = files[FileKind.FK7].read_bytes()
    context = MeterContext(1, SERIAL, 1, MARKET)
    once, twice = (decode_file(FK7, one, DEFAULT, context) for one in (octets, octets * 2))
    assert (once.issues, twice.issues) == ((), ())
    assert [vector.pulses.tolist() for vector in twice.vectors] == [v.pulses.tolist() for v in once.vectors]


@pytest.mark.parametrize("kind", list(FileKind))
def test_a_file_of_what_was_read_already_changes_nothing_and_alarms_nobody(embedded_db, tmp_path, kind):
    files, _ = read_and_export(embedded_db, tmp_path)
    capacity = query(embedded_db, "SELECT capacity_words FROM meter_memory")
    done = import_file(embedded_db, files[kind], "rui", NOW)
    assert (done.merged.outcome, done.merged.touched) == ("complete", ())
    assert query(embedded_db, "SELECT stage, reason, detail FROM quarantine") == []
    assert query(embedded_db, "SELECT capacity_words FROM meter_memory") == capacity


@pytest.mark.req("TR-5.6a")
def test_the_good_part_of_a_damaged_text_file_is_kept(embedded_db, tmp_path, db):
    files, station = read_and_export(embedded_db, tmp_path)
    path = files[FileKind.TEXT]
    path.write_bytes(path.read_bytes().replace(b"CONT003", b"XONT003"))
    meter_id = with_meter(db)
    done = import_file(db, path, "rui", NOW)
    assert done.merged.outcome == "partial"
    got = stored(db, meter_id, DAYS[0])
    expected = truth(station, DAYS[0])[:, 0].tolist()
    assert got == [*expected[:48], *[None] * 24, *expected[72:]]
    assert_day_is_exact(db, meter_id, station, DAY)
    reasons = [reason for (reason,) in query(db, "SELECT reason FROM quarantine ORDER BY id")]
    assert any("label 'XONT'" in reason for reason in reasons)
    assert any("72 words of CONT missing" in reason for reason in reasons)


@pytest.mark.req("TR-5.6a")
def test_the_good_part_of_a_damaged_fk7_file_is_kept(embedded_db, tmp_path, db):
    files, station = read_and_export(embedded_db, tmp_path)
    path = files[FileKind.FK7]
    octets = path.read_bytes()
    first = next(place for place in range(0, len(octets), 256) if octets[place] == 0x52)
    path.write_bytes(octets[: first + 256] + octets[first + 512 : -300])
    meter_id = with_meter(db)
    assert import_file(db, path, "rui", NOW).merged.outcome == "partial"
    # Words 167 to 332 are gone: intervals 56 to 111, of which the first and last hold some word.
    expected = truth(station, DAYS[0])[:, 0].tolist()
    assert stored(db, meter_id, DAYS[0]) == [*expected[:55], *[None] * 56, *expected[111:]]
    last = stored(db, meter_id, DAY)
    assert None in last
    known = [slot for slot, count in enumerate(last) if count is not None]
    assert [last[slot] for slot in known] == truth(station)[known, 0].tolist()


@pytest.mark.req("TR-5.6a")
def test_a_file_cut_off_where_nothing_else_shows_it_is_told(embedded_db, tmp_path):
    files, station = read_and_export(embedded_db, tmp_path)
    # Copies end where a cluster of a disk does, which is where a block does.
    for kind, kept, reason in (
        (FileKind.FK7, 8 * 256, "52: the memory ends after block 6, which is not marked as its last"),
        (FileKind.FK7, 256, "no memory follows, and the parameters announce 1728 words"),
        (FileKind.TEXT, 2416, "no memory follows, and the parameters announce 1728 words"),
    ):
        path = _written(tmp_path / "cut.txt", files[kind].read_bytes()[:kept])
        settled = import_file(embedded_db, path, "rui", NOW).merged
        (issue,) = settled.decoded.issues
        assert reason in issue.reason
        assert (settled.outcome, issue.detail["offset"]) == ("partial", kept)
        got = {
            vector.day: vector.pulses[vector.present].tolist()
            for vector in settled.decoded.vectors
            if vector.channel == 1
        }
        intervals = 6 * 166 // 3 if "block 6" in reason else 0
        expected = [truth(station, day)[:, 0].tolist() for day in DAYS]
        assert list(got.values()) == ([expected[0], expected[1][: intervals - 288]] if intervals else [])


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: (path, None), "no meter of the registry"),
        (lambda path: (path, "20000002"), "not of 20000002"),
        (lambda path: (path.rename(path.with_name("99999" + path.name[5:])), None), "the name says"),
        (lambda path: (path.rename(path.with_name(path.name.replace("&", "$"))), None), "the name says"),
        (lambda path: (_written(path, b"\x20no such format"), None), "no block"),
        (lambda path: (_written(path, b"10000001"), None), "header"),
        # Blocks with their CRC are another format: the message has to show it.
        (
            lambda path: (_written(path.with_name("crc"), WITH_CRC), None),
            "time of the meter .octet 0: octets were lost or added before the next block, 258 octets on",
        ),
        (lambda path: (_written(path, b""), None), "0 octets"),
        (lambda path: (path.with_name("nothing"), None), "cannot read"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_stores_nothing(embedded_db, tmp_path, prepare, message):
    path = tmp_path / "00001&AA.AAA"
    path.write_bytes(TEXT_OF_OTHER)
    with_meter(embedded_db, SERIAL if message not in ("no meter of the registry",) else "77777777")
    path, wanted = prepare(path)
    with pytest.raises(OperatorFault, match=message):
        import_file(embedded_db, path, "rui", NOW, wanted)
    assert query(embedded_db, "SELECT count(*) FROM session") == [(0,)]


def _written(path: Path, octets: bytes) -> Path:
    path.write_bytes(octets)
    return path


def _text_file(at: datetime) -> bytes:
    parameters = Parameters(
        code=0x21,
        meter_time=at,
        last_interval_end=at,
        words_current=3,
        words_previous=0,
        memory_interval_min=5,
        memory_interval_extra_s=0,
        memory_interval_extra_hundredths=0,
        quantities=(1, 99, 99),
    )
    return write_text(
        TextFile("001101", {"parameters": parameters.encode(SERIAL)[:-2]}, current_words=(1, 0, 0))
    )


WITH_CRC = Parameters(code=0x21, meter_time=datetime(2026, 11, 20, 10, 0)).encode(SERIAL) + b"".join(
    memory_blocks(0x26, SERIAL, [bytes(249)])
)
TEXT_OF_OTHER = _text_file(datetime(2026, 11, 20, 10, 0))


def test_a_file_of_the_future_is_refused(embedded_db, tmp_path):
    with_meter(embedded_db)
    path = _written(tmp_path / "renamed.txt", _text_file(datetime(2027, 3, 1)))
    with pytest.raises(OperatorFault, match="yet to come"):
        import_file(embedded_db, path, "rui", NOW)


def test_how_far_ahead_a_meters_clock_may_be_is_a_setting(embedded_db, tmp_path):
    with_meter(embedded_db)
    path = _written(tmp_path / "renamed.txt", _text_file(datetime(2027, 3, 1)))
    files = replace(embedded_db.settings.public_files, clock_ahead_s=200 * 86_400)
    patient = Database(embedded_db.url, replace(embedded_db.settings, public_files=files))
    # Taken as evidence; the days that are yet to come are held, whatever the setting.
    assert import_file(patient, path, "rui", NOW).merged.outcome == "partial"
    with embedded_db.connect() as conn:
        assert {hold.reason for hold in open_holds(conn)} == {HoldReason.FUTURE}
        last = conn.execute("SELECT max(day) FROM reading_day").fetchone()
    assert last is None or last[0] is None or last[0] <= NOW.date()


def test_a_busy_meter_waits_and_a_collector_finishes_a_dead_import(embedded_db, tmp_path):
    meter_id = with_meter(embedded_db)
    path = _written(tmp_path / "a.txt", TEXT_OF_OTHER)
    with embedded_db.connect() as conn:
        conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at) "
            "VALUES (%s, 'import ana 1', 'import', 'public-text', 'file:a.txt?sha256=x', now())",
            [meter_id],
        )
        conn.execute(
            "INSERT INTO frame (session_id, seq, at, direction, payload) "
            "SELECT id, 1, now(), '<', %s FROM session",
            [TEXT_OF_OTHER],
        )
    with pytest.raises(RetryFault, match="being read"):
        import_file(embedded_db, path, "rui", NOW)
    with embedded_db.connect() as conn:
        gone = sessions.gone_collectors(conn, "living")
        ids = sessions.open_sessions_of(conn, gone)
        (settled,) = merge_sessions(conn, [EndedSession(one) for one in ids], embedded_db.settings, NOW)
    assert (gone, settled.outcome) == (["import ana 1"], "aborted")
    assert stored(embedded_db, meter_id, DAY)[119] == 1


@pytest.mark.req("X-trace")
@pytest.mark.parametrize("kind", list(FileKind))
def test_a_value_from_a_file_is_traced_to_its_octets(embedded_db, db, tmp_path, kind):
    files, station = read_and_export(embedded_db, tmp_path)
    with_meter(db)
    session_id = import_file(db, files[kind], "rui", NOW).session_id
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc"
        )
    derive(db, DAY, DAY, as_of=NOW, run_id="test")
    octets = files[kind].read_bytes()
    for slot in (0, 100, 287):
        end = datetime.combine(DAY, datetime.min.time(), MARKET) + (slot + 1) * timedelta(minutes=5)
        found = trace(db, load_profile(), "0000000000", end)
        assert found.reading is not None
        assert found.reading.session["id"] == session_id
        place = found.reading.place
        assert place is not None
        assert isinstance(place, FilePlace)
        assert place.name == files[kind].name
        assert place.pulses == found.reading.pulses == truth(station)[slot, 0]
        assert octets[place.first_octet - 1 :][: len(place.octets)] == place.octets
        if kind is FileKind.TEXT:
            assert int(place.octets) == place.pulses
        assert place.sha256 == hashlib.sha256(octets).hexdigest()
        assert [check for check in found.checks if not check.is_identical] == []
        assert found.is_identical
    console = Console(width=300)
    with console.capture() as shown:
        console.print(tree(found))
    assert place.where in shown.get()
    assert files[kind].name in shown.get()


@pytest.mark.req("X-trace")
def test_a_value_read_over_tcp_is_still_traced_to_its_frame(embedded_db, tmp_path):
    _, station = read_and_export(embedded_db, tmp_path)
    with embedded_db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc"
        )
    derive(embedded_db, DAY, DAY, as_of=NOW, run_id="test")
    end = datetime.combine(DAY, datetime.min.time(), MARKET) + timedelta(hours=8)
    found = trace(embedded_db, load_profile(), "0000000000", end)
    assert found.reading is not None
    assert isinstance(found.reading.place, Word)
    assert found.reading.place.pulses == truth(station)[95, 0]
    assert found.is_identical


def test_the_command_line(embedded_db, db, tmp_path, monkeypatch):
    files, _ = read_and_export(embedded_db, tmp_path)
    with_meter(db)
    monkeypatch.setenv("SMF_DATABASE_URL", db.url)
    monkeypatch.setenv("LOGNAME", "bia")  # whatever user this is run by
    wrong = _written(tmp_path / "wrong", b"\x20")
    words = ["public", *map(str, files.values()), str(wrong), "--as", "rui", "--json"]
    result = CliRunner().invoke(import_files.app, words)
    assert result.exit_code == 11
    first, second, refused = json.loads(result.stdout)
    assert first["state"] == second["state"] == "complete"
    assert first["days_changed"] == [day.isoformat() for day in DAYS]
    assert second["days_changed"] == []
    assert refused["state"] == "refused"
    shown = CliRunner().invoke(import_files.app, ["public", str(next(iter(files.values())))])
    assert (shown.exit_code, "imported before" in shown.stdout) == (0, True)
    cut = _written(tmp_path / "cut", files[FileKind.TEXT].read_bytes()[:-302])
    shown = CliRunner().invoke(import_files.app, ["public", str(cut)])
    assert (shown.exit_code, "copy the file again" in shown.stdout) == (1, True)


@pytest.mark.req("TR-5.6a")
def test_an_exported_archive_gives_the_same_readings_in_an_empty_database(
    embedded_db, db, tmp_path, monkeypatch
):
    _, station = read_and_export(embedded_db, tmp_path)
    path = tmp_path / "maio.zip"
    export_public(quick(embedded_db), ExportRequest(None, DAYS[0], DAY, path, "ana"))
    meter_id = with_meter(db)
    monkeypatch.setenv("SMF_DATABASE_URL", db.url)
    monkeypatch.setenv("LOGNAME", "bia")  # whatever user this is run by
    result = CliRunner().invoke(import_files.app, ["public", str(path), "--as", "rui", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {(one["format"], one["state"]) for one in found} == {
        ("fk7", "complete"),
        ("public-text", "complete"),
    }
    assert all(one["file"].startswith("maio.zip/00001") for one in found)
    assert_frame_equal(readings(db), readings(embedded_db))
    for day in DAYS:
        assert_day_is_exact(db, meter_id, station, day)
    # And once more out again: the archive is the same to the octet.
    again = tmp_path / "again.zip"
    export_public(db, ExportRequest(None, DAYS[0], DAY, again, "ana"))
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(again) as other:
        assert one.namelist() == other.namelist()
        assert all(one.read(name) == other.read(name) for name in one.namelist())
    known = CliRunner().invoke(import_files.app, ["public", str(path), "--json"])
    assert {one["state"] for one in json.loads(known.stdout)} == {"known"}
    with db.connect() as conn:
        conn.execute(
            "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-01-01,)', 'active' FROM uc"
        )
    derive(db, DAY, DAY, as_of=NOW, run_id="test")
    end = datetime.combine(DAY, datetime.min.time(), MARKET) + timedelta(hours=8)
    traced = trace(db, load_profile(), "0000000000", end)
    assert traced.reading.place.name.startswith("maio.zip/00001")
    assert traced.is_identical


def test_other_files_of_an_archive_are_listed_and_the_rest_comes_in(embedded_db, db, tmp_path, monkeypatch):
    files, _ = read_and_export(embedded_db, tmp_path)
    path = tmp_path / "round.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("LEIAME.txt", "do técnico")
        archive.write(files[FileKind.FK7], f"../../{files[FileKind.FK7].name}")
        archive.writestr("nested.zip", b"PK\x03\x04")
    with_meter(db)
    monkeypatch.setenv("SMF_DATABASE_URL", db.url)
    monkeypatch.setenv("LOGNAME", "bia")  # whatever user this is run by
    result = CliRunner().invoke(import_files.app, ["public", str(path), str(tmp_path), "--json"])
    assert result.exit_code == 11
    states = [(one["file"], one["state"]) for one in json.loads(result.stdout)]
    assert states == [
        ("round.zip/LEIAME.txt", "refused"),
        (f"round.zip/{files[FileKind.FK7].name}", "complete"),
        ("round.zip/nested.zip", "refused"),
        (tmp_path.name, "refused"),
    ]
