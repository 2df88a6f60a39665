"""Why a file is refused: somebody must look for another file, or for the right format."""

from __future__ import annotations

from faults import OperatorFault


class FileRefused(OperatorFault):
    """The file is not of this format, or is damaged at the place named."""
