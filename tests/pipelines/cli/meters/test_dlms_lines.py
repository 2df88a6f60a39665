"""`smf simulate dlms` and `smf read dlms` over each way to a meter: TCP, gateway, serial, optical port."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipelines.cli.decode.app import app as decode
from pipelines.cli.read.app import app as read
from pipelines.cli.simulate.app import app as simulate
from protocols.dlms.framing import UA, HdlcFraming

pytestmark = pytest.mark.req("TR-5.12a")


@contextlib.contextmanager
def simulated(*options):
    command = [
        *(sys.executable, "-c", "from pipelines.cli.main import main; main()"),
        *("simulate", "dlms", *options, "--json"),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def run(app, *words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("options", "scheme", "model"),
    [
        ([], "tcp", "dlms-generic"),
        (["--hdlc"], "tcp", "dlms-generic-hdlc"),
        (["--pty"], "serial", "dlms-generic-hdlc"),
        (["--rfc2217"], "rfc2217", "dlms-generic-hdlc"),
        (["--pty", "--address", "17"], "serial", "dlms-generic-hdlc"),
        (["--pty", "--opening", "mode-e"], "serial", "dlms-generic-optical"),
        (["--rfc2217", "--opening", "mode-e"], "rfc2217", "dlms-generic-optical"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_everything_is_read_over_each_way(options, scheme, model):
    with simulated(*options) as facts:
        assert facts["url"].startswith(f"{scheme}://")
        url = facts["url"] + ("?address=17" if "--address" in options else "")
        result = run(read, "dlms", url, "--model", model, "--days", "1", "--objects", "--logs", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["outcome"], found["retries"], found["issues"]) == ("complete", 0, [])
    assert found["meter_serial"] == facts["serial"]
    assert (7, "1-0:99.1.0.255") in {(one["class"], one["obis"]) for one in found["objects"]}
    assert found["registers"]["1-0:1.8.0.255"]["unit"] == "Wh"
    assert found["opened_as"] == (r"/SIM5\2Simulated" if "mode-e" in options else None)


def test_the_frames_of_an_opened_port_are_decoded_in_words():
    with simulated("--pty", "--opening", "mode-e") as facts:
        shown = run(read, "dlms", facts["url"], "--model", "dlms-generic-optical")
        result = run(read, "dlms", facts["url"], "--model", "dlms-generic-optical", "--json")
    assert r"/SIM5\2Simulated" in shown.stdout
    frames = json.loads(result.stdout)["frames"]
    decoded = run(decode, "dlms", "--hex", "".join(frame["hex"] for frame in frames), "--json")
    assert decoded.exit_code == 0, decoded.output
    records = [json.loads(line) for line in decoded.stdout.splitlines()]
    assert [record.get("frame") for record in records[:5]] == [
        "sign-on",
        "identification",
        "acknowledgement",
        "SNRM",
        "UA",
    ]
    assert len(records) == len(frames)


def test_event_logs_of_an_optical_port_with_a_password(tmp_path, monkeypatch):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[models.dlms-nbr16968-optical]\npassword = "12345678"\n')
    secrets.chmod(0o600)
    monkeypatch.setenv("SMF_COLLECTOR_DLMS_SECRETS_PATH", str(secrets))
    with simulated("--pty", "--opening", "mode-e") as facts:
        result = run(
            read, "dlms", facts["url"], "--model", "dlms-nbr16968-optical", "--objects", "--logs", "--json"
        )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {event["log"] for event in found["events"]} == {"0-0:99.98.0.255"}
    assert found["objects"]
    assert b"12345678".hex() not in "".join(
        frame["hex"] for frame in found["frames"] if frame["direction"] == ">"
    )


def test_mode_e_on_a_way_without_speeds_is_refused():
    refused = run(read, "dlms", "tcp://127.0.0.1:9", "--model", "dlms-generic-optical", "--json")
    assert refused.exit_code == 11
    found = json.loads(refused.stdout)
    assert (found["failed_stage"], found["frames"]) == ("connect", [])


@pytest.mark.parametrize(
    "options",
    [
        ["--opening", "mode-e"],
        ["--opening", "mode-e", "--hdlc"],
        ["--pty", "--rfc2217"],
        ["--error-rate", "0.1"],
        ["--pty", "--opening", "mode-e", "--error-rate", "0.1"],
    ],
)
def test_lines_that_cannot_be_are_refused(options):
    result = run(simulate, "dlms", *options)
    assert result.exit_code == 11, result.output


@pytest.mark.req("X-sim")
@pytest.mark.parametrize(("rate", "answers"), [("0", True), ("1", False)])
def test_a_line_is_as_bad_as_it_is_asked_to_be(rate, answers):
    with simulated("--hdlc", "--error-rate", rate) as facts:
        host, port = facts["url"].removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 60) as line:
            line.settimeout(60 if answers else 0.5)
            line.sendall(HdlcFraming(16).connect())
            with contextlib.nullcontext() if answers else pytest.raises(TimeoutError):
                assert line.recv(64)[5] == UA
