"""The one way from a TOML file to frozen values: declared types in, checked dataclasses out.

A dataclass is its table's declaration. Its fields name the keys, their types say what a value may be, a field
without a default is a key that must be there, and a `Key` in `Annotated` (or in the field's metadata under
`KEY`) bounds it further. Keys that nobody declared are refused. All that is wrong with a file is said at
once, each with its place and what would be right.
"""

from __future__ import annotations

import math
import re
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from faults import OperatorFault

T = TypeVar("T")

KEY = "toml_key"
"""Name in a field's metadata under which its `Key` stands."""
_PLACE = re.compile(r"\(at (line \d+|end of document)[^()]*\)$")
_REFUSED = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, re.error)


@dataclass(frozen=True, slots=True)
class Key:
    """What a good value is, beside its type.

    Attributes:
        remedy: what to write, where the type alone does not say it.
        choices: the only values.
        least, most: bounds, included; above: a lower bound, excluded.
        pattern: regular expression that the whole text matches.
        convert: makes the value of what the file has, in place of the type's own way; what it raises
            (ValueError, TypeError, KeyError) is the problem.
    """

    remedy: str = ""
    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    pattern: str = ""
    convert: Callable[[Any], Any] | None = None


def _tables(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(table, Mapping) for table in value.values()):
        raise ValueError("must be tables, each with a name")
    return value


Tables = Annotated[Mapping[str, Any], Key("write [name.NAME] with its keys below", convert=_tables)]
"""Tables by name that are built one by one, when they are asked for: a mistake in one stops no other."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the key's place in the file, what, and what would be right."""

    place: str
    text: str
    remedy: str = ""


def load_toml(path: Path, *, remedy: str, what: str = "the file", is_secret: bool = False) -> dict[str, Any]:
    """The document of a file.

    Args:
        remedy: where the path comes from: what to correct when it cannot be read.
        what: the file in a message: "cannot read WHAT".
        is_secret: no message quotes anything of it.

    Raises:
        OperatorFault: it cannot be read, or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise OperatorFault(f"cannot read {what}: {reason}", where=str(path), remedy=remedy) from None
    return parse_toml(text, str(path), is_secret=is_secret)


def parse_toml(text: str, where: str, *, is_secret: bool = False) -> dict[str, Any]:
    """The document of a text; else as `load_toml`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if not is_secret:
            raise OperatorFault(f"not TOML: {error}", where=where, remedy="correct the line named") from error
        # The rest of its message may quote the line, and with it a secret.
        place = _PLACE.search(str(error))
        where = f"{where}, {place[1]}" if place else where
        raise OperatorFault("not TOML", where=where, remedy="correct the line named") from None


def build(
    kind: type[T],
    table: Any,
    where: str,
    *,
    prefix: str = "",
    base: T | None = None,
    remedy: str = "",
    beside: Path | None = None,
    is_secret: bool = False,
    check: Callable[[T], Sequence[Problem]] | None = None,
) -> T:
    """A dataclass of a table.

    Args:
        where: the file, or the file and its section.
        prefix: stands before each key in a message: the path of the table in the file, with its dot.
        base: gives the values of keys that are not there, in place of the defaults.
        remedy: of all problems together; each keeps its own where it is alone.
        beside: folder that a path in the file is relative to.
        is_secret: no message quotes a value.
        check: finds what is wrong with values that are good one by one.

    Raises:
        OperatorFault: naming each key that is wrong, missing or unknown, and what would be right.
    """
    reading = _Reading(beside, is_secret)
    made: T | None = reading.table(kind, table, prefix, base)
    problems = reading.problems
    if not problems and made is not None and check is not None:
        problems = list(check(made))
    refuse(problems, where, remedy)
    assert made is not None
    return made


def read_keys(
    table: Mapping[str, Any],
    readers: Mapping[str, Callable[[Any], Any]],
    where: str,
    remedy: str = "",
    refused: tuple[type[Exception], ...] = (),
) -> dict[str, Any]:
    """The values of a table whose keys are declared by a mapping: name -> what makes the value.

    Args:
        where: the table; a key's place follows it after a comma.
        refused: what readers raise for a bad value, besides the usual.

    Raises:
        OperatorFault: as `build`.
    """
    known = f"known: {', '.join(sorted(readers))}"
    problems = [Problem("", f"unknown key {name}; {known}") for name in table if name not in readers]
    values: dict[str, Any] = {}
    refusals: tuple[type[Exception], ...] = (*_REFUSED, *refused)
    for name, read in readers.items():
        if name in table:
            try:
                values[name] = read(table[name])
            except refusals as error:
                problems.append(Problem(name, f"{table[name]!r}: {_reason(error)}"))
    if len(problems) == 1 and problems[0].place:
        where, problems = f"{where}, {problems[0].place}", [Problem("", problems[0].text)]
    refuse(problems, where, remedy)
    return values


def convert(raw: Any, hint: Any, key: Key, where: str, *, is_text: bool = False) -> Any:
    """One value on its own, as of a variable of the environment.

    Args:
        is_text: the value is a text whatever its type is to be.

    Raises:
        OperatorFault: it does not fit.
    """
    try:
        return _Reading(None, False, is_text).value(raw, hint, key, "", [])
    except ValueError as error:
        raise OperatorFault(str(error), where=where, remedy=key.remedy) from None


def refuse(problems: Sequence[Problem], where: str, remedy: str = "") -> None:
    """Raises OperatorFault: where there are problems. One is named in full, several are listed."""
    if not problems:
        return
    first = problems[0]
    if len(problems) == 1:
        raise OperatorFault(
            first.text, where=f"{where} {first.place}".strip(), remedy=first.remedy or remedy or "correct it"
        )
    listed = "; ".join(
        f"{problem.place}: {problem.text}" if problem.place else problem.text for problem in problems
    )
    raise OperatorFault(
        f"{len(problems)} problems: {listed}", where=where, remedy=remedy or "correct the keys named"
    )


class _Reading:
    """One table being read; collects what is wrong with it."""

    def __init__(self, beside: Path | None, is_secret: bool, is_text: bool = False) -> None:
        self._beside = beside
        self._is_secret = is_secret
        self._is_text = is_text
        self.problems: list[Problem] = []

    def table(self, kind: type[T], table: Any, prefix: str, base: T | None = None) -> T | None:
        """The dataclass, or None where something was wrong."""
        if not isinstance(table, Mapping):
            self._say(prefix.rstrip("."), "must be a table", "write it as [name] with its keys below")
            return None
        before = len(self.problems)
        declared = {item.name: (item, hint, key) for item, hint, key in _declared(kind)}  # type: ignore[arg-type]  # a class is hashable
        self.problems += _unknown(table, declared, prefix)
        values: dict[str, Any] = {}
        for name, (item, hint, key) in declared.items():
            if name not in table:
                if base is None and item.default is MISSING and item.default_factory is MISSING:
                    self._say(f"{prefix}{name}", "missing", key.remedy or f"give {_expected(hint, key)}")
                continue
            try:
                values[name] = self.value(
                    table[name], hint, key, f"{prefix}{name}", getattr(base, name, None)
                )
            except ValueError as error:
                self._say(f"{prefix}{name}", str(error), key.remedy or f"give {_expected(hint, key)}")
        if len(self.problems) > before:
            return None
        try:
            return kind(**values) if base is None else replace(base, **values)  # type: ignore[type-var]  # a dataclass
        except (ValueError, TypeError) as error:
            self._say(prefix.rstrip("."), _reason(error), "")
            return None

    def value(self, raw: Any, hint: Any, key: Key, place: str, base: Any) -> Any:
        """The value of a key. Raises ValueError: it does not fit, in words."""
        if key.convert is not None:
            try:
                value = key.convert(raw)
            except _REFUSED as error:
                raise ValueError(f"{self._shown(raw)}: {_reason(error)}") from None
            return _bounded(value, key)
        kind = _without_none(hint)
        if is_dataclass(kind):
            return self.table(kind, raw, f"{place}.", base if is_dataclass(base) else None)  # type: ignore[arg-type]  # is_dataclass also narrows to instances
        origin = get_origin(kind)
        if origin in (tuple, frozenset, list):
            return self._items(raw, kind, key, place)
        if origin is not None and issubclass(_class_of(origin), Mapping):
            return self._named(raw, kind, key, place)
        try:
            value = _scalar(raw, kind, self._is_text)
        except _REFUSED:
            raise ValueError(f"{self._shown(raw)} is not {_expected(kind, key)}") from None
        if isinstance(value, Path) and self._beside is not None:
            value = self._beside / value
        return _bounded(value, key)

    def _items(self, raw: Any, kind: Any, key: Key, place: str) -> Any:
        if not isinstance(raw, list):
            raise ValueError(f"{self._shown(raw)} is not {_expected(kind, key)}")
        (item, *others), found = get_args(kind), []
        if others and Ellipsis not in others and len(raw) != 1 + len(others):
            raise ValueError(f"{self._shown(raw)} has not {1 + len(others)} values")
        of_item, bare = _key_of(item), _bare(item)
        for number, one in enumerate(raw, start=1):
            if is_dataclass(bare):
                found.append(self.table(bare, one, f"{place}[{number}]."))  # type: ignore[arg-type]  # as above
            else:
                found.append(self.value(one, bare, of_item, f"{place}[{number}]", None))
        if key.choices and (unknown := [one for one in found if one not in key.choices]):
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(map(str, key.choices))}")
        return (get_origin(kind) or tuple)(found)

    def _named(self, raw: Any, kind: Any, key: Key, place: str) -> dict[str, Any]:
        if not isinstance(raw, Mapping):
            raise ValueError(f"{self._shown(raw)} is not {_expected(kind, key)}")
        item = get_args(kind)[1]
        of_item, bare = _key_of(item), _bare(item)
        return {name: self.value(one, bare, of_item, f"{place}.{name}", None) for name, one in raw.items()}

    def _shown(self, raw: Any) -> str:
        return "the value" if self._is_secret else repr(raw)

    def _say(self, place: str, text: str, remedy: str) -> None:
        self.problems.append(Problem(place, text, remedy))


@cache
def _declared(kind: type[Any]) -> tuple[tuple[Field[Any], Any, Key], ...]:
    """Fields of a dataclass that a file may set, with bare type and `Key`."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (item, _bare(hints[item.name]), item.metadata.get(KEY) or _key_of(hints[item.name]))
        for item in fields(kind)
        if item.init
    )


def _key_of(hint: Any) -> Key:
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Key)), Key())


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return _bare(options[0])
    return hint


def _class_of(origin: Any) -> type:
    return origin if isinstance(origin, type) else type(origin)


def _unknown(table: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> list[Problem]:
    remedy = f"known here: {', '.join(known)}"
    return [
        Problem(
            f"{prefix}{name}",
            "unknown section" if isinstance(table[name], Mapping) else f"unknown key {name!r}",
            remedy,
        )
        for name in table
        if name not in known
    ]


def _scalar(raw: Any, kind: Any, is_text: bool) -> Any:
    """The value as `kind`. Raises one of `_REFUSED`: it is none."""
    if get_origin(kind) is Literal:
        if raw in get_args(kind) and not isinstance(raw, bool):
            return raw
        raise ValueError
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(raw)
    if kind in _NUMBERS:
        return _NUMBERS[kind](raw, is_text)
    if kind is bool and is_text:
        return {"true": True, "1": True, "false": False, "0": False}[str(raw).lower()]
    if kind is Path:
        if not isinstance(raw, str) or not raw:
            raise ValueError
        return Path(raw).expanduser()
    # An instant is a date to Python, and no date to a file.
    if type(raw) is not kind:
        raise ValueError
    return raw


def _whole(raw: Any, is_text: bool) -> int:
    if type(raw) is int:
        return raw
    if is_text and float(raw).is_integer():
        return int(float(raw))
    raise ValueError


def _float(raw: Any, is_text: bool) -> float:
    if isinstance(raw, bool) or not (is_text or isinstance(raw, int | float)):
        raise ValueError
    number = float(raw)
    if not math.isfinite(number):
        raise ValueError
    return number


def _decimal(raw: Any, is_text: bool) -> Decimal:
    """In quotes: a number of TOML is binary, and has lost what was written."""
    try:
        number = Decimal(raw) if isinstance(raw, str) else Decimal("nan")
    except InvalidOperation:
        raise ValueError from None
    if not number.is_finite():
        raise ValueError
    return number


def _fraction(raw: Any, is_text: bool) -> Fraction:
    """`"3/4"`, `"0.75"` or a whole number."""
    if type(raw) not in (str, int):
        raise ValueError
    return Fraction(raw)


_NUMBERS: dict[Any, Callable[[Any, bool], Any]] = {
    int: _whole,
    float: _float,
    Decimal: _decimal,
    Fraction: _fraction,
}


def _bounded(value: Any, key: Key) -> Any:
    """Raises ValueError: out of bounds, in words."""
    if key.choices and not isinstance(value, tuple | frozenset) and value not in key.choices:
        raise ValueError(f"{value!r} is not one of {', '.join(map(str, key.choices))}")
    if key.least is not None and value < key.least:
        raise ValueError(f"{value} must be at least {key.least:g}")
    if key.above is not None and value <= key.above:
        raise ValueError(f"{value} must be above {key.above:g}")
    if key.most is not None and value > key.most:
        raise ValueError(f"{value} must be at most {key.most:g}")
    if key.pattern and not re.fullmatch(key.pattern, value):
        raise ValueError(f"{value!r} does not have the form needed")
    return value


_WANTED: dict[Any, str] = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: 'a decimal number in quotes, such as "1.25"',
    Fraction: 'a fraction or decimal number in quotes, such as "3/4"',
    Path: "a path in quotes",
    date: "a date, such as 2026-11-20",
    datetime: "an instant with its offset, such as 2026-11-20T10:00:00-03:00",
    time: "a time of day, such as 08:00:00",
}


def _expected(hint: Any, key: Key) -> str:
    kind = _without_none(hint)
    origin = get_origin(kind)
    if origin in (tuple, frozenset, list):
        item = _bare(get_args(kind)[0])
        of = f" among {', '.join(map(str, key.choices))}" if key.choices else ""
        return f"a list of {_PLURAL.get(item, 'tables' if is_dataclass(item) else 'values')}{of}"
    if key.choices:
        return f"one of {', '.join(map(str, key.choices))}"
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(member.value) for member in kind)}"
    if origin is not None or is_dataclass(kind):
        return "a table"
    return _WANTED.get(kind, "another value")


_PLURAL: dict[Any, str] = {str: "texts", int: "whole numbers", float: "numbers"}


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing or unknown" if error.args else "missing"
    return str(error) or "it does not fit"
