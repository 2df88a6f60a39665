"""`smf simulate ssu|celesc` and `smf read ssu|celesc`: two processes' worth of one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli.read import stream as read_stream
from pipelines.cli.read.app import app
from storage.database import Database
from tests.pipelines.cli.command import smf
from tests.storage.registry_sheets import SHEETS, as_folder

runner = CliRunner()
# A program started in the background would be given SIGINT to ignore.
PROGRAM = [
    *(sys.executable, "-c"),
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from pipelines.cli import main; main()",
]
# Of the slowest machine, not of what is tested: a watch ends when it has seen what it is for.
PATIENCE_S = "60"
Seen = dict[str, Any]


@contextmanager
def simulated(*words: str) -> Iterator[str]:
    """A simulated meter in its own process; its URL."""
    command = [*PROGRAM, "simulate", *words, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.send_signal(signal.SIGTERM)


def watch(*words: str, exit_code: int = 0) -> Seen:
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def watch_until(is_seen: Callable[[Seen], bool], *words: str) -> Seen:
    """What is shown when the technician, who has seen what it takes, ends the watch by Ctrl-C."""
    record, shown = read_stream._record, []

    def look(*parts: Any) -> Seen:
        if shown and is_seen(shown[-1]):
            raise KeyboardInterrupt
        shown.append(record(*parts))
        return shown[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_stream, "_record", look)
        patch.setattr(read_stream, "_LOOK_S", 0.1)
        return watch(*words, "--seconds", PATIENCE_S)


def watch_apart(is_seen: Callable[[Seen], bool], *words: str, cwd: Path) -> Seen:
    """The same in a process of its own, as a program reads it: a JSON object a second, ended by a signal."""
    command = [*PROGRAM, "read", *words, "--seconds", PATIENCE_S, "--json"]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: Iterator[Seen] = map(json.loads, process.stdout)
        seen = next((one for one in lines if is_seen(one)), {})
        process.send_signal(signal.SIGINT)
        assert [one for one in lines if not is_seen(one)] == []
    assert process.returncode == 0, seen
    return seen


def has_good(count: int) -> Callable[[Seen], bool]:
    return lambda seen: seen["good_records"] >= count


WAYS = {"tcp": (), "serial": ("--pty",), "rfc2217": ("--rfc2217",)}


@pytest.mark.req("CE-A", "X-sim")
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_a_technician_watches_celesc(options: tuple[str, ...]) -> None:
    # At this load the register needs ten hours for its next kWh, however long the test takes.
    with simulated("celesc", *options, "--number", "77", "--peak-kw", "0.1") as url:
        seen = watch_until(lambda seen: "channel 1" in seen, "celesc", url)
    assert seen["line"] == "open"
    assert (seen["meter_number"], seen["channel 1"]) == ("0000000077", 13579)
    assert seen["skipped_share"] == 0
    assert seen["trouble"] == []


@pytest.mark.req("TR-5.5e", "X-sim")
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_a_technician_watches_ssu(options: tuple[str, ...]) -> None:
    with simulated("ssu", *options, "--error-rate", "0.01") as url:
        seen = watch_until(has_good(2), "ssu", url)
    assert seen["format"] == "extended"
    assert seen["good_records"] >= 2


@pytest.mark.req("TR-5.5e", "X-sim")
@pytest.mark.parametrize(
    ("asked", "said"), [("normal", "normal"), ("mixed", "mixed"), ("ssu-mixed", "mixed")]
)
def test_other_formats_of_ssu(asked: str, said: str) -> None:
    with simulated("ssu", "--format", asked, "--rfc2217") as url:
        seen = watch_until(has_good(2), "ssu", url, "--format", asked)
    assert (seen["format"], seen["rate_bit_s"]) == (said, 600 if said == "mixed" else 110)
    assert seen["skipped_share"] == 0


@pytest.mark.req("TR-5.5a", "X-sim")
def test_a_simulated_unit_calls_and_passes_the_output_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with simulated("celesc", "--call", address, "--hello", "REMOTA u1;", "--number", "77") as url:
            assert url == f"calls {address}"
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                heard = b""
                while len(heard) < 30:
                    piece = connection.recv(100)
                    assert piece, heard
                    heard += piece
    assert heard.startswith(b"REMOTA u1;\xaa\x55\x00\x00\x00\x00\x77\x05\x0a")


@pytest.mark.parametrize("words", [("ssu", "dialin://u1"), ("celesc", "dialin://u1")])
def test_a_unit_that_calls_cannot_be_called(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code != 0
    assert "dials in" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("read", "ssu", "tcp://127.0.0.1:1", "--format", "odd"), "no SSU model 'odd'"),
        (("read", "celesc", "tcp://127.0.0.1:1", "--model", "1"), "no meter model '1'"),
        (("model", "list", "--protocol", "morse"), "no protocol 'morse'"),
        (("simulate", "ssu", "--format", "odd"), "no SSU model 'odd'"),
        (("simulate", "ssu", "--pty", "--rfc2217"), "several ways"),
        (("simulate", "celesc", "--call", "nowhere"), "not HOST:PORT"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    done = smf(*words, url=None, cwd=tmp_path)
    assert done.returncode not in (0, 1)
    assert told in done.stdout + done.stderr


@pytest.mark.req("TR-5.1")
def test_models_of_every_protocol_are_listed(tmp_path: Path) -> None:
    done = smf("model", "list", "--json", url=None, cwd=tmp_path)
    known = {row["profile"]: row["protocol"] for row in json.loads(done.stdout)}
    assert {"default": "nbr14522", "ssu-mixed": "ssu", "celesc-27182": "celesc"}.items() <= known.items()
    assert set(known.values()) == {"nbr14522", "dlms", "ssu", "celesc"}
    shown = smf("model", "list", url=None, cwd=tmp_path)
    assert "celesc-36291" in shown.stdout


OWN_SSU = """
[models.ssu-elo]
extends = "ssu-mixed"
rate_bit_s = 1200
"""
OWN_CELESC = """
[meters.99001]
extends = "35456"
description_pt = "Medidor de outra compra"
bought = 0
rate_bit_s = 1200
"""


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose smf.toml names catalogues of one's own."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "ssu.toml").write_text(OWN_SSU)
    (tmp_path / "own" / "celesc.toml").write_text(OWN_CELESC)
    (tmp_path / "smf.toml").write_text('[collector]\nmeter_models_path = "own"\n')
    for name in [name for name in os.environ if name.startswith("SMF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SMF_CONFIG", str(tmp_path / "smf.toml"))
    return tmp_path


@pytest.mark.req("TR-5.1", "CE-models", "X-sim")
@pytest.mark.parametrize(
    ("protocol", "option", "name", "record"),
    [("ssu", "--format", "elo", "mixed"), ("celesc", "--model", "99001", None)],
)
def test_models_of_ones_own_are_simulated_read_and_registered(
    configured: Path, embedded_db: Database, protocol: str, option: str, name: str, record: str | None
) -> None:
    with simulated(protocol, option, name, "--rfc2217") as url:
        seen = watch_apart(has_good(1), protocol, url, option, name, cwd=configured)
    assert (seen["rate_bit_s"], seen.get("format")) == (1200, record)
    listed = smf("model", "list", "--protocol", protocol, "--json", url=None, cwd=configured)
    assert f"{protocol}-{name}" in {row["profile"] for row in json.loads(listed.stdout)}
    models = [["code", "maker", "profile"], ["M", "Fabricante", f"{protocol}-{name}"]]
    as_folder(configured / "in", {**SHEETS, "meter_models": models})
    checked = smf("registry", "import", "in", "--check", "--json", url=embedded_db.url, cwd=configured)
    assert checked.returncode == 0, checked.stdout
    assert {s["sheet"]: s["added"] for s in json.loads(checked.stdout)["sheets"]}["meter_models"] == 1


@pytest.mark.parametrize("words", [("--seconds", "1"), ("--patience-s", "1")], ids=str)
def test_a_dead_line_ends_with_an_error(words: tuple[str, str]) -> None:
    result = runner.invoke(app, ["ssu", "tcp://127.0.0.1:1", *words, "--json"])
    assert result.exit_code == 12, "the field crew's"
    said = result.stdout[result.stdout.index('{\n  "error"') :]
    error = json.loads(said)["error"]
    assert error["where"] == "tcp://127.0.0.1:1"
    assert "Connect call failed" in error["message"]
