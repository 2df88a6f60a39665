"""Stored exchanges decoded as the collector does it."""

from __future__ import annotations

from collector.nbr14522.decode import decode_session
from tests.collector.nbr14522.exchanges import CONTEXT

INTERVALS = 12 * 27


def decode(exchange, context=CONTEXT):
    return decode_session(exchange.frames, exchange.profile, context)
