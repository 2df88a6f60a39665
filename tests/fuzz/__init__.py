"""Coverage-guided fuzzing of the octets that come from outside. Not part of `make test`.

Charter: harnesses that check one sentence: any octets are decoded, skipped with a counted
reason, or refused with a typed error; never another exception, never unbounded memory or time. atheris lives
in its own environment (`requirements-fuzz.txt`); the same sentence is checked in the suite with hypothesis.
"""
