"""What the keys of `[auth]`, `[headers]` and `[send]` put on the wire, seen by a server on loopback."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ccee.client import CceeClient, Credentials
from ccee.profile import Profile, load_profile
from ccee.replies import Outcome
from ccee.survey import Standing, survey
from faults import OperatorFault
from tests.ccee.conftest import AGENT, DAY, UCS, day_body, deliver, derive, quick, register

Call = Callable[[CceeClient], Awaitable[Any]]


Seen = list[tuple[str, dict[str, str], str]]


def exchange(profile: Profile, call: Call | None = None, content: bytes = b"{}") -> tuple[Any, Seen]:
    """What a call (a send, without one) comes to where the token is given and the rest answered by `content`.

    Returns: its result; request line, headers and body of each request.
    """
    seen: Seen = []
    token = b'{"access_token": "abc", "expires_in": 300}'

    async def answer(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *rest = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in rest)}
            body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
            seen.append((line, headers, body))
            reply = content if len(seen) > 1 else token
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(reply), reply)
            )
            await writer.drain()

    async def served(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await answer(reader, writer)
        writer.close()

    async def run():
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        environment = profile.environment("standin", base_url)
        pair = {AGENT: Credentials("the-id", "the-secret")}
        async with server, CceeClient(profile, environment, pair) as client:
            return await (client.send(AGENT, day_body()) if call is None else call(client))

    return asyncio.run(run()), seen


def test_the_token_request_is_as_the_contract_says():
    base = quick(max_attempts=1)
    (line, headers, form), _ = exchange(base)[1]
    assert line == "POST /sso/oauth/token HTTP/1.1"
    assert "authorization" not in headers
    assert form == "client_id=the-id&client_secret=the-secret"
    other = replace(
        base,
        auth=replace(base.auth, token_path="/token", grant_type="client_credentials", client_auth="basic"),
    )
    (line, headers, form), _ = exchange(other)[1]
    assert line == "POST /token HTTP/1.1"
    assert headers["authorization"].startswith("Basic ")
    assert form == "grant_type=client_credentials"


def test_the_request_of_a_send_is_as_the_contract_says():
    base = quick(max_attempts=1)
    _, (line, headers, _) = exchange(base)[1]
    assert line == "POST /medidas/v1/medicao HTTP/1.1"
    assert (headers["codigoagente"], headers["codigoperfil"]) == (str(AGENT), str(AGENT))
    other = replace(
        base,
        headers=replace(base.headers, agent="agente", profile="perfil", profile_equals_agent=False),
        send=replace(base.send, method="PUT", path="/v2"),
    )
    _, (line, headers, _) = exchange(other)[1]
    assert line == "PUT /v2 HTTP/1.1"
    assert headers["agente"] == str(AGENT)
    assert "perfil" not in headers


@pytest.mark.parametrize("key", ["client_cert_file", "client_key_file"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path, key):
    base = load_profile()
    files = {"client_cert_file": str(tmp_path / "none.pem"), key: str(tmp_path / "none.pem")}
    profile = replace(base, auth=replace(base.auth, **files))
    with pytest.raises(OperatorFault, match="client certificate"):
        CceeClient(profile, profile.environment("standin"), {})


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (b'{"estado": {"agora": "ANDANDO"}}', Outcome.PROCESSING),
        (b'{"estado": {"agora": "FEITO"}}', Outcome.ACCEPTED),
        (b'{"estado": {"agora": "NEGADO"}}', Outcome.REJECTED),
        (b'{"situacao": "PROCESSADO"}', Outcome.PROCESSING),
    ],
)
def test_a_ticket_is_followed_by_the_contracts_path_and_words(content, outcome):
    base = load_profile()
    ticket = replace(
        base.protocol,
        mode="ticket",
        status_path="/protocolos/{id}",
        situation_path="estado.agora",
        situation_processing="ANDANDO",
        situation_accepted="FEITO",
    )
    profile = replace(base, protocol=ticket)
    attempt, seen = exchange(profile, lambda client: client.status(AGENT, "77"), content)
    assert seen[1][0] == "GET /protocolos/77 HTTP/1.1"
    assert attempt.outcome is outcome
    # Without tickets, the status of the reply is all there is.
    plain, _ = exchange(base, lambda client: client.status(AGENT, "77"), content)
    assert plain.outcome is Outcome.ACCEPTED


def test_whether_a_changed_musd_is_sent_again_is_the_contracts_choice(embedded_db, standin):
    ids = register(embedded_db, UCS[:1])
    derive(embedded_db, ids[UCS[0]], 3500)
    deliver(embedded_db, standin)
    with embedded_db.connect() as conn:
        conn.execute("UPDATE uc_musd SET musd_kw = 40")
    for resends, verdict in ((True, Standing.NEW), (False, Standing.UNCHANGED)):
        profile = load_profile()
        profile = replace(profile, musd=replace(profile.musd, resend_on_change=resends))
        assert survey(embedded_db, profile, DAY)["verdict"].to_list() == [verdict]
