"""TCP in: units behind carrier-grade NAT call the collector, are identified, and are kept ready.

A caller is identified by its hello (`dial_in_kinds`) or, where it says none that is known, by the number in
the packets of a meter that speaks by itself (CELESC), or by the serial that the meter behind it answers:
command 21 to P8 serial 00000000, and as a plain meter. Meters with a two-digit address, several on one line,
and those with SSU cannot be asked who they are: their unit needs a hello.

Of several connections of one unit the newest is used: a unit that restarted does not know of the one before,
which stays open here and answers no more. The configuration says how many older ones are kept as spares; a
unit that a long-running reader follows has none, and its new call takes the place of the one before at once.
Nothing in a hello proves who calls; that is for the network (private APN, VPN, firewall).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from collector.lines.dial_in_call import Caller, Counts
from collector.lines.dial_in_kinds import MAX_HELLO_OCTETS, DialInKind, recognise
from collector.lines.dial_in_store import Directory, Stranger
from collector.lines.transports import Endpoint, Receiver, Stream, Timeouts
from collector.nbr14522.sequences import fixed
from collector.nbr14522.session import Line, read_meter
from faults import OperatorFault, RetryFault
from protocols.celesc import CelescStream, Packet
from protocols.celesc.packets import PREAMBLE
from protocols.celesc.timing import REPEAT_WITHIN_S
from protocols.nbr14522.frames import ANY_METER, ENQ
from protocols.nbr14522.messages import CurrentParametersRequest, Response
from protocols.nbr14522.profile import DEFAULT, P8_GENERIC, RELAXED, LinkLimits, MeterProfile
from storage.settings import CollectorSettings

# Without a kind of unit there is no hello to wait for, only the ENQ by which a plain meter shows itself.
_ENQ_WAIT_S = 1.0
# The registry is read again for a name it lacked, at most so often: it may have been imported meanwhile.
_DIRECTORY_AGE_S = 5.0
_EVIDENCE_OCTETS = 64
_PROBE_TIMING = replace(
    RELAXED, name="probe", synchronise_s=8.0, addressed_response_s=8.0, max_response_s=5.0
)
_PROBE_LIMITS = LinkLimits(naks=2, waits=2, sends=1)


@dataclass(slots=True)
class _Unit:
    """Connections of one unit, oldest first, and who waits for one."""

    ready: list[Caller] = field(default_factory=list)
    lent: Caller | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class DialIn:
    """The listener with its pool.

    Args:
        load: reads the registry.
        report: told of each caller that is refused.
        ready: told the code of a unit each time a connection of it becomes usable.
        start_task: runs an identification; its failure is the collector's.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        kinds: tuple[DialInKind, ...],
        *,
        load: Callable[[], Awaitable[Directory]],
        report: Callable[[Stranger], None],
        ready: Callable[[str], None],
        start_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.settings = settings
        self.counts = Counts()
        self.port = 0
        self._kinds = kinds
        self._load = load
        self._report = report
        self._ready = ready
        self._start_task = start_task
        self._units: dict[str, _Unit] = {}
        self._followed: set[str] = set()
        self._unknown: dict[Caller, asyncio.Task[None]] = {}
        self._directory = Directory()
        self._loaded_s = float("-inf")
        self._loading = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address or the port cannot be used.
        """
        host, port = self.settings.listen_host, self.settings.listen_port or 0
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Caller(self).stream, host, port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and hang up."""
        if self._server is None:
            return
        self._server.close()
        for caller in [*self._unknown, *(c for unit in self._units.values() for c in unit.ready)]:
            caller.hang_up()
        for unit in self._units.values():
            if unit.lent is not None:
                unit.lent.hang_up()
        for task in self._unknown.values():
            task.cancel()
        await asyncio.sleep(0)
        self._server = None

    @property
    def connected(self) -> int:
        """Units with a connection."""
        return sum(1 for unit in self._units.values() if unit.ready or unit.lent)

    def is_connected(self, code: str) -> bool:
        """Whether a connection of the unit is ready, or in a session."""
        unit = self._units.get(code)
        return unit is not None and bool(unit.ready or unit.lent)

    # --- for sessions --------------------------------------------------------------------------------------

    async def open(self, endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
        """Take the unit's newest connection, waiting for one if need be. Give it back with `settle`.

        Taken again without that, the connection before is given up as broken.

        Raises:
            RetryFault: the unit is not connected.
        """
        before = self._units.get(endpoint.unit)
        if before is not None and before.lent is not None:
            before.lent.hang_up()
            before.lent = None
        try:
            async with asyncio.timeout(connect_s):
                unit = await self._ready_unit(endpoint.unit)
        except TimeoutError as error:
            raise RetryFault(
                f"unit {endpoint.unit} is not connected", where=endpoint.url, remedy=NOT_CONNECTED_REMEDY
            ) from error
        unit.lent = unit.ready.pop()
        return unit.lent.lend(receiver)

    async def until_ready(self, code: str) -> None:
        """Wait until a connection of the unit is ready."""
        await self._ready_unit(code)

    def follow(self, code: str, *, is_followed: bool) -> None:
        """Whether a reader listens for good: the unit may say what it likes, and its newest call counts."""
        (self._followed.add if is_followed else self._followed.discard)(code)

    def follows(self, caller: Caller) -> bool:
        """Whether a reader listens to the caller's unit."""
        return caller.code in self._followed

    async def _ready_unit(self, code: str) -> _Unit:
        try:
            # Looked up anew each time: a unit whose call ended at once has been forgotten meanwhile.
            while not (unit := self._units.setdefault(code, _Unit())).ready:
                waiter = asyncio.get_running_loop().create_future()
                unit.waiters.append(waiter)
                await waiter
        except asyncio.CancelledError:
            self._forget_if_empty(code)
            raise
        return unit

    def settle(self, code: str, *, is_sound: bool) -> None:
        """Give the connection back; one that failed its session is closed, and the unit may call again."""
        unit = self._units.get(code)
        if unit is None or unit.lent is None:
            return
        caller, unit.lent = unit.lent, None
        if not is_sound:
            caller.hang_up()
        elif caller.is_open:
            unit.ready.append(caller)
            unit.ready.sort(key=lambda one: one.number)
            self._trim(unit, code)
            self._ready(code)
        self._forget_if_empty(code)

    # --- callers -------------------------------------------------------------------------------------------

    def called(self, caller: Caller) -> None:
        """A connection begins."""
        self.counts.calls += 1
        caller.number = self.counts.calls
        if len(self._unknown) >= self.settings.dial_in_unidentified:
            self.refuse(caller, "too many callers that are not identified yet")
            return
        self._unknown[caller] = self._start_task(self._identify(caller))

    def gone(self, caller: Caller) -> None:
        """A connection is over."""
        task = self._unknown.pop(caller, None)
        if task is not None:
            task.cancel()
        unit = self._units.get(caller.code or "")
        if unit is None:
            return
        if caller in unit.ready:
            unit.ready.remove(caller)
        if unit.lent is caller:
            unit.lent = None
        self._forget_if_empty(caller.code or "")

    def refuse(self, caller: Caller, reason: str, heard: bytes = b"", named: str = "") -> None:
        """Close a connection and say why."""
        if not caller.is_open:
            return
        caller.is_open = False
        self.counts.refused += 1
        evidence = bytes(heard or caller.heard)[:_EVIDENCE_OCTETS]
        self._report(Stranger(reason, caller.host, evidence, named or caller.code or ""))
        caller.hang_up()

    async def _identify(self, caller: Caller) -> None:
        try:
            async with asyncio.timeout(self.settings.dial_in_identify_s):
                unit, serial = await self._hear(caller)
                if unit is None and serial is None:
                    serial = await self._overhear(caller) or await self._ask_serial(caller)
                code = await self._find(unit, serial) if unit or serial else None
        except TimeoutError:
            unit = serial = code = None
        except asyncio.CancelledError:
            return  # it hung up, or the collector ends
        self._unknown.pop(caller, None)
        if code is not None:
            self._welcome(caller, code)
        elif unit or serial:
            what = f"unit {unit}" if unit else f"meter {serial}"
            self.refuse(caller, "nobody of that name dials in, by the registry", named=what)
        else:
            self.refuse(caller, "did not say who it is")

    async def _hear(self, caller: Caller) -> tuple[str | None, str | None]:
        """Wait for a hello; code and serial that it tells."""
        wait_s = self.settings.dial_in_hello_s if self._kinds else _ENQ_WAIT_S
        try:
            async with asyncio.timeout(wait_s):
                while True:
                    hello = recognise(bytes(caller.heard), self._kinds)
                    if hello is not None:
                        caller.kind = hello.kind
                        caller.stream.write(hello.kind.reply)
                        return hello.unit, hello.serial
                    caller.changed.clear()
                    await caller.changed.wait()
        except TimeoutError:
            return None, None

    async def _overhear(self, caller: Caller) -> str | None:
        """The number in a packet of a meter that speaks by itself; the others' say none."""
        if PREAMBLE not in caller.heard:
            return None
        try:
            async with asyncio.timeout(REPEAT_WITHIN_S):
                while (number := _number_in(bytes(caller.heard))) is None:
                    if len(caller.heard) >= MAX_HELLO_OCTETS:
                        return None
                    caller.changed.clear()
                    await caller.changed.wait()
                return number
        except TimeoutError:
            return None

    async def _ask_serial(self, caller: Caller) -> str | None:
        """Ask the meter behind for its parameters, in the ways that need no address."""
        calls_enq = ENQ in caller.heard
        plain = replace(DEFAULT, enq_required=1 if calls_enq else 0)
        ways = (plain, P8_GENERIC) if calls_enq else (P8_GENERIC, plain)
        for profile in ways:
            serial = await self._probe(caller, profile)
            if serial is not None:
                return serial
        return None

    async def _probe(self, caller: Caller, profile: MeterProfile) -> str | None:
        found: list[str] = []

        def note(response: Response) -> None:
            if response.meter_serial is not None:
                found.append(response.meter_serial)

        async def way(endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
            return caller.lend(receiver)

        line = Line(
            endpoint=Endpoint(f"dialin://{caller.host}", "dialin"),
            profile=replace(profile, timing=_PROBE_TIMING, limits=_PROBE_LIMITS),
            meter_serial=ANY_METER,
            reader_serial=self.settings.reader_serial,
            timeouts=Timeouts(),
        )
        await read_meter(
            line, fixed([CurrentParametersRequest()]), _keep_nothing, _now, progress=note, way=way
        )
        return found[0] if found else None

    async def _find(self, unit: str | None, serial: str | None) -> str | None:
        code = self._directory.find(unit=unit, serial=serial)
        if code is None:
            async with self._loading:
                now_s = asyncio.get_running_loop().time()
                if now_s - self._loaded_s >= _DIRECTORY_AGE_S:
                    self._directory = await self._load()
                    self._loaded_s = now_s
            code = self._directory.find(unit=unit, serial=serial)
        return code

    def _welcome(self, caller: Caller, code: str) -> None:
        if not caller.is_open:
            return
        self.counts.identified += 1
        caller.code = code
        caller.heard.clear()
        unit = self._units.setdefault(code, _Unit())
        unit.ready.append(caller)
        self._trim(unit, code)
        for waiter in unit.waiters:
            if not waiter.done():
                waiter.set_result(None)
        unit.waiters.clear()
        self._ready(code)

    def _trim(self, unit: _Unit, code: str) -> None:
        is_followed = code in self._followed
        while len(unit.ready) > 1 + (0 if is_followed else self.settings.dial_in_spares):
            unit.ready.pop(0).hang_up()
        if is_followed and unit.lent is not None:
            unit.lent.hang_up()

    def _forget_if_empty(self, code: str) -> None:
        unit = self._units.get(code)
        if unit is not None and not (unit.ready or unit.lent) and all(w.done() for w in unit.waiters):
            del self._units[code]


def _number_in(heard: bytes) -> str | None:
    """The meter number of the first CELESC packet."""
    stream = CelescStream()
    stream.receive(heard)
    while (event := stream.next_event()) is not None:
        if isinstance(event, Packet):
            return event.meter_number
    return None


NOT_CONNECTED_REMEDY = (
    "check the unit's power, SIM card and coverage, and that it calls the address and port of this collector"
)


def cannot_listen(settings: CollectorSettings, error: OSError) -> OperatorFault:
    """Why no unit can call."""
    return OperatorFault(
        f"cannot listen for units that dial in: {error.strerror or error}",
        where=f"{settings.listen_host}:{settings.listen_port}",
        remedy="correct collector.listen_host and collector.listen_port; one collector listens on a port",
    )


def _keep_nothing(at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes) -> None:
    """A caller's serial is not evidence of a reading; what it is read for will ask again."""


def _now() -> datetime:
    return datetime.now(UTC)
