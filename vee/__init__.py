"""Validation, estimation and losses: from stored pulses to the series that CCEE is sent.

Charter: the rules of the field as pure functions on polars frames, numpy matrices and plain values.
Time, parameters and history come in as arguments; results, verdicts and what could not be resolved come
out. No database, socket, clock or orchestrator here; the only files read are the dated tables in
`vee/data` (and calendars a user imports), through functions that take the path.

The layers of `series_day`, one step each, stand in `layers`; the strategies of estimation in `strategies`,
the rules of validation in `rules`, the scoring of estimates in `scores`. After the last layer `musd` judges
the hours.

`quality` names every state a slot or a day can have, `calendars` knows days, slots and deadlines,
`frames` converts between frames and matrices, `outcome` says what became of each UC-day.
"""
