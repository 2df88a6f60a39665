"""Names of the commands that are the collector's own: who offers them need not know how they are done."""

CLOCK = "clock"
"""Bring the clock right inside an interval."""
