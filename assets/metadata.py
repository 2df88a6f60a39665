"""What every materialisation says about itself, in Dagster's standard keys.

What belongs here: table schemas, column lineage and the shaping of counts and samples for the event log. Its
rows are kept for good, so metadata is counts, sums and at most `SAMPLE` keys, never lists of readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import dagster as dg

from storage.database import Database

# What a materialisation may say under a name.
Metadata = dict[str, Any]
SAMPLE = 20
OWNERS = ["team:medicao"]
# Why an asset has no freshness policy, shown beside it; a test asks for one or the other.
FRESHNESS_REASON = "smf/freshness_reason"
# Dagster's policies look at the last materialisation whatever its day; the check looks at the day.
NEWEST_DAY = {FRESHNESS_REASON: "Vale o dia mais novo, não a última execução: verificação newest_day."}


def tags(domain: str, tier: str) -> dict[str, str]:
    """What assets are filtered by.

    Args: domain: cadastro, coleta, medicao, entrega, relatorios, fechamento. tier: fonte, insumo, resultado.
    """
    return {"dominio": domain, "camada": tier}


@dataclass(frozen=True)
class Column:
    """A column and where it comes from: (asset, column) pairs, empty when it begins here."""

    name: str
    kind: str
    description: str
    sources: Sequence[tuple[str, str]] = ()


def table(name: str, columns: Sequence[Column]) -> Metadata:
    """Definition metadata of a table: name, schema and column lineage."""
    return {
        "dagster/table_name": name,
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(column.name, column.kind, column.description) for column in columns]
        ),
        **lineage(columns),
    }


def lineage(columns: Sequence[Column]) -> Metadata:
    """Where each column comes from. The interface draws it from a materialisation, so those carry it, too."""
    sources = {
        column.name: [
            dg.TableColumnDep(asset_key=dg.AssetKey(asset), column_name=source)
            for asset, source in column.sources
        ]
        for column in columns
        if column.sources
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps_by_column=sources)}


def sample(keys: Iterable[str]) -> list[str]:
    """The first few keys: enough to begin looking."""
    return sorted(keys)[:SAMPLE]


def md_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.MetadataValue[Any]:
    """A table as Markdown, which the interface draws; no rows: a dash."""
    if not rows:
        return dg.MetadataValue.md("–")
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


_UCS = "SELECT id, code, name FROM uc WHERE id = ANY (%s)"


def uc_names(db: Database, uc_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Code and name of UCs, for tables that people read."""
    with db.connect() as conn:
        rows = conn.execute(_UCS, [sorted(set(uc_ids))]).fetchall()
    return {uc_id: (code, name) for uc_id, code, name in rows}


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def kwh(energy: Fraction) -> float:
    """Energy for display; the exact value is in the database."""
    return round(float(energy), 3)


def share(part: int, whole: int) -> float:
    """A part of a whole from 0 to 1; an empty whole is complete."""
    return round(part / whole, 6) if whole else 1.0
