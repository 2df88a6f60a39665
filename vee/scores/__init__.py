"""How far estimates lie from what is measured: the draw of gaps, and the arithmetic of errors.

Charter: pure, floats, shown and never sent. Estimating is `vee.estimation`'s.
"""
