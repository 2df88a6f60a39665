"""The octets of running sessions on their way to the database: recorded as they pass, stored in batches.

Frames of all sessions wait together for a moment and are stored by one COPY. Whoever needs them stored first
(what ends a session, what is written to a meter) calls `store` in the writing worker's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime

from collector.batching import Worker
from collector.session import Recorder
from storage import sessions

# Frames wait at most so long, or so many, before they are stored: one COPY for all sessions.
_WAIT_S = 0.25
_MOST_WAITING = 2000


class Evidence:
    """Frames that wait to be stored. `count`: recorded since the start.

    Args:
        worker: the one that also merges sessions: its thread stores frames before it decodes them.
    """

    def __init__(self, worker: Worker) -> None:
        self.count = 0
        self._worker = worker
        self._waiting: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = asyncio.Event()

    def recorder(self, session_id: int) -> Recorder:
        """What takes the frames of a session, numbered from 1."""
        seq = 0

        def record(at: datetime, is_sent: bool, command: int, crc_ok: bool | None, payload: bytes) -> None:
            nonlocal seq
            seq += 1
            self._waiting.append(
                sessions.encode_frame(session_id, seq, at, is_sent, command, crc_ok, payload)
            )
            self.count += 1
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_WAIT_S, self._come_due)
            elif len(self._waiting) == _MOST_WAITING:
                self._timer.cancel()
                self._come_due()

        return record

    async def keep_storing(self) -> None:
        """Store frames as they come. One task: a group that is ending takes no new ones from a callback."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            await self._worker.run(self.store)

    def store(self) -> None:
        """Store what waits; in the worker's thread only."""
        rows = []
        while self._waiting:
            rows.append(self._waiting.popleft())
        if rows:
            self._worker.transact(sessions.write_frames, rows)

    def close(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()

    def _come_due(self) -> None:
        self._timer = None
        self._is_due.set()
