"""Strategies of estimation: named, dated ways to fill what is missing.

Charter: CCEE's procedure (`ccee`) and the company's own chain (`chain_e`), with what both work with: the way
to fill, shapes of days, the bound by registers. Which one runs for which day is decided in
`vee.layers.estimation`.
"""
