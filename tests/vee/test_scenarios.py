"""Scenario folders: a metering engineer writes what is given and what must come out, in CSV.

    scenarios/NAME/sobre.md            why this scenario exists, in a few lines
    scenarios/NAME/when/ajustes.csv    chave,valor: dias (one or more), data_base, agora, estrategia
    scenarios/NAME/when/*.csv          medidas, historico, retaguarda, cadastro, perdas, faltas,
                                       perda_de_fase, aprovacoes, incidentes; only `medidas` and `ajustes`
                                       are obligatory
    scenarios/NAME/then/*.csv          intervalos, resultado, musd: what is listed must be so

Interval rows are `dia,de,ate,kwh`: interval ends `de` to `ate` (00:05 to 24:00); kwh one value for all,
values separated by spaces, or empty for missing. A later row wins. Values are exact: decimals or fractions.
"""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.vee.builders import LONG_AFTER, SLOTS, backup_series, reasons_of, series, values_of
from vee.calendars import load_calendars
from vee.estimation import EstimationInput, estimate, history_needs
from vee.filling import EstimationParams
from vee.losses import adjust
from vee.musd import check
from vee.outcome import outcomes
from vee.quality import Reason
from vee.rounding import to_ccee
from vee.validation import (
    INCIDENT_SCHEMA,
    OUTAGE_SCHEMA,
    PHASE_LOSS_SCHEMA,
    REGISTRY_SCHEMA,
    ValidationInput,
    validate,
)

ROOT = Path(__file__).parent / "scenarios"
CALENDARS = load_calendars()
UC = 1
LOSS_SCHEMA = {
    "uc_id": pl.Int64,
    "kind": pl.String,
    "valid_from": pl.Date,
    "valid_to": pl.Date,
    "percent": pl.Decimal(scale=6),
    "compensated_at": pl.String,
}
KINDS = {"transformacao": "transformation", "linha": "line"}
PLACES = {"medidor": "meter", "plataforma": "platform", "nenhuma": "none"}


def rows_of(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def slot_of(end: str) -> int:
    hours, minutes = end.split(":")
    return (int(hours) * 60 + int(minutes)) // 5 - 1


def spread(row: dict[str, str]) -> list[tuple[int, Fraction | None]]:
    slots = range(slot_of(row["de"]), slot_of(row["ate"]) + 1)
    words = row["kwh"].split()
    values = [Fraction(word) for word in words] or [None]
    values = values * len(slots) if len(values) == 1 else values
    return list(zip(slots, values, strict=True))


def vectors(path: Path) -> dict[tuple[int, date], list[Any]]:
    out: dict[tuple[int, date], list[Any]] = {}
    for row in rows_of(path):
        vector = out.setdefault((UC, date.fromisoformat(row["dia"])), [None] * SLOTS)
        for slot, value in spread(row):
            vector[slot] = value
    return out


def optional_date(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


class Given:
    """The `when` folder, as the functions want it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "when"
        settings = {row["chave"]: row["valor"] for row in rows_of(self.path / "ajustes.csv")}
        self.days = [date.fromisoformat(day) for day in settings["dias"].split()]
        self.as_of = date.fromisoformat(settings["data_base"])
        self.now = datetime.fromisoformat(settings["agora"]) if "agora" in settings else LONG_AFTER
        self.strategy = settings.get("estrategia", "ccee-pdc-1.8-r1")
        self.measured = series(vectors(self.path / "medidas.csv"))
        self.history = series(vectors(self.path / "historico.csv"))
        self.backup = backup_series(vectors(self.path / "retaguarda.csv"))

    def rows(self, name: str, schema: dict[str, Any], line: Any) -> pl.DataFrame:
        found = [line(row) for row in rows_of(self.path / f"{name}.csv")]
        return pl.DataFrame(found, schema=schema, orient="row")

    def registry(self) -> pl.DataFrame:
        row = (rows_of(self.path / "cadastro.csv") or [{"situacao": "active", "musd_kw": "10000"}])[0]
        musd = Decimal(row["musd_kw"]) if row["musd_kw"] else None
        days = self.measured["day"].to_list()
        return pl.DataFrame(
            [(UC, day, "001347925802810", 9999, row["situacao"], musd, day) for day in days],
            schema=REGISTRY_SCHEMA,
            orient="row",
        )

    def outages(self) -> pl.DataFrame:
        instant = datetime.fromisoformat
        return self.rows(
            "faltas",
            OUTAGE_SCHEMA,
            lambda row: (UC, instant(row["inicio"]).astimezone(UTC), instant(row["fim"]).astimezone(UTC)),
        )

    def phase_loss(self) -> pl.DataFrame:
        return self.rows(
            "perda_de_fase",
            PHASE_LOSS_SCHEMA,
            lambda row: (
                UC,
                date.fromisoformat(row["dia"]),
                slot_of(row["de"]),
                slot_of(row["ate"]),
                int(row["elementos"]),
                int(row["fases"]),
                row["prova"] != "",
                row["prova"],
            ),
        )

    def incidents(self) -> pl.DataFrame:
        return self.rows(
            "incidentes",
            INCIDENT_SCHEMA,
            lambda row: (UC, date.fromisoformat(row["dia"]), slot_of(row["fim"]), row["tipo"]),
        )

    def approvals(self) -> pl.DataFrame:
        schema = {"uc_id": pl.Int64, "day": pl.Date, "method": pl.String, "approved_by": pl.String}
        return self.rows(
            "aprovacoes",
            schema,
            lambda row: (UC, date.fromisoformat(row["dia"]), row["metodo"], row["aprovado_por"]),
        )

    def losses(self) -> pl.DataFrame:
        return self.rows(
            "perdas",
            LOSS_SCHEMA,
            lambda row: (
                UC,
                KINDS[row["tipo"]],
                optional_date(row["inicio"]),
                optional_date(row["fim"]),
                Decimal(row["percentual"]),
                PLACES[row["onde"]],
            ),
        )


SCENARIOS = sorted(path for path in ROOT.iterdir() if path.is_dir())


@pytest.mark.req("TR-2b", "TR-2c", "TR-2e", "TR-2f")
@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_scenario(folder: Path) -> None:
    assert (folder / "sobre.md").read_text(encoding="utf-8").startswith("# ")
    given = Given(folder)
    registry = given.registry()
    validated = validate(
        ValidationInput(given.measured, registry, given.outages(), given.phase_loss(), given.incidents()),
        given.now,
    )
    params = EstimationParams(default_strategy=given.strategy)
    needs = history_needs(validated.validated, given.days, CALENDARS, given.as_of, params)
    # Only what was asked for is loaded: this also proves that `history_needs` asks for enough.
    history = given.history.join(
        needs, left_on=["uc_id", "day"], right_on=["uc_id", "needed_day"], how="semi"
    )
    estimated = estimate(
        EstimationInput(
            validated.validated,
            given.backup,
            history,
            registry=registry,
            approvals=given.approvals(),
            phase_loss=given.phase_loss(),
        ),
        given.days,
        CALENDARS,
        given.as_of,
        params,
    )
    adjusted = adjust(estimated.estimated, given.losses())
    checked = check(to_ccee(adjusted.adjusted), registry)
    layers = {
        "validada": validated.validated.filter(pl.col("day").is_in(given.days)),
        "estimada": estimated.estimated,
        "ajustada": adjusted.adjusted,
        "ccee": checked.series,
    }
    verdicts = pl.concat([validated.verdicts, estimated.verdicts])
    states = outcomes(checked.series, verdicts, estimated.unresolved, adjusted.quarantined, checked.held)
    for row in rows_of(folder / "then" / "intervalos.csv"):
        check_intervals(layers[row["camada"]], row)
    check_table(
        folder / "then" / "resultado.csv", states, {"dia": "day", "estado": "state", "causa": "cause"}
    )
    names = {"dia": "day", "hora": "hour", "kwh": "energy_kwh", "rejeitada": "is_rejected"}
    check_table(folder / "then" / "musd.csv", checked.hours, names)


def check_intervals(layer: pl.DataFrame, row: dict[str, str]) -> None:
    day = date.fromisoformat(row["dia"])
    values, reasons = values_of(layer, UC, day), reasons_of(layer, UC, day)
    for slot, value in spread(row):
        assert values[slot] == value, f"{row['camada']} {day} slot {slot}"
        if row["motivo"]:
            assert reasons[slot] is Reason[row["motivo"].upper()], f"{row['camada']} {day} slot {slot}"


def check_table(path: Path, frame: pl.DataFrame, names: dict[str, str]) -> None:
    if not path.exists():
        return
    found = [{pt: str(line[en]).lower() for pt, en in names.items()} for line in frame.iter_rows(named=True)]
    assert found == rows_of(path)


def test_there_are_scenarios_for_each_rule() -> None:
    assert len(SCENARIOS) >= 8
