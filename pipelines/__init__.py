"""Everything put together: jobs, schedules, `definitions.build_defs`, the Dagster instance, the command line.

What belongs here: choosing what runs together and when, and starting it. What does not: how any of it works.
"""
