"""Validation, estimation and losses: from stored pulses to the series that CCEE is sent.

Charter: the rules of the field as pure functions on polars frames, numpy matrices and plain values.
Time, parameters and history come in as arguments; results, verdicts and what could not be resolved come
out. No database, socket, clock or orchestrator here; the only files read are the dated tables in
`vee/data` (and calendars a user imports), through functions that take the path.

The order of work (each module is one step, each step one layer of `series_day`):

1. `primary`     pulses x constants -> primary kWh, exact
2. `validation`  rules V01 to V22 -> a state for each slot, verdicts
3. `estimation`  named, dated strategies fill what may be filled
4. `losses`      transformation and line percentages, exact
5. `rounding`    once, half up, to 0.001 kWh; then `musd` judges the hours

`quality` names every state a slot or a day can have, `calendars` knows days, slots and deadlines,
`frames` converts between frames and matrices, `outcome` says what became of each UC-day.
"""
