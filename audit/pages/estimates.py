"""How an estimated value came about, in sentences.

What belongs here: one sentence a method, from what its estimate kept, and how far off such estimates are.
What does not: the methods (`vee.strategy_*`), the score (`derivation.scores`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from audit.pages.words import Words
from derivation.scores.expected_errors import LENGTH_WORDS, NOT_SCORED, class_words
from documents.wording import day, number
from vee.scores.classes import ALL, STEADY, VARYING

_METHODS = {
    "A": ("média do mesmo dia da semana e hora", "mean of the same weekday and hour"),
    "B": ("média da hora anterior e da posterior", "mean of the hours before and after"),
    "C": ("perda de fase: valor coletado vezes um fator", "phase loss: the collected value times a factor"),
    "inside_hour": ("média dos intervalos coletados da mesma hora", "mean of the hour's collected intervals"),
    "E2": ("medidor de retaguarda, mesmo intervalo", "backup meter, same interval"),
    "E3": ("interpolação entre os vizinhos", "interpolation between the neighbours"),
    "E4": ("média de dias semelhantes", "mean of similar days"),
    "E5": ("média dos últimos ciclos por posto", "mean of the last cycles by tariff post"),
}

_LENGTHS = {
    "under_1h": "lacunas de menos de 1 h",
    "1h_to_2h": "lacunas de 1 h a menos de 2 h",
    "2h_to_6h": "lacunas de 2 h a menos de 6 h",
    "6h_to_24h": "lacunas de 6 h a menos de 24 h",
    "whole_day": "dias inteiros",
    ALL: "lacunas de qualquer duração",
}
_LEVELS = {
    "under_240_kwh": "menos de 240 kWh por dia",
    "under_2400_kwh": "240 a 2.400 kWh por dia",
    "under_24000_kwh": "2.400 a 24.000 kWh por dia",
    "from_24000_kwh": "24.000 kWh por dia ou mais",
}
_EVENNESS = {STEADY: "constante", VARYING: "variável"}


def method_words(method: str, words: Words) -> str:
    """A method by its name and in words."""
    return f"{method}, {words(*_METHODS[method])}" if method in _METHODS else method


def sentences(estimate: Mapping[str, Any], words: Words) -> list[str]:
    """What went into an estimate."""
    detail: Mapping[str, Any] = estimate["detail"]
    said = [
        words(
            f"Método {method_words(estimate['method'], words)}, da estratégia {estimate['strategy']}, nos "
            f"intervalos {estimate['first_slot'] + 1} a {estimate['last_slot'] + 1} do dia.",
            f"Method {method_words(estimate['method'], words)}, of strategy {estimate['strategy']}, in "
            "intervals "
            f"{estimate['first_slot'] + 1} to {estimate['last_slot'] + 1} of the day.",
        )
    ]
    if estimate["approved_by"]:
        said.append(
            words(f"Aprovado por {estimate['approved_by']}.", f"Approved by {estimate['approved_by']}.")
        )
    dates = [_day(text, words) for text in detail.get("dates", ())]
    if dates:
        said.append(words(f"Dias na média: {', '.join(dates)}.", f"Days in the mean: {', '.join(dates)}."))
    if "window" in detail:
        first, last = (_day(text, words) for text in detail["window"])
        said.append(
            words(f"Janela de histórico: {first} a {last}.", f"Window of history: {first} to {last}.")
        )
    for name, pt, en in (
        ("before", "Hora anterior", "Hour before"),
        ("after", "Hora posterior", "Hour after"),
    ):
        side = detail.get(name)
        if isinstance(side, Mapping) and "hour" in side:
            when = f"{_day(side['day'], words)}, {words('hora', 'hour')} {side['hour']}"
            said.append(f"{words(pt, en)}: {when}.")
    if "collected_slots" in detail:
        places = ", ".join(str(slot + 1) for slot in detail["collected_slots"])
        said.append(
            words(f"Intervalos coletados na hora: {places}.", f"Intervals collected in the hour: {places}.")
        )
    if "factor" in detail:
        said.append(
            words(
                f"Fator {detail['factor']}: {detail.get('elements')} elementos, "
                f"{detail.get('phases_lost')} fases "
                f"sem tensão ou corrente; prova: {detail.get('proof')}.",
                f"Factor {detail['factor']}: {detail.get('elements')} elements, "
                f"{detail.get('phases_lost')} phases "
                f"without voltage or current; proof: {detail.get('proof')}.",
            )
        )
    if "musd_kw" in detail:
        said.append(
            words(
                f"{detail.get('share', '')} × MUSD de {detail['musd_kw']} kW por hora, plano.",
                f"{detail.get('share', '')} × MUSD of {detail['musd_kw']} kW an hour, flat.",
            )
        )
    if detail.get("awaiting_neighbour"):
        said.append(
            words(
                "Provisório: a hora vizinha ainda não foi coletada; com ela vale a regra B.",
                "For now: the hour beside is not collected yet; with it rule B holds.",
            )
        )
    return said


def error_sentence(told: Mapping[str, Any], words: Words) -> str:
    """What the latest score says of an estimate (`audit.scored.expected_error`), in a sentence."""
    if "share" not in told:
        if "run" not in told:
            return words("Ainda não há placar das estimativas: smf scores run.", f"{NOT_SCORED}.")
        return words(f"O método não apareceu no placar {told['run']}.", f"{told['words']}.")
    length, uc_class = _LENGTHS[told["gap_length"]], told["uc_class"]
    level, _, evenness = uc_class.partition("/")
    class_pt = (
        "todas as classes de UC"
        if uc_class == ALL
        else f"UCs de {_LEVELS.get(level, level)}, carga {_EVENNESS.get(evenness, evenness)}"
    )
    said = words(
        f"Erro esperado de {told['method']}, {length}, {class_pt}: {error_words(told, words)}.",
        f"Expected error of {told['method']}, {LENGTH_WORDS[told['gap_length']]}, {class_words(uc_class)}: "
        f"{error_words(told, words)}.",
    )
    if told["replaced_gaps"] and told["replaced_share"] is not None:
        real = f"±{_percent(told['replaced_share'], words)} (n = {told['replaced_gaps']})"
        said += words(
            f" Em lacunas de verdade, lidas depois: {real}.", f" In real gaps that were read late: {real}."
        )
    return said


def error_words(told: Mapping[str, Any], words: Words) -> str:
    """The expected error alone, with how many gaps it is the mean of; empty where none is known."""
    if "share" not in told:
        return ""
    if told["share"] is None:
        return words("sem consumo", "no energy")
    return f"±{_percent(told['share'], words)} (n = {told['gaps']})"


def replaced_sentence(row: Mapping[str, Any], words: Words) -> str:
    """An estimate that gave way to what the meter had (`audit.scored.replaced`)."""
    told, measured, difference = (
        number(Decimal(row[name]), words.language, 3)
        for name in ("estimated_kwh", "measured_kwh", "difference_kwh")
    )
    first, last = row["first_slot"] + 1, row["last_slot"] + 1
    return words(
        f"Medido tarde: antes valia a estimativa {row['method']} nos intervalos {first} a {last}, "
        f"{told} kWh; o medidor tinha {measured} kWh, diferença de {difference} kWh.",
        f"Measured late: before, the estimate {row['method']} stood in intervals {first} to {last}, "
        f"{told} kWh; the meter had {measured} kWh, a difference of {difference} kWh.",
    )


def _percent(share: float, words: Words) -> str:
    return number(Decimal(str(round(100 * share, 1))), words.language, 1) + " %"


def _day(text: Any, words: Words) -> str:
    return day(date.fromisoformat(str(text)), words.language)
