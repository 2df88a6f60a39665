"""`smf ccee` as a person types it, in processes of its own."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone

import pytest

from tests.ccee.conftest import AGENT, UCS, derive, register


@pytest.fixture
def smf(embedded_db, tmp_path):
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SMF_DATABASE_URL": embedded_db.url,
        "SMF_DATA_DIR": str(tmp_path),
        f"SMF_AGENT_{AGENT}_CLIENT_ID": f"CONCESSIONARIA_{AGENT}",
        f"SMF_AGENT_{AGENT}_CLIENT_SECRET": "standin",
    }
    command = [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())", "ccee"]

    def run(*words, expect=0):
        done = subprocess.run(
            [*command, *words], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=120
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout if expect in (0, 1) or done.stdout else done.stderr

    def serve(*words):
        server = subprocess.Popen(
            [*command, "standin", "--port", "0", "--json", *words],
            env=env,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
        )
        text = b""
        while not text.rstrip().endswith(b"}"):
            line = server.stdout.readline()
            assert line, "the stand-in ended"
            text += line
        env["SMF_CCEE_BASE_URL"] = json.loads(text)["base_url"]
        return server

    run.serve, run.env = serve, env
    return run


@pytest.mark.req("TR-2g", "X-trace")
def test_standin_deliver_body_ledger_and_month(embedded_db, smf, tmp_path):
    # Commands work with the real clock: yesterday is always in an open month.
    day = datetime.now(timezone(timedelta(hours=-3))).date() - timedelta(days=1)
    ids = register(embedded_db)
    derive(embedded_db, ids[UCS[0]], values=[(slot * 37) % 5000 for slot in range(288)], day=day)
    server = smf.serve("--state", "standin.jsonl")
    try:
        assert "1 bodies written" in smf("deliver", "--day", str(day), "--dry-run", "bodies")
        assert "1 UC-days sent, 1 accepted" in smf("deliver", "--day", str(day))
        assert "nothing was sent twice" in smf("deliver", "--day", str(day))
        sent = smf("body", UCS[0], str(day))
        assert sent == (tmp_path / "bodies" / str(day) / f"{UCS[0]}.json").read_text()
        told = json.loads(smf("body", UCS[0], str(day), "--version", "1", "--json"))
        assert told["body"] == sent
        assert hashlib.sha256(sent.encode()).hexdigest() == told["sha256"]
        (row,) = json.loads(smf("ledger", "--day", str(day), "--json"))["submissions"]
        assert (row["state"], row["http_status"], row["sha256"]) == ("aceito", 200, told["sha256"])
        assert UCS[0] in smf("ledger", "--day", str(day))
        counted = json.loads(smf("month", UCS[0], f"{day:%Y-%m}", "--json"))
        assert counted["equal"]
        assert counted["theirs"]["horasRejeitadas"] > 0
        assert "equal" in smf("month", UCS[0], f"{day:%Y-%m}")
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    # It remembers over a restart.
    server = smf.serve("--state", "standin.jsonl")
    try:
        assert json.loads(smf("month", UCS[0], f"{day:%Y-%m}", "--json"))["equal"]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert "smf ccee standin" in smf("month", UCS[0], f"{day:%Y-%m}", expect=10)


def test_errors_name_place_and_remedy(smf):
    assert "--day" in smf("body", "77", "2026-11-20", expect=11)
    assert "YYYY-MM-DD" in smf("deliver", "--day", "soon", expect=11)
    assert json.loads(smf("body", "77", "2026-11-20", "--json", expect=11))["error"]["actor"] == "operator"
    assert "send.path" in smf("profile")


@pytest.mark.case("E14")
@pytest.mark.req("TR-2d", "TR-2g")
def test_a_month_of_last_year_is_practised_with_the_stand_in(embedded_db, smf, tmp_path):
    ids = register(embedded_db)
    days = [date(2025, 3, 30), date(2025, 3, 31)]
    for day in days:
        derive(embedded_db, ids[UCS[0]], day=day)
    server = smf.serve("--as-of", "2025-04-01T06:00")
    try:
        # A closed month: the bodies can be looked at, nothing leaves, and that is not a success.
        assert "2 bodies written" in smf("deliver", "--month", "2025-03", "--dry-run", "bodies")
        refused = smf("deliver", "--month", "2025-03", expect=1)
        assert "2 UC-days are due, but their month is closed" in refused
        span = ("--from", str(days[0]), "--to", str(days[1]))
        assert "2 UC-days sent, 2 accepted" in smf("deliver", *span, "--as-of", "2025-04-01T06:00")
        assert "nothing was sent twice" in smf("deliver", *span, "--as-of", "2025-04-02T06:00-03:00")
        assert json.loads(smf("month", UCS[0], "2025-03", "--json"))["ours"]["diasRecebidos"] == 2
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ([], "--day"),
        (["--from", "2025-03-01"], "--to"),
        (["--from", "2025-03-02", "--to", "2025-03-01"], "--to"),
        (["--day", "2025-03-01", "--month", "2025-03"], "--day, --from and --to, --month"),
        (["--day", "2025-03-01", "--as-of", "yesterday"], "--as-of"),
    ],
)
def test_days_that_are_named_badly_are_refused(smf, words, where):
    error = json.loads(smf("deliver", *words, "--json", expect=11))["error"]
    assert (error["where"], bool(error["remedy"])) == (where, True)


def test_a_delivery_as_at_another_moment_stays_on_this_machine(smf):
    words = ("deliver", "--month", "2025-03", "--as-of", "2025-04-01", "--json")
    smf.env["SMF_CCEE_BASE_URL"] = "https://api.example.com"
    error = json.loads(smf(*words, expect=11))["error"]
    assert (error["where"], "stand-in only" in error["message"]) == ("--as-of, api.example.com", True)
