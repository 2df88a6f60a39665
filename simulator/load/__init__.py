"""What is measured, and time: generated and recorded loads, channels, counting, the meter's scale of seconds.

Charter: pure functions of seed and interval number. Not here: what a meter says.
"""
