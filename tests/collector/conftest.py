from __future__ import annotations

import socket

import pytest


@pytest.fixture
def unused_port():
    """A loopback port that nobody listens on, held so that nobody else's server gets it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
