"""Simulated meters and telemetry units: what the collector talks to when no real meter is at hand.

Charter: meters that hold a load, a clock, a mass memory and registers that agree with each other, the ways
that lead to them, and whole fleets, with faults on demand. By layer, from the load outwards:

- `curves`, `shapes`, `channels`, `recording`: what is measured; `grid`, `clock`: time;
- `counting`, `history`, `settings`, `meter`: what a meter holds, across everything that changes it;
- `answers`, `writes`, `passwords`, `instants`: what it says; the octets are made by `protocols`;
- `line`, `faultplan`, `impairment`, `telnet`: one connection, without a socket, and what goes wrong on it;
- `stream_output`, `stream_server`: meters that speak by themselves (SSU, CELESC), on a line that may be bad;
- `meter_end`, `server`, `dialer`: sockets, ptys, serial gateways, units that call the collector;
- `fleet`, `fleet_server` (the demonstration), `fleet_file`, `fleet_runner` (fleets from a file), `single`;
- `virtual_time`: an event loop in which all of it, and its readers, live a week in minutes.

A meter's answers are a pure function of its specification, of the commands it was given and of the instant
passed in. Not here: anything that reads meters (`collector`), and anything that knows a database.
"""
