"""Scenario folders: a metering engineer writes what is given and what must come out, in CSV.

    scenarios/NAME/sobre.md            why this scenario exists, in a few lines
    scenarios/NAME/when/ajustes.csv    chave,valor: dias (one or more), data_base, agora, estrategia, regras
    scenarios/NAME/when/*.csv          medidas, historico, retaguarda, cadastro, perdas, faltas,
                                       perda_de_fase, aprovacoes, incidentes, registradores, medidor, fases,
                                       reativa, contagem, mes, parametros, decisoes; only `medidas` and
                                       `ajustes` are
                                       obligatory
    scenarios/NAME/then/*.csv          intervalos, resultado, musd: what is listed must be so; vereditos: of
                                       the rules in `regras`, these and no others

Interval rows are `dia,de,ate,kwh`: interval ends `de` to `ate` (00:05 to 24:00); kwh one value for all,
values separated by spaces, values that repeat (`2.1 2.2 2.0 ...`), or empty for missing. `dia` may be two
days with `..` between. A later row wins. Values are exact: decimals or fractions.

Each rule has a scenario in which it speaks and one in which it is silent; a check at the end says which lack.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from derivation import judging
from derivation.judging import merged
from tests.vee.builders import LONG_AFTER, SLOTS, backup_series, reasons_of, series, values_of
from vee.calendars import day_start, load_calendars
from vee.frames import to_matrix
from vee.layers import validation
from vee.layers.estimation import EstimationInput, estimate, history_needs
from vee.layers.losses import adjust
from vee.layers.rounding import to_ccee
from vee.layers.validation import (
    INCIDENT_SCHEMA,
    OUTAGE_SCHEMA,
    PHASE_LOSS_SCHEMA,
    REGISTRY_SCHEMA,
    ValidationInput,
    validate,
)
from vee.musd import check
from vee.outcome import outcomes
from vee.parameters import with_value
from vee.quality import Reason
from vee.rules.base import Stage
from vee.rules.engine import RuleSet, judge, values_hash
from vee.rules.inputs import (
    CONSTANT_SCHEMA,
    COUNT_SCHEMA,
    DECIDED_SCHEMA,
    ENGINEERING_SCHEMA,
    MONTH_SCHEMA,
    REACTIVE_SCHEMA,
    REGISTER_SCHEMA,
    RuleInput,
)
from vee.rules.table import RULES, default_rules
from vee.strategies.filling import EstimationParams

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
    if words and words[-1] == "...":
        words = (words[:-1] * len(slots))[: len(slots)]
    values = [Fraction(word) for word in words] or [None]
    values = values * len(slots) if len(values) == 1 else values
    return list(zip(slots, values, strict=True))


def vectors(path: Path) -> dict[tuple[int, date], list[Any]]:
    out: dict[tuple[int, date], list[Any]] = {}
    for row in rows_of(path):
        for day in days_of(row["dia"]):
            vector = out.setdefault((UC, day), [None] * SLOTS)
            for slot, value in spread(row):
                vector[slot] = value
    return dict(sorted(out.items()))


def days_of(text: str) -> list[date]:
    first, _, last = text.partition("..")
    begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
    return [begin + timedelta(n) for n in range((end - begin).days + 1)]


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
        self.rules = settings.get("regras", "").split()
        self.measured = series(vectors(self.path / "medidas.csv"))
        self.history = series(vectors(self.path / "historico.csv"))
        self.backup = backup_series(vectors(self.path / "retaguarda.csv"))

    def rows(self, name: str, schema: dict[str, Any], line: Any) -> pl.DataFrame:
        found = [line(row) for row in rows_of(self.path / f"{name}.csv")]
        return pl.DataFrame(found, schema=schema, orient="row")

    @property
    def plant(self) -> dict[str, str]:
        """What the registry says; a column that the file lacks has the usual value."""
        usual = {
            "situacao": "active",
            "musd_kw": "10000",
            "codigo": "001347925802810",
            "agente": "9999",
            "musd_confirmado": "sim",
            "constante": "9/1250",
            "rtc": "1",
            "tensao_kv": "",
        }
        return usual | (rows_of(self.path / "cadastro.csv") or [{}])[0]

    def registry(self) -> pl.DataFrame:
        row = self.plant
        musd = Decimal(row["musd_kw"]) if row["musd_kw"] else None
        agent = int(row["agente"]) if row["agente"] else None
        days = self.measured["day"].to_list()
        return pl.DataFrame(
            [
                (
                    UC,
                    day,
                    row["codigo"],
                    agent,
                    row["situacao"],
                    musd,
                    day if row["musd_confirmado"] else None,
                )
                for day in days
            ],
            schema=REGISTRY_SCHEMA,
            orient="row",
        )

    def rule_input(self, tables: dict[str, pl.DataFrame]) -> RuleInput:
        voltage = self.plant["tensao_kv"]
        constant = Fraction(self.plant["constante"])
        installation = {
            "uc_id": UC,
            "role": "main",
            "valid_from": None,
            "valid_to": None,
            "pulse_energy_num": constant.numerator,
            "pulse_energy_den": constant.denominator,
            "tp_ratio": "1",
            "tc_ratio": self.plant["rtc"],
            "constant_includes_ratios": True,
        }
        return RuleInput(
            registry=self.registry().with_columns(
                supply_voltage_kv=pl.lit(float(voltage) if voltage else None, pl.Float64)
            ),
            installations=pl.DataFrame(
                [installation],
                schema_overrides={name: pl.Datetime("us", "UTC") for name in ("valid_from", "valid_to")},
            ),
            tables={name: frame for name, frame in tables.items() if frame.height},
            decided=self.decided(),
        )

    def decided(self) -> pl.DataFrame:
        def line(row: dict[str, str]) -> tuple[object, ...]:
            day, first, last = date.fromisoformat(row["dia"]), slot_of(row["de"]), slot_of(row["ate"])
            matrix = to_matrix(self.measured)
            at = matrix.row_of(UC, day)
            assert at is not None
            state = {"aceito": "accepted", "rejeitado": "rejected"}[row["decisao"]]
            return (UC, day, row["regra"], first, last, values_hash(matrix, at, first, last), state)

        return self.rows("decisoes", DECIDED_SCHEMA, line)

    def tables(self) -> dict[str, pl.DataFrame]:
        number = lambda text: float(text) if text else None  # noqa: E731  # said once, in a table
        return {
            "registers": self.registers(),
            "constants": self.rows(
                "medidor",
                CONSTANT_SCHEMA,
                lambda row: (UC, self.days[0], row["fato"], row["cadastro"], row["medidor"]),
            ),
            "engineering": self.rows(
                "fases",
                ENGINEERING_SCHEMA,
                lambda row: (
                    UC,
                    date.fromisoformat(row["dia"]),
                    slot_of(row["fim"]),
                    *(number(row[name]) for name in ("v1", "v2", "v3", "i1", "i2", "i3")),
                ),
            ),
            "reactive": self.rows(
                "reativa",
                REACTIVE_SCHEMA,
                lambda row: (UC, date.fromisoformat(row["dia"]), int(row["pulsos"])),
            ),
            "month_counts": self.rows(
                "contagem",
                COUNT_SCHEMA,
                lambda row: (
                    UC,
                    date.fromisoformat(row["dia"]),
                    int(row["ajustados"]),
                    int(row["intervalos"]),
                ),
            ),
            "months": self.rows(
                "mes",
                MONTH_SCHEMA,
                lambda row: (
                    UC,
                    date.fromisoformat(row["dia"]),
                    float(row["outros_kwh"]),
                    int(row["outros_intervalos"]),
                    float(row["historia_kw"]),
                    int(row["meses"]),
                ),
            ),
            "phase_loss": self.phase_loss(),
        }

    def registers(self) -> pl.DataFrame:
        """Periods between two readings within one day, `dia,de,ate,pulsos`: `de` and `ate` as HH:MM:SS."""
        matrix, constant = to_matrix(self.measured), Fraction(self.plant["constante"])

        def line(row: dict[str, str]) -> tuple[object, ...]:
            day = date.fromisoformat(row["dia"])
            at = matrix.row_of(UC, day)
            assert at is not None
            begin_s, end_s = (
                sum(
                    int(part) * scale for part, scale in zip(row[name].split(":"), (3600, 60, 1), strict=True)
                )
                for name in ("de", "ate")
            )
            first, last = -(-begin_s // 300), end_s // 300
            edges = [first - 1] * (begin_s % 300 > 0) + [last] * (end_s % 300 > 0)
            pulses = [value and value / constant for value in values_of(self.measured, UC, day)]
            inner = [pulses[slot] for slot in range(first, last)]
            start = day_start(day)
            return (
                UC,
                day,
                begin_s // 300,
                (end_s - 1) // 300,
                start + timedelta(seconds=begin_s),
                start + timedelta(seconds=end_s),
                int(row["pulsos"]),
                int(sum(value for value in inner if value is not None)),
                sum(value is None for value in inner),
                int(sum(pulses[slot] or 0 for slot in edges)),
                sum(pulses[slot] is None for slot in edges),
            )

        return self.rows("registradores", REGISTER_SCHEMA, line)

    def rule_set(self) -> RuleSet:
        """Only the rules that the scenario is about, so that another rule breaks nothing; with their default
        parameters, or what `parametros` says: `regra,parametro,valor`."""
        rules = {
            rule: params if rule in self.rules else replace(params, enabled=False)
            for rule, params in default_rules().items()
        }
        for row in rows_of(self.path / "parametros.csv"):
            rules[row["regra"]] = with_value(
                rules[row["regra"]], row["parametro"], row["valor"], "parametros"
            )
        return RuleSet(rules)

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
    tables, rule_set = given.tables(), given.rule_set()
    pairs = judging.pairs(given.measured, given.backup, given.days, 7)
    judged = judge(validated.validated, given.rule_input({**tables, "pairs": pairs}), CALENDARS, rule_set)
    needs = history_needs(judged.series, given.days, CALENDARS, given.as_of, params)
    # Only what was asked for is loaded: this also proves that `history_needs` asks for enough.
    history = given.history.join(
        needs, left_on=["uc_id", "day"], right_on=["uc_id", "needed_day"], how="semi"
    )
    estimated = estimate(
        EstimationInput(
            judged.series,
            given.backup,
            history,
            registry=registry,
            approvals=given.approvals(),
            phase_loss=given.phase_loss(),
            backup_pairs=pairs,
        ),
        given.days,
        CALENDARS,
        given.as_of,
        params,
    )
    adjusted = adjust(estimated.estimated, given.losses())
    checked = check(to_ccee(adjusted.adjusted), registry)
    sent = judge(
        checked.series,
        given.rule_input({**tables, "musd_hours": checked.hours}),
        CALENDARS,
        rule_set,
        Stage.SENT,
    )
    layers = {
        "validada": judged.series.filter(pl.col("day").is_in(given.days)),
        "estimada": estimated.estimated,
        "ajustada": adjusted.adjusted,
        "ccee": checked.series,
    }
    verdicts = merged(validated.verdicts, judged.verdicts, estimated.verdicts, sent.verdicts)
    states = outcomes(
        checked.series,
        verdicts,
        estimated.unresolved,
        adjusted.quarantined,
        checked.held,
        waiting=pl.concat([judged.waiting, sent.waiting]),
    )
    if given.rules:
        check_verdicts(folder / "then" / "vereditos.csv", verdicts, given)
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


def check_verdicts(path: Path, verdicts: pl.DataFrame, given: Given) -> None:
    """Of the rules that the scenario is about, exactly these verdicts."""
    said = verdicts.filter(pl.col("rule").is_in(given.rules), pl.col("day").is_in(given.days))
    found = [
        {
            "regra": row["rule"],
            "dia": str(row["day"]),
            "de": end_of(row["first_slot"]),
            "ate": end_of(row["last_slot"]),
            "resultado": row["result"],
        }
        for row in said.sort("rule", "day", "first_slot").iter_rows(named=True)
    ]
    assert found == rows_of(path)


def end_of(slot: int) -> str:
    return f"{(slot + 1) * 5 // 60:02d}:{(slot + 1) * 5 % 60:02d}"


def test_each_rule_has_a_scenario_that_makes_it_speak_and_one_silent() -> None:
    speaking, silent = set(), set()
    for folder in SCENARIOS:
        named = set(Given(folder).rules)
        said = {row["regra"] for row in rows_of(folder / "then" / "vereditos.csv")}
        assert not named or (folder / "then" / "vereditos.csv").exists(), folder.name
        assert said <= named, folder.name
        speaking |= said
        silent |= named - said
    known = {rule.id for rule in validation.RULES} | {rule.id for rule in RULES}
    assert known - speaking == set(), "no scenario makes these speak"
    assert known - silent == set(), "no scenario keeps these silent"
