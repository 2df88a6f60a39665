"""Dagster sensors: what happened in the database, turned into runs.

What belongs here: short ticks with a cursor and a run key, that read which days changed and ask for them.
What does not: work (assets do it), time of day (schedules in `pipelines`), retries of a radio link (the
collector's) or of a delivery (the ledger's).
"""
