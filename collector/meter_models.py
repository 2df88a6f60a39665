"""The utility's own catalogues of meter models, from their files into the process."""

from __future__ import annotations

from pathlib import Path

from faults import OperatorFault
from protocols.celesc import catalogue as celesc
from protocols.dlms import models as dlms
from protocols.nbr14522 import models as nbr14522
from protocols.ssu import catalogue as ssu


def use_meter_models(
    path: Path | None,
    dlms_path: Path | None = None,
    *,
    ssu_path: Path | None = None,
    celesc_path: Path | None = None,
) -> None:
    """Lay the files' models over those that are shipped, each protocol's; nothing without a file.

    Raises:
        OperatorFault: a file cannot be read, or an entry is wrong.
    """
    if path is not None:
        nbr14522.add_catalogue(str(path), _text(path, "meter_models_path"))
    if dlms_path is not None:
        dlms.add_catalogue(str(dlms_path), _text(dlms_path, "dlms_models_path"))
    if ssu_path is not None:
        ssu.add_catalogue(str(ssu_path), _text(ssu_path, "ssu_models_path"))
    if celesc_path is not None:
        celesc.add_catalogue(str(celesc_path), _text(celesc_path, "celesc_meters_path"))


def _text(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the meter models: {error}", where=str(path), remedy=f"correct collector.{setting}"
        ) from error
