"""Tables of a TOML file, read key by key with errors that name file, key and remedy."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from faults import OperatorFault


@dataclass(frozen=True)
class Spread:
    """How a value differs from meter to meter: constant, even between two, or normal around a mean."""

    low: float
    high: float
    is_normal: bool = False

    def draw(self, chance: random.Random) -> float:
        """One meter's value. Normal: `low` is the mean, `high` the standard deviation."""
        if self.is_normal:
            return chance.gauss(self.low, self.high)
        return self.low if self.low == self.high else chance.uniform(self.low, self.high)


class TomlTable:
    """One table. Every key must be asked for, and `finish` complains about the others."""

    def __init__(self, table: Any, where: str) -> None:
        self.where = where
        if not isinstance(table, dict):
            raise self.wrong("", "not a table", "write it as [name] with keys below")
        self._table: Mapping[str, Any] = table
        self._known: set[str] = set()

    def wrong(self, key: str, problem: str, remedy: str) -> OperatorFault:
        """An error about one key."""
        return OperatorFault(problem, where=f"{self.where} {key}".strip(), remedy=remedy)

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._known.add(key)
        return key in self._table

    def items(self) -> Iterable[tuple[str, Any]]:
        """All of it, for tables whose keys are names."""
        self._known.update(self._table)
        return self._table.items()

    def value(self, key: str, default: Any = None) -> Any:
        """As it stands, for what the caller judges itself."""
        return self._table[key] if self.has(key) else default

    def text(self, key: str, default: str | None = None) -> str:
        """A string; without a default it must be there."""
        value = self.value(key, default)
        if not isinstance(value, str) or not value.isprintable():
            raise self.wrong(key, f"{value!r} is not text", f'write {key} = "..."')
        return value

    def truth(self, key: str, default: bool) -> bool:
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"{value!r} is neither true nor false", f"write {key} = true or false")
        return value

    def whole(self, key: str, default: int | None, low: int, high: int) -> int:
        """A whole number within limits; without a default it must be there."""
        value = self.value(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(
                key, f"{value!r} is not a whole number from {low} to {high}", f"write {key} = {low}"
            )
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self.value(key, default)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.wrong(
                key, f"{value!r} is not a number from {low:g} to {high:g}", f"write {key} = {low:g}"
            )
        return float(value)

    def optional_number(self, key: str, default: float | None, low: float, high: float) -> float | None:
        """A number, or nothing where neither key nor default gives one."""
        return default if not self.has(key) else self.number(key, 0.0, low, high)

    def spread(self, key: str, default: float, low: float, high: float) -> Spread:
        """A number, `[low, high]`, or `{ mean = ..., deviation = ... }`."""
        value = self.value(key, default)
        remedy = f"write {key} = 1.0, {key} = [1.0, 2.0] or {key} = {{ mean = 1.0, deviation = 0.5 }}"
        is_normal = isinstance(value, dict)
        if isinstance(value, dict) and value.keys() == {"mean", "deviation"}:
            value = [value["mean"], value["deviation"]]
        elif type(value) in (int, float):
            value = [value, value]
        if not isinstance(value, list) or len(value) != 2 or any(type(v) not in (int, float) for v in value):
            raise self.wrong(key, f"{value!r} is neither a number nor a spread of numbers", remedy)
        first, second = map(float, value)
        good = low <= first <= high and (second >= 0 if is_normal else first <= second <= high)
        if not good:
            raise self.wrong(key, f"{value!r} is outside {low:g} to {high:g}, or upside down", remedy)
        return Spread(first, second, is_normal)

    def choice(self, key: str, default: str | None, among: Iterable[str]) -> str:
        names = sorted(among)
        value = self.text(key, default)
        if value not in names:
            raise self.wrong(key, f"no {key} {value!r}", f"use one of: {', '.join(names)}")
        return value

    def choices(self, key: str, default: list[str], among: Iterable[str]) -> tuple[str, ...]:
        """A list of names, at least one."""
        names = sorted(among)
        value = self.value(key, default)
        if not isinstance(value, list) or not value or any(one not in names for one in value):
            raise self.wrong(key, f"{value!r} names something unknown", f"use some of: {', '.join(names)}")
        return tuple(value)

    def octets(self, key: str) -> bytes:
        """Hexadecimal digits; nothing where the key is not there."""
        try:
            return bytes.fromhex(self.text(key, ""))
        except ValueError as error:
            raise self.wrong(key, str(error), f'write hexadecimal octets: {key} = "0A 1B"') from error

    def table(self, key: str) -> TomlTable:
        """A table inside; an empty one where the key is not there."""
        return TomlTable(self.value(key, {}), f"{self.where} {key}")

    def finish(self) -> None:
        """Raises OperatorFault: a key that nobody asked for."""
        unknown = sorted(set(self._table) - self._known)
        if unknown:
            raise self.wrong(unknown[0], "no such key", f"known here: {', '.join(sorted(self._known))}")
