"""The place of a count in what a meter says by itself: blocks of SSU, packets of CELESC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.tree import Tree

from pipelines.cli.explain.octets import hex_text, named_frames, part_in_words

if TYPE_CHECKING:
    from audit.stream_evidence import StreamPlace


class RecordExplanation:
    """See `pipelines.cli.explain.Explanation`."""

    def in_one_line(self, session_id: int, place: StreamPlace) -> str:
        frames = sorted({part.frame_seq for record in place.records for part in record.parts})
        where = named_frames(frames) if frames else "the register showed in no block"
        return f"session {session_id}, {where}"

    def show(self, node: Tree, place: StreamPlace) -> None:
        values = " - ".join(str(one.value) for one in reversed(place.records)) or "showed in no block"
        found = node.add(f"{place.what}: {values} = [bold]{place.pulses} pulses[/]")
        for one in place.records:
            last = one.first_octet + len(one.value_octets) - 1
            record = found.add(
                f"heard at {one.at:%Y-%m-%d %H:%M:%S.%f}, octets {one.first_octet} to {last} "
                f"[bold]{one.value_octets.hex(' ').upper()}[/] = {one.value}; its check is good"
            )
            record.add(hex_text(one.octets, (one.first_octet - 1, len(one.value_octets))))
            for part in one.parts:
                record.add(part_in_words(part))


RECORD = RecordExplanation()
