"""Fixtures that several modules of this folder ask for."""

from tests.collector.dlms.peers.world import catalogue, secrets
from tests.collector.dlms.pydlms import pydlms, simulate

__all__ = ["catalogue", "pydlms", "secrets", "simulate"]
