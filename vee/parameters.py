"""Parameters of rules by file: one frozen dataclass a rule, read from TOML, validated key by key.

    parameters = read(path, Parameters())

`read` takes the defaults and a file that says what differs. A nested dataclass is a table of the file, a
dictionary of dataclasses a table of tables. What the file does not name keeps its default; what it names and
nobody knows is an error, as is a value of the wrong type or outside the bounds of its field:

    times: float = bounded(4.0, low=1)

Fractions are written as text ("1/100", "0.01") or whole numbers: a float would not be exact. The same words
serve a dated override of one parameter (`with_value`).
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, replace
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from faults import OperatorFault

_P = TypeVar("_P")


def bounded(default: Any, *, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field whose value must lie between `low` and `high`, both included."""
    return field(default=default, metadata={"low": low, "high": high})


def read(path: Path, default: _P) -> _P:
    """The parameters of a TOML file, over the defaults.

    Raises:
        OperatorFault: the file cannot be read, or names what does not exist, or a value that does not fit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorFault(
            f"cannot be read: {error.strerror or error}",
            where=str(path),
            remedy="check the path of the file of rule parameters",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorFault(f"not TOML: {error}", where=str(path), remedy="correct the line") from error
    return from_table(default, table, str(path))


def from_table(default: _P, table: object, where: str) -> _P:
    """A dataclass with what a table says in place of the defaults."""
    if not isinstance(table, Mapping):
        raise OperatorFault(f"{table!r} is not a table", where=where, remedy="write it as [name] with keys")
    known = _fields(default)
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise _unknown(key, known, where)
        now, place = getattr(default, key), f"{where} {key}"
        if is_dataclass(now):
            changes[key] = from_table(now, value, place)
        elif isinstance(now, dict):
            changes[key] = _tables(now, value, place)
        else:
            changes[key] = _checked(default, known[key], value, place)
    return _replaced(default, changes, where)


def with_value(default: _P, name: str, text: str, where: str) -> _P:
    """A dataclass with one field changed, from text as it stands in a file or a table of overrides."""
    known = _fields(default)
    if name not in known:
        raise _unknown(name, known, where)
    return _replaced(default, {name: _checked(default, known[name], _plain(text), f"{where} {name}")}, where)


def _fields(instance: object) -> dict[str, Field[Any]]:
    return {item.name: item for item in fields(cast(Any, instance))}


def _unknown(key: str, known: Mapping[str, object], where: str) -> OperatorFault:
    return OperatorFault(f"no parameter {key!r}", where=where, remedy=f"known are {', '.join(sorted(known))}")


def _tables(now: dict[str, Any], table: object, where: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise OperatorFault(
            f"{table!r} is not a table", where=where, remedy="write it as [name.ID] with keys"
        )
    if unknown := sorted(set(table) - set(now)):
        raise _unknown(unknown[0], now, where)
    return now | {key: from_table(now[key], part, f"{where}.{key}") for key, part in table.items()}


def _replaced(default: _P, changes: dict[str, Any], where: str) -> _P:
    try:
        return cast(_P, replace(cast(Any, default), **changes))
    except ValueError as error:
        raise OperatorFault(str(error), where=where, remedy="change one of the two") from error


def _plain(text: str) -> object:
    """A value as TOML would have it: true, 6, 0.5, ["a"], or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(default: object, item: Field[Any], value: object, where: str) -> Any:
    kind = get_type_hints(type(default))[item.name]
    try:
        found = _as(kind, value)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise OperatorFault(
            f"{value!r} is not {_shown(kind)}", where=where, remedy=_remedy(kind, item)
        ) from error
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if found is not None and ((low is not None and found < low) or (high is not None and found > high)):
        raise OperatorFault(f"{value!r} is out of bounds", where=where, remedy=_remedy(kind, item))
    return found


def _as(kind: Any, value: object) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        if value == "none" and type(None) in get_args(kind):
            return None
        return _as(next(one for one in get_args(kind) if one is not type(None)), value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise TypeError("no list")
        return tuple(_as(get_args(kind)[0], one) for one in value)
    if kind is bool or kind is str:
        if not isinstance(value, kind):
            raise TypeError("another type")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("another type")
    return _as_number(kind, value)


def _as_number(kind: Any, value: int | float | str) -> Any:
    if kind is Fraction:
        if isinstance(value, float):
            raise TypeError("a float is not exact")
        return Fraction(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        named = {member.name.lower(): member for member in kind}
        return named[value] if isinstance(value, str) and value in named else kind(value)
    if isinstance(value, str) or (kind is int and isinstance(value, float)):
        raise TypeError("another type")
    return float(value) if kind is float else value


def _shown(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_shown(one) for one in get_args(kind))
    names = {
        bool: "true or false",
        str: "text",
        int: "a whole number",
        float: "a number",
        type(None): '"none"',
    }
    if kind in names:
        return names[kind]
    if kind is Fraction:
        return "an exact number"
    if get_origin(kind) is tuple:
        return f"a list, each {_shown(get_args(kind)[0])}"
    return "one of " + ", ".join(str(member.name.lower()) for member in kind)


def _remedy(kind: Any, item: Field[Any]) -> str:
    low, high = item.metadata.get("low"), item.metadata.get("high")
    bounds = f" from {low}" if low is not None else ""
    bounds += f" to {high}" if high is not None else ""
    example = "" if item.default is MISSING else f", for example {_example(item.default)}"
    return f"write {_shown(kind)}{bounds}{example}"


def _example(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return '"none"' if value is None else str(value).lower()
    if isinstance(value, Enum):
        return f'"{value.name.lower()}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_example(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str | Fraction) else str(value)
