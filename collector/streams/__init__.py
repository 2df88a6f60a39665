"""Meters that speak by themselves (SSU, CELESC): long-running readers and what they heard.

Charter: a line that is only listened to (`line`), the readers (`reader`), how octets are kept as evidence
(`frames`), what they mean (`decode`), and what the registry may name (`profiles`). `frames`, `decode` and
`profiles` are pure. Not here: the octets of a packet (`protocols.ssu`, `protocols.celesc`).
"""
