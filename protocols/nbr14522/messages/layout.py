"""Messages as tables: each field says at which octet it lies and how it is coded; one engine does the rest.

Rules of the engine, for both directions:

- a field whose octets are not a valid value is None, and a `Problem` says where and why; the rest is decoded;
- a None is not written: the octets that came in stay (or the blank of a fresh frame), so octets that no table
  explains, and values that could not be read, survive `encode(decode(x)) == x`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, time
from enum import IntEnum
from typing import Any, ClassVar, Self

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.messages.codecs import (
    BadField,
    Binary32,
    Choice,
    Clock,
    Codec,
    Date,
    Digits,
    DisplayCodes,
    Flag,
    Raw,
    Text,
    TimeDate,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A field that could not be read."""

    name: str
    octet: int
    octets_hex: str
    reason: str


REDACTED = "(redacted)"

_KNOWN_VALUES = 64
"""Values that a field remembers, at most: some hundred fields must not grow with a fleet's registers."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of octets that is itself a table; a run of zeros only is nothing where `empty_is_none`."""

    of: type[Table]
    empty_is_none: bool = False

    @property
    def size(self) -> int:
        return self.of.SIZE

    def decode(self, octets: bytes) -> Any:
        raise NotImplementedError("parts are read by the engine")

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError("parts are written by the engine")


@dataclass(frozen=True, slots=True)
class FieldSpec:
    name: str
    octet: int
    codec: Codec
    count: int
    blank: bytes | None
    required: bool
    echoed: bool
    secret: bool
    offsets: tuple[int, ...] = field(init=False)
    """0-based, of each value: worked out once, since reading a message asks for some hundred."""
    known: dict[bytes, Any] = field(init=False, repr=False, compare=False)
    """Values already read: most fields are the same in each answer, and a look here is ten times quicker."""

    def __post_init__(self) -> None:
        first, size = self.octet - 1, self.codec.size
        offsets = tuple(first + index * size for index in range(max(self.count, 1)))
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "known", {})


def at(
    octet: int,
    codec: Codec,
    count: int = 0,
    blank: bytes | None = None,
    *,
    default: Any = None,
    compare: bool = True,
    required: bool = False,
    echoed: bool = False,
    secret: bool = False,
) -> Any:
    """A field of a table.

    Args:
        octet: 1-based position of its first octet.
        count: 0 for a single value; else a tuple of so many values one after the other.
        blank: octets of a value that is None in a fresh frame, where not the frame's own filling.
        default: the value of a fresh message.
        compare: whether two messages that differ only here are different.
        required: a fresh request cannot be written without it: a clock is not set to zeros by omission.
        echoed: the octet is that of the command; in an answer the field lies one octet later (`sent`).
        secret: shown neither by `repr` nor by `to_json`.
    """
    if count:
        default = (default,) * count
    where = {
        "octet": octet,
        "codec": codec,
        "count": count,
        "blank": blank,
        "required": required,
        "echoed": echoed,
        "secret": secret,
    }
    return field(default=default, compare=compare, repr=not secret, metadata=where)


def sent(octet: int, codec: Codec, count: int = 0, blank: bytes | None = None, **options: Any) -> Any:
    """A field that a command carries at `octet` and the answer brings back one octet later.

    A meter's serial takes one octet more than a reader's (section 6.2, B), so one table serves both.
    """
    return at(octet, codec, count, blank, echoed=True, **options)


def table_of(kind: type[Table]) -> tuple[FieldSpec, ...]:
    """The field table of a message class, in octet order; built once per class."""
    known = _TABLES.get(kind)
    if known is None:
        known = _TABLES[kind] = _build_table(kind)
    return known


_TABLES: dict[type[Table], tuple[FieldSpec, ...]] = {}


def _build_table(kind: type[Table]) -> tuple[FieldSpec, ...]:
    specs = [FieldSpec(name=f.name, **f.metadata) for f in fields(kind) if "octet" in f.metadata]
    if kind.ECHO_SHIFT:
        # What a request must carry an answer may leave blank: some meters answer a write with zeros.
        specs = [
            replace(spec, octet=spec.octet + kind.ECHO_SHIFT, required=False) if spec.echoed else spec
            for spec in specs
        ]
    return tuple(sorted(specs, key=lambda spec: spec.octet))


@dataclass(frozen=True, kw_only=True)
class Table:
    """Base of everything that is a table of fields in a run of octets.

    Attributes:
        octets: the run as received, for what the table does not explain; empty in a fresh one. Not compared.
        problems: fields that could not be read.
    """

    SIZE: ClassVar[int]
    ECHO_SHIFT: ClassVar[int] = 0

    octets: bytes = field(default=b"", repr=False, compare=False)
    problems: tuple[Problem, ...] = ()

    @classmethod
    def read(cls, octets: bytes) -> Self:
        """Decode a run of SIZE octets. Never raises on their content."""
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for spec in table_of(cls):
            found = [_read_slot(spec, octets, offset, problems) for offset in spec.offsets]
            values[spec.name] = found[0] if spec.count == 0 else tuple(found)
        return cls(octets=octets, problems=tuple(problems), **values)

    def write(self, filling: int = 0x00) -> bytes:
        """The run of octets; the inverse of `read`.

        Args:
            filling: octet of a fresh run where no field says anything.

        Raises:
            LocalProtocolError: a value that its field cannot hold.
        """
        run = bytearray(self.octets or bytes([filling]) * self.SIZE)
        odd = {problem.name for problem in self.problems}
        for spec in table_of(type(self)):
            value = getattr(self, spec.name)
            values = (value,) if spec.count == 0 else value
            if len(values) != max(spec.count, 1):
                raise LocalProtocolError(f"{len(values)} values, {spec.count} belong here", where=spec.name)
            for offset, one in zip(spec.offsets, values, strict=True):
                if one is not None and _slot_name(spec, offset) in odd:
                    continue  # read in part: its octets say more than the value does
                run[offset : offset + spec.codec.size] = self._slot_octets(spec, one, run, offset)
        return bytes(run)

    def _slot_octets(self, spec: FieldSpec, value: Any, run: bytearray, offset: int) -> bytes:
        size = spec.codec.size
        if value is None:
            if spec.required and not self.octets:
                raise LocalProtocolError("a value is needed", where=f"{type(self).__name__}.{spec.name}")
            return (
                spec.blank
                if spec.blank is not None and not self.octets
                else bytes(run[offset : offset + size])
            )
        if isinstance(value, Table):
            return value.write()
        try:
            octets = spec.codec.encode(value)
        except (ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
            raise LocalProtocolError(f"{value!r} cannot be written: {error}", where=spec.name) from error
        if len(octets) != size:
            raise LocalProtocolError(
                f"{value!r} takes {len(octets)} octets, {size} belong here", where=spec.name
            )
        return octets

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """A fresh message from plain values, as `to_json` writes them; what is left out has its default.

        Raises:
            LocalProtocolError: a name or a value that does not belong here.
        """
        specs = {spec.name: spec for spec in table_of(cls)}
        if unknown := values.keys() - specs.keys():
            raise LocalProtocolError(f"{', '.join(sorted(unknown))}: no such field", where=cls.__name__)
        return cls(**{name: _from_plain(specs[name], value) for name, value in values.items()})

    def to_json(self) -> dict[str, Any]:
        """Plain values: ISO dates and times, hexadecimal octets; empty records are left out."""
        result = {
            spec.name: REDACTED if spec.secret else json_value(getattr(self, spec.name))
            for spec in table_of(type(self))
        }
        if self.problems:
            result["problems"] = [
                {"name": p.name, "octet": p.octet, "octets": p.octets_hex, "reason": p.reason}
                for p in self.problems
            ]
        return result


def _read_slot(spec: FieldSpec, run: bytes, offset: int, problems: list[Problem]) -> Any:
    codec = spec.codec
    octets = run[offset : offset + codec.size]
    if octets in spec.known:
        return spec.known[octets]
    if isinstance(codec, Part):
        if codec.empty_is_none and not any(octets):
            return None
        part = codec.of.read(octets)
        problems += [
            Problem(f"{_slot_name(spec, offset)}.{p.name}", offset + p.octet, p.octets_hex, p.reason)
            for p in part.problems
        ]
        return part
    try:
        value = codec.decode(octets)
    except BadField as reason:
        problems.append(Problem(_slot_name(spec, offset), offset + 1, octets.hex(" "), str(reason)))
        return reason.good
    if len(spec.known) < _KNOWN_VALUES and not spec.secret:
        spec.known[octets] = value
    return value


def _slot_name(spec: FieldSpec, offset: int) -> str:
    return f"{spec.name}[{spec.offsets.index(offset)}]" if spec.count else spec.name


def _from_plain(spec: FieldSpec, plain: Any) -> Any:
    if plain is None and not spec.count:
        return None
    try:
        if not spec.count:
            return _parse(spec.codec, plain)
        values = [None if one is None else _parse(spec.codec, one) for one in plain or ()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LocalProtocolError(f"{plain!r} does not belong here: {error}", where=spec.name) from error
    if len(values) > spec.count:
        raise LocalProtocolError(f"{len(values)} values, {spec.count} at most", where=spec.name)
    return (*values, *(None,) * (spec.count - len(values)))


def _parse(codec: Codec, plain: Any) -> Any:
    match codec:
        case Part():
            return codec.of.from_json(plain)
        case Choice():
            return codec.of[plain.upper()] if isinstance(plain, str) else codec.of(plain)
        case Flag():
            return _checked(plain, bool)
        case Date():
            return date.fromisoformat(plain)
        case Clock():
            return time.fromisoformat(plain)
        case TimeDate():
            return datetime.fromisoformat(plain)
        case Raw():
            return bytes.fromhex(plain)
        case Digits() | Text():
            return _checked(plain, str)
        case DisplayCodes():
            return tuple(_checked(code, int) for code in plain)
        case Binary32():
            return float(plain)
    return _checked(plain, int)


def _checked(plain: Any, kind: type) -> Any:
    if type(plain) is not kind:
        raise ValueError(f"not {kind.__name__}")
    return plain


def json_value(value: Any) -> Any:
    """A field's value as JSON knows it."""
    if value is None or type(value) in (int, bool, str, float):
        return value
    if isinstance(value, Table):
        return value.to_json()
    if isinstance(value, tuple):
        if any(isinstance(one, Table) for one in value):
            return [one.to_json() for one in value if one is not None]
        return [json_value(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, IntEnum):
        return value.name.lower()
    return value
