"""Ways to meters: byte streams named by URL, and units that call.

Charter: lines out (`transports`), units that dial in (`dial_in`, one call in `dial_in_call`, their kinds as
data in `dial_in_kinds`, the registry's side in `dial_in_store`), calls as the service sees them (`callers`),
a line's record (`recording`). Not here: what is said over a line.
"""
