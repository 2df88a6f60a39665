"""Fleets: the demonstration's (`demo`), one from a file (`file`, `runner`), on sockets (`server`), and one
meter by hand (`single`). What to expect of each unit is part of a fleet.
"""
