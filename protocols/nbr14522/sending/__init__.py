"""What goes to a meter, beyond plain questions.

Charter: what may be sent to a meter of a profile and how a write is built (`building`), layouts that only a
maker's manual gives (`layouts`), tokens of command 11 (`passwords`), and frames without secrets (`secrets`).
Not here: who may send what (`collector.commands`).
"""
