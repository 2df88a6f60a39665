"""Finding UCs by what a person remembers of them: code, old code, name, serial, unit, point.

Case, accents and the order of words do not matter, and a part of a word is enough. What does not belong
here: how hits are shown (`pipelines.cli.find`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

_ACCENTED = "áàâãäéèêëíìîïóòôõöúùûüçñ"
_PLAIN = "aaaaaeeeeiiiiooooouuuucn"
_FOLDING = str.maketrans(_ACCENTED, _PLAIN)
# More than anybody reads; the best hits come first.
MOST_HITS = 200
# Of names that are close to a mistyped one.
_NEAR = 3
_NEAR_RATIO = 0.6

_HITS = """
    WITH entry AS (
        SELECT u.id, u.code, u.name, u.aliases,
               array_remove(array_agg(DISTINCT m.serial), NULL) AS serials,
               array_remove(array_agg(DISTINCT n.code), NULL) AS units,
               array_remove(
                   array_agg(DISTINCT p.code) || array_agg(DISTINCT nullif(p.name, '')), NULL
               ) AS points,
               array_remove(
                   array_agg(DISTINCT m.serial) FILTER (WHERE i.valid @> %(at)s::timestamptz), NULL
               ) AS installed
        FROM uc u
        LEFT JOIN point p ON p.uc_id = u.id
        LEFT JOIN installation i ON i.point_id = p.id
        LEFT JOIN meter m ON m.id = i.meter_id
        LEFT JOIN unit n ON n.id = i.unit_id
        GROUP BY u.id
    ), folded AS (
        SELECT *, translate(lower(concat_ws(' ', code, array_to_string(aliases, ' '), name,
            array_to_string(serials, ' '), array_to_string(units, ' '), array_to_string(points, ' '))),
            %(accented)s, %(plain)s) AS words
        FROM entry
    )
    SELECT code, name, aliases, coalesce(installed, '{}') AS installed, serials, units, points,
           (SELECT a.code FROM uc_agent c JOIN agent a ON a.id = c.agent_id
            WHERE c.uc_id = folded.id AND c.valid @> %(day)s::date LIMIT 1) AS agent_code
    FROM folded
    WHERE NOT EXISTS (SELECT FROM unnest(%(words)s::text[]) AS w WHERE strpos(words, w) = 0)
    ORDER BY (code = %(whole)s OR %(whole)s = ANY (serials)) DESC, code LIMIT %(limit)s
"""


@dataclass(frozen=True)
class Hit:
    """A UC that was found.

    Attributes:
        serials: of its meters now; old ones are found, too.
        by: the field and the value in which the first word was found.
    """

    uc_code: str
    uc_name: str
    aliases: Sequence[str]
    agent_code: int | None
    serials: Sequence[str]
    units: Sequence[str]
    by: str
    value: str


def folded(text: str) -> str:
    """Without case and accents.

    >>> folded("Condomínio São João")
    'condominio sao joao'
    """
    return text.lower().translate(_FOLDING)


def find_ucs(conn: psycopg.Connection[Any], text: str, at: Any) -> list[Hit]:
    """UCs in which every word of `text` occurs, the closest first.

    Args:
        at: aware; whose meters and agent are shown.
    """
    words = folded(text).split()
    if not words:
        return []
    keys = {
        "words": words,
        "whole": text.strip(),
        "at": at,
        "day": at.date(),
        "accented": _ACCENTED,
        "plain": _PLAIN,
        "limit": MOST_HITS,
    }
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_HITS, keys).fetchall()
    hits = [(_rank(row, words), _hit(row, words[0])) for row in rows]
    return [hit for _, hit in sorted(hits, key=lambda item: (item[0], item[1].uc_code))]


def near_names(conn: psycopg.Connection[Any], text: str) -> list[str]:
    """Codes and names that look like a text with which nothing was found."""
    known: dict[str, str] = {}
    for code, name in conn.execute("SELECT code, name FROM uc").fetchall():
        known[folded(name)], known[folded(code)] = name, code
    return [known[near] for near in difflib.get_close_matches(folded(text), known, _NEAR, _NEAR_RATIO)]


def _fields(row: dict[str, Any]) -> list[tuple[str, Sequence[str]]]:
    return [
        ("code", [row["code"]]),
        ("serial", row["serials"]),
        ("alias", row["aliases"]),
        ("unit", row["units"]),
        ("name", [row["name"]]),
        ("point", row["points"]),
    ]


def _rank(row: dict[str, Any], words: Sequence[str]) -> int:
    """0: a key is the text; 1: a key or a word begins with it; 2: it is somewhere."""
    whole, first = " ".join(words), words[0]
    values = [folded(value) for _, field in _fields(row) for value in field]
    if whole in values:
        return 0
    return 1 if any(part.startswith(first) for value in values for part in value.split()) else 2


def _hit(row: dict[str, Any], word: str) -> Hit:
    where, value = next(
        (name, value) for name, field in _fields(row) for value in field if word in folded(value)
    )
    return Hit(
        row["code"],
        row["name"],
        row["aliases"],
        row["agent_code"],
        row["installed"],
        row["units"],
        where,
        value,
    )
