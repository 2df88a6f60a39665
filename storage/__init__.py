"""The database: the contract between collector, Dagster and portal.

Charter: settings, connections, the embedded server, the schema (plain SQL under Alembic), bulk write and
read, and for each kind of row the one place that knows how it is written: readings, series, queue,
registry, audit. What a value means is decided elsewhere (vee, ccee); nothing here talks to a meter or to
CCEE, and nothing schedules.
"""
