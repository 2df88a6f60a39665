"""Fixtures that several modules of this folder ask for."""

from tests.collector.dlms.pydlms import pydlms, simulate
from tests.collector.dlms.world import catalogue, secrets

__all__ = ["catalogue", "pydlms", "secrets", "simulate"]
