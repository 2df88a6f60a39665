"""How far estimates lie from what is measured: the draw of gaps, and the arithmetic of errors.

Charter: pure; what is missing, drawn and compared comes in as frames. Estimating is `estimation`'s, the same
that fills real gaps; reading and keeping is `derivation.scores`'. Scores are floats: shown, never sent.
"""
