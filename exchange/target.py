"""Where exported files go: an archive or a folder, written piece by piece, there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from faults import OperatorFault

# An archive of the same readings is the same to the octet.
_ARCHIVE_TIME = (1980, 1, 1, 0, 0, 0)


class Target:
    """An archive or a folder that is there whole, or not at all: written beside its place, then renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._archive: zipfile.ZipFile | None = None
        self._open_path = ""
        self._open: IO[bytes] | None = None
        self._is_archive = path.suffix.lower() == ".zip"

    def __enter__(self) -> Self:
        if self.path.exists() and (self._is_archive or not self.path.is_dir() or any(self.path.iterdir())):
            raise OperatorFault(
                "is there already", where=str(self.path), remedy="name a new archive or an empty folder"
            )
        with self._writing():
            if self._is_archive:
                self._archive = zipfile.ZipFile(self._part, "x", zipfile.ZIP_DEFLATED)
            else:
                self._part.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            with self._writing():
                if self._open is not None:
                    self._open.close()
                if self._archive is not None:
                    self._archive.close()
        finally:
            if self._part.is_dir():
                shutil.rmtree(self._part)
            self._part.unlink(missing_ok=True)

    def add(self, path: str, octets: bytes) -> None:
        """A whole file."""
        self._end()
        with self._writing():
            if self._archive is None:
                self._place(path).write_bytes(octets)
            else:
                self._archive.writestr(_entry(path), octets)

    def append(self, path: str, octets: bytes) -> None:
        """The next part of a file; any other path, and `add`, end it."""
        if path != self._open_path:
            self._end()
        with self._writing():
            if self._open is None:
                self._open_path = path
                if self._archive is None:
                    self._open = self._place(path).open("wb")
                else:
                    # Nobody knows yet whether it stays below the 2 GB of a plain entry.
                    self._open = self._archive.open(_entry(path), "w", force_zip64=True)
            self._open.write(octets)

    def _place(self, path: str) -> Path:
        place = self._part / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _end(self) -> None:
        if self._open is not None:
            with self._writing():
                self._open.close()
            self._open, self._open_path = None, ""

    def close(self) -> bytes | None:
        """SHA-256 of the archive; None for a folder."""
        self._end()
        if self._archive is None:
            return None
        with self._writing():
            self._archive.close()
            self._archive = None
            with self._part.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()

    def publish(self) -> None:
        with self._writing():
            self._part.replace(self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OperatorFault(
                f"cannot write: {error.strerror}",
                where=str(self.path),
                remedy="name a place you may write to, with room left",
            ) from error


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _ARCHIVE_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
