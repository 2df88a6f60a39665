"""The stand-in server: CCEE's side over real HTTP, for tests, demonstrations and training.

Paths, manners and failures are those of section 13 of the interface reference. Decisions and memory are in
`standin_rules`; here are the calls, the tokens, the reply shapes and the ways a reply can go wrong.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs
from weakref import WeakValueDictionary

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from ccee.standin.openapi import openapi
from ccee.standin.records import Failure, RefusedReply, StoredDay
from ccee.standin.rules import StandIn
from faults import OperatorFault
from faults.market_time import parse_zone
from vee.calendars import parse_month

_READ_PATH = "/v1/varejista/consumo/medicoes"
_REGISTER_PATH = "/v1/varejista/migracoes"
_PROCESSING = "EM_PROCESSAMENTO"
_PROCESSED = "PROCESSADO"

Handler = Callable[[Request], Awaitable[Response]]


class _App:
    """Handlers over one stand-in; tokens live in memory only, as a restarted server's would."""

    def __init__(self, operator: StandIn, clock: Callable[[], float]) -> None:
        self.operator = operator
        self._clock = clock
        self._tokens: dict[str, tuple[int, float]] = {}

    def routes(self) -> list[Route]:
        profile = self.operator.profile
        table: list[tuple[str, str, Handler]] = [
            (profile.auth.token_path, "POST", self.token),
            (profile.send.path, profile.send.method, self.send),
            (_READ_PATH, "GET", self.read),
            (_REGISTER_PATH, "GET", self.register),
            ("/__contabilizacao/{uc}/{mes}", "GET", self.month),
            ("/__protocolo/{id}", "GET", self.ticket),
            ("/__control", "GET", self.show_control),
            ("/__control", "POST", self.control),
            ("/openapi.json", "GET", self.describe),
        ]
        return [Route(path, _answering(handler), methods=[method]) for path, method, handler in table]

    async def token(self, request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0] != "application/x-www-form-urlencoded":
            raise RefusedReply(400, "invalid_request", "form-urlencoded expected")
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        client_id, secret = (form.get(name, [""])[0] for name in ("client_id", "client_secret"))
        agent = next((code for code in self.operator.agents if client_id == f"CONCESSIONARIA_{code}"), None)
        known = self.operator.agents.get(agent, "") if agent is not None else ""
        if agent is None or not secrets.compare_digest(known.encode(), secret.encode()):
            raise RefusedReply(401, "invalid_client", "unknown client or wrong secret")
        token = secrets.token_urlsafe(32)
        lifetime_s = self.operator.rules.token_lifetime_s
        self._tokens[token] = (agent, self._clock() + lifetime_s)
        return JSONResponse(
            {
                "access_token": token,
                "expires_in": lifetime_s,
                "refresh_expires_in": 0,
                "token_type": "Bearer",
                "not-before-policy": 0,
                "scope": "agente email profile",
            }
        )

    async def send(self, request: Request) -> Response:
        content = await request.body()
        agent = self._agent(request)
        headers = self.operator.profile.headers
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", "application/json esperado")
        said = request.headers.get(headers.profile, "")
        if self.operator.profile.headers.profile_equals_agent and said != str(agent):
            raise RefusedReply(403, "ERR_PERFIL_INVALIDO", f"{headers.profile} não é do agente")
        self.operator.sends += 1
        failure = self.operator.next_failure(_unit_of(content, self.operator.profile.send.names.uc))
        if failure is not None:
            early = await self._fail_before(failure, request)
            if early is not None:
                return early
        stored = self.operator.store(agent, content)
        if failure is not None and failure.kind == "drop_after":
            return _drop(request)
        if failure is not None and failure.kind == "malformed":
            return Response(b'{"status": "CRIADA", ', media_type="application/json")
        return self._reply(stored, content)

    async def _fail_before(self, failure: Failure, request: Request) -> Response | None:
        """The failures that come before the body is stored; None: go on."""
        if failure.kind == "slow":
            await asyncio.sleep(failure.seconds)
            return None
        if failure.kind == "drop_before":
            return _drop(request)
        if failure.kind == "expire_token":
            self._tokens.clear()
            raise RefusedReply(401, "invalid_token", "token expired")
        if failure.kind == "status":
            headers = {"Retry-After": failure.retry_after} if failure.retry_after else {}
            raise RefusedReply(failure.status, failure.error or f"HTTP_{failure.status}", "planned", headers)
        return None

    def _reply(self, stored: StoredDay, content: bytes) -> Response:
        mode = self.operator.rules.reply_mode
        if mode == "created201_id":
            return JSONResponse({"id": stored.entity}, 201)
        if mode == "created201_entity":
            entity = orjson.loads(content) | {"id": stored.entity, "status": "CRIADA", "observacao": None}
            return Response(orjson.dumps(entity), 201, media_type="application/json")
        if mode == "accepted202_ticket":
            return JSONResponse({"protocolo": stored.entity}, 202)
        if mode == "empty204":
            return Response(status_code=204)
        return JSONResponse({"status": "ok"})

    async def read(self, request: Request) -> Response:
        query = request.query_params
        agent = self._agent(request, needs_header=False)
        try:
            first, last = (_instant(query[name]) for name in ("dataInicio", "dataFim"))
            uc, said = query["codigoUnidadeConsumidora"], query["codigoAgenteConcessionaria"]
            offset = _cursor_offset(query.get("indexProximaPagina", ""))
        except (KeyError, ValueError) as error:
            raise RefusedReply(
                400, "ERR_VALIDACAO_CAMPOS", f"parâmetro ausente ou inválido: {error}"
            ) from error
        zone = parse_zone(self.operator.profile.send.offset)
        months = {f"{instant.astimezone(zone):%Y-%m}" for instant in (first, last)}
        if len(months) > 1 or last < first:
            raise RefusedReply(400, "ERR_PERIODO_INVALIDO_MEDICOES", "período deve estar no mesmo mês")
        situation = query.get("situacaoMedicao", "")
        if situation not in ("", "CONSISTIDA", "REJEITADA"):
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", "situacaoMedicao inválida")
        if said != str(agent):
            raise RefusedReply(403, "ERR_AGENTE", "medições de outro agente")
        found = self.operator.records(uc, agent, first, last, situation)
        if not found[offset:]:
            return Response(status_code=204)
        end = offset + self.operator.rules.page_size
        following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(found) else None
        return JSONResponse({"medicoes": found[offset:end], "indexProximaPagina": following})

    async def register(self, request: Request) -> Response:
        agent = self._agent(request, needs_header=False)
        units = [item for item in self.operator.register() if item["codigoAgenteConcessionaria"] == agent]
        return JSONResponse(units) if units else Response(status_code=204)

    async def month(self, request: Request) -> Response:
        try:
            month = parse_month(request.path_params["mes"])
            return JSONResponse(self.operator.month(request.path_params["uc"], month))
        except (OperatorFault, OverflowError) as error:
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", str(error)) from error

    async def ticket(self, request: Request) -> Response:
        stored = self.operator.by_entity.get(request.path_params["id"])
        if stored is None:
            raise RefusedReply(404, "ERR_SOLICITACAO_NAO_EXISTE_BASE_DADOS", "protocolo desconhecido")
        waiting = stored.polls_left > 0
        stored.polls_left -= 1 if waiting else 0
        situation = _PROCESSING if waiting else _PROCESSED
        return JSONResponse({"protocolo": stored.entity, "situacao": situation})

    async def show_control(self, request: Request) -> Response:
        operator = self.operator
        return JSONResponse(
            {
                **asdict(operator.rules),
                "clock": operator.now().isoformat(),
                "failures": [asdict(failure) for failure in operator.failures if failure.count > 0],
                "closings": {f"{month:%Y-%m}": day.isoformat() for month, day in operator.closings.items()},
                "units": len(operator.units),
                "days": len(operator.days),
                "sends": operator.sends,
            }
        )

    async def control(self, request: Request) -> Response:
        try:
            change = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise RefusedReply(400, "ERR_CONTROL", f"JSON: {error}") from error
        if not isinstance(change, dict):
            raise RefusedReply(400, "ERR_CONTROL", "an object is expected")
        self.operator.control(change)
        return await self.show_control(request)

    async def describe(self, request: Request) -> Response:
        return JSONResponse(openapi(self.operator.profile))

    def _agent(self, request: Request, *, needs_header: bool = True) -> int:
        """The agent of a valid token, equal to the header's. Raises: RefusedReply."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        agent, expires_at = self._tokens.get(token, (0, 0.0))
        if scheme.lower() != "bearer" or self._clock() >= expires_at:
            raise RefusedReply(401, "invalid_token", "token missing, unknown or expired")
        if needs_header and request.headers.get(self.operator.profile.headers.agent) != str(agent):
            raise RefusedReply(403, "ERR_CREDENCIAL_INVALIDA", "o agente do cabeçalho não é o da credencial")
        return agent


# Connections by the client's address and port.
_open: WeakValueDictionary[tuple[str, int], _DroppableProtocol] = WeakValueDictionary()


class _DroppableProtocol(H11Protocol):
    """HTTP/1.1 whose connections can be cut by the application: ASGI itself has no way to say it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        super().connection_made(transport)
        _open[transport.get_extra_info("peername")[:2]] = self


def _drop(request: Request) -> Response:
    """Cut the connection; the response that is returned goes nowhere."""
    protocol = _open.get(tuple(request.scope["client"] or ("", 0)))
    if protocol is not None:
        protocol.transport.abort()
    return Response(status_code=500)


def _answering(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedReply as refusal:
            body = {"error": refusal.error, "message": refusal.message}
            return JSONResponse(body, refusal.status, headers=refusal.headers)

    return answer


def _unit_of(content: bytes, name: str) -> str:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get(name, "")) if isinstance(document, dict) else ""


def _instant(text: str) -> datetime:
    # A plus sign that was not escaped arrives as a space.
    instant = datetime.fromisoformat(text.replace(" ", "+"))
    if instant.tzinfo is None:
        raise ValueError(f"{text} sem fuso")
    return instant


def _cursor_offset(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.urlsafe_b64decode(cursor.encode()).decode("ascii"))
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("indexProximaPagina") from error


def create_app(operator: StandIn, clock: Callable[[], float] = time.monotonic) -> Starlette:
    """The ASGI application. `clock`: seconds from any origin, for the life of tokens."""
    return Starlette(routes=_App(operator, clock).routes())


def utc_now() -> datetime:
    """The stand-in's clock where none is injected."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Serving:
    """A stand-in that answers at `base_url`."""

    base_url: str
    operator: StandIn


class _Server(uvicorn.Server):
    """Leaves signals to the program around it, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(operator: StandIn, port: int = 0) -> AsyncIterator[Serving]:
    """Serve on loopback while the context is open; port 0 takes a free one.

    Raises: OperatorFault where the port is taken.
    """
    with _listening(port) as listener:
        config = uvicorn.Config(
            create_app(operator),
            http=_DroppableProtocol,
            lifespan="off",
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve([listener]))
        try:
            await server.listens.wait()
            yield Serving(f"http://127.0.0.1:{listener.getsockname()[1]}", operator)
        finally:
            server.should_exit = True
            await task


@contextmanager
def serve_in_thread(operator: StandIn, port: int = 0) -> Iterator[Serving]:
    """As `serve`, for callers without an event loop: a thread of its own runs one."""
    started: Future[Serving] = Future()
    ended = threading.Event()

    async def run() -> None:
        async with serve(operator, port) as serving:
            started.set_result(serving)
            await asyncio.to_thread(ended.wait)

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=main, name="ccee-standin", daemon=True)
    thread.start()
    try:
        yield started.result()
    finally:
        ended.set()
        thread.join()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise OperatorFault(
                f"cannot listen: {error.strerror}",
                where=f"port {port}",
                remedy="choose another port, or 0 for a free one",
            ) from error
        yield listener
