"""How an estimated value came about, in sentences.

What belongs here: one sentence a method, from what its estimate kept. What does not: the methods
(`vee.strategy_*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from audit.pages.words import Words
from documents.wording import day

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


def _day(text: Any, words: Words) -> str:
    return day(date.fromisoformat(str(text)), words.language)
