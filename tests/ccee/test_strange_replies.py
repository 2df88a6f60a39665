"""Replies that are not CCEE's (cases C1 to C4), from a server that says what it is told to."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ccee.client import CceeClient, Credentials
from ccee.profile import Action, load_profile, parse_profile
from ccee.replies import Outcome
from tests.ccee.conftest import AGENT, DAY, UCS, Waits, day_body, deliver, derive, quick, register, rows
from tests.ccee.profiles import table

PAGE = (200, "text/html; charset=utf-8", b"<html>em manutencao</html>", {})
STORED = (201, "application/json", b"{}", {})


class Canned:
    """A server on loopback: a token for whoever asks, then the replies in turn, the last one for ever."""

    def __init__(self, replies, token=None):
        self.replies = list(replies)
        self.token = token or {"access_token": "abc", "expires_in": 300}
        self.sends = 0
        self.tokens = 0
        self.base_url = ""

    def answer(self, path: str):
        if path.endswith("/token"):
            self.tokens += 1
            return 200, "application/json", json.dumps(self.token).encode(), {}
        self.sends += 1
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def served(canned: Canned) -> Iterator[Canned]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):  # the name that http.server calls
            self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, content, headers = canned.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    canned.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield canned
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(canned: Canned, profile=None, times=1, waits=None):
    async def run():
        chosen = profile or load_profile()
        environment = chosen.environment("standin", canned.base_url)
        pair = {AGENT: Credentials("id", "secret")}
        async with CceeClient(chosen, environment, pair, sleep=Waits() if waits is None else waits) as client:
            return [await client.send(AGENT, day_body()) for _ in range(times)]

    with served(canned):
        return asyncio.run(run())


@pytest.mark.case("C1")
@pytest.mark.req("TR-2g")
def test_a_page_with_a_success_status_is_asked_again_with_the_same_bytes():
    (result,) = send(Canned([PAGE, STORED]))
    assert [attempt.outcome for attempt in result.attempts] == [Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert "text/html" in result.attempts[0].error
    assert result.attempts[0].reply_body == PAGE[2]


def test_a_success_that_names_an_error_is_not_believed():
    refused = (200, "application/json", b'{"error": "ERR_VALIDACAO_CAMPOS"}', {})
    (result,) = send(Canned([refused]), quick(max_attempts=1))
    assert result.outcome is Outcome.UNKNOWN


@pytest.mark.req("TR-2g")
@pytest.mark.parametrize("status", [400, 404, 405, 413])
def test_a_refusal_without_a_code_stops_the_agent(status):
    first, second = send(Canned([(status, "text/plain", b"no route", {})]), times=2)
    assert [attempt.action for attempt in first.attempts] == [Action.STOP_AGENT]
    assert first.outcome is Outcome.TRANSIENT
    assert second.attempts == ()
    assert str(status) in second.stopped


def test_a_code_that_no_rule_names_waits_for_the_next_run_and_stops_nobody():
    news = (400, "application/json", b'{"error": "ERR_NOVO", "message": "x"}', {})
    first, second = send(Canned([news]), times=2)
    assert [len(first.attempts), len(second.attempts)] == [1, 1]
    assert first.attempts[0].action is Action.RETRY_LATER
    assert first.outcome is Outcome.TRANSIENT


@pytest.mark.case("C3")
@pytest.mark.req("TR-2g")
@pytest.mark.parametrize("value", ["Wed, 21 Oct 2015 07:28:00 GMT", "0", "-5", "soon", "1.5"])
def test_a_wait_that_makes_no_sense_gives_way_to_our_own(value):
    waits = Waits()
    busy = (429, "application/json", b"", {"Retry-After": value})
    (result,) = send(Canned([busy, busy, STORED]), waits=waits)
    assert result.outcome is Outcome.ACCEPTED
    backed_off = [wait for wait in waits if wait >= 0.5]
    assert 0.5 <= backed_off[0] <= 1 <= backed_off[1] <= 2


@pytest.mark.case("C4")
@pytest.mark.parametrize("lifetime", ["300", None, 0, -5, "soon", 1e300])
def test_a_good_token_is_used_whatever_is_said_of_its_life(lifetime):
    canned = Canned([STORED], {"access_token": "abc.def", "expires_in": lifetime})
    (result,) = send(canned)
    assert result.outcome is Outcome.ACCEPTED


@pytest.mark.case("C4")
def test_a_token_life_written_as_a_text_is_kept_to():
    canned = Canned([STORED], {"access_token": "abc", "expires_in": "300"})
    send(canned, times=3)
    assert canned.tokens == 1


@pytest.mark.parametrize("token", ["", "two words", "line\r\nX-Evil: 1", "ação", 7, None])
def test_a_token_that_no_header_can_carry_is_none(token):
    canned = Canned([STORED], {"access_token": token, "expires_in": 300})
    (result,) = send(canned, quick(max_attempts=1))
    assert canned.sends == 0
    assert "access_token" in result.attempts[0].error


ENTITY = {"codigoUnidadeConsumidora": UCS[0], "diaReferencia": DAY.isoformat(), "id": "7"}


@pytest.mark.parametrize(
    ("wanted", "content", "outcome"),
    [
        ("any", b"", Outcome.ACCEPTED),
        ("any", b'{"x": 1}', Outcome.ACCEPTED),
        ("empty", b"", Outcome.ACCEPTED),
        ("empty", b'{"x": 1}', Outcome.UNKNOWN),
        ("ticket", b'{"protocolo": "9"}', Outcome.ACCEPTED),
        ("ticket", b'{"x": 1}', Outcome.UNKNOWN),
        ("entity", json.dumps(ENTITY).encode(), Outcome.ACCEPTED),
        ("entity", json.dumps([ENTITY]).encode(), Outcome.ACCEPTED),
        ("entity", json.dumps(ENTITY | {"diaReferencia": "2026-11-19"}).encode(), Outcome.UNKNOWN),
        ("entity", b"", Outcome.UNKNOWN),
    ],
)
def test_what_a_success_must_hold_is_a_key_of_the_contract(wanted, content, outcome):
    base = quick(max_attempts=1)
    profile = replace(base, send=replace(base.send, success_body=wanted))
    (result,) = send(Canned([(200, "application/json", content, {})]), profile)
    assert result.outcome is outcome


@pytest.mark.case("C2")
@pytest.mark.req("TR-2g")
def test_a_gateway_that_knows_no_path_refuses_no_data(embedded_db):
    ids = register(embedded_db)
    for code in UCS:
        derive(embedded_db, ids[code])
    lost = Canned([(404, "application/json", b'{"message": "no Route matched"}', {})])
    with served(lost):
        summary = deliver(embedded_db, lost)
    assert (summary.rejected, summary.accepted) == (0, 0)
    assert any("stopped" in problem for problem in summary.problems)
    subjects = rows(embedded_db, "SELECT subject FROM notification")
    assert subjects == [("Envios à CCEE interrompidos",)]
    with served(Canned([STORED])) as back:
        again = deliver(embedded_db, back, run_id="later")
    assert again.accepted == len(UCS)


def test_a_musd_section_without_the_two_numbers_has_the_procedures():
    changed = table()
    assert "factor" not in changed["musd"]
    changed["musd"] |= {"factor": "1.3", "default_kw": 400}
    params = parse_profile(changed, "test").musd.params
    assert (str(params.rejection_share), params.default_musd_kw) == ("13/10", 400)
