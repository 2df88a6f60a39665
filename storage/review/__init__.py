"""What people look at and decide: held readings, suspects, periods of verdicts, decisions, rules' overrides.

Charter: one module a table, its SQL in full. What a decision does to a value is `vee.layers.edits`, who may
take it `editing`; here it is only written and read.
"""
