"""Meters' clocks: how wrong, where they are going, and how to set one without breaking an interval.

Charter: the arithmetic (`arithmetic`), scripts that move a clock (`steps`, `script`), what the collector
does by itself about a drift (`rule`), and clocks in the database (`storage`). Pure but for `rule` and
`storage`.
"""
