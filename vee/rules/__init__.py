"""Rules that judge what was measured: is it plausible, does it fit the meter, the registers, the history?

Charter: one module a family of rules, each rule one pure vectorised function of the UC-days of one day
(`base.DayRows`) and its parameters; `table.RULES` is the only list of them, `engine.judge` the only one who
runs them. A rule never changes a value: it names slots, with evidence and the energy at stake. Floats are
welcome here, since nothing that is judged is delivered from here.

What does not belong here: refusing records and filling in outages (`vee.layers.validation`), estimation,
deciding.

A new rule is one function, one entry in `table.RULES` and two scenario folders (one speaking, one silent).
"""
