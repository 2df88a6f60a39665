"""How a day stands, as a document: the verdict, the figures, what is missing with who acts, then every UC.

What belongs here: words and columns, in Portuguese and in English. What does not: what is true of the day
(`standing`), how a document is written down (`documents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from closing.standing import ORIGINS, DayStanding, UcStanding
from documents import Cell, Column, Document, Fact, Facts, Kind, Language, Section, Table, Text, Tone
from documents.wording import day as written_day
from documents.wording import instant, number

_CODE, _NUMBER = Kind.CODE, Kind.NUMBER
_WORDS: dict[Language, dict[str, str]] = {
    Language.PORTUGUESE: {
        "title": "Situação do dia", "as_of": "em {at}", "agent": "agente {agent}",
        "all": "Tudo o que era devido está na CCEE: {delivered} de {due} UCs.",
        "some": "Faltam {waiting} de {due} UCs na CCEE.",
        "nothing": "Nenhuma UC é devida neste dia.",
        "points": "Pontos lidos", "of": "{part} de {whole}", "intervals": "Intervalos",
        "delivered": "Entregues", "energy": "Energia entregue",
        "zeroed": "{kwh} kWh contados como zero (hora acima de 125 % do MUSD)",
        "last": "última às {at}", "gaps": "Faltas conhecidas até", "deadline": "Prazo da CCEE (MS+7du)",
        "left": "{day}, em {days} dias", "past": "{day}, passado há {days} dias", "today": "{day}, hoje",
        "waiting": "Não entregues", "not_due": "Não devidas", "ucs": "UCs",
        "uc": "UC", "name": "Nome", "agent_column": "Agente", "cause": "Por quê", "who": "Quem age",
        "remedy": "O que fazer", "act_by": "Até", "state": "Situação", "kwh": "Energia, kWh",
        "zeroed_kwh": "Zerado, kWh", "at": "Entregue em", "none": "Nenhuma.", "no_agent": "sem agente",
        "measured": "Medidos", "backup": "Retaguarda", "estimated": "Estimados", "edited": "Editados",
        "missing": "Ausentes", "delivered_state": "entregue", "ready": "pronta", "held": "retida",
        "incomplete": "incompleta", "not_expected": "não devida", "by_day": "até {day}",
        "more": "e mais {count}: --csv, --xlsx",
    },
    Language.ENGLISH: {
        "title": "Day", "as_of": "as of {at}", "agent": "agent {agent}",
        "all": "CCEE has all that is due: {delivered} of {due} UCs.",
        "some": "CCEE lacks {waiting} of {due} UCs.",
        "nothing": "No UC is due on this day.",
        "points": "points read", "of": "{part} of {whole}", "intervals": "intervals",
        "delivered": "delivered", "energy": "energy delivered",
        "zeroed": "{kwh} kWh counted as zero (hour above 125 % of the MUSD)",
        "last": "last at {at}", "gaps": "gaps known by", "deadline": "CCEE's deadline (MS+7du)",
        "left": "{day}, in {days} days", "past": "{day}, {days} days ago", "today": "{day}, today",
        "waiting": "Not delivered", "not_due": "Not due", "ucs": "UCs",
        "uc": "UC", "name": "name", "agent_column": "agent", "cause": "cause", "who": "who acts",
        "remedy": "what to do", "act_by": "by", "state": "state", "kwh": "energy, kWh",
        "zeroed_kwh": "zeroed, kWh", "at": "delivered at", "none": "None.", "no_agent": "no agent",
        "measured": "measured", "backup": "backup", "estimated": "estimated", "edited": "edited",
        "missing": "missing", "delivered_state": "delivered", "ready": "ready", "held": "held",
        "incomplete": "incomplete", "not_expected": "not due", "by_day": "by {day}",
        "more": "and {count} more: --csv, --xlsx",
    },
}  # fmt: skip


def standing_document(standing: DayStanding, language: Language) -> Document:
    """The day for people; the section of every UC is last, so that a page begins with what matters."""
    words = _WORDS[language]
    subtitle = words["as_of"].format(at=instant(standing.as_of.replace(microsecond=0), language))
    if standing.agent_code is not None:
        subtitle += ", " + words["agent"].format(agent=standing.agent_code)
    return Document(
        title=f"{words['title']} {written_day(standing.day, language)}",
        subtitle=subtitle,
        verdict=_verdict(standing, words),
        facts=_facts(standing, language),
        sections=[
            Section(words["waiting"], [waiting_table(standing.waiting, words["waiting"], language)]),
            Section(words["not_due"], [waiting_table(standing.not_expected, words["not_due"], language)]),
            Section(words["ucs"], [every_uc_table(standing, language)]),
        ],
        language=language,
    )


def _verdict(standing: DayStanding, words: dict[str, str]) -> Text:
    if not standing.due:
        return Text(words["nothing"], Tone.WARN)
    waiting = len(standing.waiting)
    sentence = words["some" if waiting else "all"]
    text = sentence.format(delivered=standing.delivered, due=standing.due, waiting=waiting)
    return Text(text, Tone.WARN if waiting else Tone.GOOD)


def _facts(standing: DayStanding, language: Language) -> Facts:
    words = _WORDS[language]
    of = words["of"]
    counts = standing.intervals
    delivered = of.format(part=standing.delivered, whole=standing.due)
    if standing.last_delivery is not None:
        delivered += ", " + words["last"].format(
            at=instant(standing.last_delivery.replace(microsecond=0), language)
        )
    parts = (f"{number(counts[origin], language)} {words[origin].lower()}" for origin in ORIGINS)
    energy = f"{number(standing.energy_kwh, language, 3)} kWh"
    if standing.zeroed_kwh:
        energy += "; " + words["zeroed"].format(kwh=number(standing.zeroed_kwh, language, 3))
    return Facts(
        [
            Fact(words["points"], of.format(part=standing.points_read, whole=standing.points)),
            Fact(words["intervals"], ", ".join(parts)),
            Fact(words["delivered"], delivered),
            Fact(words["energy"], energy),
            Fact(words["gaps"], _left(standing.gaps_known.day, standing.gaps_known.days_left, language)),
            Fact(words["deadline"], _left(standing.deadline.day, standing.deadline.days_left, language)),
        ]
    )


def _left(day: date, days_left: int, language: Language) -> str:
    words = _WORDS[language]
    name = "today" if days_left == 0 else "left" if days_left > 0 else "past"
    return words[name].format(day=written_day(day, language), days=abs(days_left))


def waiting_table(ucs: Sequence[UcStanding], name: str, language: Language) -> Table:
    """UCs that CCEE does not have: why, who acts, what to do, by when."""
    words = _WORDS[language]
    return Table(
        name,
        [
            Column(words["uc"], _CODE),
            Column(words["name"]),
            Column(words["agent_column"], _CODE),
            Column(words["cause"]),
            Column(words["who"]),
            Column(words["remedy"]),
            Column(words["act_by"]),
            Column(words["missing"], _NUMBER),
        ],
        [_waiting_row(uc, language) for uc in ucs],
        empty=words["none"],
    )


def _waiting_row(uc: UcStanding, language: Language) -> list[Cell]:
    cause, who, remedy = uc.words(language)
    agent = _agent(uc, language)
    return [
        uc.uc_code,
        uc.uc_name,
        agent,
        f"{cause} ({uc.cause})",
        who,
        remedy,
        uc.act_by,
        uc.intervals["missing"],
    ]


def group_words(ucs: Sequence[UcStanding], most: int, language: Language) -> tuple[str, str, list[str], str]:
    """UCs that CCEE lacks for one cause, for a narrow screen.

    Returns: the cause with its count; who does what by when; a line for each of `most` UCs; what is left out.
    """
    words = _WORDS[language]
    cause, who, remedy = ucs[0].words(language)
    due = f", {words['by_day'].format(day=written_day(ucs[0].act_by, language))}" if ucs[0].act_by else ""
    lines = []
    for uc in ucs[:most]:
        missing = f"  {number(uc.intervals['missing'], language)} {words['missing'].lower()}"
        agent = f"  {words['agent'].format(agent=_agent(uc, language))}"
        lines.append(f"{uc.uc_code}  {uc.uc_name}{agent}{missing if uc.intervals['missing'] else ''}")
    more = words["more"].format(count=len(ucs) - most) if len(ucs) > most else ""
    return f"{cause} ({ucs[0].cause}): {len(ucs)}", f"{who}{due}: {remedy}", lines, more


def every_uc_table(standing: DayStanding, language: Language, *, with_causes: bool = False) -> Table:
    """One row a UC of the day, delivered or not.

    Args:
        with_causes: for a file that is nothing but this table.
    """
    words = _WORDS[language]
    columns = [
        Column(words["uc"], _CODE),
        Column(words["name"]),
        Column(words["agent_column"], _CODE),
        Column(words["state"]),
        *(Column(words[origin], _NUMBER) for origin in ORIGINS),
        Column(words["kwh"], _NUMBER, 3),
        Column(words["zeroed_kwh"], _NUMBER, 3),
        Column(words["at"]),
    ]
    if with_causes:
        columns += [Column(words[name]) for name in ("cause", "who", "remedy", "act_by")]
    rows: list[list[Cell]] = []
    for uc in standing.ucs:
        state = words["delivered_state" if uc.is_delivered else uc.state]
        delivered_at = None if uc.delivered_at is None else uc.delivered_at.replace(microsecond=0)
        counts = [uc.intervals[origin] for origin in ORIGINS]
        whose: list[Cell] = [uc.uc_code, uc.uc_name, _agent(uc, language), state]
        why: list[Cell] = [*uc.words(language), uc.act_by] if with_causes else []
        rows.append([*whose, *counts, uc.energy_kwh, uc.zeroed_kwh, delivered_at, *why])
    return Table(words["ucs"], columns, rows, empty=words["none"])


def _agent(uc: UcStanding, language: Language) -> str:
    return _WORDS[language]["no_agent"] if uc.agent_code is None else str(uc.agent_code)
