"""Which requests may become sessions now, with what patience, and where those wait whose unit must call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from collector.drivers import driver_of
from collector.lines.transports import Endpoint, Timeouts, parse_url
from collector.work.worklist import Assignment, Target
from faults import OperatorFault
from storage.settings import CollectorSettings


class Gates:
    """How many sessions may run at once: on one line, towards one host, in one radio cell."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._inside: Counter[str] = Counter()

    def enter(self, target: Target) -> bool:
        """Count a session in, unless one of its gates is full."""
        keys = self._keys(target)
        if any(self._inside[key] >= limit for key, limit in keys):
            return False
        self._inside.update(key for key, _ in keys)
        return True

    def leave(self, target: Target) -> None:
        """Count it out."""
        for key, _ in self._keys(target):
            self._inside[key] -= 1
            if not self._inside[key]:
                del self._inside[key]

    def _keys(self, target: Target) -> list[tuple[str, int]]:
        endpoint = parse_url(target.url or "")
        # Several meters of one line answer into one another's blocks, and gateways take one client.
        keys = [(f"line:{endpoint.line}", 1)]
        if endpoint.host_key is not None:
            keys.append((endpoint.host_key, self._settings.per_host_limit))
        if target.cell:
            keys.append((f"cell:{target.cell}", self._settings.per_cell_limit))
        return keys


class WaitingRoom:
    """Requests whose unit dials in and is not connected, by the unit's code, each until its own time."""

    def __init__(self) -> None:
        self._inside: dict[str, list[tuple[float, Assignment]]] = {}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._inside.values())

    @property
    def request_ids(self) -> list[int]:
        return [one.request_id for waiting in self._inside.values() for _, one in waiting]

    def add(self, code: str, assignment: Assignment, until_s: float) -> None:
        """Let a request wait for a unit."""
        self._inside.setdefault(code, []).append((until_s, assignment))

    def take(self, code: str) -> list[Assignment]:
        """All that wait for a unit: it has called."""
        return [assignment for _, assignment in self._inside.pop(code, [])]

    def expired(self, now_s: float) -> list[tuple[str, Assignment]]:
        """Take those out whose time is over, with the unit's code."""
        found = []
        for code, waiting in list(self._inside.items()):
            found += [(code, one) for until_s, one in waiting if until_s <= now_s]
            self._keep(code, [entry for entry in waiting if entry[0] > now_s])
        return found

    def drop(self, request_ids: Container[int]) -> None:
        """Forget requests that are no longer ours."""
        for code, waiting in list(self._inside.items()):
            self._keep(code, [entry for entry in waiting if entry[1].request_id not in request_ids])

    def clear(self) -> list[int]:
        """Empty the room; the requests that were in it."""
        ids = self.request_ids
        self._inside.clear()
        return ids

    def _keep(self, code: str, waiting: list[tuple[float, Assignment]]) -> None:
        if waiting:
            self._inside[code] = waiting
        else:
            del self._inside[code]


def usual_timeouts(endpoint: Endpoint, settings: CollectorSettings) -> Timeouts:
    """What the configuration allows on this kind of way."""
    connect_s, total_s = settings.connect_timeout_s, settings.session_timeout_s
    if endpoint.scheme in ("serial", "rfc2217"):
        connect_s, total_s = settings.gateway_connect_timeout_s, settings.serial_session_timeout_s
    return Timeouts(connect_s, settings.idle_timeout_s, total_s)


def line_fault(target: Target | None, settings: CollectorSettings) -> OperatorFault | None:
    """Why no session can be begun with what the registry says, or nothing."""
    if target is None:
        return None
    try:
        endpoint = parse_url(target.url or "")
        driver_of(target.profile)
    except OperatorFault as fault:
        return fault
    if endpoint.unit and settings.listen_port is None:
        return OperatorFault(
            f"unit {endpoint.unit} dials in, and nobody listens",
            where=target.url or "",
            remedy="set collector.listen_port in the configuration of the collector's service",
        )
    return None
