"""Which characters of an imported CSV file carry one count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

from audit.evidence import Locator
from audit.file_evidence import FilePlace
from collector.decoded import Frame, MeterContext
from collector.files.importing import file_name_of
from collector.files.pulse_lines import part_of, placed
from protocols.acquisition import whole_pulses
from protocols.pulse_csv.layout import KWH


class PulseLocator:
    """See `audit.evidence.Locator`."""

    key, holder, whole = "file", "file", "meter's lines of the file"

    def locate(
        self,
        session: Mapping[str, Any],
        frames: Sequence[Frame],
        profile: str,
        context: MeterContext,
        interval_end: datetime,
    ) -> FilePlace | None:
        part = part_of(frames)
        column = next((one for one in part.layout.value if one.channel == context.active_channel), None)
        rows = placed(part, context, lambda *_: None)
        line = next((line for line, end, _ in rows if end == interval_end), None)
        value = None if line is None or column is None else line.values.get(column.channel)
        if line is None or column is None or value is None:
            return None
        pulses = whole_pulses(value, Fraction(part.head.kwh_per_pulse) if column.unit == KWH else Fraction(1))
        if pulses is None:
            return None
        where = f"line {part.number_in_file(line.line)}, column {column.column}"
        octets = line.line.octets
        return FilePlace(
            name=file_name_of(session["url"]),
            sha256=hashlib.sha256(part.octets).hexdigest(),
            size=len(part.octets),
            where=where,
            first_octet=line.line.offset + 1,
            octets=octets,
            around=octets,
            around_first_octet=line.line.offset + 1,
            pulses=pulses,
        )


LOCATOR: Locator = PulseLocator()
