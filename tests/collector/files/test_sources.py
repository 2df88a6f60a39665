"""What a path may bring to an import: bounded memory and time, whatever it is, and words that help."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.files import sources as public_sources
from collector.files.sources import MAX_OCTETS, Source, Unreadable, read_file, read_sources
from faults import OperatorFault

pytestmark = pytest.mark.req("TR-5.6a")

TEXT = b"12345678" * 100


def archive(path: Path, *members: tuple[str, bytes], packing=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, octets in members:
            file.writestr(name, octets)
    return path


def refusal(path: Path) -> OperatorFault:
    before = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(OperatorFault) as told:
            list(read_sources(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - before < 60
    assert peak < 8 * 1024 * 1024
    assert told.value.remedy
    return told.value


class TestFiles:
    def test_a_file_is_its_octets(self, tmp_path):
        (tmp_path / "a").write_bytes(TEXT)
        assert list(read_sources(tmp_path / "a")) == [Source("a", TEXT)]
        assert read_file(tmp_path / "a") == Source("a", TEXT)

    def test_two_gigabytes_are_refused_unread(self, tmp_path):
        with (tmp_path / "big").open("wb") as file:
            file.truncate(2 << 30)
        assert "2,147,483,648 octets" in refusal(tmp_path / "big").message

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "none").touch()
        assert "0 octets" in refusal(tmp_path / "none").message

    def test_a_folder_is_refused_with_how_to_name_its_files(self, tmp_path):
        fault = refusal(tmp_path)
        assert fault.message == "a folder"
        assert fault.remedy.endswith("/*")

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert "pipe" in refusal(tmp_path / "pipe").message

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
    def test_a_device_is_refused(self, path):
        assert "device" in refusal(Path(path)).message

    @pytest.mark.parametrize("name", ["absent", "no/folder"])
    def test_what_is_not_there_is_told(self, tmp_path, name):
        assert "cannot read" in refusal(tmp_path / name).message

    def test_a_file_that_grows_while_it_is_read_is_for_later(self, tmp_path, monkeypatch):
        path = tmp_path / "growing"
        path.write_bytes(TEXT)
        read = public_sources._read

        def growing(file, most, where):
            octets = read(file, most, where)
            with path.open("ab") as other:
                other.write(b"more")
            return octets

        monkeypatch.setattr(public_sources, "_read", growing)
        fault = refusal(path)
        assert "changes while it is read: 800 octets before, 804 after" in fault.message
        assert "copied whole" in fault.remedy

    def test_a_file_that_never_stops_growing_is_cut_off(self, tmp_path):
        path, is_over = tmp_path / "endless", threading.Event()
        path.write_bytes(TEXT)

        def grow():
            with path.open("ab", buffering=0) as file:
                while not is_over.is_set() and file.tell() < 64 << 20:
                    file.write(TEXT * 100)

        thread = threading.Thread(target=grow)
        thread.start()
        try:
            taken = [octets_of(path) for _ in range(20)]
        finally:
            is_over.set()
            thread.join()
        assert max(taken) <= MAX_OCTETS


class TestArchives:
    def test_each_file_comes_with_its_name_alone(self, tmp_path):
        path = archive(tmp_path / "a.zip", ("0012/12345&AB.CDE", TEXT), ("b", b"x"), ("folder/", b""))
        assert list(read_sources(path)) == [Source("12345&AB.CDE", TEXT, "a.zip"), Source("b", b"x", "a.zip")]

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "/etc/passwd", "..\\..\\passwd", "C:\\passwd", "a/../../passwd"]
    )
    def test_names_are_no_paths(self, tmp_path, name, monkeypatch):
        path = archive(tmp_path / "a.zip", (name, TEXT))
        monkeypatch.chdir(tmp_path)
        (source,) = read_sources(path)
        assert (source.name.endswith("passwd"), "/" in source.name, "\\" in source.name) == (
            True,
            False,
            False,
        )
        assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]

    def test_names_are_fit_to_be_shown(self, tmp_path):
        path = archive(tmp_path / "a.zip", ("\x1b[31mred\r\n", TEXT), ("n" * 3000, TEXT))
        assert [one.name for one in read_sources(path)] == ["_[31mred__", "n" * 255]

    def test_a_bad_file_does_not_keep_the_others_out(self, tmp_path):
        path = archive(
            tmp_path / "a.zip",
            ("first", TEXT),
            ("empty", b""),
            ("long", os.urandom(MAX_OCTETS + 1)),
            ("nested.zip", archive(tmp_path / "inner.zip", ("x", TEXT)).read_bytes()),
            ("zeros", bytes(MAX_OCTETS)),
            ("last", TEXT),
        )
        found = list(read_sources(path))
        assert [one.name for one in found if isinstance(one, Source)] == ["first", "last"]
        told = {one.name: one.fault.message for one in found if isinstance(one, Unreadable)}
        assert "0 octets" in told["a.zip/empty"]
        assert "16,777,217 octets" in told["a.zip/long"]
        assert told["a.zip/nested.zip"] == "an archive in an archive"
        assert "more than 1 to 200" in told["a.zip/zeros"]

    def test_a_small_file_may_pack_as_it_likes(self, tmp_path):
        path = archive(tmp_path / "a.zip", ("zeros", bytes(public_sources.FREE_OCTETS)))
        (source,) = read_sources(path)
        assert len(source.octets) == public_sources.FREE_OCTETS

    def test_a_size_that_lies_is_found_out(self, tmp_path):
        path = archive(tmp_path / "a.zip", ("a", bytes(MAX_OCTETS * 4)))
        octets = path.read_bytes()
        path.write_bytes(octets.replace(struct.pack("<L", MAX_OCTETS * 4), struct.pack("<L", 1000)))
        (found,) = read_sources(path)
        assert isinstance(found, Unreadable)
        assert "damaged" in found.fault.message

    @pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_packings_are_not_taken(self, tmp_path, packing):
        (found,) = read_sources(archive(tmp_path / "a.zip", ("a", TEXT), packing=packing))
        assert isinstance(found, Unreadable)

    def test_an_encrypted_file_is_told(self, tmp_path):
        path = archive(tmp_path / "a.zip", ("a", TEXT))
        octets = bytearray(path.read_bytes())
        octets[6] |= 1
        octets[octets.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(octets)
        (found,) = read_sources(path)
        assert isinstance(found, Unreadable)
        assert found.fault.message == "encrypted"

    def test_too_many_files_are_refused_before_their_list_is_read(self, tmp_path):
        path = archive(tmp_path / "a.zip", *((str(number), b"x") for number in range(10_001)))
        assert "more than 10,000 files" in refusal(path).message
        # A count that lies does not help: the list is too long for it.
        octets = bytearray(path.read_bytes())
        octets[-14:-10] = struct.pack("<2H", 5, 5)
        path.write_bytes(octets)
        assert "10,00" in refusal_of_many(path)

    def test_more_than_a_machine_holds_is_refused(self, tmp_path):
        one = os.urandom(1 << 20) * 16
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
            file.writestr("a", one)
        # The same file seventy times over, as overlapping entries are made.
        octets = path.read_bytes()
        start = octets.rindex(b"PK\x01\x02")
        entry, end = octets[start:-22], octets[-22:]
        count, size = 70, len(entry) * 70
        end = end[:8] + struct.pack("<2HL", count, count, size) + end[16:]
        path.write_bytes(octets[:start] + entry * count + end)
        assert "70 files of 1,174,405,120 octets" in refusal(path).message

    def test_a_list_of_contents_as_zip64_is_refused(self, tmp_path):
        path = archive(tmp_path / "a.zip", ("a", TEXT))
        octets = path.read_bytes()
        path.write_bytes(octets[:-22] + b"PK\x06\x07" + bytes(16) + octets[-22:])
        assert "more than" in refusal(path).message

    @pytest.mark.parametrize(
        "octets", [b"PK\x03\x04", b"PK\x03\x04" + bytes(1000), b"PK\x05\x06" + bytes(18)]
    )
    def test_what_only_begins_like_an_archive_is_refused(self, tmp_path, octets):
        (tmp_path / "a.zip").write_bytes(octets)
        refusal(tmp_path / "a.zip")

    def test_an_archive_of_more_than_its_limit_is_refused_unread(self, tmp_path):
        with (tmp_path / "a.zip").open("wb") as file:
            file.write(b"PK\x03\x04")
            file.truncate(2 << 30)
        assert "2,147,483,648 octets" in refusal(tmp_path / "a.zip").message

    @settings(
        max_examples=300,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(data=st.data())
    def test_damage_anywhere_gives_the_file_or_a_refusal(self, tmp_path, data):
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a", TEXT)
            file.writestr("b", bytes(range(256)))
        octets = bytearray(whole.getvalue())
        for _ in range(data.draw(st.integers(1, 3))):
            octets[data.draw(st.integers(4, len(octets) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path / "damaged.zip"
        path.write_bytes(octets[: data.draw(st.integers(4, len(octets)))])
        try:
            found = list(read_sources(path))
        except OperatorFault:
            return
        for one in found:
            assert isinstance(one, Unreadable) or one.octets in (TEXT, bytes(range(256)))


def octets_of(path: Path) -> int:
    """How many are taken; 0 where it is refused."""
    try:
        return len(read_file(path).octets)
    except OperatorFault:
        return 0


def refusal_of_many(path: Path) -> str:
    with pytest.raises(OperatorFault) as told:
        list(read_sources(path))
    return told.value.message
