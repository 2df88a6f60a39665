"""The closing of a month: what is due, what is missing and why, by when, and what stays as it was counted.

Charter: the registry before the month opens (`preflight`), the month's report (`report`), warnings before the
deadline (`warnings`) and the closing after it (`freeze`). Not here: what CCEE is told and what it counts by
our ledger (`ccee`), the asset (`assets`).
"""
