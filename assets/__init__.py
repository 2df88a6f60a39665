"""Dagster assets and asset checks: what the system makes, by day and month.

What belongs here: asset and check definitions, each of which reads, calls one domain function, writes and
returns metadata; the partitions and resources they share.

What does not: rules of the field (`vee`), running them over stored readings (`derivation`), what CCEE is
told and how (`ccee`), sockets (`collector`), SQL of a table (`storage`), jobs, schedules and the command
line (`pipelines`). Nothing is built at import: each module has a function that takes the `Partitions` and
returns definitions. Those modules do without `from __future__ import annotations`: Dagster reads the
annotations of a step's arguments as objects.
"""
