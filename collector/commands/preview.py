"""What a person sees before a command is sent: words in English and Portuguese, and the octets. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preview:
    """The words and the octets. `hex`: each frame as it will stand on the line, CRC and address included; of
    DLMS the plain service.
    """

    en: str
    pt: str
    hex: tuple[str, ...]
    notes_en: tuple[str, ...] = ()
    notes_pt: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "en": self.en,
            "pt": self.pt,
            "hex": list(self.hex),
            "notes_en": list(self.notes_en),
            "notes_pt": list(self.notes_pt),
        }
