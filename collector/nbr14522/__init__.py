"""Sessions with meters of NBR 14522, and what their frames mean.

Charter: which command comes next (`sequences`, with the password session around them in `password_session`),
the session that drives them over a stream (`session`), and what stored frames mean (`decode`, `cross_checks`,
`further_groups`). `session` and `passwords` are adapters, all else is pure; commands that change
a meter are in `commands/`. Not here: the octets (`protocols.nbr14522`), who may ask (`collector.commands`).
"""
