"""python -m tests.fuzz.run TARGET [libFuzzer options, as -runs=2500000]: one target under atheris."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=[
        "protocols.nbr14522",
        "protocols.public_format",
        "protocols.ssu",
        "protocols.celesc",
        "protocols.dlms",
    ]
):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Hand over to libFuzzer, which ends the process: with 0, or with the first finding on file."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
