"""The reader of TOML tables: each mistake with its place and remedy, all of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from faults import OperatorFault
from faults.toml_tables import Key, Problem, Tables, build, convert, load_toml, parse_toml


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Key(least=1, most=9)]
    name: str = "n"


@dataclass(frozen=True)
class Outer:
    count: int
    share: Annotated[Decimal, Key(above=0)] = Decimal(1)
    part: Fraction = Fraction(1, 2)
    rate: float = 1.0
    is_on: bool = False
    day: date | None = None
    file: Path | None = None
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    code: Annotated[str, Key("four digits", pattern=r"\d{4}")] = "0000"
    sizes: tuple[int, ...] = ()
    pair: tuple[int, int] = (0, 0)
    words: frozenset[str] = frozenset()
    inner: Inner = field(default_factory=lambda: Inner(1))
    rows: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = field(default_factory=dict)
    octets: Annotated[bytes, Key("hex", convert=bytes.fromhex)] = b""


def read(text: str, **more: Any) -> Outer:
    return build(Outer, parse_toml(text, "f.toml"), "f.toml", **more)


def test_each_type_comes_as_it_is_declared() -> None:
    made = read(
        """
        count = 3
        share = "1.25"
        part = "3/4"
        rate = 2
        is_on = true
        day = 2026-11-20
        file = "x.csv"
        colour = "blue"
        mode = "b"
        code = "1234"
        sizes = [1, 2]
        pair = [-1, 1]
        words = ["a", "b", "a"]
        octets = "0A"
        inner = { size = 2 }
        rows = [{ size = 3 }, { size = 4, name = "m" }]
        [named.one]
        size = 5
        """,
        beside=Path("/folder"),
    )
    assert (made.share, made.part, made.rate) == (Decimal("1.25"), Fraction(3, 4), 2.0)
    assert (made.day, made.file) == (date(2026, 11, 20), Path("/folder/x.csv"))
    assert (made.colour, made.mode, made.code, made.octets) == (Colour.BLUE, "b", "1234", b"\n")
    assert (made.sizes, made.pair, made.words) == ((1, 2), (-1, 1), frozenset("ab"))
    assert (made.inner, made.rows, made.named) == (
        Inner(2),
        (Inner(3), Inner(4, "m")),
        {"one": Inner(5)},
    )


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "count", "missing"),
        ("count = 1.5", "count", "1.5 is not a whole number"),
        ("count = true", "count", "True is not a whole number"),
        ("count = 1\nshare = 1.25", "share", "is not a decimal number in quotes"),
        ('count = 1\nshare = "0"', "share", "must be above 0"),
        ('count = 1\nshare = "nan"', "share", "'nan' is not a decimal"),
        ('count = 1\npart = "1/0"', "part", "is not a fraction"),
        ("count = 1\nrate = inf", "rate", "inf is not a number"),
        ("count = 1\nday = 2026-11-20T10:00:00-03:00", "day", "is not a date"),
        ('count = 1\nfile = ""', "file", "is not a path"),
        ('count = 1\ncolour = "green"', "colour", "one of red, blue"),
        ('count = 1\nmode = "c"', "mode", "one of a, b"),
        ('count = 1\ncode = "12"', "code", "does not have the form"),
        ("count = 1\nsizes = 3", "sizes", "a list of whole numbers"),
        ('count = 1\nsizes = [1, "2"]', "sizes", "'2' is not a whole number"),
        ("count = 1\npair = [1]", "pair", "has not 2 values"),
        ("count = 1\ninner = 3", "inner", "must be a table"),
        ("count = 1\ninner = { size = 10 }", "inner.size", "at most 9"),
        ("count = 1\nrows = [{ size = 1 }, { sise = 1, size = 1 }]", "rows[2].sise", "unknown key 'sise'"),
        ("count = 1\n[named.one]\nsize = 0", "named.one.size", "at least 1"),
        ('count = 1\noctets = "0"', "octets", "'0':"),
        ("count = 1\n[surprise]", "surprise", "unknown section"),
    ],
)
def test_a_mistake_is_named_with_place_and_remedy(text: str, place: str, words: str) -> None:
    with pytest.raises(OperatorFault) as caught:
        read(text)
    assert caught.value.where == f"f.toml {place}"
    assert words in caught.value.message
    assert caught.value.remedy


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(OperatorFault) as caught:
        read('count = "x"\nrate = "y"\nzeal = 1\ninner = { size = 0 }')
    text = str(caught.value)
    assert text.startswith("f.toml: 4 problems: ")
    assert [key for key in ("count:", "rate:", "zeal:", "inner.size:") if key not in text] == []


def test_what_contradicts_is_said_when_each_value_is_good() -> None:
    with pytest.raises(OperatorFault, match="count: more than sizes") as caught:
        read("count = 1", check=lambda made: [Problem("count", "more than sizes"), Problem("x", "y")])
    assert caught.value.where == "f.toml"


def test_a_base_gives_what_the_file_leaves_out() -> None:
    base = read('count = 7\nmode = "b"\ninner = { size = 3, name = "base" }')
    made = read("inner = { size = 4 }", base=base)
    assert (made.count, made.mode, made.inner) == (7, "b", Inner(4, "base"))


def test_a_secret_is_quoted_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('count = "sesame"\n')
    document = load_toml(path, remedy="r", is_secret=True)
    with pytest.raises(OperatorFault) as caught:
        build(Outer, document, str(path), is_secret=True)
    assert "sesame" not in str(caught.value)
    path.write_text('count = "sesame\n')
    with pytest.raises(OperatorFault, match="line 1") as torn:
        load_toml(path, remedy="r", is_secret=True)
    assert "sesame" not in str(torn.value)


def test_tables_by_name_are_built_when_they_are_asked_for() -> None:
    @dataclass(frozen=True)
    class Document:
        meters: Tables

    found = build(Document, {"meters": {"1": {"size": 0}, "2": {"size": 3}}}, "f")
    assert build(Inner, found.meters["2"], "f [2]") == Inner(3)
    with pytest.raises(OperatorFault, match="must be tables"):
        build(Document, {"meters": {"1": 4}}, "f")


def test_a_file_that_cannot_be_read_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match=r"cannot read the list.*set it"):
        load_toml(tmp_path / "none.toml", what="the list", remedy="set it")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe7'")
    with pytest.raises(OperatorFault, match="not UTF-8"):
        load_toml(tmp_path / "latin.toml", remedy="set it")


@pytest.mark.parametrize(
    ("raw", "kind", "value"),
    [("20", int, 20), ("0.5", float, 0.5), ("TRUE", bool, True), ("0", bool, False), ("x", str, "x")],
)
def test_the_environment_says_everything_as_text(raw: str, kind: type, value: object) -> None:
    assert convert(raw, kind, Key(), "SMF_X", is_text=True) == value
