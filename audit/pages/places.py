"""Where a count stands in the octets, as parts of a document; one function a kind of place.

What belongs here: sentences and marked octets. What does not: finding the place (`*_evidence`, by protocol).
"""

from __future__ import annotations

from collections.abc import Sequence

from audit.dlms_evidence import Cell, DlmsPlace
from audit.evidence import FramePart, Place
from audit.file_evidence import FilePlace
from audit.nbr14522_evidence import Word
from audit.pages.words import Words
from audit.stream_evidence import StreamPlace
from documents import Block, Mark, Octets, Text, Tone
from documents.wording import day, instant

# A frame longer than this is shown around the marked octets only.
_SHOWN_WHOLE = 320
_AROUND = 32
_LINE = 16


def place_blocks(place: Place | None, words: Words) -> list[Block]:
    """Sentences and octets of a place."""
    if isinstance(place, Word):
        return _word(place, words)
    if isinstance(place, DlmsPlace):
        return _row(place, words)
    if isinstance(place, FilePlace):
        return _file(place, words)
    if isinstance(place, StreamPlace):
        return _record(place, words)
    return [
        Text(
            words(
                "Nenhum octeto guardado traz esta contagem.",
                "No stored octets hold this count.",
            ),
            Tone.WARN,
        )
    ]


def _word(place: Word, words: Words) -> list[Block]:
    last = place.first_octet + len(place.octets) - 1
    sentence = words(
        f"Quadro {place.frame_seq}: resposta ao comando {place.command}, bloco {place.block}, palavra "
        f"{place.word}. Os octetos {place.first_octet} a {last} guardam duas palavras de 12 bits; a desta "
        f"vale {place.pulses} pulsos. O CRC do quadro está certo.",
        f"Frame {place.frame_seq}: answer to command {place.command}, block {place.block}, word "
        f"{place.word}. "
        f"Octets {place.first_octet} to {last} hold two words of 12 bits; this one is {place.pulses} pulses. "
        "The frame's CRC is good.",
    )
    size = len(place.payload)
    marks = [
        Mark(
            place.first_octet,
            last,
            words(f"a contagem: {place.pulses} pulsos", f"the count: {place.pulses} pulses"),
        ),
        Mark(size - 1, size, "CRC"),
    ]
    return [Text(sentence), *_octets(place.payload, marks)]


def _row(place: DlmsPlace, words: Words) -> list[Block]:
    raws = " − ".join(str(row.raw) for row in reversed(place.rows))
    energy = f"({raws})" if len(place.rows) > 1 else raws
    length = "" if place.average_s is None else f" × {place.average_s} s / 3600"
    value = place.rows[-1].value
    blocks: list[Block] = [
        Text(
            words(
                f"Curva de carga {place.profile}, linha {value.row}, coluna {value.column} ({place.column}), "
                f"período que termina em {instant(place.rows[-1].end, words.language)} pelo relógio do "
                "medidor.",
                f"Load profile {place.profile}, row {value.row}, column {value.column} ({place.column}), "
                "period "
                f"that ends at {instant(place.rows[-1].end, words.language)} by the meter's clock.",
            )
        ),
        Text(
            words(
                f"{energy} × 10^{place.scaler} {place.unit}{length}, a {place.pulse_wh} Wh por pulso: "
                f"{place.pulses} pulsos.",
                f"{energy} × 10^{place.scaler} {place.unit}{length}, at {place.pulse_wh} Wh a pulse: "
                f"{place.pulses} pulses.",
            )
        ),
    ]
    marked: list[tuple[FramePart, str]] = []
    for row in place.rows:
        end = f"{row.end:%H:%M}"
        marked += _parts(row.value, words(f"valor da linha das {end}", f"value of the row of {end}"))
        marked += _parts(row.clock, words(f"relógio da linha das {end}", f"clock of the row of {end}"))
    named = words("a lista de colunas a nomeia", "the list of columns names it")
    marked += [(part, named) for part in place.column_octets]
    marked += [(part, words("escala e unidade", "scaler and unit")) for part in place.scaler_octets]
    return blocks + _frames(marked, words)


def _parts(cell: Cell, what: str) -> list[tuple[FramePart, str]]:
    return [(part, what) for part in (*cell.octets, *cell.told_by)]


def _record(place: StreamPlace, words: Words) -> list[Block]:
    values = " − ".join(str(one.value) for one in reversed(place.records))
    blocks: list[Block] = [
        Text(
            words(
                f"{place.what}: {values or 'não apareceu em bloco nenhum'} = {place.pulses} pulsos.",
                f"{place.what}: {values or 'showed in no block'} = {place.pulses} pulses.",
            )
        )
    ]
    for one in place.records:
        last = one.first_octet + len(one.value_octets) - 1
        blocks.append(
            Text(
                words(
                    f"Ouvido em {instant(one.at, words.language)}; a verificação do bloco está certa.",
                    f"Heard at {instant(one.at, words.language)}; the block's check is good.",
                )
            )
        )
        what = words(f"o valor: {one.value}", f"the value: {one.value}")
        blocks += _octets(one.octets, [Mark(one.first_octet, last, what)])
    return blocks


def _file(place: FilePlace, words: Words) -> list[Block]:
    last = place.first_octet + len(place.octets) - 1
    sentence = words(
        f"Arquivo {place.name}, {place.size} octetos, SHA-256 {place.sha256}: {place.where}, octetos "
        f"{place.first_octet} a {last} = {place.pulses} pulsos.",
        f"File {place.name}, {place.size} octets, SHA-256 {place.sha256}: {place.where}, octets "
        f"{place.first_octet} to {last} = {place.pulses} pulses.",
    )
    what = words(f"a contagem: {place.pulses} pulsos", f"the count: {place.pulses} pulses")
    marks = [Mark(place.first_octet, last, what)]
    return [Text(sentence), *_octets(place.around, marks, place.around_first_octet)]


def _frames(marked: Sequence[tuple[FramePart, str]], words: Words) -> list[Block]:
    """Each frame once, with all that is marked in it."""
    blocks: list[Block] = []
    for number in sorted({part.frame_seq for part, _ in marked}):
        of_frame = [(part, what) for part, what in marked if part.frame_seq == number]
        first = of_frame[0][0]
        plain = words(
            ", texto claro dos quadros cifrados antes dele; as chaves não são guardadas",
            ", plain text of the ciphered frames before it; keys are not kept",
        )
        frame = words("Quadro", "Frame")
        at = f"{day(first.frame_at, words.language)} {first.frame_at:%H:%M:%S}"
        blocks.append(Text(f"{frame} {number}, {at}{plain if first.is_plain else ''}."))
        marks = {(part.first_octet, part.first_octet + len(part.octets) - 1): what for part, what in of_frame}
        blocks += _octets(
            first.payload, [Mark(begin, end, what) for (begin, end), what in sorted(marks.items())]
        )
    return blocks


def _octets(payload: bytes, marks: Sequence[Mark], start: int = 1) -> list[Block]:
    """The octets; of long ones only the lines around what is marked."""
    if len(payload) <= _SHOWN_WHOLE:
        return [Octets(payload, marks, start)]
    shown: list[Block] = []
    wanted = sorted(
        line
        for line in range(0, len(payload), _LINE)
        if any(
            mark.first - _AROUND <= line + start + _LINE and line + start <= mark.last + _AROUND
            for mark in marks
        )
    )
    begin = 0
    for at, line in enumerate(wanted):
        if at + 1 == len(wanted) or wanted[at + 1] != line + _LINE:
            first, end = wanted[begin], line + _LINE
            within = [mark for mark in marks if first + start <= mark.last and mark.first < end + start]
            shown.append(Octets(payload[first:end], within, first + start))
            begin = at + 1
    return shown
