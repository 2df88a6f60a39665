"""How far estimates lie from what is measured: scored, drawn, and told beside each estimate.

Charter: the score calls the same steps that derive a day (`derivation.layers`) on good days with gaps laid
over them, and never estimates by itself; the arithmetic is `vee`'s, the SQL `storage.scores`'.
"""
