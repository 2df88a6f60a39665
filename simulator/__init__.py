"""Simulated meters and telemetry units: what the collector talks to when no real meter is at hand.

Charter: meters that hold a load, a clock, a mass memory and registers that agree with each other, the ways
that lead to them, and whole fleets, with faults on demand. From the load outwards: `load` (what is
measured, and time), one folder a protocol (`nbr14522`, `dlms`, `streams`), `wires` (what goes wrong on a
line, units that call, simulated time) and `fleets`. A meter's answers are a pure function of its
specification, of the commands it was given and of the instant passed in. Not here: anything that reads
meters (`collector`) or knows a database.
"""
