"""Units that call, as the service sees them: listening, requests that wait for a call, ways for sessions."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Container, Sequence
from datetime import datetime

import structlog

from collector.batching import Connection, Worker
from collector.gates import WaitingRoom
from collector.lines import dial_in_store
from collector.lines.dial_in import NOT_CONNECTED_REMEDY, DialIn, cannot_listen
from collector.lines.dial_in_kinds import load_kinds
from collector.lines.transports import Endpoint, Receiver, Stream, open_stream, parse_url
from collector.work.worklist import Assignment
from faults import FieldCrewFault
from storage import queue
from storage.settings import CollectorSettings

log = structlog.get_logger(__name__)

# How often the requests that wait are looked at, at most.
_LOOK_S = 5.0


class Callers:
    """The listener, where one is configured, and the requests that wait for their unit.

    Args:
        worker: for the registry, strangers and requests given up.
        collector: the name that holds the claims.
        came: gets the requests whose unit has called.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        worker: Worker,
        collector: str,
        now: Callable[[], datetime],
        came: Callable[[list[Assignment]], None],
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._collector = collector
        self._now = now
        self._came = came
        self._kinds = load_kinds(settings.dial_in_kinds_path)
        self.dial_in: DialIn | None = None
        self.waiting = WaitingRoom()

    @property
    def listening_port(self) -> int | None:
        """Where units are awaited; None: nowhere."""
        return None if self.dial_in is None else self.dial_in.port

    async def listen(self, group: asyncio.TaskGroup, *, may_be_taken: bool) -> None:
        """Listen as configured; everything that follows runs in the group.

        Args:
            may_be_taken: another collector may listen already, and reads what is behind its port.

        Raises:
            OperatorFault: the address or port cannot be used.
        """
        if self._settings.listen_port is None:
            return

        def report(stranger: dial_in_store.Stranger) -> None:
            log.warning("dial_in.refused", reason=stranger.reason, host=stranger.host, named=stranger.named)
            if self.dial_in is not None:
                group.create_task(self._worker.call(dial_in_store.record_stranger, stranger, self._now()))

        dial_in = DialIn(
            self._settings,
            self._kinds,
            load=lambda: self._worker.call(dial_in_store.load_directory, self._now()),
            report=report,
            ready=self._is_ready,
            start_task=group.create_task,
        )
        try:
            await dial_in.start()
        except OSError as error:
            if may_be_taken and error.errno == errno.EADDRINUSE:
                return
            raise cannot_listen(self._settings, error) from error
        self.dial_in = dial_in

    async def stop(self) -> None:
        """Listen no more, and hang up."""
        dial_in, self.dial_in = self.dial_in, None
        if dial_in is not None:
            await dial_in.stop()

    def part(self, assignments: Sequence[Assignment]) -> tuple[list[Assignment], list[int]]:
        """Take those whose unit has not called out of the way of the others.

        Returns:
            Those that may go on, and requests whose unit is connected to another collector, if to any.
        """
        stay, elsewhere = [], []
        until_s = asyncio.get_running_loop().time() + self._settings.dial_in_wait_s
        for assignment in assignments:
            code = parse_url(assignment.target.url or "").unit if assignment.target else ""
            if not code or (self.dial_in is not None and self.dial_in.is_connected(code)):
                stay.append(assignment)
            elif self.dial_in is None:
                elsewhere.append(assignment.request_id)
            else:
                self.waiting.add(code, assignment, until_s)
        return stay, elsewhere

    def drop(self, request_ids: Container[int]) -> None:
        """Forget requests that are no longer ours."""
        self.waiting.drop(request_ids)

    async def give_up(self) -> None:
        """For ever: fail the requests that have waited long enough."""
        while True:
            await asyncio.sleep(min(_LOOK_S, max(0.05, self._settings.dial_in_wait_s / 4)))
            tired = self.waiting.expired(asyncio.get_running_loop().time())
            if tired:
                await self._worker.call(self._fail, tired)

    def _fail(self, conn: Connection, tired: Sequence[tuple[str, Assignment]]) -> None:
        for code, assignment in tired:
            fault = FieldCrewFault(
                f"unit {code} was not connected for {self._settings.dial_in_wait_s:g} s",
                where=f"dialin://{code}",
                remedy=NOT_CONNECTED_REMEDY,
            )
            queue.fail(conn, self._collector, assignment.request_id, fault, stage="unit not connected")

    async def open(self, endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
        """The way to any endpoint: `open_stream`, or the connection of a unit that called."""
        if endpoint.unit and self.dial_in is not None:
            return await self.dial_in.open(endpoint, receiver, connect_s)
        return await open_stream(endpoint, receiver, connect_s)

    # --- for readers that listen for good ------------------------------------------------------------------

    async def follow(self, endpoint: Endpoint, receiver: Receiver, connect_s: float) -> Stream:
        """As `open`, for a reader that keeps the connection: closing it is hanging up."""
        stream = await self.open(endpoint, receiver, connect_s)
        return _Followed(self, endpoint, stream) if endpoint.unit else stream

    def begin(self, code: str) -> None:
        """A reader is there for this unit."""
        if self.dial_in is not None:
            self.dial_in.follow(code, is_followed=True)

    def end(self, code: str) -> None:
        """It is there no more."""
        if self.dial_in is not None:
            self.dial_in.follow(code, is_followed=False)

    async def called(self, code: str) -> None:
        """Wait until the unit is connected."""
        if self.dial_in is not None:
            await self.dial_in.until_ready(code)

    # --- for sessions --------------------------------------------------------------------------------------

    def settle(self, endpoint: Endpoint, *, is_sound: bool) -> None:
        """After a session: its connection serves others, unless it failed."""
        if endpoint.unit and self.dial_in is not None:
            self.dial_in.settle(endpoint.unit, is_sound=is_sound)

    def _is_ready(self, code: str) -> None:
        came = self.waiting.take(code)
        if came:
            self._came(came)


class _Followed:
    """The connection of a reader: closing it is hanging up."""

    def __init__(self, callers: Callers, endpoint: Endpoint, stream: Stream) -> None:
        self._callers = callers
        self._endpoint = endpoint
        self._stream = stream

    @property
    def bytes_sent(self) -> int:
        return self._stream.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._stream.bytes_received

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    def close(self) -> None:
        self._stream.close()
        self._callers.settle(self._endpoint, is_sound=False)
