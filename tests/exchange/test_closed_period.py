"""A text file of a closed period (SALV), imported and exported again: the same, and as it came."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.files.importing import import_file
from exchange.export import ExportRequest
from exchange.public_files import export_public
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.messages import Parameters, decode_response
from protocols.public_format import FileKind, file_name, read_text, write_text
from protocols.public_format.text import PARAMETERS, PREVIOUS
from storage.database import Database
from tests.collector.world import DAY, NOW
from tests.exchange.meters import DAYS, SERIAL, read_and_export, with_meter
from tests.pipelines.cli.command import smf


def closed_file(db: Database, folder: Path) -> Path:
    """The period that a meter closed at its last interval, saved some hours later."""
    files, _ = read_and_export(db, folder)
    file = read_text(files[FileKind.TEXT].read_bytes())
    told = decode_response(sealed(file.blocks[PARAMETERS]))
    assert isinstance(told, Parameters)
    assert told.last_interval_end is not None
    saved_at = told.last_interval_end + timedelta(minutes=2)
    changed = replace(
        told,
        meter_time=saved_at,
        last_reset=told.last_interval_end,
        words_previous=len(file.current_words),
        words_current=0,
    )
    closed = replace(
        file,
        blocks={**file.blocks, PARAMETERS: changed.encode(SERIAL)[:-2]},
        previous_words=file.current_words,
        current_words=(),
    )
    path = folder / file_name(FileKind.TEXT, SERIAL, saved_at)
    path.write_bytes(write_text(closed))
    return path


@pytest.mark.req("TR-5.6a")
@pytest.mark.case("B8")
def test_a_closed_period_goes_out_as_it_came_in(embedded_db: Database, db: Database, tmp_path: Path) -> None:
    path = closed_file(embedded_db, tmp_path)
    with_meter(db)
    done = import_file(db, path, "rui", NOW + timedelta(minutes=5))
    assert done.merged is not None
    assert (done.merged.outcome, done.merged.decoded.issues) == ("complete", ())

    export_public(db, ExportRequest(None, DAYS[0], DAY, tmp_path / "again", "ana", (FileKind.TEXT,)))

    (again,) = (tmp_path / "again").rglob("*.*")
    before, after = read_text(path.read_bytes()), read_text(again.read_bytes())
    assert again.name == path.name
    assert (after.current_words, after.previous_words) == ((), before.previous_words)
    assert f"{PREVIOUS}001" in again.read_text("ascii")
    assert after == before

    shown = smf(
        "export", "public", "as_it_came", "--original", "--from", str(DAYS[0]), "--to", str(DAY), "--json",
        url=db.url, cwd=tmp_path,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    (original,) = (tmp_path / "as_it_came").rglob("*.*")
    assert (original.name, original.read_bytes()) == (path.name, path.read_bytes())
    document: dict[str, Any] = json.loads(shown.stdout)
    assert document["files"][0]["intervals"] * 3 > len(before.previous_words) - 3
