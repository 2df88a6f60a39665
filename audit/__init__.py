"""Explaining and checking what was stored and delivered, back to the octets.

Charter: `trace` gathers what the database holds about one interval and computes it anew; the evidence
modules find the octets that carry a count, one module a kind of source (`nbr14522_evidence`, `file_evidence`,
`dlms_evidence`, `stream_evidence`); `day` does a whole UC-day; `registry_changes` tells who changed the
registry. `pages` makes documents of them. Not here: changing anything, and what a terminal shows
(`pipelines.cli`).
"""
