"""The trace of a UC-day as a document: what CCEE got for it, why, and each interval.

What belongs here: order and sentences. What does not: gathering and comparing (`day`), the sections that an
interval's trace has as well (`sections`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from audit.day import DayTrace
from audit.pages.document import ORIGINS, verdict_words, zone_words
from audit.pages.estimates import error_words, method_words
from audit.pages.sections import checks_table, delivery_blocks, registry_blocks
from audit.pages.words import Words
from audit.registry_changes import RegistryChange
from documents import Column, Document, Fact, Facts, Kind, Section, Table, Text
from documents.wording import day as written_day
from vee.quality import describe_reason


def day_document(found: DayTrace, changes: Sequence[RegistryChange], words: Words) -> Document:
    """The document of a day."""
    first = found.first
    shown_day = written_day(first.day, words.language)
    return Document(
        title=words(f"Rastreio: UC {first.uc_code}, {shown_day}", f"Trace: UC {first.uc_code}, {shown_day}"),
        subtitle=f"{first.uc_name}. " + zone_words(words),
        verdict=_verdict(found, words),
        facts=_facts(found, words),
        sections=[
            Section(
                words("Entrega à CCEE", "Delivery to CCEE"),
                delivery_blocks(first.delivery, first, words, is_whole_day=True),
            ),
            Section(words("O que não foi medido", "What was not measured"), [_estimates(found, words)]),
            Section(words("Regras", "Rules"), [_rules(found, words)]),
            Section(
                words("Sessões que trouxeram o dia", "Sessions that brought the day"),
                [_sessions(found, words)],
            ),
            Section(words("Cadastro", "Registry"), registry_blocks(first.registry, changes, words)),
            Section(words("Conferência", "Comparison"), [checks_table(found.checks, words)]),
            Section(words("Intervalos", "Intervals"), [_intervals(found, words)]),
        ],
        foot=words(
            f"Feito por smf trace {first.uc_code} {first.day}. Um intervalo até os seus octetos: "
            f"smf trace {first.uc_code} {first.day}T10:05.",
            f"Made by smf trace {first.uc_code} {first.day}. One interval down to its octets: "
            f"smf trace {first.uc_code} {first.day}T10:05.",
        ),
        language=words.language,
    )


def _energy(found: DayTrace) -> Fraction:
    return sum((one.values[-1] or Fraction(0) for one in found.slots), Fraction(0))


def _verdict(found: DayTrace, words: Words) -> Text:
    missing = sum(one.values[-1] is None for one in found.slots)
    energy = f"{words.milli(_energy(found))} kWh"
    gaps = words(f", {missing} intervalos faltam", f", {missing} intervals are missing") if missing else ""
    return verdict_words(energy + gaps, found.first, found.checks, words)


def _facts(found: DayTrace, words: Words) -> Facts:
    first = found.first
    counts = Counter(one.origin for one in found.slots)
    shares = ", ".join(
        f"{words(*ORIGINS[origin.name.lower()])} {count}" for origin, count in sorted(counts.items())
    )
    facts = [
        Fact("UC", first.uc_code, is_code=True),
        Fact(words("Dia", "Day"), written_day(first.day, words.language)),
        Fact(words("Energia", "Energy"), f"{words.milli(_energy(found))} kWh"),
        Fact(words("Intervalos", "Intervals"), shares),
        Fact(
            words("Versão do dia", "Version of the day"),
            str(first.version)
            + (
                words(f"; a mais nova é {first.newer_version}", f"; the newest is {first.newer_version}")
                if first.newer_version
                else ""
            ),
        ),
    ]
    cause = first.outcome.get("cause_text")
    if cause:
        facts.append(Fact(words("Por que não está pronto", "Why it is not ready"), str(cause)))
    return Facts(facts)


def _estimates(found: DayTrace, words: Words) -> Table:
    return Table(
        words("Estimativas", "Estimates"),
        [
            Column(words("De", "From"), Kind.NUMBER),
            Column(words("A", "To"), Kind.NUMBER),
            Column(words("Método", "Method")),
            Column(words("Estratégia", "Strategy")),
            Column(words("Aprovado por", "Approved by")),
            Column(words("Erro esperado", "Expected error")),
        ],
        [
            (
                row["first_slot"] + 1,
                row["last_slot"] + 1,
                method_words(row["method"], words),
                row["strategy"],
                row["approved_by"] or "",
                error_words(row["expected_error"], words),
            )
            for row in found.estimates
        ],
        empty=words("Nada foi estimado.", "Nothing was estimated."),
    )


def _rules(found: DayTrace, words: Words) -> Table:
    return Table(
        words("Regras", "Rules"),
        [
            Column(words("Regra", "Rule")),
            Column(words("De", "From"), Kind.NUMBER),
            Column(words("A", "To"), Kind.NUMBER),
            Column(words("Resultado", "Result")),
        ],
        [(row["rule"], row["first_slot"] + 1, row["last_slot"] + 1, row["result"]) for row in found.verdicts],
        empty=words("Nenhuma regra se manifestou.", "No rule had anything to say."),
    )


def _sessions(found: DayTrace, words: Words) -> Table:
    brought = Counter(one.session for one in found.slots)
    return Table(
        words("Sessões", "Sessions"),
        [
            Column(words("Sessão", "Session"), Kind.NUMBER),
            Column(words("Começo", "Began")),
            Column(words("Protocolo", "Protocol")),
            Column(words("Endereço", "Address")),
            Column(words("Resultado", "Outcome")),
            Column(words("Intervalos", "Intervals"), Kind.NUMBER),
            Column(words("Relógio, s", "Clock, s"), Kind.NUMBER, 0),
        ],
        [
            (
                row["id"],
                words.at(row["started_at"]),
                row["protocol"],
                row["url"] or "",
                row["outcome"],
                brought[row["id"]],
                None if row["drift_s"] is None else round(row["drift_s"]),
            )
            for row in found.sessions
        ],
        empty=words("Nenhuma sessão trouxe este dia.", "No session brought this day."),
    )


def _intervals(found: DayTrace, words: Words) -> Table:
    return Table(
        words("Intervalos", "Intervals"),
        [
            Column(words("Fim", "End")),
            Column(words("Pulsos", "Pulses"), Kind.NUMBER),
            Column(words("Primária, kWh", "Primary, kWh")),
            Column(words("Com perdas, kWh", "Adjusted, kWh")),
            Column("CCEE, kWh"),
            Column(words("Origem", "Origin")),
            Column(words("Motivo", "Reason")),
            Column(words("Sessão", "Session"), Kind.NUMBER),
        ],
        [
            (
                f"{one.end.astimezone(words.zone):%H:%M}",
                one.pulses,
                _shown(one.values[0], words),
                _shown(one.values[3], words),
                "" if one.values[4] is None else words.milli(one.values[4]),
                words(*ORIGINS[one.origin.name.lower()]),
                describe_reason(one.reason).text_pt
                if words("pt", "en") == "pt"
                else one.reason.name.lower().replace("_", " "),
                one.session,
            )
            for one in found.slots
        ],
    )


def _shown(value: Fraction | None, words: Words) -> str:
    return "" if value is None else words.exact(value)
