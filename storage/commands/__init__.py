"""Commands and clocks in the database: the one place that knows how their rows are written and read.

Charter: requests and their second person (`requests`), what was sent and what it came to (`executions`), and
what clocks showed and what was done to them (`clocks`). Plain values in and out, in the caller's transaction.
Not here: who may ask, what a verdict means, when a clock is corrected (`collector.commands`).
"""
