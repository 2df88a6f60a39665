"""The utility's own catalogues of meter models, from their files into the process."""

from __future__ import annotations

from pathlib import Path

from faults import OperatorFault
from protocols.dlms import models as dlms
from protocols.nbr14522 import models as nbr14522


def use_meter_models(path: Path | None, dlms_path: Path | None = None) -> None:
    """Lay the files' models over those that are shipped, NBR 14522 and DLMS; nothing without a file.

    Raises:
        OperatorFault: a file cannot be read, or an entry is wrong.
    """
    if path is not None:
        nbr14522.add_catalogue(str(path), _text(path, "meter_models_path"))
    if dlms_path is not None:
        dlms.add_catalogue(str(dlms_path), _text(dlms_path, "dlms_models_path"))


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the meter models: {error}", where=str(path), remedy=f"correct collector.{setting}"
        ) from error
