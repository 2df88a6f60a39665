"""Meters of NBR 14522, from what they hold to sockets.

Charter: what they are (`spec`), what they hold (`meter`, `history`, `settings`), what they say (`answers`,
`writes`, `passwords`, `instants`), one connection without a socket (`line`), and sockets, ptys and gateways
(`meter_end`, `server`). Not here: the octets (`protocols.nbr14522`), loads (`simulator.load`).
"""
