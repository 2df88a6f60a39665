"""Octets of a serial output that belong to no block or packet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SkippedRun:
    """Octets passed over, and why: the line's quality. `offset`: of the first, in the whole stream."""

    count: int
    reason: str
    offset: int
