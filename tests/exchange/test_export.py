"""Stored readings into FK7 and text files: what a meter counted is what they say, and it is on record.

Over 500 lines: one world of stored readings for both formats.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import zipfile
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from collector.decoded import MeterContext
from collector.files.decode import FK7, decode_file
from exchange import export as public_export
from exchange.export import ExportRequest, list_exports
from exchange.import_profile import export_by_profile, load_import_profile
from exchange.public_files import export_public
from exchange.runs import Vector, cut_runs
from exchange.target import Target
from faults import OperatorFault
from pipelines.cli.export import app
from protocols.nbr14522.memory import payloads_to_words, words_to_payloads
from protocols.nbr14522.messages import Parameters, Registers, decode_response, memory_blocks
from protocols.nbr14522.messages.registers import ChannelRegisters
from protocols.nbr14522.profile import DEFAULT
from protocols.public_format import FileKind, parse_name, read_fk7, read_text, write_fk7, write_text
from storage.audit import verify
from storage.database import Database
from storage.readings import SCHEMA, merge_readings
from tests.collector.world import (
    DAY,
    MARKET,
    NOW,
    add_meter,
    collect,
    meter,
    quick,
    register,
    served,
    truth,
)
from tests.exchange.meters import with_meter

SERIALS = ("10000001", "10000002")
DAYS = (DAY - timedelta(days=1), DAY)
WHOLE = (datetime.combine(DAYS[0], datetime.min.time()), datetime.combine(DAY, datetime.min.time()))


@pytest.fixture
def read_db(embedded_db: Database):
    """Two meters read over TCP, and what they are."""
    ready = quick(embedded_db)
    stations = [meter(serial) for serial in SERIALS]

    async def work():
        async with served(*stations) as servers:
            register(ready, servers)
            await collect(ready, DAYS)

    asyncio.run(work())
    return ready, stations


def request(target: Path, *codes: str, **changes) -> ExportRequest:
    return ExportRequest(
        **{
            "uc_codes": codes or None,
            "first_day": DAYS[0],
            "last_day": DAY,
            "target": target,
            "requested_by": "ana",
        }
        | changes
    )


def words_of(octets: bytes, kind: FileKind) -> np.ndarray:
    if kind is FileKind.TEXT:
        return np.array(read_text(octets).current_words).reshape(-1, 3)
    blocks = read_fk7(octets)
    parameters = decode_response(blocks[0])
    assert isinstance(parameters, Parameters)
    payloads = [block[7:] for block in blocks if block[0] == 0x52]
    return payloads_to_words(payloads, parameters.words_current).reshape(-1, 3)


@pytest.mark.req("TR-5.6a")
def test_the_files_say_what_the_meters_counted(read_db, tmp_path):
    db, stations = read_db
    result = export_public(db, request(tmp_path / "out.zip"))
    assert (result.ucs_without_readings, result.left_out) == ((), ())
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert len(files) == 4
    for written in result.files:
        octets = files[written.facts.path]
        assert written.sha256 == hashlib.sha256(octets).digest()
        folder, name = written.facts.path.split("/")
        parsed = parse_name(name)
        assert parsed.fits(datetime.combine(DAY + timedelta(days=1), datetime.min.time()))
        station = stations[int(folder)]
        assert station.meter.spec.serial.endswith(parsed.serial_end)
        expected = np.concatenate([truth(station, day) for day in DAYS])
        assert np.array_equal(words_of(octets, parsed.kind), expected)
        again = write_text(read_text(octets)) if parsed.kind is FileKind.TEXT else write_fk7(read_fk7(octets))
        assert again == octets


@pytest.mark.req("TR-5.6a")
def test_the_header_is_what_the_meter_said(read_db, tmp_path):
    db, _ = read_db
    export_public(db, request(tmp_path / "out", "0000000000", formats=(FileKind.TEXT,)))
    (path,) = (tmp_path / "out").rglob("*.*")
    file = read_text(path.read_bytes())
    said = decode_response(file.blocks["parameters"])
    assert isinstance(said, Parameters)
    assert said.meter_serial == SERIALS[0]
    assert (
        said.last_interval_end == said.meter_time == datetime.combine(DAY + timedelta(1), datetime.min.time())
    )
    assert said.words_current == 2 * 288 * 3
    with db.connect() as conn:
        (stored,) = conn.execute(
            "SELECT values FROM meter_parameters p JOIN meter m ON m.id = p.meter_id "
            "WHERE m.serial = %s AND p.command = 33",
            [SERIALS[0]],
        ).fetchone()
    told = said.to_json()
    for name in ("constants", "holidays", "peak_starts", "quantities", "model", "last_reset"):
        assert told[name] == stored[name]
    changes = decode_response(file.blocks["28"]).to_json()["changes"]
    assert [change["code"] for change in changes] == ["20", "20"]


@pytest.mark.req("TR-5.6a")
def test_what_was_exported_is_on_record(read_db, tmp_path):
    db, _ = read_db
    done = export_public(db, request(tmp_path / "out.zip", "0000000001"))
    with db.connect() as conn:
        (row,) = list_exports(conn)
        verify(conn)
    assert (row["id"], row["requested_by"], row["formats"]) == (done.export_id, "ana", ["fk7", "text"])
    assert (row["first_day"], row["last_day"]) == (DAYS[0], DAY)
    assert row["sha256"] == hashlib.sha256((tmp_path / "out.zip").read_bytes()).hexdigest()
    assert [file["ucs"] for file in row["files"]] == [["0000000001"]] * 2
    assert {file["sha256"] for file in row["files"]} == {one.sha256.hex() for one in done.files}


def test_the_same_readings_make_the_same_archive(read_db, tmp_path):
    db, _ = read_db
    for name in ("a.zip", "b.zip"):
        export_public(db, request(tmp_path / name))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_command_line(read_db, tmp_path, monkeypatch):
    db, _ = read_db
    monkeypatch.setenv("SMF_DATABASE_URL", db.url)
    monkeypatch.setenv("LOGNAME", "bia")  # whatever user this is run by
    words = ["--from", DAYS[0].isoformat(), "--to", DAY.isoformat(), "--json"]

    def run(*more: str, exit_code: int = 0):
        result = CliRunner().invoke(app, [*more])
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)

    made = run("public", str(tmp_path / "x"), "--uc", "0000000000", "--format", "fk7", "--as", "rui", *words)
    assert [file["intervals"] for file in made["files"]] == [576]
    (listed,) = run("list", "--json")
    assert listed["requested_by"] == "rui"
    assert listed["files"][0]["sha256"] == made["files"][0]["sha256"]
    there = run("public", str(tmp_path / "x"), *words, exit_code=11)
    assert "already" in there["error"]["message"]
    table = run("public", str(tmp_path / "c.zip"), "--profile", "csv", *words)
    assert [file["intervals"] for file in table["files"]] == [2 * 288 * 3] * 2
    unknown = run("public", str(tmp_path / "y"), "--uc", "9", *words, exit_code=11)
    assert "'9'" in unknown["error"]["message"]
    early = ["--from", "2020-01-01", "--to", "2020-01-02", "--json"]
    none = run("public", str(tmp_path / "z.zip"), *early, exit_code=11)
    assert "no readings" in none["error"]["message"]
    assert not list(tmp_path.glob("*z.zip*")), "a failed export leaves nothing behind"


@pytest.mark.req("TR-5.6a")
@pytest.mark.parametrize("profile", [None, "csv"])
def test_a_swapped_meter_gives_its_part_and_a_uc_without_readings_is_told(
    embedded_db, tmp_path, monkeypatch, profile
):
    # Chunks as small as can be: those of one UC stay together all the same.
    monkeypatch.setattr(public_export, "_CHUNK", 1)
    swap = datetime(2026, 11, 20, 12, tzinfo=MARKET)
    old = with_meter(embedded_db, "10000001")
    with embedded_db.connect() as conn:
        new = add_meter(conn, 1, "10000002", "tcp://10.0.0.2:4059")
        conn.execute(
            "UPDATE installation SET valid = tstzrange(lower(valid), %s) WHERE meter_id = %s", [swap, old]
        )
        conn.execute(
            "UPDATE installation SET valid = tstzrange(%s, NULL), point_id = "
            "(SELECT point_id FROM installation WHERE meter_id = %s) WHERE meter_id = %s",
            [swap, old, new],
        )
        add_meter(conn, 2, "10000003", "tcp://10.0.0.3:4059")
        rows = [
            {
                "meter_id": meter_id,
                "channel": 1,
                "day": DAY,
                "quantity_code": 1,
                "interval_s": 300,
                "pulses": [number] * 288,
                "source_starts": [0],
                "source_sessions": [1],
            }
            for number, meter_id in enumerate((old, new), start=1)
        ]
        schema = {name: kind for name, kind in SCHEMA.items() if name != "version"}
        merge_readings(conn, pl.DataFrame(rows, schema=schema), NOW)
    codes = [f"{number:010}" for number in range(3)]
    asked = request(tmp_path / "out", *codes, formats=(FileKind.TEXT,))
    if profile is None:
        result = export_public(embedded_db, asked)
        files = [read_text(path.read_bytes()) for path in sorted((tmp_path / "out" / "0000000000").iterdir())]
        assert [file.current_words for file in files] == [(1, 0, 0) * 144, (2, 0, 0) * 144]
        said = decode_response(files[0].blocks["parameters"])
        assert (said.constants[0].numerator, said.constants[0].denominator) == (9, 1250)
    else:
        result = export_by_profile(embedded_db, asked, load_import_profile(profile))
        (path,) = (tmp_path / "out").rglob("*.csv")
        pulses = [line.split(";")[7] for line in path.read_text().splitlines()[1:]]
        assert pulses == ["1"] * 144 + ["2"] * 144
    assert result.ucs_without_readings == ("0000000001", "0000000002")


def add_day(db: Database, meter_id: int, pulses=(1,) * 288) -> None:
    row = {
        "meter_id": meter_id,
        "channel": 1,
        "day": DAY,
        "quantity_code": 1,
        "interval_s": 300,
        "pulses": list(pulses),
        "source_starts": [0],
        "source_sessions": [1],
    }
    schema = {name: kind for name, kind in SCHEMA.items() if name != "version"}
    with db.connect() as conn:
        merge_readings(conn, pl.DataFrame([row], schema=schema), NOW)


@pytest.mark.req("TR-5.6a")
def test_a_serial_the_formats_cannot_hold_does_not_keep_other_meters_out(embedded_db, tmp_path):
    meters = [with_meter(embedded_db, "0012345678")]
    with embedded_db.connect() as conn:
        meters.append(add_meter(conn, 1, "0123456789", "tcp://10.0.0.2:4059", "celesc-27182"))
    for meter_id in meters:
        add_day(embedded_db, meter_id)
    result = export_public(embedded_db, request(tmp_path / "out"))
    assert {one.facts.path.split("/")[0] for one in result.files} == {"0000000000"}
    (path,) = (tmp_path / "out").rglob("*&*")
    assert path.read_bytes()[:8] == b"12345678"
    assert result.ucs_without_readings == ()
    (left_out,) = result.left_out
    assert (left_out["uc_code"], left_out["channel"], left_out["intervals"]) == ("0000000001", 1, 288)
    assert "eight digits" in left_out["reason"]
    with pytest.raises(OperatorFault, match="eight digits"):
        export_public(embedded_db, request(tmp_path / "none", "0000000001"))


@pytest.mark.req("TR-5.6a")
def test_the_events_of_a_dlms_meter_are_no_log_of_changes(embedded_db, tmp_path):
    meter_id = with_meter(embedded_db)
    add_day(embedded_db, meter_id)
    with embedded_db.connect() as conn:
        (session,) = conn.execute(
            "INSERT INTO session (meter_id, collector, purpose, protocol, url, started_at) "
            "VALUES (%s, 'x', 'scheduled', 'dlms', 'tcp://x', now()) RETURNING id",
            [meter_id],
        ).fetchone()
        for code, reader in ((0x20, "000001"), (300, "0-0:99.98.0"), (7, "0-0:99.98.0")):
            conn.execute(
                "INSERT INTO meter_change (meter_id, at, code, reader_serial, session_id) "
                "VALUES (%s, %s, %s, %s, %s)",
                [meter_id, datetime(2026, 11, 1, tzinfo=MARKET), code, reader, session],
            )
    export_public(embedded_db, request(tmp_path / "out", formats=(FileKind.TEXT,)))
    (path,) = (tmp_path / "out").rglob("*.*")
    changes = decode_response(read_text(path.read_bytes()).blocks["28"]).to_json()["changes"]
    assert [change["code"] for change in changes if change] == ["20"]


def test_what_is_exported_is_on_record_before_anybody_gets_it(embedded_db, tmp_path, monkeypatch):
    add_day(embedded_db, with_meter(embedded_db))
    seen = []

    def publish(target):
        with embedded_db.connect() as conn:
            seen.append((target.path.exists(), len(list_exports(conn))))

    monkeypatch.setattr(Target, "publish", publish)
    export_public(embedded_db, request(tmp_path / "out"))
    assert seen == [(False, 1)]


def test_a_login_without_a_name_is_told_to_give_one(embedded_db, tmp_path, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 1000650000")

    monkeypatch.setenv("SMF_DATABASE_URL", embedded_db.url)
    monkeypatch.setattr("getpass.getuser", nobody)
    days = ["--from", DAY.isoformat(), "--to", DAY.isoformat(), "--json"]
    result = CliRunner().invoke(app, ["public", str(tmp_path / "out"), *days])
    assert result.exit_code == 11
    assert "--as" in json.loads(result.stdout)["error"]["remedy"]


def test_a_last_day_that_means_all_is_taken(embedded_db, tmp_path):
    add_day(embedded_db, with_meter(embedded_db))
    asked = request(tmp_path / "out", first_day=date.min, last_day=date.max, formats=(FileKind.FK7,))
    (written,) = export_public(embedded_db, asked).files
    assert written.facts.intervals == 288


def test_a_full_disk_is_told_and_leaves_nothing_behind(embedded_db, tmp_path, monkeypatch):
    add_day(embedded_db, with_meter(embedded_db))

    def full(archive, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    close = zipfile.ZipFile.close

    def close_full(archive):
        # It writes its list of contents, or says that it cannot; the file is then closed all the same.
        if archive.fp is not None:
            close(archive)
            full(archive)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    monkeypatch.setattr(zipfile.ZipFile, "close", close_full)
    with pytest.raises(OperatorFault, match="No space left"):
        export_public(embedded_db, request(tmp_path / "out.zip"))
    assert list(tmp_path.glob("*out*")) == list(tmp_path.glob(".*out*")) == []
    with embedded_db.connect() as conn:
        assert list_exports(conn) == []


@pytest.mark.req("TR-5.6a")
def test_registers_with_only_the_parameters_of_51_have_the_resets_time():
    reset = datetime(2026, 11, 1)
    parameters = Parameters(code=0x51, meter_time=datetime(2026, 11, 21), last_reset=reset)
    channels = tuple(ChannelRegisters(total_pulses=number) for number in (5, 6, 7))
    octets = write_fk7(
        [parameters.encode(SERIALS[0]), Registers(code=0x24, channels=channels).encode(SERIALS[0])]
    )
    found = decode_file(FK7, octets, DEFAULT, MeterContext(1, SERIALS[0], 1, MARKET))
    assert found.issues == ()
    assert [(row.channel, row.at, row.values["total_pulses"]) for row in found.registers] == [
        (number, reset.replace(tzinfo=MARKET), number + 4) for number in (1, 2, 3)
    ]


def fk7_of(day: datetime) -> bytes:
    words = np.random.default_rng(day.day).integers(0, 4096, 3 * 288)
    parameters = Parameters(
        code=0x51,
        meter_time=day,
        last_interval_end=day,
        words_current=len(words),
        memory_interval_min=5,
        memory_interval_extra_s=0,
        quantities=(1, 10, 11),
    )
    memory = memory_blocks(0x52, SERIALS[0], words_to_payloads(words))
    return write_fk7([parameters.encode(SERIALS[0]), *memory])


@pytest.mark.req("TR-5.6a")
def test_blocks_appended_to_a_cut_fk7_file_are_not_read_as_its_own():
    first, second = fk7_of(datetime(2026, 11, 20)), fk7_of(datetime(2026, 11, 21))
    context = MeterContext(1, SERIALS[0], 1, MARKET)
    for kept in (1, 2, 4, len(first) // 256):
        alone = decode_file(FK7, first[: kept * 256], DEFAULT, context)
        both = decode_file(FK7, first[: kept * 256] + second, DEFAULT, context)
        assert both.issues
        told = [
            {(one.channel, one.day): one.pulses[one.present].tolist() for one in found.vectors}
            for found in (alone, both)
        ]
        assert told[0] == told[1]


# --- runs --------------------------------------------------------------------------------------------------


def vector(channel=1, day=DAYS[0], missing=(), pulses=None, code=1):
    counts = np.arange(288) + channel if pulses is None else np.asarray(pulses)
    present = np.ones(288, bool)
    present[list(missing)] = False
    return Vector(channel, day, code, 300, counts, present)


def cut(*vectors, end=WHOLE[1], sign_bit=False, max_intervals=10_000):
    return cut_runs(vectors, WHOLE[0], end, sign_bit=sign_bit, max_intervals=max_intervals)


def with_settings(db: Database, **changes) -> Database:
    files = replace(db.settings.public_files, **changes)
    return Database(db.url, replace(db.settings, public_files=files))


@pytest.mark.req("TR-5.6a")
def test_what_no_source_settles_of_fk7_is_a_setting(read_db, tmp_path):
    db, stations = read_db
    chosen = with_settings(db, fk7_memory="current", fk7_memory_place="first")
    export_public(chosen, request(tmp_path / "out", "0000000000", formats=(FileKind.FK7,)))
    (path,) = (tmp_path / "out").rglob("*.*")
    codes = [block[0] for block in read_fk7(path.read_bytes())]
    assert (codes[:2], codes[-1], 0x52 in codes) == ([0x21, 0x26], 0x28, False)
    found = decode_file(FK7, path.read_bytes(), DEFAULT, MeterContext(1, SERIALS[0], 1, MARKET))
    assert found.issues == ()
    for vector in found.vectors:
        assert np.array_equal(vector.pulses, truth(stations[0], vector.day)[:, vector.channel - 1])
    assert {(vector.channel, vector.day) for vector in found.vectors} == {
        (channel, day) for channel in (1, 2, 3) for day in DAYS
    }


@pytest.mark.req("TR-5.6a")
def test_what_no_source_settles_of_the_text_format_is_a_setting(read_db, tmp_path):
    db, _ = read_db
    chosen = with_settings(db, text_installation_code="uc", text_user_output="3", text_max_lines=10)
    export_public(chosen, request(tmp_path / "out", "0000000000", formats=(FileKind.TEXT,)))
    files = [read_text(path.read_bytes()) for path in (tmp_path / "out").rglob("*.*")]
    assert {(file.installation_code, file.user_output) for file in files} == {("0000000000", "3")}
    assert sorted(len(file.current_words) for file in files) == [4 * 72, 10 * 72, 10 * 72]
    plain = with_settings(db)
    export_public(plain, request(tmp_path / "plain", "0000000000", formats=(FileKind.TEXT,)))
    (path,) = (tmp_path / "plain").rglob("*.*")
    file = read_text(path.read_bytes())
    assert (file.installation_code, file.user_output) == ("", " ")


def test_more_lines_than_the_format_is_known_to_hold_are_refused(embedded_db, tmp_path):
    with pytest.raises(OperatorFault, match="1000 lines"):
        export_public(with_settings(embedded_db, text_max_lines=1000), request(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@pytest.mark.req("TR-5.6a")
def test_how_late_the_parameters_may_be_is_a_setting(read_db, tmp_path):
    db, _ = read_db
    with db.connect() as conn:
        # An older answer, and the one that the session brought three hours after the last day.
        conn.execute(
            "INSERT INTO meter_parameters (meter_id, command, at, values, session_id) "
            "SELECT meter_id, 34, at - interval '5 days', "
            "jsonb_set(values, '{holidays}', '[\"2026-12-25\"]'), session_id "
            "FROM meter_parameters WHERE command = 33"
        )
    told = []
    for number, after_s in enumerate((86_400, 3600)):
        target = tmp_path / str(number)
        export_public(
            with_settings(db, parameters_after_s=after_s),
            request(target, "0000000000", formats=(FileKind.TEXT,)),
        )
        (path,) = target.rglob("*.*")
        parameters = decode_response(read_text(path.read_bytes()).blocks["parameters"])
        told.append(parameters.to_json()["holidays"])
    assert told[0] != told[1]
    assert told[1][0] == "2026-12-25"


def test_a_gap_ends_a_file_and_a_channel_without_readings_carries_nothing():
    runs, left_out = cut(vector(missing=[100, 101]), vector(2, code=5))
    assert left_out == []
    assert [len(run.words) for run in runs] == [100, 2, 186]
    assert [run.quantities for run in runs] == [(1, 5, 99), (99, 5, 99), (1, 5, 99)]
    assert runs[1].first_end == WHOLE[0] + timedelta(minutes=5 * 101)
    assert runs[2].words[0].tolist() == [103, 104, 0]
    assert runs[2].last_end == WHOLE[1]


def test_long_runs_are_cut_and_the_installations_time_is_kept():
    runs, _ = cut(vector(), max_intervals=100, end=WHOLE[0] + timedelta(hours=20))
    assert [len(run.words) for run in runs] == [100, 100, 40]


@pytest.mark.parametrize(("begin", "end"), [(0, 4), (2, 6), (1440, 1500), (-60, 0), (60, 0)])
def test_a_time_without_a_whole_interval_of_readings_has_no_file(begin, end):
    times = (WHOLE[0] + timedelta(minutes=minutes) for minutes in (begin, end))
    runs, left_out = cut_runs([vector()], *times, sign_bit=False, max_intervals=100)
    assert (runs, left_out) == ([], [])


def test_the_interval_in_which_a_meter_is_exchanged_is_in_neither_file():
    moment = WHOLE[0] + timedelta(hours=10, minutes=2, seconds=30)
    (old,), _ = cut(vector(), end=moment)
    (new,), _ = cut_runs([vector()], moment, WHOLE[1], sign_bit=False, max_intervals=10_000)
    assert old.last_end == WHOLE[0] + timedelta(hours=10)
    assert new.first_end == WHOLE[0] + timedelta(hours=10, minutes=10)
    assert len(old.words) + len(new.words) == 287
    (whole,), _ = cut_runs([vector()], old.last_end, WHOLE[1], sign_bit=False, max_intervals=10_000)
    assert whole.first_end == WHOLE[0] + timedelta(hours=10, minutes=5)


@pytest.mark.parametrize(
    ("interval_s", "quantity", "reason"), [(7200, 1, "99 minutes"), (3600, 100, "two digits")]
)
def test_what_the_parameters_have_no_digits_for_is_left_out_and_told(interval_s, quantity, reason):
    slots = 86_400 // interval_s
    day = Vector(1, DAYS[0], quantity, interval_s, np.ones(slots, int), np.ones(slots, bool))
    runs, (left_out,) = cut(day)
    assert (runs, left_out.count) == ([], slots)
    assert reason in left_out.reason


def test_what_no_word_holds_is_left_out_and_told():
    pulses = np.arange(288)
    pulses[[3, 7]] = 4096, -5
    runs, left_out = cut(vector(pulses=pulses), vector(4))
    assert [len(run.words) for run in runs] == [3, 3, 280]
    assert {(one.channel, one.count) for one in left_out} == {(1, 2), (4, 288)}
    signed, left_out = cut(vector(pulses=pulses), sign_bit=True)
    assert [len(run.words) for run in signed] == [3, 284]
    assert signed[1].words[3, 0] == 2048 + 5
    assert [one.count for one in left_out] == [1]


def test_a_day_of_23_hours_cannot_be_said():
    short = Vector(1, date(2018, 11, 4), 1, 300, np.zeros(276, int), np.ones(276, bool))
    runs, (left_out,) = cut(short)
    assert (runs, left_out.count) == ([], 276)
