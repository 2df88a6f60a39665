"""The utility's own catalogue of meter models, from its file into the process."""

from __future__ import annotations

from pathlib import Path

from faults import OperatorFault
from protocols.nbr14522.models import add_catalogue


def use_meter_models(path: Path | None) -> None:
    """Lay the file's models over those that are shipped; nothing without a file.

    Raises:
        OperatorFault: the file cannot be read, or an entry is wrong.
    """
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the meter models: {error}",
            where=str(path),
            remedy="correct collector.meter_models_path",
        ) from error
    add_catalogue(str(path), text)
