"""Sessions with DLMS/COSEM meters, and what their frames mean.

Charter: what a visit asks (`script`) and what its record means (`decode`), both pure; the session over a
stream (`session`), keys and counters (`secrets`, `counters`), clocks (`clock`), and the driver that the
service loads when the first such meter is met (`driver`). Not here: the octets (`protocols.dlms`).
"""
