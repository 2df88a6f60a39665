"""The closing of a month: what is due, what is missing and why, by when, and what stays as it was counted.

Charter: the month's report (`report`), the closing after the deadline (`freeze`) and warnings before it
(`warnings`). Not here: what CCEE is told and what it counts by our ledger (`ccee`), the asset (`assets`).
"""
