"""The place of a count in a load profile read by DLMS: row, column, scaler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from pipelines.cli.explain.octets import hex_text, named_frames, part_in_words

if TYPE_CHECKING:
    from audit.dlms_evidence import Cell, DlmsPlace


class RowExplanation:
    """See `pipelines.cli.explain.Explanation`."""

    def in_one_line(self, session_id: int, place: DlmsPlace) -> str:
        cells = [row.value for row in place.rows]
        rows = " and ".join(str(cell.row) for cell in cells)
        frames = sorted({part.frame_seq for cell in cells for part in (*cell.octets, *cell.told_by)})
        return f"session {session_id}, {named_frames(frames)}, row {rows}, column {cells[-1].column}"

    def show(self, node: Tree, place: DlmsPlace) -> None:
        energy = " - ".join(str(row.raw) for row in reversed(place.rows))
        energy = f"({energy})" if len(place.rows) > 1 else energy
        length = "" if place.average_s is None else f" x {place.average_s} s / 3600"
        found = node.add(
            escape(
                f"load profile {place.profile}, column {place.rows[-1].value.column} {place.column}: "
                f"{energy} x 10^{place.scaler} {place.unit}{length}, {place.pulse_wh} Wh a pulse "
            )
            + f"= [bold]{place.pulses} pulses[/]"
        )
        for row in place.rows:
            value = _cell(found, f"row {row.value.row} of its answer, to {row.end:%Y-%m-%d %H:%M}", row.value)
            behind = row.clock.row - row.clock.told_by_row
            side = "before" if place.is_newest_first else "after"
            since = f", null: {behind} periods {side} row {row.clock.told_by_row}" if behind else ""
            _cell(value, f"clock{since}", row.clock)
        for part in place.column_octets:
            found.add(f"the list of columns names it: {part_in_words(part)}")
        for part in place.scaler_octets:
            found.add(f"scaler and unit: {part_in_words(part)}")
        shown = [part for row in place.rows for part in (*row.value.octets, *row.value.told_by)]
        for number in sorted({part.frame_seq for part in shown}):
            parts = [part for part in shown if part.frame_seq == number]
            plain = (
                ", plain text of the ciphered frames before it; keys are not kept"
                if parts[0].is_plain
                else ""
            )
            frame = found.add(f"frame {number} at {parts[0].frame_at:%H:%M:%S}{plain}")
            marks = [(part.first_octet - 1, len(part.octets)) for part in parts]
            frame.add(hex_text(parts[0].payload, *marks))


def _cell(node: Tree, what: str, cell: Cell) -> Tree:
    shown = node.add(what)
    for part in cell.octets:
        shown.add(part_in_words(part))
    for part in cell.told_by:
        shown.add(f"row {cell.told_by_row}: {part_in_words(part)}")
    return shown


ROW = RowExplanation()
