"""Simulated meters: what the collector talks to when no real meter is at hand.

Charter: meters that hold a load, a clock, a mass memory and registers that agree with each other, and the
servers that put them on TCP ports and pseudo terminals, with faults on demand. A meter's answers are a pure
function of its specification, of the commands it was given and of the instant passed in; sockets, ptys and
the event loop stay in `server` and `fleet_server`. The octets themselves are made by `protocols`.

Not here: anything that reads meters (`collector`), and anything that knows a database.
"""
