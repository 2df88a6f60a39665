"""What the octets of a public file mean, by the decoder of sessions. Pure, like `decode`.

A file is laid out as the session that could have brought it: its answers, each memory behind the command that
asks for it. It has no times of its own, so it tells nothing of the meter's clock. What is damaged becomes an
issue, and the intervals that lay there stay missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
import psycopg

from collector.decoded import DayVector, Decoded, Frame, Issue, MeterContext, ParametersRow
from collector.nbr14522.cross_checks import check_history
from collector.nbr14522.decode import decode_session
from collector.nbr14522.memories import MEMORY_CODES, PARAMETERS_OF
from faults import DeveloperFault
from protocols.nbr14522.crc import sealed
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.memory import (
    CHANNELS_PER_GROUP,
    MAX_BLOCK_NUMBER,
    OCTETS_PER_BLOCK,
    WORDS_PER_BLOCK,
    words_to_payloads,
)
from protocols.nbr14522.messages import (
    Parameters,
    block_mark,
    decode_response,
    memory_blocks,
    request_for,
)
from protocols.nbr14522.messages.layout import table_of
from protocols.nbr14522.profile import FileGroups, MeterProfile
from protocols.nbr14522.profiles import DEFAULT, PROFILES
from protocols.public_format.fk7 import PARAMETER_CODES
from protocols.public_format.groups import group_sections
from protocols.public_format.scan import Fk7Block, scan_fk7, scan_text
from protocols.public_format.text import BYTE_ORDER_MARK, CURRENT, PARAMETERS, PREVIOUS, has_place

FK7, TEXT = "fk7", "public-text"
_NO_TIME = datetime.min.replace(tzinfo=UTC)
_NO_READER = "000000"
_NO_DEPTH = frozenset({"words_current", "words_previous"})
_MEMORY_OF = {PREVIOUS: 0x27, CURRENT: 0x26}


@dataclass
class Layout:
    """A file as the frames of a session.

    Attributes:
        frames: commands and sealed answers; P0.
        sources: by `Frame.seq` of a memory block, the offset of its octets in an FK7 file.
        lost: by memory code, (first word, count) of what is damaged; the frames hold zeros there.
        issues: (offset, count, reason).
    """

    meter_serial: str
    frames: list[Frame] = field(default_factory=list)
    sources: dict[int, int] = field(default_factory=dict)
    lost: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    issues: list[tuple[int, int, str]] = field(default_factory=list)

    def answer(self, content: bytes) -> None:
        self._append(False, sealed(content))

    def ask(self, code: int, group: int) -> None:
        """Ask for the parameters of a channel group, which stays the visible one."""
        self._append(True, request_for(code, group=group).encode(_NO_READER))

    def memory(self, code: int, blocks: Sequence[bytes]) -> Iterator[int]:
        """Ask for a memory and answer with these 258-octet frames; yields their `seq`."""
        self._append(True, request_for(code).encode(_NO_READER))
        for block in blocks:
            self._append(False, block)
            yield len(self.frames)

    def _append(self, is_sent: bool, payload: bytes) -> None:
        self.frames.append(Frame(len(self.frames) + 1, _NO_TIME, is_sent, True, payload))


@dataclass(frozen=True, slots=True)
class FileDecoder:
    """Decodes a session that was a file: its one frame is the file."""

    name: str

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return decode_file(self.name, file_of(frames), file_profile(profile), context)

    def check_history(
        self, conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
    ) -> Mapping[int, Sequence[Issue]]:
        return check_history(conn, sessions)


FK7_DECODER, TEXT_DECODER = FileDecoder(FK7), FileDecoder(TEXT)


def file_profile(name: str) -> MeterProfile:
    """How to read the files of a meter: packing and signs of its model, where that is one of NBR 14522."""
    return PROFILES.get(name, DEFAULT)


def format_of(octets: bytes) -> str:
    """The format that these octets may be: text begins with the digits of a serial, no block does."""
    return TEXT if octets[: len(BYTE_ORDER_MARK) + 1].removeprefix(BYTE_ORDER_MARK)[:1].isdigit() else FK7


def file_of(frames: Sequence[Frame]) -> bytes:
    """The file's octets out of its evidence."""
    if len(frames) != 1:
        raise DeveloperFault(f"{len(frames)} frames, a file is one", where="evidence of an import")
    return frames[0].payload


def lay_out(format_name: str, octets: bytes, profile: MeterProfile) -> Layout:
    """The file as a session.

    Raises:
        FileRefused: nothing of it can be read.
    """
    layout = _lay_out_text(octets, profile) if format_name == TEXT else _lay_out_fk7(octets, profile)
    _tell_absent_memory(layout, len(octets))
    return layout


def _tell_absent_memory(layout: Layout, size: int) -> None:
    """A copy cut off before the memory looks whole, but for the words that its parameters announce."""
    answers = [frame.payload for frame in layout.frames if not frame.is_sent]
    if any(answer[0] in MEMORY_CODES for answer in answers):
        return
    known = [one for one in map(decode_response, answers) if isinstance(one, Parameters)]
    words = max((max(one.words_current or 0, one.words_previous or 0) for one in known), default=0)
    if words:
        reason = f"no memory follows, and the parameters announce {words} words: the copy may be cut off"
        layout.issues.append((size, 0, reason))


def decode_file(format_name: str, octets: bytes, profile: MeterProfile, context: MeterContext) -> Decoded:
    """What a file brings.

    Raises:
        FileRefused: nothing of it can be read.
    """
    layout = lay_out(format_name, octets, profile)
    decoded = decode_session(
        layout.frames, replace(profile, addressing=Addressing.P0), context, has_times=False
    )
    decoded = replace(
        decoded, parameters=tuple(_as_far_as_known(row, format_name) for row in decoded.parameters)
    )
    mark = sha256(octets).hexdigest()[:8]
    issues = [
        Issue("decode", f"file {mark}, octet {offset}: {reason}", {"offset": offset, "count": count})
        for offset, count, reason in layout.issues
    ]
    if not layout.lost:
        return replace(decoded, issues=(*decoded.issues, *issues))
    # Where words are missing, sums and comparisons of the rest prove nothing.
    kept = [issue for issue in decoded.issues if issue.stage != "cross_check"]
    lost = _lost_slots(layout)
    return replace(
        decoded,
        vectors=tuple(found for vector in decoded.vectors if (found := _without(vector, lost)) is not None),
        issues=(*kept, *issues),
        cross_checks=(),
        sums=(),
    )


def _as_far_as_known(row: ParametersRow, format_name: str) -> ParametersRow:
    """Parameters without what this format has no place for: absent is not the same as zero.

    A file's word count does not tell the depth of the meter's memory: a program may have chosen the period.
    """
    unknown = _NO_DEPTH | (_lacking_in_text() if format_name == TEXT else frozenset())
    return replace(row, values={name: value for name, value in row.values.items() if name not in unknown})


@lru_cache(1)
def _lacking_in_text() -> frozenset[str]:
    return frozenset(
        spec.name
        for spec in table_of(Parameters)
        if spec.name != "code"
        and not all(has_place(PARAMETERS, offset + 1, offset + spec.codec.size) for offset in spec.offsets)
    )


def _lost_slots(layout: Layout) -> dict[date, set[int]]:
    """Slots by day whose words are damaged; the decoder gave times to the words by the same parameters."""
    answers = [decode_response(frame.payload) for frame in layout.frames if not frame.is_sent]
    parameters = {answer.code: answer for answer in answers if isinstance(answer, Parameters)}
    found: dict[date, set[int]] = {}
    for code, spans in layout.lost.items():
        known = next((parameters[one] for one in PARAMETERS_OF[code] if one in parameters), None)
        if known is None or not known.memory_interval_s:
            continue
        words = known.words_previous if code == 0x27 else known.words_current
        last_end = known.last_reset if code == 0x27 else known.last_interval_end
        if words is None or last_end is None:
            continue
        interval = timedelta(seconds=known.memory_interval_s)
        first_start = last_end - words // CHANNELS_PER_GROUP * interval
        for first, count in spans:
            for number in range(first // CHANNELS_PER_GROUP, -(-(first + count) // CHANNELS_PER_GROUP)):
                start = first_start + number * interval
                slot = (start - datetime.combine(start.date(), datetime.min.time())) // interval
                found.setdefault(start.date(), set()).add(slot)
    return found


def _without(vector: DayVector, lost: dict[date, set[int]]) -> DayVector | None:
    slots = [slot for slot in lost.get(vector.day, ()) if slot < len(vector.present)]
    if not slots:
        return vector
    present = vector.present.copy()
    present[slots] = False
    return replace(vector, present=present) if present.any() else None


# --- FK7 ---------------------------------------------------------------------------------------------------


def _lay_out_fk7(octets: bytes, profile: MeterProfile) -> Layout:
    scan = scan_fk7(octets)
    layout = Layout(scan.meter_serial)
    layout.issues += [(damage.offset, damage.count, damage.reason) for damage in scan.damages]
    groups = None
    if profile.file_groups is FileGroups.IN_ORDER and not scan.damages:
        groups = group_sections(scan.blocks)
    is_mixed = groups is None and _has_groups(scan.blocks)
    for group, blocks in enumerate(groups or [scan.blocks]):
        _lay_out_group(layout, group, blocks, profile, is_mixed)
    return layout


def _has_groups(blocks: Sequence[Fk7Block]) -> bool:
    """Whether the meter has more than three channels, so that blocks may be of any group of them."""
    found = [decode_response(one.content) for one in blocks if one.content[0] in PARAMETER_CODES]
    return any(isinstance(one, Parameters) and (one.group_count or 0) > 1 for one in found)


def _lay_out_group(
    layout: Layout, group: int, blocks: Sequence[Fk7Block], profile: MeterProfile, is_mixed: bool
) -> None:
    memories: dict[int, list[Fk7Block]] = {}
    answers: dict[int, Fk7Block] = {}
    # Memories that other parameters have ended: what follows is of another answer.
    ended: set[int] = set()
    for block in blocks:
        code = block.content[0]
        if code in ended:
            reason = f"{code:02X}: a memory block behind other parameters"
            layout.issues.append((block.offset, len(block.content), reason))
        elif code in MEMORY_CODES:
            memories.setdefault(code, []).append(block)
        elif code not in answers:
            answers[code] = block
        elif answers[code].content != block.content:
            reason = f"a second answer {code:02X}, with other content: which channels it is of is not told"
            layout.issues.append((block.offset, len(block.content), reason))
            ended |= _ended_by(code, answers, is_mixed)
    for code in sorted(answers, key=lambda code: (code not in PARAMETER_CODES, answers[code].offset)):
        if group and code in PARAMETER_CODES:
            layout.ask(code, group)
        layout.answer(answers[code].content)
    for code, found in memories.items():
        _lay_out_memory(layout, code, found, profile, is_mixed)


def _ended_by(code: int, answers: Mapping[int, Fk7Block], is_mixed: bool) -> Set[int]:
    """Memories that, behind a second answer of this code, need not be those of the first."""
    if is_mixed and code in PARAMETER_CODES:
        return MEMORY_CODES
    goes_by = {m: next((c for c in by if c in answers), None) for m, by in PARAMETERS_OF.items()}
    return {memory for memory, by in goes_by.items() if by == code}


def _lay_out_memory(
    layout: Layout, code: int, blocks: Sequence[Fk7Block], profile: MeterProfile, is_mixed: bool
) -> None:
    """Blocks in the places that their numbers name; a lost one is filled with zeros and told as lost.

    Where the numbers begin again, another answer begins, and no block of it is taken. Where blocks may be of
    several channel groups (`is_mixed`), one behind a gap may be of another group, and is not taken either.
    """
    payloads: list[bytes] = []
    offsets: list[int | None] = []
    seen: set[bytes] = set()
    last = b""
    has_last = is_over = False
    for block in blocks:
        mark = block_mark(block.content)
        if block.content == last:
            continue  # the very block again
        place = None if mark is None or is_over else _place(mark[0], len(payloads), profile)
        if mark is None or place is None:
            is_over = is_over or mark is not None
            if block.content not in seen:  # not a copy appended to itself
                reason = (
                    "a memory block without a number" if mark is None else f"memory block {mark[0]} again"
                )
                layout.issues.append((block.offset, len(block.content), f"{code:02X}: {reason}"))
            continue
        if missing := place - len(payloads):
            is_over = is_mixed
            lost = (len(payloads) * WORDS_PER_BLOCK, missing * WORDS_PER_BLOCK)
            layout.lost.setdefault(code, []).append(lost)
            reason = f"{code:02X}: {missing} memory blocks missing before number {mark[0]}"
            layout.issues.append((block.offset, 0, reason))
            if is_over:
                continue
            payloads += [bytes(OCTETS_PER_BLOCK)] * missing
            offsets += [None] * missing
        payloads.append(block.content[7:])
        offsets.append(block.offset)
        seen.add(block.content)
        last = block.content
        has_last = is_over = mark[1]
    if not has_last and payloads:
        # A copy cut off at the end of a block shows nowhere else.
        reason = f"{code:02X}: the memory ends after block {len(payloads)}, which is not marked as its last"
        layout.issues.append((blocks[-1].offset + len(blocks[-1].content), 0, reason))
    # One more and taken away again where the last block did not come: none is marked as the last then.
    laid = memory_blocks(
        code,
        layout.meter_serial,
        payloads if has_last else [*payloads, bytes(OCTETS_PER_BLOCK)],
        profile.block_after_999,
    )[: len(payloads)]
    for seq, offset in zip(layout.memory(code, laid), offsets, strict=True):
        if offset is not None:
            layout.sources[seq] = offset


def _place(number: int, held: int, profile: MeterProfile) -> int | None:
    """The 0-based place at or after `held` that a number names; None for one that came already."""
    for place in range(held, held + MAX_BLOCK_NUMBER // 2):
        expected = place + 1
        if profile.block_after_999 == 0:
            expected %= MAX_BLOCK_NUMBER + 1
        else:
            expected = (expected - 1) % MAX_BLOCK_NUMBER + 1
        if expected == number:
            return place
    return None


# --- text --------------------------------------------------------------------------------------------------


def _lay_out_text(octets: bytes, profile: MeterProfile) -> Layout:
    scan = scan_text(octets)
    parameters = scan.header.blocks["parameters"]
    layout = Layout(parameters[1:5].hex().upper())
    layout.issues += [(damage.offset, damage.count, damage.reason) for damage in scan.damages]
    layout.answer(parameters)
    for name, block in scan.header.blocks.items():
        if name != "parameters":
            layout.answer(block)
    for label, code in _MEMORY_OF.items():
        words, lost = scan.words(label)
        if not words:
            continue
        if lost:
            layout.lost[code] = lost
            count = sum(number for _, number in lost)
            layout.issues.append((len(octets), 0, f"{count} words of {label} missing"))
        payloads = words_to_payloads(np.array(words), profile.packing)
        blocks = memory_blocks(code, layout.meter_serial, payloads, profile.block_after_999)
        list(layout.memory(code, blocks))
    return layout
