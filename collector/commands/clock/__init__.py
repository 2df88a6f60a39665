"""Meters' clocks: how wrong, where they are going, and how to set one without breaking an interval.

Charter: the arithmetic (`arithmetic`), what the collector does by itself about a drift (`policy`), what every
script that moves a clock shares (`script`), and what goes on record about it (`storage`; its SQL is that of
`storage.commands.clocks`). Pure but for `policy` and `storage`. Knows no protocol.
"""
