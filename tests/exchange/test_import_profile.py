"""CSV files as a billing system wants them, and profiles that say so."""

from __future__ import annotations

import csv
import hashlib
import io
import tomllib
import zipfile
from datetime import date, datetime, timedelta
from fractions import Fraction
from importlib import resources
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import export as public_export
from exchange import public_files
from exchange.export import ExportRequest, list_exports
from exchange.import_profile import export_by_profile, load_import_profile, scaled_energy
from exchange.target import Target
from faults import OperatorFault
from storage.audit import verify
from storage.readings import SCHEMA, merge_readings
from tests.collector.world import NOW, add_meter
from tests.exchange.meters import with_meter

DAY = date(2026, 11, 20)
CSV = (resources.files("exchange") / "import_profiles" / "csv.toml").read_text(encoding="utf-8")


def with_readings(db, *vectors):
    """A UC with a meter of 9/1250 kWh a pulse; vectors are (channel, day, quantity, pulses)."""
    meter_id = with_meter(db)
    rows = [
        {
            "meter_id": meter_id,
            "channel": channel,
            "day": day,
            "quantity_code": quantity,
            "interval_s": 3600,
            "pulses": pulses,
            "source_starts": [0],
            "source_sessions": [1],
        }
        for channel, day, quantity, pulses in vectors
    ]
    schema = {name: kind for name, kind in SCHEMA.items() if name != "version"}
    with db.connect() as conn:
        merge_readings(conn, pl.DataFrame(rows, schema=schema), NOW)


def request(target: Path) -> ExportRequest:
    return ExportRequest(None, DAY, DAY + timedelta(days=1), target, "ana")


def rows_of(path: Path, encoding="utf-8", separator=";"):
    text = path.read_bytes().decode(encoding)
    return list(csv.reader(io.StringIO(text), delimiter=separator))


@pytest.mark.req("TR-5.6a")
def test_the_delivered_profile(embedded_db, tmp_path):
    with_readings(embedded_db, (1, DAY, 1, [100, *range(1, 23), None]), (2, DAY, 5, list(range(24))))
    result = export_by_profile(embedded_db, request(tmp_path / "out"), load_import_profile("csv"))
    (written,) = result.files
    assert written.facts.path == "0000000000/0000000000_2026-11-20_2026-11-21.csv"
    heading, *rows = rows_of(tmp_path / "out" / written.facts.path)
    assert heading[:3] == ["uc", "medidor", "funcao"]
    assert len(rows) == 23 + 24 == written.facts.intervals
    assert rows[0] == [
        "0000000000",
        "10000001",
        "main",
        "1",
        "1",
        "2026-11-20 01:00:00",
        "3600",
        "100",
        "0,720000",
    ]
    assert rows[-1][3:] == ["2", "5", "2026-11-21 00:00:00", "3600", "23", ""]
    with embedded_db.connect() as conn:
        (row,) = list_exports(conn)
        verify(conn)
        ((after,),) = conn.execute("SELECT after FROM audit WHERE action = 'export.public'").fetchall()
    assert (row["formats"], row["files"][0]["ucs"]) == (["csv:csv"], ["0000000000"])
    # A profile of that name may say something else tomorrow.
    told = tomllib.loads(CSV)
    assert {name: after["rules"][name] for name in ("name", "file", "rows")} == {
        name: told[name] for name in ("name", "file", "rows")
    }
    assert [one["name"] for one in after["rules"]["columns"]] == [one["name"] for one in told["column"]]


@pytest.mark.req("TR-5.6a")
def test_a_profile_of_ones_own(embedded_db, tmp_path):
    with_readings(embedded_db, (1, DAY, 1, [None, *range(1, 24)]), (2, DAY, 5, [7] * 24))
    (tmp_path / "mine.toml").write_text(
        """
        name = "faturamento"
        [file]
        path = "leituras.txt"
        per = "all"
        separator = "|"
        decimal = "."
        encoding = "latin-1"
        has_header = false
        line_end = "\\n"
        [rows]
        channels = "active"
        missing = "empty"
        [[column]]
        name = "tipo"
        value = "text"
        text = "Ç1"
        [[column]]
        name = "inicio"
        value = "interval_start"
        format = "%d/%m/%y %H:%M"
        [[column]]
        name = "kWh"
        value = "energy_kwh"
        decimals = 2
        [[column]]
        name = "kWh"
        value = "energy_kwh"
        decimals = 0
        """,
        encoding="utf-8",
    )
    profile = load_import_profile(str(tmp_path / "mine.toml"))
    export_by_profile(embedded_db, request(tmp_path / "out"), profile)
    rows = rows_of(tmp_path / "out" / "leituras.txt", "latin-1", "|")
    assert len(rows) == 24
    assert rows[0] == ["Ç1", "20/11/26 00:00", "", ""]
    assert rows[23] == ["Ç1", "20/11/26 23:00", "0.17", "0"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('value = "uc"', 'value = "cu"', "value 'cu'"),
        ('separator = ";"', 'separator = ";;"', "separator"),
        ("has_header = true", 'has_header = "yes"', "has_header"),
        ("has_header = true", "header = true", "unknown key 'header'"),
        ('per = "uc"', 'per = "meter"', "'meter' is not one of uc, all"),
        ('path = "{uc}/{uc}_', 'path = "{no}/{uc}_', "{no}"),
        ('path = "{uc}/{uc}_', 'path = "../{uc}_', "within the archive"),
        ('path = "{uc}/{uc}_', 'path = "all_', "one name"),
        ('roles = ["main", "backup"]', 'roles = ["third"]', "third"),
        ("decimals = 6", "decimals = 99", r"column\[9\].decimals: 99 must be at most 12"),
        ("decimals = 6", 'decimals = "6"', "is not a whole number"),
        ('roles = ["main", "backup"]', "roles = []", "roles"),
        ('roles = ["main", "backup"]', 'roles = "main"', "is not a list of texts"),
        ('name = "csv"', "name = 5", "name: 5 is not a text"),
        ('separator = ";"', "separator = '\"'", "quotation mark"),
        ('separator = ";"', 'separator = "\\n"', "line end"),
        ('format = "%Y-%m-%d %H:%M:%S"', 'format = "%Q"', "column 6: format = '%Q'"),
        ('format = "%Y-%m-%d %H:%M:%S"', 'format = "%"', "column 6: format = '%'"),
        ('format = "%Y-%m-%d %H:%M:%S"', 'format = ""', "format is empty"),
        ('path = "{uc}/{uc}_', 'path = "{uc:d}_', "path = '{uc:d}_"),
        ('path = "{uc}/{uc}_', 'path = "{uc!x}_', "path = '{uc!x}_"),
        ('path = "{uc}/{uc}_', 'path = "{uc:{day}}_', "path = '{uc:{day}}_"),
        ('path = "{uc}/{uc}_', r'path = "x\\{uc}_', "parted by /"),
        ('_{last_day}.csv"', '/"', "names no file"),
        ("[file]", "[fole]", "unknown section"),
        ("[file]", "[file", "not TOML"),
    ],
)
def test_a_wrong_profile_is_refused_by_name(tmp_path, old, new, message):
    (tmp_path / "x.toml").write_text(CSV.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(OperatorFault, match=message):
        load_import_profile(str(tmp_path / "x.toml"))


@pytest.mark.parametrize("name", ["none", "no/such.toml", "../csv", "csv.tml", ""])
def test_an_unknown_profile_is_refused(name):
    with pytest.raises(OperatorFault, match="cannot read"):
        load_import_profile(name)


def test_what_an_encoding_cannot_write_is_refused_never_replaced(embedded_db, tmp_path):
    latin = CSV.replace('encoding = "utf-8"', 'encoding = "latin-1"')
    path = tmp_path / "x.toml"
    path.write_text(latin.replace('name = "uc"', 'name = "€"'), encoding="utf-8")
    with pytest.raises(OperatorFault, match="column 1: '€' cannot be written in latin-1"):
        load_import_profile(str(path))
    path.write_text(latin, encoding="utf-8")
    with_readings(embedded_db, (1, DAY, 1, [1] * 24))
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc SET code = 'Ł1'")
    with pytest.raises(OperatorFault, match="'Ł' cannot be written in latin-1"):
        export_by_profile(embedded_db, request(tmp_path / "out"), load_import_profile(str(path)))
    assert not (tmp_path / "out").exists()


def test_the_delivered_profile_names_every_value():
    values = {column["value"] for column in tomllib.loads(CSV)["column"]}
    assert {"uc", "meter", "pulses", "energy_kwh", "interval_end"} <= values


@given(
    st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.fractions(0, 1000, max_denominator=10**6),
    st.integers(0, 6),
)
def test_energy_is_exact_and_rounded_once(pulses, constant, decimals):
    got = scaled_energy(pl.Series(pulses, dtype=pl.Int32), constant, decimals).to_list()
    for count, scaled in zip(pulses, got, strict=True):
        if count is None:
            assert scaled is None
            continue
        exact = abs(count) * constant * 10**decimals
        assert abs(scaled) == (exact + Fraction(1, 2)).__floor__()
        assert scaled == 0 or (scaled > 0) == (count > 0)


def test_energy_that_no_64_bits_hold_is_refused():
    with pytest.raises(OperatorFault, match="64 bits"):
        scaled_energy(pl.Series([1, 2**31 - 1], dtype=pl.Int32), Fraction(10**6), 6)


def test_times_are_market_time(embedded_db, tmp_path):
    with_readings(embedded_db, (1, DAY, 1, [1] * 24))
    result = export_by_profile(embedded_db, request(tmp_path / "out"), load_import_profile("csv"))
    facts = result.files[0].facts
    assert facts.first_start.isoformat() == "2026-11-20T03:00:00+00:00"
    assert facts.last_end - facts.first_start == timedelta(days=1)
    assert isinstance(facts.last_end, datetime)


def with_ucs(db, count: int, profile: str = "default") -> None:
    """UCs with a meter and a day of 24 intervals each."""
    with_readings(db, (1, DAY, 1, list(range(24))))
    columns = "channel, day, version, quantity_code, interval_s, pulses, source_starts, source_sessions"
    columns += ", recorded_at"
    with db.connect() as conn:
        for number in range(1, count):
            meter_id = add_meter(conn, number, f"{10000001 + number}", "tcp://10.0.0.1:4059", profile)
            conn.execute(
                f"INSERT INTO reading_day (meter_id, {columns}) "
                f"SELECT %s, {columns} FROM reading_day LIMIT 1",
                [meter_id],
            )


@pytest.mark.req("TR-5.6a")
def test_one_file_for_all_has_the_octets_of_the_files_of_each_uc(embedded_db, tmp_path, monkeypatch):
    ucs = 12
    with_ucs(embedded_db, ucs)
    (tmp_path / "each.toml").write_text(CSV.replace('encoding = "utf-8"', 'encoding = "utf-8-sig"'))
    (tmp_path / "all.toml").write_text(
        CSV.replace('encoding = "utf-8"', 'encoding = "utf-8-sig"')
        .replace('path = "{uc}/{uc}_{first_day}_{last_day}.csv"', 'path = "all_{first_day}.csv"')
        .replace('per = "uc"', 'per = "all"')
    )
    each = load_import_profile(str(tmp_path / "each.toml"))
    all_ = load_import_profile(str(tmp_path / "all.toml"))
    export_by_profile(embedded_db, request(tmp_path / "each"), each)
    files = sorted((tmp_path / "each").rglob("*.csv"))
    assert len(files) == ucs
    head, *_ = files[0].read_bytes().splitlines(keepends=True)
    expected = head + b"".join(path.read_bytes().removeprefix(head) for path in files)
    assert head.startswith(b"\xef\xbb\xbf")

    pieces, reads = [], []
    append, read = Target.append, public_export.read_reading_days

    def counted(self, path, octets):
        pieces.append(len(octets))
        append(self, path, octets)

    def few(db, *days, meter_ids, **options):
        reads.append(len(meter_ids))
        return read(db, *days, meter_ids=meter_ids, **options)

    monkeypatch.setattr(Target, "append", counted)
    monkeypatch.setattr(public_export, "read_reading_days", few)
    monkeypatch.setattr(public_export, "_CHUNK", 2)
    folder = export_by_profile(embedded_db, request(tmp_path / "folder"), all_)
    archive = export_by_profile(embedded_db, request(tmp_path / "all.zip"), all_)
    assert (tmp_path / "folder" / "all_2026-11-20.csv").read_bytes() == expected
    with zipfile.ZipFile(tmp_path / "all.zip") as stored:
        assert stored.read("all_2026-11-20.csv") == expected
    # Neither readings nor octets of more than a few UCs are held at once.
    assert max(reads) == 2
    assert len(pieces) == 2 * ucs
    assert max(pieces) < len(expected) / ucs * 1.5
    for result in (folder, archive):
        (written,) = result.files
        assert (written.octets, written.sha256) == (len(expected), hashlib.sha256(expected).digest())
        assert (written.facts.intervals, len(written.facts.uc_ids)) == (24 * ucs, ucs)
        assert len(written.facts.meter_ids) == ucs
    again = export_by_profile(embedded_db, request(tmp_path / "again.zip"), all_)
    assert again.files == archive.files
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "all.zip").read_bytes()


@pytest.mark.req("TR-5.6a")
def test_ucs_and_meters_whose_codes_no_path_holds_have_files_of_their_own(embedded_db, tmp_path):
    with_ucs(embedded_db, 2)
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc SET code = 'A/1' WHERE code = '0000000000'")
        conn.execute("UPDATE uc SET code = 'A_1' WHERE code = '0000000001'")
    result = export_by_profile(embedded_db, request(tmp_path / "out.zip"), load_import_profile("csv"))
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        codes = {name: archive.read(name).split(b"\r\n")[1].split(b";")[0] for name in archive.namelist()}
    assert codes == {
        "A%2F1/A%2F1_2026-11-20_2026-11-21.csv": b"A/1",
        "A_1/A_1_2026-11-20_2026-11-21.csv": b"A_1",
    }
    assert len(result.files) == 2


def test_two_files_of_one_name_are_refused(embedded_db, tmp_path):
    with_ucs(embedded_db, 2)
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc SET code = 'a' WHERE code = '0000000000'")
        conn.execute("UPDATE uc SET code = 'a1' WHERE code = '0000000001'")
        conn.execute("UPDATE meter SET serial = '11' WHERE serial = '10000001'")
        conn.execute("UPDATE meter SET serial = '1' WHERE serial = '10000002'")
    (tmp_path / "x.toml").write_text(CSV.replace("{uc}/{uc}_", "{uc}{meter}_"), encoding="utf-8")
    with pytest.raises(OperatorFault, match="two files would have the name 'a11_"):
        export_by_profile(
            embedded_db, request(tmp_path / "out"), load_import_profile(str(tmp_path / "x.toml"))
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.req("TR-5.6a")
def test_meters_of_other_protocols_are_exported_too(embedded_db, tmp_path):
    with_ucs(embedded_db, 2, "dlms-generic")
    result = public_files.export_public(embedded_db, request(tmp_path / "out"))
    assert len({uc for one in result.files for uc in one.facts.uc_ids}) == 2
