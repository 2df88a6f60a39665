"""DLMS/COSEM: our own sans-IO client.

Charter: `axdr` (typed values), `framing` (wrapper, HDLC by length), `mode_e` (opening of optical ports),
`apdu` and `security` (services, suite 0), `client` (one association: GET, SET, ACTION with block transfer),
`transcript` (a recorded association), `describe` (a capture in words), `models` (what differs from make to
make, as data), `objects` (what codes stand for, and which a meter lists), `clock` and `profile` (what a clock
and a load profile mean). Octets in and out; sockets, time, keys at rest and counters that survive a restart
belong to the collector and storage. Why an own client, and what was tried: reference "dlms_cosem", section 8.

Not here: short-name referencing, HLS mechanisms other than GMAC, security suites 1 and 2.
"""
