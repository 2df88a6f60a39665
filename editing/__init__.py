"""People's decisions about values: what waits for one, what it would do, and making it so.

Charter: the queue of what waits (`queue`), a decision before it is made (`proposals`), what it would change
(`preview`), and asking, agreeing, refusing, undoing (`decisions`). Used by `smf`, and by whatever else lets a
person decide. Not here: the rules that hold a value (`vee`), held readings' merge (`storage.hold_decisions`),
how a decision enters a day (`derivation.decided`), how any of it is shown.
"""
