"""Fills the generated tables of the manuals, each between `<!-- gerado:NAME -->` and `<!-- fim -->`.

    python docs/generate.py            rewrites the tables
    python docs/generate.py --check    exit code 1 when a page is stale

The tables come from the code that uses the values, so that a manual cannot say something else.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from enum import IntEnum
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import state_diagrams

from ccee import profile
from collector.streams import decode as stream_decode
from derivation.scores.pictures import LENGTHS_PT
from protocols.celesc import catalogue
from protocols.celesc.inspection import Criteria
from protocols.nbr14522 import commands, models
from protocols.nbr14522 import profile as meter_profile
from protocols.nbr14522.messages import writes
from protocols.nbr14522.messages.layout import table_of
from protocols.ssu import SsuSettings
from storage import settings
from vee import missing, quality
from vee.layers import estimation, validation
from vee.layers.primary import PrimaryParams
from vee.layers.validation import ValidationParams
from vee.layers.validation_manual import TEXTS
from vee.rules import table as rule_table
from vee.scores.classes import LENGTHS, LEVELS, STEADY, STEADY_FROM, VARYING
from vee.strategies.filling import EstimationParams
from vee.strategies.shapes import SimilarDays
from vee.warranty import WarrantyTerms

DOCS = Path(__file__).resolve().parent
_BLOCK = re.compile(r"(<!-- gerado:(?P<name>[a-z0-9-]+) -->\n).*?(<!-- fim -->)", re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; cells must not contain a bar."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + "\n"


class Translations:
    """Portuguese of the short texts that live in the code, from `traducoes.csv`; keeps what is missing."""

    def __init__(self, path: Path) -> None:
        with path.open(encoding="utf-8", newline="") as file:
            self._known = {row["en"]: row["pt"] for row in csv.DictReader(file, delimiter=";")}
        self.missing: list[str] = []

    def __call__(self, text: str) -> str:
        if text not in self._known:
            self.missing.append(text)
        return self._known.get(text, text)


pt = Translations(DOCS / "traducoes.csv")

_ORIGINS = {
    "missing": ("faltante", "–"),
    "measured": ("medido", "`MEDIDO`"),
    "backup": ("retaguarda", "`AJUSTADO`"),
    "estimated": ("estimado", "`AJUSTADO`"),
    "edited": ("editado", "`AJUSTADO`"),
}


def reasons() -> str:
    rows = quality.reason_rows()
    return table(
        ["Código", "Nome", "Origem", "Vai como", "O que quer dizer"],
        [(row["code"], f"`{row['name']}`", *_ORIGINS[str(row["origin"])], row["text_pt"]) for row in rows],
    )


def causes() -> str:
    return table(
        ["Causa", "O que houve", "O que fazer"],
        [(f"`{row['cause']}`", row["text_pt"], row["remedy_pt"]) for row in quality.cause_rows()],
    )


def validation_rules() -> str:
    """The rules that refuse, fill in and count, in the order in which they run."""
    return table(
        ["Regra", "O que confere", "O que segue", "Como", "Por quê", "Exemplo"],
        [
            (
                row["id"],
                row["check_pt"],
                row["result_pt"],
                TEXTS[row["id"]].formula_pt,
                TEXTS[row["id"]].reason_pt,
                TEXTS[row["id"]].example_pt,
            )
            for row in validation.rule_rows()
        ],
    )


_SEVERITIES = {
    "info": "só informa",
    "suspect": "suspeito: retém até uma decisão ou até a política de prazo da regra",
    "hold": "retém até uma decisão",
}
_COMMON = ("severity", "enabled", "on_timeout", "timeout_days")


def judging_rules() -> str:
    """The rules that judge plausibility, each in a section of its own."""
    parts = []
    for rule in rule_table.RULES:
        defaults = {name: value for name, value in asdict(rule.defaults).items() if name not in _COMMON}
        shown = ", ".join(f"`{name}` = `{_plain(value)}`" for name, value in defaults.items())
        looked = {"measured": "valores validados", "sent": "valores prontos para envio"}[rule.stage.value]
        parts.append(
            f"### {rule.id} – {rule.check_pt}\n\n"
            f"- **Como**: {rule.formula_pt}.\n"
            f"- **Padrão**: {shown or 'sem parâmetros próprios'}; "
            f"`severity` = `{rule.defaults.severity.value}` ({_SEVERITIES[rule.defaults.severity.value]}).\n"
            f"- **Por quê**: {rule.reason_pt}.\n"
            f"- **Exemplo**: {rule.example_pt}.\n"
            f"- **Olha**: {looked}.\n"
        )
    return "\n".join(parts)


def _plain(value: object) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple | list) else str(value)


def rule_skips() -> str:
    return table(
        ["Palavra", "Por que a regra não julga"],
        [(f"`{word}`", text) for word, text in rule_table.SKIP_REASONS.items()],
    )


def missing_causes() -> str:
    return table(
        ["Causa da falta", "O que afasta o valor"],
        [(f"`{row['cause']}`", row["text_pt"]) for row in missing.cause_rows()],
    )


def strategies() -> str:
    return table(
        ["Estratégia", "Desde", "Até", "O que faz"],
        [
            (f"`{row['name']}`", row["valid_from"], row["valid_to"] or "em vigor", row["text_pt"])
            for row in estimation.strategy_rows()
        ],
    )


def score_classes() -> str:
    """Lengths of gaps and classes of UCs that scores are sorted by."""
    lengths = [(f"`{name}`", LENGTHS_PT[name]) for name, _ in LENGTHS]
    edges = ["0", *(f"{below:,.0f}".replace(",", ".") for _, below in LEVELS[:-1])]
    levels = [
        (
            f"`{name}`",
            f"de {low} a menos de {high} kWh por dia, em média" if high else f"{low} kWh por dia ou mais",
        )
        for (name, _), low, high in zip(LEVELS, edges, [*edges[1:], ""], strict=True)
    ]
    steady = str(STEADY_FROM).replace(".", ",")
    evenness = [
        (f"`{STEADY}`", f"constante: a hora média é pelo menos {steady} da maior hora do dia"),
        (f"`{VARYING}`", "variável: menos do que isso"),
    ]
    return "\n".join(
        [
            table(["Duração", "Dentro do dia"], lengths),
            table(["Classe de UC", "Energia; depois da barra, a constância"], [*levels, *evenness]),
        ]
    )


def configuration() -> str:
    parts = []
    rows = settings.describe()
    for section in dict.fromkeys(row.section for row in rows):
        lines = [
            (
                f"`{row.key}`",
                f"`{row.environment}`",
                f"`{row.default}`" if row.default else "–",
                pt(row.help_line),
            )
            for row in rows
            if row.section == section
        ]
        parts.append(f"### `[{section}]`\n\n" + table(["Chave", "Variável", "Padrão", "O que é"], lines))
    return "\n".join(parts)


def ccee() -> str:
    return table(
        ["Ajuste", "Padrão", "Grau", "Por quê"],
        [
            (f"`{item.key}`", f"`{item.value}`" if item.value else "–", item.confidence, pt(item.why))
            for item in profile.unverified_settings(profile.load_profile())
        ],
    )


def nbr14522() -> str:
    return table(
        ["Ajuste", "Padrão", "Grau", "Por quê"],
        [
            (f"`{item.name}`", f"`{item.default}`", item.confidence, pt(item.reason))
            for item in meter_profile.unverified_settings()
        ],
    )


_KINDS = {
    commands.CommandKind.READ: "leitura",
    commands.CommandKind.RESET: "leitura com reposição",
    commands.CommandKind.WRITE: "escrita",
    commands.CommandKind.READ_WRITE: "leitura ou escrita",
    commands.CommandKind.SESSION: "sessão",
    commands.CommandKind.ANSWER: "só resposta",
    commands.CommandKind.UNKNOWN: "desconhecido",
}


def meter_commands() -> str:
    return table(
        ["Comando", "Nome", "Tipo", "Grau do nome", "Grau da disposição", "Blocos", "Seção"],
        [
            (
                f"`{info.key}`",
                info.name,
                _KINDS[info.kind],
                info.name_confidence,
                info.layout_confidence or "desconhecida",
                "vários" if info.is_composite else "um",
                info.section or "–",
            )
            for info in commands.COMMANDS.values()
        ],
    )


def meter_models() -> str:
    rows = []
    for model in models.models().values():
        facts = " ".join(f"{pt(fact.text)} ({fact.confidence})" for fact in model.facts)
        rows.append(
            (
                f"`{model.name}`",
                model.maker,
                pt(model.description),
                ", ".join(model.model_codes) or "–",
                model.profile.addressing,
                f"`{model.profile.password_transform}`",
                model.confidence,
                facts or "–",
            )
        )
    header = ["Modelo", "Fabricante", "O que é", "Códigos", "Endereço", "Senha", "Grau", "O que se sabe"]
    return table(header, rows)


def commands_by_model() -> str:
    """One row a command that some model has: ● in its list; ○ so by the general profile that it extends."""
    found = list(models.models().values())
    rows = []
    for info in commands.COMMANDS.values():
        cells = [_has(model, info) for model in found]
        if any(cells) and info.kind is not commands.CommandKind.ANSWER:
            rows.append((f"`{info.key}`", info.layout_confidence or "–", *cells))
    return table(["Comando", "Grau", *(f"{model.name} ({model.confidence})" for model in found)], rows)


def _has(model: models.MeterModel, info: commands.CommandInfo) -> str:
    if not model.profile.has_command(info.code, info.sub_code):
        return ""
    generic = meter_profile.GENERIC[meter_profile.DEFAULT.name].commands
    return (
        "○" if info.sub_code is None and model.profile.commands >= generic and info.code in generic else "●"
    )


def write_fields() -> str:
    """Fields of each typed write, with their octets: the names that a request takes."""
    kinds = [pair[0] for pair in (*writes.WRITES.values(), *writes.EXTENDED_WRITES.values())]
    rows = []
    for kind in kinds:
        key = commands.command_key(kind.CODE, getattr(kind, "SUB_CODE", None))
        fields = [spec for spec in table_of(kind) if spec.octet > 4 and spec.name != "sub_code"]
        listed = ", ".join(f"`{spec.name}` (o{spec.octet})" for spec in fields)
        rows.append((f"`{key}`", commands.COMMANDS[key].name, listed or "nenhum"))
    return table(["Comando", "Nome", "Campos e primeiro octeto"], rows)


_PARAMETERS = {
    "estimation": EstimationParams(),
    "validation": ValidationParams(),
    "primary": PrimaryParams(),
}


_SERIAL_PARAMETERS = {
    "ssu": SsuSettings(),
    "celesc": SimpleNamespace(
        register_digits=catalogue.CelescMeter.__dataclass_fields__["register_digits"].default,
        fresh_s=stream_decode.FRESH_S,
    ),
    "inspection": Criteria(),
    "warranty": WarrantyTerms(),
}


def public_files() -> str:
    """Settings of the public formats."""
    return _parameters({"public_files": settings.PublicFileSettings()})


def rule_parameters() -> str:
    """Settings of the rules that judge."""
    rooms = {rule.id: rule.defaults for rule in rule_table.RULES}
    return _parameters({**rooms, "similar_days": SimilarDays()})


def parameters() -> str:
    """Settings of the rules."""
    return _parameters(_PARAMETERS)


def serial_parameters() -> str:
    """Settings of the serial outputs, their inspection, and the warranty of lots."""
    return _parameters(_SERIAL_PARAMETERS)


def serial_meters() -> str:
    """The catalogue of CELESC's meters."""
    rows = []
    for meter in catalogue.meters().values():
        packets = ", ".join(
            f"`{one.code_text}` {_NEEDS[one.need]} ({one.confidence})" for one in meter.packets
        )
        shown = ", ".join(f"{one.code} {one.quantity}".strip() for one in meter.display)
        rows.append(
            (
                f"`{meter.profile}`",
                meter.description_pt,
                meter.bought or "não comprado",
                f"{meter.phases} / {meter.elements} / {meter.wires}",
                f"{meter.nominal_voltage_v} V, {meter.frequency_hz} Hz, "
                f"{meter.nominal_current_a}({meter.max_current_a}) A, classe {meter.accuracy_class}",
                f"{meter.display_digits} dígitos: {shown}",
                ", ".join(f"`{row.code}`" for row in meter.registers) + _ACCUMULATIONS[meter.accumulation],
                packets,
            )
        )
    header = ["Perfil", "O que é", "Comprados", "Fases / elementos / fios", "Tensão, corrente"]
    return table([*header, "Mostrador", "Registradores", "Pacotes (grau)"], rows)


_ACCUMULATIONS = {"ratchet": " (catraca: o direto só soma consumo)", "not_said": ""}
_NEEDS = {catalogue.Need.REQUIRED: "obrigatório", catalogue.Need.EXPECTED: "em aberto"}


def _parameters(rooms: Mapping[str, object]) -> str:
    """Default from the code, grade and reason from `parametros.csv`."""
    rows = []
    with (DOCS / "parametros.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter=";"):
            room, name = line["parametro"].split(".")
            if room not in rooms:
                continue
            value = getattr(rooms[room], name)
            shown = value.name.lower() if isinstance(value, IntEnum) else _plain(value)
            shown = f"`{shown}`" if shown else "–"
            rows.append((f"`{line['parametro']}`", shown, line["confianca"], line["por_que"]))
    return table(["Ajuste", "Padrão", "Grau", "Por quê"], rows)


def licences() -> str:
    """The packages of each lock under each licence, with what it asks of whoever ships them."""
    # deploy/ is not installed, and a script finds only what lies beside it.
    sys.path.append(str(DOCS.parent))
    from deploy.licences import DEVELOPMENT, RUNTIME, Licences, locked

    verdicts = Licences.load()
    runtime = locked(RUNTIME)
    names = {package.name for package in runtime}
    development = [package for package in locked(DEVELOPMENT) if package.name not in names]
    parts = []
    for title, packages in (("Produto", runtime), ("Só para desenvolver e testar", development)):
        rows: dict[str, list[str]] = {}
        for package in packages:
            rows.setdefault(verdicts.of(package) or "?", []).append(package.name)
        parts.append(
            f"### {title}\n\n"
            + table(["Licença", "Pacotes"], [(f"`{spdx}`", ", ".join(rows[spdx])) for spdx in sorted(rows)])
        )
    asked = [(f"`{spdx}`", asks) for spdx, asks in verdicts.accepted.items()]
    parts.append("### O que cada licença pede a quem entrega\n\n" + table(["Licença", "Pede"], asked))
    return "\n".join(parts)


GENERATED: dict[str, Callable[[], str]] = {
    "regras-validacao": validation_rules,
    "regras-juizo": judging_rules,
    "regras-nao-julgam": rule_skips,
    "regras-parametros": rule_parameters,
    "causas-da-falta": missing_causes,
    "estrategias": strategies,
    "placar": score_classes,
    "motivos": reasons,
    "causas": causes,
    "configuracao": configuration,
    "ccee": ccee,
    "nbr14522": nbr14522,
    "comandos": meter_commands,
    "modelos": meter_models,
    "matriz": commands_by_model,
    "campos": write_fields,
    "parametros": parameters,
    "arquivos-publicos": public_files,
    "saidas-seriais": serial_parameters,
    "medidores-celesc": serial_meters,
    **{name: partial(state_diagrams.section, name, pt) for name in state_diagrams.TABLES},
    "licencas": licences,
}


def fill(page: str, where: str) -> str:
    """The page with each generated block made anew."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in GENERATED:
            raise SystemExit(f"{where}: no generator named {name!r}; known are {', '.join(GENERATED)}")
        return f"{match[1]}\n{GENERATED[name]()}\n{match[3]}"

    return _BLOCK.sub(block, page)


def main(argv: Sequence[str]) -> int:
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = fill(before, path.name)
        if after != before:
            stale.append(path.name)
            if "--check" not in argv:
                path.write_text(after, encoding="utf-8")
    if pt.missing:
        print("docs: no Portuguese in docs/traducoes.csv for:", *sorted(set(pt.missing)), sep="\n  ")
        return 1
    if stale:
        print(f"docs: {'stale' if '--check' in argv else 'written'}: {', '.join(stale)}")
    if stale and "--check" in argv:
        print("docs: run `make docs` and commit the pages")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
