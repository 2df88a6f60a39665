"""The closing of a month: what is due, what is missing and why, by when, and what stays as it was counted.

Charter: the registry before the month opens (`preflight`), every UC-day of it (`days`), the month's report
(`report`, with `acting` and `forecast`), warnings before the deadline (`warnings`), the estimate with one
window (`again`), the closing after the deadline (`freeze`, `certificates`), what changes later (`recount`),
all of that in order (`run`) and as a document (`document`, `lists`). Not here: what CCEE is told and what it
counts by our ledger (`ccee`), how a document is written down (`documents`), the asset (`assets`).
"""
