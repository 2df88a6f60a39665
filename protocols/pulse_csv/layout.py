"""How a system writes its CSV files of intervals, from a TOML file: every key is checked when it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

from faults import OperatorFault
from faults.toml_tables import Key, Problem, build, parse_toml

DELIVERED = "pulses"
PULSES, KWH = "pulses", "kWh"
_WHICH = "name a delivered layout (pulses, kwh) or the path of your own (docs/arquivos_publicos.md)"


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """A column of values: which channel and quantity of the platform it is, and in what."""

    column: str
    channel: Annotated[int, Key(least=1, most=99)] = 1
    quantity: Annotated[int, Key(least=1, most=99)] = 1
    unit: Annotated[str, Key(choices=(PULSES, KWH))] = PULSES


@dataclass(frozen=True, slots=True)
class PulseLayout:
    """A whole layout; see the delivered one for each key."""

    meter: str
    time: str
    value: tuple[ValueColumn, ...]
    name: str = ""
    separator: Annotated[str, Key("one character", pattern=r"[^\r\n\"]")] = ";"
    decimal: Annotated[str, Key(choices=(",", "."))] = ","
    encoding: Annotated[str, Key(choices=("utf-8-sig", "latin-1"))] = "utf-8-sig"
    meter_is: Annotated[str, Key(choices=("serial", "uc"))] = "serial"
    time_is: Annotated[str, Key(choices=("end", "start"))] = "end"
    time_format: str = ""
    constant: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings that a file must have."""
        more = (self.constant,) if self.constant else ()
        return (self.meter, self.time, *(one.column for one in self.value), *more)


def layout_text(name: str) -> str:
    """The text of a layout: a delivered one by its plain name, another by its path.

    Raises:
        OperatorFault: there is none.
    """
    try:
        if name.isidentifier():
            return (resources.files(__package__) / "layouts" / f"{name}.toml").read_text(encoding="utf-8")
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise OperatorFault(f"cannot read the layout: {reason}", where=name, remedy=_WHICH) from None


def parse_layout(text: str, where: str) -> PulseLayout:
    """The layout that a text describes.

    Raises:
        OperatorFault: naming the place, what is wrong and what would be right.
    """
    return build(PulseLayout, parse_toml(text, where), where, remedy=_WHICH, check=_problems)


def _problems(layout: PulseLayout) -> Sequence[Problem]:
    found = []
    if not layout.value:
        found.append(Problem("value", "no column of values", "add [[value]]"))
    for what, names in (
        ("column", [one for one in layout.columns]),
        ("channel", [one.channel for one in layout.value]),
    ):
        twice = [str(name) for name, count in Counter(names).items() if count > 1]
        if twice:
            found.append(Problem("value", f"{what} {', '.join(twice)} twice", "each once"))
    if layout.separator == layout.decimal:
        found.append(Problem("separator", "is the decimal mark, too", "name another"))
    return found
