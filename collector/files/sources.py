"""The octets that a path brings to an import: a file, or the files of one archive. Bounded in all they take.

Whoever made it may be careless or hostile: it may be no file, never end, grow, or unpack to more than the
machine holds. The names inside an archive are told and never used as paths.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from faults import OperatorFault

# A memory of 999 blocks for each of 26, 27 and 52 is under 1 MB.
MAX_OCTETS = 16 * 1024 * 1024
# A month's round of a technician is some hundred files; an export of these limits is 5,000 UCs' month.
MAX_FILES = 10_000
MAX_ARCHIVE_OCTETS = 256 * 1024 * 1024
MAX_UNPACKED_OCTETS = 1024 * 1024 * 1024
# Lines of zeros pack 1 to 100; what is small may pack as it likes.
MAX_RATIO, FREE_OCTETS = 200, 1024 * 1024
_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06")
_END = struct.Struct("<4s4H2LH")
_END_MARK, _END64_MARK, _END64_SIZE = b"PK\x05\x06", b"PK\x06\x07", 20
_MAX_COMMENT = 0xFFFF
# Of an archive's list of contents, 46 octets and a name each.
_MAX_LIST_OCTETS = MAX_FILES * 256
_IS_ENCRYPTED = 0x1
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Source:
    """One file's octets; `archive` is the name of what it was in, if it was."""

    name: str
    octets: bytes
    archive: str = ""

    @property
    def label(self) -> str:
        """Its name behind that of its archive."""
        return f"{self.archive}/{self.name}" if self.archive else self.name


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file of an archive that is not taken, and why; the others are."""

    name: str
    fault: OperatorFault


def read_sources(path: Path) -> Iterator[Source | Unreadable]:
    """The file, or the files of the archive one at a time.

    Raises:
        OperatorFault: nothing of it can be taken.
    """
    with _opened(path) as file:
        head = file.read(len(_ZIP_HEADS[0]))
        file.seek(0)
        if head in _ZIP_HEADS:
            yield from _unpacked(file, path)
        else:
            yield Source(path.name, _whole(file, path))


def read_file(path: Path) -> Source:
    """The file itself.

    Raises:
        OperatorFault: it is not a file, empty, too long, or changes while it is read.
    """
    with _opened(path) as file:
        return Source(path.name, _whole(file, path))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Without O_NONBLOCK, opening a pipe waits for whoever writes into it, perhaps for ever.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorFault(
            f"cannot read: {error.strerror}", where=str(path), remedy="name a file"
        ) from error
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        is_folder = stat.S_ISDIR(mode)
        raise OperatorFault(
            "a folder" if is_folder else "no file but a device or pipe",
            where=str(path),
            remedy=f"name the files in it: {path}/*" if is_folder else "name a file",
        )
    with os.fdopen(number, "rb") as file:
        yield file


def _whole(file: BinaryIO, path: Path) -> bytes:
    before = os.fstat(file.fileno())
    if not 1 <= before.st_size <= MAX_OCTETS:
        raise OperatorFault(
            f"{before.st_size:,} octets, a public file has 1 to {MAX_OCTETS:,}",
            where=str(path),
            remedy="name an FK7 or text file, or an archive of them",
        )
    octets = _read(file, before.st_size + 1, path)
    after = os.fstat(file.fileno())
    if len(octets) != before.st_size or (before.st_size, before.st_mtime_ns) != (
        after.st_size,
        after.st_mtime_ns,
    ):
        raise OperatorFault(
            f"the file changes while it is read: {before.st_size:,} octets before, {after.st_size:,} after",
            where=str(path),
            remedy="import it when it is copied whole",
        )
    return octets


def _read(file: BinaryIO, most: int, path: Path) -> bytes:
    try:
        return file.read(most)
    except OSError as error:
        raise OperatorFault(
            f"cannot read: {error.strerror}", where=str(path), remedy="copy it to a sound disk"
        ) from error


# --- archives ----------------------------------------------------------------------------------------------


def _unpacked(file: BinaryIO, path: Path) -> Iterator[Source | Unreadable]:
    _check_end(file, path)
    try:
        archive = zipfile.ZipFile(file)
    # What the library raises for a damaged list of contents: NotImplementedError for a version or disk count
    # that it does not know, ValueError and OSError for offsets that lead nowhere.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise _refused(path, f"no sound archive: {error}") from error
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        total = sum(entry.file_size for entry in entries)
        if len(entries) > MAX_FILES or total > MAX_UNPACKED_OCTETS:
            most = f"at most {MAX_FILES:,} of {MAX_UNPACKED_OCTETS:,}"
            raise _refused(path, f"{len(entries):,} files of {total:,} octets, {most}")
        if not entries:
            raise _refused(path, "an archive without files")
        for entry in entries:
            name = _told(entry.filename)
            try:
                yield Source(name, _member(archive, entry, path), path.name)
            except OperatorFault as fault:
                yield Unreadable(f"{path.name}/{name}", fault)


def _check_end(file: BinaryIO, path: Path) -> None:
    """Refuse an archive whose list of contents is too long, before anybody reads that list."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_ARCHIVE_OCTETS:
        raise _refused(path, f"{size:,} octets, an archive has at most {MAX_ARCHIVE_OCTETS:,}")
    start = file.seek(max(0, size - _END.size - _MAX_COMMENT - _END64_SIZE))
    tail = _read(file, size - start, path)
    file.seek(0)
    # As `zipfile` looks for it: at the very end, or before a comment.
    place = len(tail) - _END.size
    if tail[place : place + 4] != _END_MARK or tail[-2:] != b"\0\0":
        place = tail.rfind(_END_MARK)
    if place < 0 or len(tail) - place < _END.size:
        raise _refused(path, "the archive is cut off: its list of contents is missing")
    _, _, _, _, count, list_octets, _, _ = _END.unpack_from(tail, place)
    is_long = tail[max(0, place - _END64_SIZE) : place].startswith(_END64_MARK)
    if is_long or count > MAX_FILES or list_octets > _MAX_LIST_OCTETS:
        raise _refused(path, f"more than {MAX_FILES:,} files, or a list of contents as long")


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    """The octets of one file, never more than MAX_OCTETS whatever the entry says of itself."""
    where = f"{path.name}/{_told(entry.filename)}"
    if entry.flag_bits & _IS_ENCRYPTED:
        raise OperatorFault("encrypted", where=where, remedy="unpack it with its password; then import it")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise OperatorFault("packed in a way that is not taken", where=where, remedy="unpack it yourself")
    if not 1 <= entry.file_size <= MAX_OCTETS:
        raise OperatorFault(
            f"{entry.file_size:,} octets, a public file has 1 to {MAX_OCTETS:,}",
            where=where,
            remedy="no FK7 or text file",
        )
    if entry.file_size > FREE_OCTETS and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise OperatorFault(
            f"{entry.file_size:,} octets out of {entry.compress_size:,}: more than 1 to {MAX_RATIO}",
            where=where,
            remedy="no readings pack so well; unpack it yourself if it is a file of readings",
        )
    try:
        with archive.open(entry) as packed:
            octets = packed.read(MAX_OCTETS + 1)
    # As above, and of the packed octets themselves: zlib.error where they are damaged, EOFError where cut.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise OperatorFault(
            f"damaged in the archive: {error}", where=where, remedy="copy the archive again"
        ) from error
    if octets[:4] in _ZIP_HEADS:
        raise OperatorFault("an archive in an archive", where=where, remedy="unpack it yourself")
    return octets


def _told(name: str) -> str:
    """The last part of a name in an archive, fit to be shown."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter if letter.isprintable() else "_" for letter in last)[:_MAX_NAME] or "_"


def _refused(path: Path, message: str) -> OperatorFault:
    return OperatorFault(
        message, where=str(path), remedy="name files of readings, or smaller archives of them"
    )
