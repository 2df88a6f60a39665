"""Where the files are that belong to the product and are no part of a Python package."""

from __future__ import annotations

import sys
from pathlib import Path

from faults import DeveloperFault

_CHECKOUT = Path(__file__).resolve().parents[1]
# pyproject.toml, data-files.
_INSTALLED = Path(sys.prefix) / "share" / "smf"


def shipped(name: str, landmark: str = "") -> Path:
    """A file or folder of the product: beside our packages in a checkout, else where an installation puts it.

    Args:
        name: relative path in the checkout.
        landmark: a file in the folder by which it is known to be ours.
    Raises:
        DeveloperFault: neither has it.
    """
    for home in (_CHECKOUT, _INSTALLED):
        if (home / name / landmark).exists():
            return home / name
    raise DeveloperFault(
        f"{name} is missing", where=str(_INSTALLED), remedy="install smf again, with all its files"
    )
