"""Commands to meters of NBR 14522: read, write once, read back, compare.

Charter: how a command is asked for and written (`asking`), the scripts (`scripts`; of clocks: `clock`), how
a write is shown to have taken effect (`readback`), and what a person sees first (`preview`). Pure. Not here:
who may ask, the record, the verdict's rows (`collector.commands`), octets (`protocols.nbr14522`).
"""
