"""People's decisions about values: what waits for one, what it would do, and making it so.

Charter: the queue of what waits (`queue`), a decision before it is made (`proposals`), what it would change
(`preview`), asking, agreeing, refusing, undoing (`decisions`), and rules' time-outs (`timeouts`). Used by
`smf`, and by whatever else lets a person decide. Not here: the rules that hold a value (`vee`), the merge of
held readings (`storage.review.hold_decisions`), how a decision enters a day (`derivation.known`), how it is
shown.
"""
