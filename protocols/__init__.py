"""Bytes to values and back, for every way a meter speaks.

Charter: one sub-package per protocol, both sides of each (reader and meter), sans-IO: octets and the
present time come in as arguments, octets and events go out; and `acquisition`, what every one of them states
about its readings. What does not belong here: sockets, serial
ports, clocks, asyncio, databases, schedules, retries across sessions, and any opinion on what a reading is
worth. Imports nothing of ours but `faults`.
"""
