"""The HTTP client: tokens, pacing, retries, and what each reply means. It knows no database.

A call ends in one `Attempt` per try. What matters most is the difference between "not stored" and "not
known": a request that may have reached CCEE without an answer is `unknown`; only the same body may follow.
Tokens, client secrets and the Authorization header are never logged nor kept in an attempt.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import httpx
import orjson
import structlog

from ccee.profile import Action, Environment, Profile
from ccee.replies import Attempt, Outcome, Reply, SendResult, kept_receipt, without_nul
from faults import OperatorFault
from storage.settings import CceeSettings

log = structlog.get_logger(__name__)

BACKOFF_BASE_S = 1.0
BACKOFF_MAX_S = 60.0
# A reply may ask for any wait; a longer one is left to the next run.
RETRY_AFTER_MAX_S = 300.0
# Replies are evidence and are kept whole up to here; an endless one must not fill memory.
REPLY_MAX_BYTES = 1 << 20

# A token is credentials of the header's own alphabet (RFC 6750, 2.1); the longest known are some 3 kB.
TOKEN_MAX_CHARS = 16_384
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
# Validity of a token whose reply states none that can be believed, and the longest that is believed.
TOKEN_ASSUMED_S = 60.0
TOKEN_MAX_S = 86_400.0

_SECRET_HEADERS = frozenset({"authorization", "set-cookie", "cookie", "proxy-authorization"})

# Statuses that do not tell whether the request arrived: the server or something before it gave up waiting,
# or had the same already.
_UNCLEAR = frozenset({408, 409, 502, 504})

# These end before a request has left; every other transport failure leaves the outcome unknown.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Credentials:
    """A distributor's pair; never shown."""

    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)


class _Agent:
    """What the client keeps per distributor: token, pace, and whether it was stopped."""

    def __init__(self, credentials: Credentials, max_parallel: int) -> None:
        self.credentials = credentials
        self.token = ""
        self.token_expires_at = 0.0
        self.token_lock = asyncio.Lock()
        self.slots = asyncio.Semaphore(max_parallel)
        self.pace_lock = asyncio.Lock()
        self.next_start = 0.0
        self.stopped = ""


class CceeClient:
    """Sends bodies for one or several distributors. Use as an async context manager.

    Args:
        environment: as `Profile.environment` gave it, which is where production is refused.
        credentials: by agent code.
        sleep, clock, wall, rng: injected for tests; `clock` in seconds from any origin, `wall` aware.
    """

    def __init__(
        self,
        profile: Profile,
        environment: Environment,
        credentials: Mapping[int, Credentials],
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: random.Random | None = None,
    ) -> None:
        self.profile = profile
        self._limits = profile.limits(environment)
        self._agents = {code: _Agent(pair, self._limits.max_parallel) for code, pair in credentials.items()}
        self.sleep = sleep
        self._clock = clock
        self.wall = wall
        self._rng = rng or random.Random()
        self._http = httpx.AsyncClient(
            base_url=environment.base_url,
            timeout=self._limits.timeout_s,
            verify=_tls(profile),
            # A proxy or a .netrc of this machine must not change to whom a distributor's secret goes.
            trust_env=False,
            # A compressed reply may be a thousand times what it measures; plain ones are small enough.
            headers={"Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> CceeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def agents(self) -> frozenset[int]:
        """Agent codes that this client has credentials for."""
        return frozenset(self._agents)

    @property
    def max_parallel(self) -> int:
        return self._limits.max_parallel

    def stopped(self, agent_code: int) -> str:
        """Why nothing more is sent for this agent; empty while it is served."""
        return self._agent(agent_code).stopped

    async def send(
        self,
        agent_code: int,
        body: bytes,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[Attempt], Awaitable[None]] | None = None,
    ) -> SendResult:
        """Tell CCEE one UC-day, retrying what may pass by itself.

        Args:
            before: awaited once before the first byte leaves, so that the intention can be made durable.
            after: awaited after each try, so that its evidence can be.
        """
        agent = self._agent(agent_code)
        attempts: list[Attempt] = []
        has_refreshed = False
        async with agent.slots:
            for number in range(1, self._limits.max_attempts + 1):
                if agent.stopped:
                    break
                if number == 1 and before is not None:
                    await before()
                attempt, retry_after_s = await self._try(agent_code, agent, body)
                attempts.append(attempt)
                if after is not None:
                    await after(attempt)
                again, wait_s = self._again(attempt, number, retry_after_s, has_refreshed)
                if attempt.action is Action.REFRESH_TOKEN:
                    if has_refreshed:
                        self._stop(agent_code, agent, attempt)
                    has_refreshed = True
                elif attempt.action is Action.STOP_AGENT:
                    self._stop(agent_code, agent, attempt)
                if not again or number == self._limits.max_attempts:
                    break
                await self.sleep(wait_s)
        return SendResult(tuple(attempts), agent.stopped if not attempts else "")

    async def status(self, agent_code: int, ticket: str) -> Attempt:
        """Ask what became of a ticket (`protocol.mode = "ticket"`)."""
        agent = self._agent(agent_code)
        path = self.profile.protocol.status_path.replace("{id}", ticket)
        async with agent.slots:
            attempt, _ = await self._try(agent_code, agent, None, path=path)
        return attempt

    def _agent(self, agent_code: int) -> _Agent:
        found = self._agents.get(agent_code)
        if found is None:
            raise OperatorFault(
                "no credentials for this agent",
                where=f"agent {agent_code}",
                remedy=f"set SMF_AGENT_{agent_code}_CLIENT_ID and SMF_AGENT_{agent_code}_CLIENT_SECRET",
            )
        return found

    def _again(
        self, attempt: Attempt, number: int, retry_after_s: float | None, has_refreshed: bool
    ) -> tuple[bool, float]:
        """Whether to try again, and after how long."""
        if attempt.action is Action.REFRESH_TOKEN:
            return not has_refreshed, 0.0
        has_to_wait = attempt.action in (Action.STOP_AGENT, Action.RETRY_LATER)
        if attempt.outcome not in (Outcome.TRANSIENT, Outcome.UNKNOWN) or has_to_wait:
            return False, 0.0
        if retry_after_s is not None:
            return retry_after_s <= RETRY_AFTER_MAX_S, retry_after_s
        ceiling = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2 ** (number - 1))
        # Half fixed, half random: spreads senders that failed together, and still waits.
        return True, ceiling / 2 + self._rng.random() * ceiling / 2

    def _stop(self, agent_code: int, agent: _Agent, attempt: Attempt) -> None:
        agent.stopped = f"HTTP {attempt.http_status}: {attempt.error or 'refused'}"
        log.error("ccee.agent_stopped", agent=agent_code, reason=agent.stopped)

    async def _pace(self, agent: _Agent) -> None:
        spacing_s = self._limits.min_spacing_ms / 1000
        async with agent.pace_lock:
            wait_s = agent.next_start - self._clock()
            if wait_s > 0:
                await self.sleep(wait_s)
            agent.next_start = max(self._clock(), agent.next_start) + spacing_s

    async def _try(
        self, agent_code: int, agent: _Agent, body: bytes | None, path: str = ""
    ) -> tuple[Attempt, float | None]:
        started_at = self.wall()

        def ended(outcome: Outcome, **more: Any) -> Attempt:
            return Attempt(started_at=started_at, ended_at=self.wall(), outcome=outcome, **more)

        try:
            token = await self._token(agent_code, agent)
        except _TokenRefusedError as refused:
            # A wrong pair stays wrong: asking again and again would lock the account.
            action = Action.STOP_AGENT if refused.status in (400, 401, 403) else Action.RETRY
            failed = ended(
                Outcome.TRANSIENT, http_status=refused.status, error=f"token: {refused.text}", action=action
            )
            return failed, refused.retry_after_s
        await self._pace(agent)
        started_at = self.wall()
        try:
            status, headers, content = await self._exchange(agent_code, token, body, path)
        except httpx.TransportError as error:
            outcome = Outcome.TRANSIENT if isinstance(error, _NOT_SENT) else Outcome.UNKNOWN
            # str(error) of httpx names the failure, never the headers of the request.
            return ended(outcome, error=f"{type(error).__name__}: {error}".rstrip(": ")), None
        kept = {
            key: without_nul(value) for key, value in headers.items() if key.lower() not in _SECRET_HEADERS
        }
        outcome, more = self._judged(status, headers, content, body)
        if more.get("action") is Action.REFRESH_TOKEN and agent.token == token:
            # Only the token that was refused: another call may have fetched a new one meanwhile.
            agent.token = ""
        attempt = ended(outcome, http_status=status, reply_headers=kept, reply_body=content, **more)
        return attempt, _retry_after_s(headers.get("retry-after"), self.wall())

    async def _exchange(
        self, agent_code: int, token: str, body: bytes | None, path: str
    ) -> tuple[int, httpx.Headers, bytes]:
        names = self.profile.headers
        headers = {"Authorization": f"Bearer {token}", names.agent: str(agent_code)}
        if names.profile_equals_agent:
            headers[names.profile] = str(agent_code)
        send = self.profile.send
        if body is None:
            return await self._answer(self._http.build_request("GET", path, headers=headers))
        headers["Content-Type"] = "application/json"
        return await self._answer(
            self._http.build_request(send.method, send.path, headers=headers, content=body)
        )

    async def _answer(self, request: httpx.Request, **options: Any) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and content, whole or cut at `REPLY_MAX_BYTES`, within the time-out.

        Raises: httpx.TransportError.
        """
        # httpx limits each read; a reply that drips in must end, too.
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                reply = await self._http.send(request, stream=True, **options)
                try:
                    return reply.status_code, reply.headers, await _limited(reply)
                finally:
                    await reply.aclose()
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no whole reply in {self._limits.timeout_s} s") from error

    def _judged(
        self, status: int, headers: httpx.Headers, content: bytes, body: bytes | None
    ) -> tuple[Outcome, dict[str, Any]]:
        """What a reply means. `body`: what was sent, None where the state of a ticket was asked for."""
        reply = Reply.read(status, content)
        protocol, is_status = self.profile.protocol, body is None
        if status in self.profile.send.success_status:
            doubt = self._doubt(reply, headers, content, body)
            if doubt:
                # A page of a gateway says nothing of CCEE: only the same body may follow.
                return Outcome.UNKNOWN, {"error": f"status {status}, but {doubt}"}
            receipt = self._receipt(reply, headers)
            if protocol.mode != "ticket" or (status != 202 and not is_status):
                return Outcome.ACCEPTED, {"receipt": receipt}
            situation = reply.at(protocol.situation_path) if is_status else protocol.situation_processing
            if situation is None or situation == protocol.situation_processing:
                return Outcome.PROCESSING, {"receipt": receipt}
            if situation == protocol.situation_accepted:
                return Outcome.ACCEPTED, {"receipt": receipt}
            # Whatever its status: the ticket was followed to its end, and CCEE says no.
            action = self.profile.rule_for(status, reply.code, reply.text) or Action.FIX_DATA
            return Outcome.REJECTED, {
                "action": action,
                "error": f"situation {situation}: {reply.text}"[:2000],
            }
        if not 400 <= status < 600:
            # Neither a success nor a refusal that the contract knows: what CCEE did with it is not known.
            return Outcome.UNKNOWN, {"error": f"status {status} is not in send.success_status"}
        action = self.profile.action_for(status, reply.code, reply.text)
        refused = action in (Action.FIX_DATA, Action.REJECTED_MUSD)
        unclear = action is Action.RETRY and status in _UNCLEAR
        outcome = Outcome.REJECTED if refused else Outcome.UNKNOWN if unclear else Outcome.TRANSIENT
        return outcome, {"action": action, "error": reply.text[:2000] or f"HTTP {status}"}

    def _receipt(self, reply: Reply, headers: httpx.Headers) -> str | None:
        return reply.receipt(self.profile.protocol.json_path) or kept_receipt(headers.get("location"))

    def _doubt(self, reply: Reply, headers: httpx.Headers, content: bytes, body: bytes | None) -> str:
        """Why a success status is not believed; empty where it is."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content and (content.lstrip()[:1] == b"<" or (kind and "json" not in kind)):
            return f"the reply is {kind or 'a page'}, not JSON"
        if body is not None and reply.is_error:
            return f"the reply names an error: {reply.text[:200]}"
        wanted = self.profile.send.success_body
        if body is None or wanted == "any":
            return ""
        if wanted == "empty":
            return "the reply has a body (send.success_body = empty)" if content else ""
        if wanted == "ticket":
            has_receipt = self._receipt(reply, headers) is not None
            return "" if has_receipt else "the reply has no identifier (send.success_body = ticket)"
        names, sent = self.profile.send.names, orjson.loads(body)
        identity = {name: sent[name] for name in (names.uc, names.day)}
        is_ours = reply.is_entity_of(identity)
        return "" if is_ours else "the reply is not the UC-day that was sent (send.success_body = entity)"

    async def _token(self, agent_code: int, agent: _Agent) -> str:
        # One flight: whoever waits here finds the token that the first one fetched.
        async with agent.token_lock:
            if agent.token and self._clock() < agent.token_expires_at:
                return agent.token
            agent.token, lifetime_s = await self._fetch_token(agent_code, agent.credentials)
            margin_s = min(self.profile.auth.refresh_margin_s, lifetime_s / 2)
            agent.token_expires_at = self._clock() + lifetime_s - margin_s
            return agent.token

    async def _fetch_token(self, agent_code: int, credentials: Credentials) -> tuple[str, float]:
        auth = self.profile.auth
        form = {"grant_type": auth.grant_type} if auth.grant_type else {}
        pair = (credentials.client_id, credentials.client_secret)
        basic: dict[str, Any] = {"auth": httpx.BasicAuth(*pair)} if auth.client_auth == "basic" else {}
        if not basic:
            form |= {"client_id": pair[0], "client_secret": pair[1]}
        request = self._http.build_request("POST", auth.token_path, data=form)
        try:
            status, headers, content = await self._answer(request, **basic)
        except httpx.TransportError as error:
            raise _TokenRefusedError(None, f"{type(error).__name__}: {error}", None) from error
        read = Reply.read(status, content)
        if status != 200:
            wait_s = _retry_after_s(headers.get("retry-after"), self.wall())
            raise _TokenRefusedError(status, read.text[:500], wait_s)
        document = read.document if isinstance(read.document, dict) else {}
        token = document.get("access_token")
        if not isinstance(token, str) or len(token) > TOKEN_MAX_CHARS or not _TOKEN.fullmatch(token):
            raise _TokenRefusedError(
                None, "the token reply has no access_token that a header can carry", None
            )
        lifetime_s = _lifetime_s(document.get("expires_in"))
        log.info("ccee.token", agent=agent_code, lifetime_s=lifetime_s)
        return token, lifetime_s


class _TokenRefusedError(Exception):
    """The token call gave none; nothing of the measurement was sent."""

    def __init__(self, status: int | None, text: str, retry_after_s: float | None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s


def credentials_for(
    agent_codes: frozenset[int], environ: Mapping[str, str], shared: Credentials | None
) -> dict[int, Credentials]:
    """Each agent's pair: `SMF_AGENT_<CODE>_CLIENT_ID` and `_CLIENT_SECRET`, or the shared one.

    Raises: OperatorFault naming the variables of an agent that has neither.
    """
    found = {}
    for code in sorted(agent_codes):
        names = (f"SMF_AGENT_{code}_CLIENT_ID", f"SMF_AGENT_{code}_CLIENT_SECRET")
        if all(environ.get(name) for name in names):
            found[code] = Credentials(environ[names[0]], environ[names[1]])
        elif shared is not None:
            found[code] = shared
        else:
            raise OperatorFault(
                "no credentials for this agent",
                where=f"agent {code}",
                remedy=f"set {names[0]} and {names[1]}, or SMF_CCEE_CLIENT_ID and SMF_CCEE_CLIENT_SECRET",
            )
    return found


async def _limited(reply: httpx.Response) -> bytes:
    content = b""
    async for piece in reply.aiter_raw():
        content += piece
        if len(content) >= REPLY_MAX_BYTES:
            break
    if reply.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate"):
        try:
            # Not asked for, but a gateway may compress all the same. Never more than is kept.
            return zlib.decompressobj(_ANY_ZLIB).decompress(content, REPLY_MAX_BYTES)
        except zlib.error:
            return content[:REPLY_MAX_BYTES]
    return content[:REPLY_MAX_BYTES]


# zlib's window bits: the largest, with the header (gzip or zlib) told by itself.
_ANY_ZLIB = zlib.MAX_WBITS | 32


def _retry_after_s(value: str | None, now: datetime) -> float | None:
    """`Retry-After` in seconds or as a date; None where absent, not understood, or not in the future."""
    if value is None:
        return None
    if value.strip().isdecimal():
        wait_s = float(value)
    else:
        try:
            wait_s = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    # "At once" from a server that asks for a pause is a wrong clock: six tries in a row would be the answer.
    return wait_s if wait_s > 0 else None


def _lifetime_s(value: Any) -> float:
    """Seconds that a token is good for, as `expires_in` says it: a number, or a number written as a text."""
    try:
        lifetime_s = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        lifetime_s = math.nan
    return min(lifetime_s, TOKEN_MAX_S) if lifetime_s > 0 else TOKEN_ASSUMED_S


def _tls(profile: Profile) -> ssl.SSLContext:
    context = ssl.create_default_context()
    auth = profile.auth
    if auth.client_cert_file:
        try:
            context.load_cert_chain(auth.client_cert_file, auth.client_key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise OperatorFault(
                f"cannot use the client certificate: {error}",
                where=f"profile {profile.name}, auth.client_cert_file",
                remedy="give a PEM certificate and its key, readable by this user",
            ) from error
    return context


def open_client(
    settings: CceeSettings, profile: Profile, agent_codes: frozenset[int], environ: Mapping[str, str]
) -> CceeClient:
    """A client as configured, for these agents.

    Raises: OperatorFault: an agent without credentials, an unknown environment, production while the profile
        is not verified.
    """
    shared = (
        Credentials(settings.client_id, settings.client_secret)
        if settings.client_id and settings.client_secret
        else None
    )
    environment = profile.environment(settings.environment, settings.base_url or "")
    return CceeClient(profile, environment, credentials_for(agent_codes, environ, shared))
