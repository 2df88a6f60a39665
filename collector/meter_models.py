"""The utility's own catalogues of meter models, from their files into the process."""

from __future__ import annotations

from pathlib import Path

from faults import OperatorFault
from protocols.table import catalogues


def use_meter_models(folder: Path | None) -> None:
    """Lay the folder's catalogues over those that are shipped: PROTOCOL.toml each; nothing without a folder.

    Raises:
        OperatorFault: the folder or a file cannot be read, a file is of no protocol, or an entry is wrong.
    """
    if folder is None:
        return
    known = {entry.name: models for entry, models in catalogues()}
    for path in _files(folder):
        if path.stem not in known:
            raise OperatorFault(
                "a catalogue of no protocol",
                where=str(path),
                remedy=f"name it after its protocol: {', '.join(f'{name}.toml' for name in known)}",
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorFault(
                f"cannot read the meter models: {error}", where=str(path), remedy="correct or remove the file"
            ) from error
        known[path.stem].add(str(path), text)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as error:
        raise OperatorFault(
            f"cannot read the meter models: {error}",
            where=str(folder),
            remedy="correct collector.meter_models_path: the folder that holds a catalogue a protocol",
        ) from error
