"""The trace of one interval as a document: the verdict first, then each step back to the octets.

What belongs here: order and sentences. What does not: gathering and comparing (`trace`), the calculation
(`calculation`), the octets (`places`), how a document is written down (`documents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from audit.pages.calculation import steps
from audit.pages.estimates import error_sentence, replaced_sentence, sentences
from audit.pages.sections import (
    STATES_EN,
    check_words,
    checks_table,
    delivery_blocks,
    instants,
    parameters,
    reading_blocks,
    registry_blocks,
)
from audit.pages.words import Words
from audit.parts import Check, LayerValue, Trace
from audit.registry_changes import RegistryChange
from ccee.profile import Profile
from documents import Block, Column, Document, Fact, Facts, Kind, Section, Table, Text, Tone
from documents.wording import day

LAYER_WORDS = {
    "primary": (
        "Primária: pulsos do medidor vezes a constante, exatos.",
        "Primary: the meter's pulses times its constant, exact.",
    ),
    "validated": (
        "Validada: o que a análise crítica recusou ou reteve fica sem valor.",
        "Validated: what the critical analysis refused or held has no value.",
    ),
    "estimated": (
        "Estimada: o que faltava, posto pela estratégia da UC.",
        "Estimated: what was missing, put there by the UC's strategy.",
    ),
    "adjusted": (
        "Com perdas: vezes as perdas de transformação e de linha, ainda exata.",
        "Adjusted: times the losses of transformation and line, still exact.",
    ),
    "ccee": (
        "Pronta para a CCEE: arredondada uma vez, a três casas.",
        "Ready for CCEE: rounded once, to three decimals.",
    ),
}
# Where a layer is as the one below it.
UNCHANGED = {
    "validated": ("Validada: nada recusado nem retido.", "Validated: nothing refused or held."),
    "estimated": ("Estimada: nada a estimar.", "Estimated: nothing to estimate."),
    "adjusted": ("Com perdas: nenhuma a aplicar.", "Adjusted: no losses to apply."),
}
ORIGINS = {
    "measured": ("medido", "measured"),
    "backup": ("retaguarda", "backup"),
    "estimated": ("estimado", "estimated"),
    "edited": ("editado", "edited"),
    "missing": ("faltante", "missing"),
}


def interval_document(
    found: Trace, profile: Profile, changes: Sequence[RegistryChange], words: Words
) -> Document:
    """The document of one interval.

    Args: changes: who changed the registry's rows of the UC.
    """
    start, end = (moment.astimezone(words.zone) for moment in (found.interval_start, found.interval_end))
    sections = [
        Section(words("A conta", "The calculation"), [Text(line) for line in steps(found, words)]),
        Section(words("Camadas", "Layers"), [layer_table(found, words)]),
        *_estimate(found, words),
        *_rules(found, words),
        Section(words("Entrega à CCEE", "Delivery to CCEE"), delivery_blocks(found.delivery, found, words)),
        *_readings(found, words),
        Section(words("Cadastro", "Registry"), registry_blocks(found.registry, changes, words)),
        Section(
            words("Parâmetros que atuaram", "Parameters that acted"), [parameters(found, profile, words)]
        ),
        Section(words("Instantes", "Instants"), instants(found, words)),
        Section(words("Conferência", "Comparison"), [checks_table(found.checks, words)]),
    ]
    return Document(
        title=words(f"Rastreio: UC {found.uc_code}", f"Trace: UC {found.uc_code}"),
        subtitle=f"{found.uc_name}. " + zone_words(words),
        verdict=verdict(found, words),
        facts=Facts(
            [
                Fact("UC", found.uc_code, is_code=True),
                Fact(words("Nome", "Name"), found.uc_name),
                Fact(
                    words("Intervalo", "Interval"),
                    f"{day(start.date(), words.language)}, {start:%H:%M} "
                    + words("a", "to")
                    + f" {end:%H:%M} ({words('intervalo', 'interval')} {found.slot + 1})",
                ),
                Fact(words("Versão do dia", "Version of the day"), _version(found, words)),
            ]
        ),
        sections=sections,
        foot=words(
            f"Feito por smf trace {found.uc_code} {end:%Y-%m-%dT%H:%M}. Tudo o que está acima vem do "
            "banco; os "
            "valores foram refeitos dos octetos guardados ao fazer esta página.",
            f"Made by smf trace {found.uc_code} {end:%Y-%m-%dT%H:%M}. All of the above comes from the "
            "database; the "
            "values were made anew from the stored octets when this page was made.",
        ),
        language=words.language,
    )


def zone_words(words: Words) -> str:
    offset = words.zone.utcoffset(None) or timedelta()
    hours = int(offset.total_seconds() // 3600)
    sign = "\u2212" if hours < 0 else "+"
    zone = f"UTC{sign}{abs(hours)}"
    return words(
        f"Todos os instantes no horário do mercado, {zone}.", f"All instants are in market time, {zone}."
    )


def verdict(found: Trace, words: Words) -> Text:
    """What the trace came to, in one sentence or two."""
    sent = found.layers[-1]
    value = words("sem valor", "no value") if sent.value_kwh is None else f"{words.milli(sent.value_kwh)} kWh"
    return verdict_words(f"{value}, {words(*ORIGINS[sent.origin])}", found, found.checks, words)


def verdict_words(value: str, found: Trace, checks: Sequence[Check], words: Words) -> Text:
    """A value, what CCEE was told, and whether it came out the same when it was made anew.

    Args: checks: of the value; `found` has the delivery and the versions.
    """
    told = words("não foi entregue à CCEE", "was not delivered to CCEE")
    if found.delivery is not None:
        state = str(found.delivery.submission["state"])
        told = words(
            f"dito à CCEE, {state.replace('_', ' ')}", f"told to CCEE, {STATES_EN.get(state, state)}"
        )
    failing = [check for check in checks if not check.is_identical]
    if not failing:
        proof, tone = (
            words("Refeito dos octetos: idêntico.", "Made anew from the octets: identical."),
            Tone.GOOD,
        )
    elif any(not check.not_made for check in failing):
        names = ", ".join(check_words(check.what, words) for check in failing if not check.not_made)
        proof = words(f"Refeito agora, é DIFERENTE em: {names}.", f"Made anew, it DIFFERS in: {names}.")
        tone = Tone.BAD
    else:
        proof = words("Nem tudo pôde ser refeito.", "Not all of it could be made anew.")
        tone = Tone.WARN
    newer = (
        words(
            f" Há uma versão mais nova, {found.newer_version}, que não foi entregue.",
            f" There is a newer version, {found.newer_version}, that was not delivered.",
        )
        if found.newer_version
        else ""
    )
    return Text(f"{value}, {told}. {proof}{newer}", Tone.WARN if newer and not failing else tone)


def _version(found: Trace, words: Words) -> str:
    if found.newer_version:
        return words(
            f"{found.version}; a mais nova é {found.newer_version}",
            f"{found.version}; the newest is {found.newer_version}",
        )
    return str(found.version)


def layer_table(found: Trace, words: Words) -> Table:
    """The five layers, each explained in a line; newest first."""
    return Table(
        words("Camadas", "Layers"),
        [
            Column(words("Camada", "Layer")),
            Column("kWh"),
            Column(words("Origem", "Origin")),
            Column(words("Motivo", "Reason")),
            Column(words("O que aconteceu", "What happened")),
        ],
        [
            (
                str(layer.layer),
                _value(layer, words),
                words(*ORIGINS[layer.origin]),
                layer.reason_text if words("pt", "en") == "pt" else layer.reason.replace("_", " "),
                words(*_happened(layer, below)),
            )
            for layer, below in reversed(list(zip(found.layers, [None, *found.layers], strict=False)))
        ],
    )


def _value(layer: LayerValue, words: Words) -> str:
    if layer.value_kwh is None:
        return ""
    return words.milli(layer.value_kwh) if layer.name == "ccee" else words.exact(layer.value_kwh)


def _happened(layer: LayerValue, below: LayerValue | None) -> tuple[str, str]:
    is_same = below is not None and (below.value_kwh, below.origin) == (layer.value_kwh, layer.origin)
    return UNCHANGED.get(layer.name, LAYER_WORDS[layer.name]) if is_same else LAYER_WORDS[layer.name]


def _estimate(found: Trace, words: Words) -> list[Section]:
    late = [Text(replaced_sentence(row, words), Tone.NOTE) for row in found.replaced]
    if found.estimate is None:
        return [Section(words("Estimativa substituída", "Estimate replaced"), late)] if late else []
    blocks: list[Block] = [Text(sentence) for sentence in sentences(found.estimate, words)]
    if found.expected_error:
        blocks.append(Text(error_sentence(found.expected_error, words), Tone.NOTE))
    blocks += late
    if found.inputs:
        blocks.append(
            Table(
                words("Valores que entraram", "Values that went in"),
                [
                    Column(words("Fim do intervalo", "End of the interval")),
                    Column("kWh"),
                    Column(words("Origem", "Origin")),
                    Column(words("Pulsos", "Pulses"), Kind.NUMBER),
                    Column(words("Refeito", "Made anew")),
                ],
                [
                    (
                        words.at(one.interval_end),
                        "" if one.layers[2].value_kwh is None else words.exact(one.layers[2].value_kwh),
                        words(*ORIGINS[one.layers[2].origin]),
                        one.reading.pulses if one.reading else None,
                        words("idêntico", "identical")
                        if one.is_identical
                        else words("DIFERENTE", "DIFFERENT"),
                    )
                    for one in found.inputs
                ],
            )
        )
    return [Section(words("Estimativa", "Estimate"), blocks)]


def _readings(found: Trace, words: Words) -> list[Section]:
    title = words("Leitura", "Reading")
    if not found.points:
        return [Section(title, reading_blocks(found.reading, words))]
    return [
        Section(f"{title}, {words('ponto', 'point')} {one.point}", reading_blocks(one.reading, words))
        for one in found.points
    ]


def _rules(found: Trace, words: Words) -> list[Section]:
    said = [
        words(
            f"Regra {row['rule']}: {row['result']}, intervalos {row['first_slot'] + 1} a "
            f"{row['last_slot'] + 1}.",
            f"Rule {row['rule']}: {row['result']}, intervals {row['first_slot'] + 1} to "
            f"{row['last_slot'] + 1}.",
        )
        + _details(row["detail"])
        for row in found.verdicts
    ]
    for row in found.decisions:
        second = words(", confirmada por ", ", agreed by ") + row["answered_by"] if row["answered_by"] else ""
        undone = words(", desfeita por ", ", undone by ") + row["undone_by"] if row["undone_by"] else ""
        said.append(
            words(
                f"Decisão D{row['id']} ({row['kind']}, {row['state']}) de "
                f"{row['asked_by']}{second}{undone}, em "
                f"{words.at(row['asked_at'])}: {row['reason']}",
                f"Decision D{row['id']} ({row['kind']}, {row['state']}) by "
                f"{row['asked_by']}{second}{undone}, at "
                f"{words.at(row['asked_at'])}: {row['reason']}",
            )
        )
    if not said:
        return []
    return [Section(words("Regras e decisões", "Rules and decisions"), [Text(line) for line in said])]


def _details(detail: Any) -> str:
    if not isinstance(detail, dict) or not detail:
        return ""
    return " " + "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in detail.items()) + "."
