"""What the database knows of some UC-days, in the frames that `vee` takes: registry, readings, what people
decided, and all that rules compare values with.

What belongs here: reading it for one chunk of UCs. What does not: judging any of it (`vee`), the order of the
layers (`derivation.layers`), writing.
"""
