"""The five layers of `series_day`, one module a step.

Charter: primary energy (1, with the points of one UC joined), validation and people's edits (2), estimation
(3), losses (4) and the one rounding (5), each a pure function from the layer below. The strategies that
estimation calls stand in `vee.strategies`, the rules that validation runs in `vee.rules`.
"""
