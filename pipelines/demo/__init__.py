"""The demonstration: the whole main job on simulated meters, once.

Charter: the order of the phases (`job`), the registry that it loads (`registry`), meters and the stand-in
in a process of their own (`world`). Not here: anything that a real installation needs.
"""
