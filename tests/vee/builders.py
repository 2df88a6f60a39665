"""Frames for tests of the rules, written as a person would say them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction

import polars as pl

from vee.frames import SERIES_SCHEMA, to_matrix
from vee.layers.validation import REGISTRY_SCHEMA
from vee.quality import Origin, Reason

SLOTS = 288
Value = Fraction | int | str | None
LONG_AFTER = datetime(2030, 1, 1, tzinfo=UTC)


def fraction(value: Value) -> Fraction | None:
    return None if value is None else Fraction(value)


def series(
    rows: Mapping[tuple[int, date], Sequence[Value]],
    origin: Origin = Origin.MEASURED,
    reason: Reason = Reason.MEASURED_OK,
) -> pl.DataFrame:
    """A series frame; None is missing."""
    out = []
    for (uc_id, day), values in rows.items():
        exact = [fraction(value) for value in values]
        den = math.lcm(*(value.denominator for value in exact if value is not None), 1)
        out.append(
            (
                uc_id,
                day,
                den,
                [None if value is None else int(value * den) for value in exact],
                bytes(Origin.MISSING if value is None else origin for value in exact),
                bytes(Reason.NOT_RECEIVED if value is None else reason for value in exact),
            )
        )
    return pl.DataFrame(out, schema=SERIES_SCHEMA, orient="row")


def backup_series(rows: Mapping[tuple[int, date], Sequence[Value]]) -> pl.DataFrame:
    return series(rows, Origin.BACKUP, Reason.BACKUP_METER)


def values_of(frame: pl.DataFrame, uc_id: int, day: date) -> list[Fraction | None]:
    matrix = to_matrix(frame)
    row = matrix.row_of(uc_id, day)
    assert row is not None
    return [matrix.value(row, slot) for slot in range(matrix.slots)]


def reasons_of(frame: pl.DataFrame, uc_id: int, day: date) -> list[Reason]:
    matrix = to_matrix(frame)
    row = matrix.row_of(uc_id, day)
    assert row is not None
    return [Reason(code) for code in matrix.reason[row].tolist()]


def registry(
    uc_days: Sequence[tuple[int, date]],
    *,
    status: str | None = "active",
    musd_kw: Value = "1000",
    agent_code: int | None = 9999,
    uc_code: str = "001347925802810",
    confirmed: date | None = date(2026, 1, 1),
) -> pl.DataFrame:
    musd = None if musd_kw is None else Decimal(str(musd_kw))
    return pl.DataFrame(
        [(uc_id, day, uc_code, agent_code, status, musd, confirmed) for uc_id, day in uc_days],
        schema=REGISTRY_SCHEMA,
        orient="row",
    )


def with_hour(values: list[Value], hour: int, replacement: Sequence[Value]) -> list[Value]:
    """Replace the twelve intervals of an hour (1 to 24)."""
    assert len(replacement) == 12
    return [*values[: 12 * (hour - 1)], *replacement, *values[12 * hour :]]
