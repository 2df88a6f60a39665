"""CSV files of intervals that other systems write: which column is what, and what each line says.

Charter: `layout` (a TOML file that says how a system writes its files; delivered ones in `layouts/`), `lines`
(octets to lines with their values, each with its place). Pure. Which meter a line is of, and what of it may
become a reading, is the collector's affair.
"""
