"""A UC whose code changes stays one UC with its history: REN 1.000 art. 659-A gives it with a subgroup.

A file says so by naming the old code among the aliases of the new one, or in the sheet of former codes, which
also says until when it held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from storage import audit
from storage.registry.files import Row
from storage.registry.sheets import BY_NAME

_UCS, _FORMER = BY_NAME["ucs"], BY_NAME["former_codes"]
_CODE, _ALIASES = _UCS.names.index("code"), _UCS.names.index("aliases")
# Code of a row, column, what is wrong, what to do.
Say = Callable[[str, str, str, str], None]


@dataclass
class Renames:
    """What a file does to the codes of UCs.

    Attributes:
        codes: old code -> new one.
        current: any former code or alias -> the code of its UC.
    """

    codes: dict[str, str] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)


def plan(
    ucs: Collection[Row], former: Collection[Row], stored: Mapping[str, Collection[Row]], say: Say
) -> Renames:
    """Which stored UCs get a new code. `say` takes what is wrong: code, column, message, remedy."""
    registered = {row[_CODE]: row for row in stored["ucs"]}
    holders = {alias: code for row in stored["ucs"] for alias, code in _aliases(row)}
    claimed: dict[str, set[str]] = {}
    for row in former:
        claimed.setdefault(str(row[1]), set()).add(str(row[0]))
    done = Renames(current=dict(holders))
    in_file = {row[_CODE] for row in ucs}
    for row in ucs:
        code = str(row[_CODE])
        names = {alias for alias, _ in _aliases(row)} | claimed.get(code, set())
        olds = sorted(name for name in names if name in registered and name != code)
        taken = sorted(
            name for name in names - set(olds)
            if done.current.get(name, code) not in (code, *olds)
        )  # fmt: skip
        if code in registered and olds:
            say(code, "aliases", f"{olds[0]!r} and {code!r} are two UCs of the registry", _TWO)
        elif len(olds) > 1:
            say(code, "aliases", f"{' and '.join(map(repr, olds))} are two UCs of the registry", _TWO)
        elif olds and (olds[0] in in_file or olds[0] in done.codes):
            say(
                code,
                "aliases",
                f"{olds[0]!r} is a UC of its own in the file",
                "delete its row, or this alias",
            )
        elif taken:
            say(code, "aliases", f"{taken[0]!r} is an alias of {done.current[taken[0]]}", "a code has one UC")
        elif code not in registered and not olds and code in holders:
            say(code, "code", f"{code!r} is a former code of UC {holders[code]}", "write the present code")
        else:
            done.codes |= {old: code for old in olds}
            done.current |= dict.fromkeys(names, code)
    for alias, code in done.current.items():
        done.current[alias] = done.codes.get(code, code)
    return done


_TWO = "a UC takes one code over: delete the alias, or set the other UC inactive"


def _aliases(row: Row) -> list[tuple[str, str]]:
    return [(alias, str(row[_CODE])) for alias in (row[_ALIASES] or "").split()]


def carry_out(conn: psycopg.Connection[Any], renames: Renames, actor: str) -> None:
    """Give the UCs their new codes; the old ones are kept with them."""
    for old, new in renames.codes.items():
        conn.execute(
            "INSERT INTO uc_former_code (code, uc_id) SELECT code, id FROM uc WHERE code = %s "
            "ON CONFLICT (code) DO NOTHING",
            [old],
        )
        conn.execute("UPDATE uc SET code = %s WHERE code = %s", [new, old])
        audit.append(
            conn,
            actor=actor,
            action="registry.rename",
            object=f"registry/ucs/{new}",
            before={"code": old},
            after={"code": new},
        )


def with_former_codes(row: Row, stored: Row | None, former: Collection[str]) -> Row:
    """A UC's row with the codes it had among its aliases; they are history, whatever the file leaves out."""
    aliases = list(dict.fromkeys([*(row[_ALIASES] or "").split(), *former]))
    if stored is not None and set(aliases) == set((stored[_ALIASES] or "").split()):
        text = stored[_ALIASES]
    else:
        text = " ".join(aliases) or None
    return (*row[:_ALIASES], text, *row[_ALIASES + 1 :])
