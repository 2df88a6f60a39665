"""The client against the stand-in over real sockets: every reply shape, every failure."""

import asyncio
import logging
from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from ccee.client import CceeClient, Credentials, credentials_for
from ccee.profile import Action, load_profile
from ccee.replies import Outcome, Reply
from faults import OperatorFault
from tests.ccee.conftest import AGENT, DAY, SECRET, UCS, Waits, client_of, control, day_body, month_of, quick


def send(serving, body=None, times=1, profile=None, **injected):
    async def run():
        async with client_of(serving, profile, **injected) as client:
            return [await client.send(AGENT, body or day_body()) for _ in range(times)]

    return asyncio.run(run())


@pytest.mark.req("TR-2g")
@pytest.mark.parametrize(
    ("mode", "status", "has_receipt", "has_body"),
    [
        ("sync200", 200, False, True),
        ("created201_id", 201, True, True),
        ("created201_entity", 201, True, True),
        ("accepted202_ticket", 202, True, True),
        ("empty204", 204, False, False),
    ],
)
def test_every_reply_shape_is_a_success_and_is_kept_whole(standin, mode, status, has_receipt, has_body):
    control(standin, reply_mode=mode)
    (result,) = send(standin)
    (attempt,) = result.attempts
    assert result.outcome is Outcome.ACCEPTED
    assert attempt.http_status == status
    assert (attempt.receipt is not None) == has_receipt
    assert bool(attempt.reply_body) == has_body
    assert "date" in attempt.reply_headers
    assert month_of(standin, UCS[0])["totalKwh"] == "288.000"


@pytest.mark.req("TR-2g")
def test_a_success_with_malformed_json_is_a_success_and_its_bytes_are_kept(standin):
    control(standin, failures=[{"kind": "malformed"}])
    (result,) = send(standin)
    assert result.outcome is Outcome.ACCEPTED
    assert result.attempts[0].reply_body == b'{"status": "CRIADA", '
    assert result.attempts[0].receipt is None


def test_one_token_serves_many_calls_and_a_flight_of_calls_fetches_one(standin):
    tokens = []

    async def run():
        async with client_of(standin) as client:
            fetch = client._fetch_token

            async def counted(*arguments):
                tokens.append(1)
                return await fetch(*arguments)

            client._fetch_token = counted
            await asyncio.gather(*(client.send(AGENT, day_body(uc)) for uc in UCS))

    asyncio.run(run())
    assert len(tokens) == 1


def test_a_token_is_renewed_before_it_ends(standin):
    clock = [0.0]
    fetched = []

    async def run():
        async with client_of(standin, clock=lambda: clock[0]) as client:
            fetch = client._fetch_token

            async def counted(*arguments):
                fetched.append(clock[0])
                return await fetch(*arguments)

            client._fetch_token = counted
            for moment in (0.0, 200.0, 269.0, 271.0):
                clock[0] = moment
                await client.send(AGENT, day_body())

    asyncio.run(run())
    assert fetched == [0.0, 271.0]


def test_an_expired_token_in_mid_run_is_renewed_and_the_call_repeated_once(standin):
    control(standin, failures=[{"kind": "expire_token"}])
    (result,) = send(standin)
    assert [attempt.http_status for attempt in result.attempts] == [401, 200]
    assert result.attempts[0].action is Action.REFRESH_TOKEN


def test_a_second_refusal_of_the_credential_stops_the_agent(standin):
    control(
        standin, failures=[{"kind": "status", "status": 403, "error": "ERR_CREDENCIAL_INVALIDA", "count": 9}]
    )
    first, second = send(standin, times=2)
    assert [attempt.http_status for attempt in first.attempts] == [403, 403]
    assert first.outcome is Outcome.TRANSIENT
    assert second.attempts == ()
    assert "403" in second.stopped
    assert control(standin)["sends"] == 2


def test_any_other_403_stops_the_agent_at_once(standin):
    control(standin, failures=[{"kind": "status", "status": 403, "error": "ERR_OUTRO", "count": 9}])
    first, second = send(standin, times=2)
    assert len(first.attempts) == 1
    assert first.attempts[0].action is Action.STOP_AGENT
    assert second.stopped


def test_a_wrong_secret_stops_the_agent_and_sends_nothing(standin):
    first, second = send(standin, times=2, secret="wrong")
    assert first.attempts[0].http_status == 401
    assert first.attempts[0].error.startswith("token:")
    assert second.attempts == ()
    assert control(standin)["sends"] == 0


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble_is_tried_again_with_growing_waits(standin, status):
    control(standin, failures=[{"kind": "status", "status": status, "count": 3}])
    waits = Waits()
    (result,) = send(standin, sleep=waits)
    assert [attempt.http_status for attempt in result.attempts] == [status] * 3 + [200]
    assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2 <= waits[2] <= 4


def test_tries_end_and_the_rest_is_for_the_next_run(standin):
    control(standin, failures=[{"kind": "status", "status": 503, "count": 99}])
    (result,) = send(standin)
    assert len(result.attempts) == load_profile().send.limits.max_attempts
    assert result.outcome is Outcome.TRANSIENT


@pytest.mark.parametrize(
    ("retry_after", "waited"),
    [("7", [7.0]), ("", None), ("Fri, 20 Nov 2020 10:00:00 GMT", None), ("0", None)],
)
def test_429_waits_as_it_is_told(standin, retry_after, waited):
    control(standin, failures=[{"kind": "status", "status": 429, "retry_after": retry_after}])
    waits = Waits()
    (result,) = send(standin, sleep=waits)
    assert result.outcome is Outcome.ACCEPTED
    if waited is None:
        assert 0.5 <= waits[0] <= 1
    else:
        assert waits == waited


def test_a_wait_longer_than_a_run_is_left_to_the_next(standin):
    control(standin, failures=[{"kind": "status", "status": 429, "retry_after": "86400"}])
    (result,) = send(standin)
    assert len(result.attempts) == 1
    assert result.outcome is Outcome.TRANSIENT


@pytest.mark.req("TR-2g")
def test_a_400_is_not_repeated_and_its_reason_is_kept(standin):
    (result,) = send(standin, day_body(agent=5))
    (attempt,) = result.attempts
    assert result.outcome is Outcome.REJECTED
    assert attempt.action is Action.FIX_DATA
    assert "ERR_VALIDACAO_CAMPOS" in attempt.error
    assert b"difere do agente" in attempt.reply_body


def test_a_body_refused_for_musd_is_told_apart(standin):
    control(standin, musd_mode="refuse")
    (result,) = send(standin, day_body(value=4000))
    assert result.outcome is Outcome.REJECTED
    assert result.attempts[0].action is Action.REJECTED_MUSD


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_dropped_connection_is_unknown_and_the_same_body_follows(standin, kind):
    control(standin, failures=[{"kind": kind}])
    (result,) = send(standin)
    assert [attempt.outcome for attempt in result.attempts] == [Outcome.UNKNOWN, Outcome.ACCEPTED]
    assert result.attempts[0].http_status is None
    assert standin.operator.days[UCS[0], DAY].writes == (2 if kind == "drop_after" else 1)


def test_a_reply_beyond_the_time_out_is_unknown(standin):
    control(standin, failures=[{"kind": "slow", "seconds": 60, "uc": UCS[1]}])

    async def run():
        async with client_of(standin, quick(max_attempts=1)) as client:
            # The token has come; what follows is the reply's own time.
            await client.send(AGENT, day_body())
            client._limits = replace(client._limits, timeout_s=1)
            return await client.send(AGENT, day_body(UCS[1]))

    result = asyncio.run(run())
    assert result.outcome is Outcome.UNKNOWN
    assert "Timeout" in result.attempts[0].error


def test_one_unknown_try_clouds_the_failures_after_it(standin):
    control(standin, failures=[{"kind": "drop_after"}, {"kind": "status", "status": 503, "count": 9}])
    (result,) = send(standin, profile=quick(max_attempts=3))
    assert [attempt.outcome for attempt in result.attempts] == [
        Outcome.UNKNOWN,
        Outcome.TRANSIENT,
        Outcome.TRANSIENT,
    ]
    assert result.outcome is Outcome.UNKNOWN


def test_nobody_there_is_known_not_to_have_been_sent(standin):
    base_url = standin.base_url.rsplit(":", 1)[0] + ":1"

    async def run():
        environment = load_profile().environment("standin", base_url)
        pair = {AGENT: Credentials("a", "b")}
        async with CceeClient(quick(max_attempts=2), environment, pair, sleep=Waits()) as client:
            return await client.send(AGENT, day_body())

    assert asyncio.run(run()).outcome is Outcome.TRANSIENT


def test_a_success_status_that_the_contract_does_not_list_is_unknown(standin):
    profile = quick(max_attempts=1)
    profile = replace(profile, send=replace(profile.send, success_status=(201,)))
    (result,) = send(standin, profile=profile)
    assert result.outcome is Outcome.UNKNOWN
    assert "success_status" in result.attempts[0].error


def test_calls_are_spaced_and_limited(standin):
    clock = [0.0]
    starts = []

    async def sleep(seconds):
        clock[0] += seconds
        await asyncio.sleep(0)

    async def run():
        profile = load_profile()
        environment = replace(
            profile.environment("standin", standin.base_url), min_spacing_ms=200, max_parallel=2
        )
        pair = {AGENT: Credentials(f"CONCESSIONARIA_{AGENT}", SECRET)}
        async with CceeClient(profile, environment, pair, sleep=sleep, clock=lambda: clock[0]) as client:
            exchange = client._exchange
            active = [0, 0]

            async def counted(*arguments):
                starts.append(round(clock[0], 3))
                active[0] += 1
                active[1] = max(active)
                try:
                    return await exchange(*arguments)
                finally:
                    active[0] -= 1

            client._exchange = counted
            await asyncio.gather(*(client.send(AGENT, day_body(uc)) for uc in UCS))
            return active[1]

    assert asyncio.run(run()) <= 2
    assert all(later - earlier >= 0.199 for earlier, later in pairwise(starts))


def test_before_and_after_are_awaited_around_each_try(standin):
    control(standin, failures=[{"kind": "status", "status": 500}])
    story = []

    async def run():
        async with client_of(standin) as client:

            async def before():
                story.append(("before", control(standin)["sends"]))

            async def after(attempt):
                story.append(("after", attempt.http_status))

            await client.send(AGENT, day_body(), before=before, after=after)

    asyncio.run(run())
    assert story == [("before", 0), ("after", 500), ("after", 200)]


def test_secrets_are_neither_logged_nor_kept(standin, caplog):
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        (result,) = send(standin)
        (refused,) = send(standin, secret="another-secret")
    text = repr(logs) + caplog.text + repr(result) + repr(refused) + repr(Credentials("id", SECRET))
    for word in (SECRET, "another-secret", "Bearer "):
        assert word not in text


def test_an_unknown_agent_is_named_with_its_variables(standin):
    with pytest.raises(OperatorFault, match="SMF_AGENT_9_CLIENT_ID"):
        credentials_for(frozenset({9}), {}, None)
    own = credentials_for(
        frozenset({9}), {"SMF_AGENT_9_CLIENT_ID": "a", "SMF_AGENT_9_CLIENT_SECRET": "b"}, None
    )
    assert own[9] == Credentials("a", "b")

    async def run():
        async with client_of(standin) as client:
            await client.send(1, b"{}")

    with pytest.raises(OperatorFault, match="agent 1"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (b'{"error": "ERR_X", "message": "words"}', "ERR_X", "ERR_X words"),
        (b'{"error": "ERR_X", "message": ["a", {"b": 1}]}', "ERR_X", 'ERR_X ["a",{"b":1}]'),
        (b'{"codigo": 12, "message": null}', "12", "12 null"),
        (b"<html>", "", "<html>"),
        (b"", "", ""),
        (b"[1]", "", ""),
        (b"\xff\xfe", "", "\ufffd\ufffd"),
    ],
)
def test_error_replies_are_read_whatever_their_shape(content, code, text):
    reply = Reply.read(400, content)
    assert (reply.code, reply.text) == (code, text)


def test_a_receipt_is_found_under_a_path_or_a_usual_name():
    assert Reply.read(200, b'{"a": {"b": 7}}').receipt("a.b") == "7"
    assert Reply.read(200, b'[{"id": "x"}]').receipt("") == "x"
    assert Reply.read(200, b'{"a": 1}').receipt("a.b") is None
    assert Reply.read(200, b'"text"').receipt("") is None
