"""From stored readings to the five layers of a UC-day; it does not know Dagster.

Charter: what the database knows of some UCs and days (`facts`), the rules of `vee` run over it in their
order (`layers`), chunks that are read, computed and written (`run`), what must hold of stored layers
(`checking`, `expectations` with their pages in `data_docs`), the SQL layer over them (`marts`), and what
waits to be derived or sent (`pending`). Not here: a rule (`vee`), a table's SQL of its own (`storage`), what
CCEE is told (`ccee`), assets and sensors.
"""
