"""Explaining and checking what was stored and delivered, back to the octets.

Charter: `trace` gathers what the database holds about one interval and computes it anew; the evidence
modules find the octets that carry a count, one module a kind of source (`memory_evidence`: mass memories
and public files, `dlms_evidence`, `stream_evidence`). Not here: changing anything, and how it is shown
(`pipelines.cli`).
"""
