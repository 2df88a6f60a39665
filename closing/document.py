"""The closing as a document: what a person wants to know first, then the lists.

What belongs here: words, order and columns. What does not: what is true of the month (`report`, `freeze`,
`recount`), how a document is written down (`documents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Any

from closing.again import EstimatedAgain
from closing.certificates import Certificate
from closing.forecast import PACE_DAYS, Forecast, Outlook
from closing.freeze import Frozen
from closing.lists import (
    agent_name,
    conflict_hours,
    count,
    day_text,
    deadlines,
    kwh,
    missing,
    percent,
    plain,
    recounts,
    ucs,
)
from closing.recount import Recount
from closing.report import ClosingReport, Figures
from documents import Column, Document, Fact, Facts, Kind, Language, Section, Table, Text, Tone
from documents.wording import instant, number
from vee import calendars

_PT = Language.PORTUGUESE
_CODE, _NUMBER, _SHARE = Kind.CODE, Kind.NUMBER, Kind.SHARE
_METHODS = {
    "A": "regra A: mesmo dia da semana e hora, 12 semanas",
    "B": "regra B: hora anterior e posterior",
    "C": "regra C: perda de fase",
    "inside_hour": "dentro da hora: média dos coletados",
    "E2": "medidor de retaguarda",
}


@dataclass(frozen=True)
class Closing:
    """All that a run of the closing found. `again`, `frozen`, `recount`: None where it was not their time."""

    report: ClosingReport
    again: EstimatedAgain | None
    frozen: Frozen | None
    recount: Recount | None
    certificates: Sequence[Certificate]


def document(closing: Closing) -> Document:
    """The report of a month, in Portuguese."""
    report = closing.report
    is_open = closing.frozen is None
    sections = [
        Section("O que falta e quem age" if is_open else "O que se perdeu e por quê", [missing(report)]),
        Section(
            "Agentes", [_agents(report, is_open=is_open), Text(_pace_note() if is_open else "", Tone.NOTE)]
        ),
        Section("Conflitos de MUSD", _conflicts(report)),
        Section("Estimativa", _estimates(closing)),
        Section("Prazos", [deadlines(report)]),
        Section("UCs", [ucs(report)]),
        Section("Horas acima do MUSD", [conflict_hours(report)]),
    ]
    if closing.frozen is not None:
        sections[:0] = [
            Section("Certificado", _certificate(closing)),
            Section("Recontabilização", recounts(closing.recount.changes if closing.recount else [])),
        ]
    return Document(
        title=f"Fechamento de {report.month:%m/%Y}",
        subtitle=f"Como estava em {instant(report.as_of, _PT)}, hora de Brasília (UTC−3)",
        verdict=verdict(closing),
        facts=_facts(closing),
        sections=sections,
        foot="Energia em kWh, exata, dos corpos que a CCEE aceitou. Dias devidos: os do cadastro. "
        f"Feito por `smf run closing --month {report.name}`.",
    )


def verdict(closing: Closing) -> Text:
    """The answer in one sentence."""
    report, frozen = closing.report, closing.frozen
    if frozen is not None:
        changes = closing.recount.changes if closing.recount else []
        more = ""
        if closing.recount and changes:
            difference = kwh(closing.recount.difference_kwh)
            some = "mudou 1" if len(changes) == 1 else f"mudaram {count(len(changes))}"
            more = f" Depois disso {some}: diferença de {difference} kWh, a recontabilizar."
        return Text(
            f"Mês congelado. Dias de UC definitivos: {count(frozen.final)}; perdidos: "
            f"{count(frozen.lost)}.{more}",
            Tone.BAD if frozen.lost else Tone.WARN if changes else Tone.GOOD,
        )
    if report.is_complete:
        return Text(f"Nada falta: {count(report.days_delivered)} dias de UC entregues.", Tone.GOOD)
    late = [agent for agent in report.agents if agent.outlook.misses]
    deadline = report.deadline
    left = f"{deadline.days_left} dias até {day_text(deadline.day)} ({deadline.label})"
    parts = [f"Faltam {count(len(report.missing))} de {count(report.days_due)} dias de UC; {left}."]
    if report.musd_conflicts:
        parts.append(
            f"{count(len(report.musd_conflicts))} horas acima do limite do MUSD contam como zero: "
            f"{kwh(report.conflict_kwh)} kWh."
        )
    if late:
        names = ", ".join(agent_name(agent.agent_code) for agent in late[:5])
        some = "agente perde" if len(late) == 1 else "agentes perdem"
        parts.append(f"No ritmo atual {len(late)} {some} o prazo: {names}{' …' if len(late) > 5 else ''}.")
    return Text(" ".join(parts), Tone.BAD if late else Tone.WARN)


def _facts(closing: Closing) -> Facts:
    report, figures = closing.report, closing.report.whole
    until = day_text(report.last_due_day) if report.last_due_day else "nenhum dia terminou"
    resend = "a reenviar" if closing.frozen is None else "a recontabilizar"
    facts = [
        Fact("Dias de UC devidos", f"{count(figures.days_due)} (até {until}), de {count(figures.ucs)} UCs"),
        Fact("Entregues", f"{count(figures.days_delivered)} ({percent(figures.completeness)})"),
        Fact("Dias mudados desde a entrega", f"{count(figures.days_to_resend)}, {resend}"),
        Fact("Energia entregue", f"{kwh(figures.sent_kwh)} kWh"),
        Fact(
            "Conta como zero (MUSD)",
            f"{kwh(figures.zeroed_kwh)} kWh em {count(figures.zeroed_hours)} horas",
        ),
        Fact("Contada pela CCEE", f"{kwh(figures.counted_kwh)} kWh"),
        Fact("Pronta e não entregue", f"{kwh(figures.unsent_kwh)} kWh"),
        Fact("Parte ajustada", f"{percent(figures.adjusted_share)} dos intervalos com valor"),
    ]
    return Facts(facts)


def _agents(report: ClosingReport, *, is_open: bool) -> Table:
    def cells(code: int | None, name: str, figures: Figures, outlook: str) -> Sequence[Any]:
        return (
            agent_name(code),
            name,
            figures.ucs,
            figures.days_due,
            figures.days_delivered,
            figures.days_due - figures.days_delivered,
            figures.completeness,
            figures.adjusted_share,
            figures.sent_kwh,
            figures.zeroed_kwh,
            figures.counted_kwh,
            figures.unsent_kwh,
            outlook,
        )

    return Table(
        "Agentes",
        [
            Column("Agente", _CODE),
            Column("Nome"),
            Column("UCs", _NUMBER),
            Column("Devidos", _NUMBER),
            Column("Entregues", _NUMBER),
            Column("Faltam", _NUMBER),
            Column("Completo", _SHARE),
            Column("Ajustado", _SHARE),
            Column("Entregue, kWh", _NUMBER, 3),
            Column("Zerado, kWh", _NUMBER, 3),
            Column("Contado, kWh", _NUMBER, 3),
            Column("Pronto não entregue, kWh", _NUMBER, 3),
            Column("Previsão para MS+7du"),
        ],
        [
            cells(
                one.agent_code,
                one.name,
                one.figures,
                outlook_words(one.outlook, report.deadline.day) if is_open else "mês encerrado",
            )
            for one in report.agents
        ],
        empty="Nenhuma UC é submetida neste mês.",
        total=("Todos", *cells(None, "", report.whole, "")[1:]),
    )


def outlook_words(outlook: Forecast, deadline: date) -> str:
    """The forecast in words."""
    pace = number(abs(outlook.pace_per_day), _PT, 1)
    if outlook.outlook is Outlook.DONE:
        return "nada falta"
    if outlook.outlook is Outlook.TOO_SOON:
        return "cedo para prever"
    if outlook.outlook is Outlook.STUCK:
        return f"perde o prazo: {count(outlook.stuck)} dias de UCs de que nada chegou em {PACE_DAYS} dias"
    if outlook.outlook is Outlook.NEVER:
        how = f"a falta cresce {pace} por dia" if outlook.pace_per_day < 0 else "a falta não diminui"
        return f"perde o prazo: {how}"
    done_on = day_text(outlook.done_on) if outlook.done_on else ""
    late = "perde o prazo" if outlook.outlook is Outlook.LATE else "em tempo"
    return f"{late}: {pace} por dia, pronto em {done_on}"


def _pace_note() -> str:
    return (
        f"Ritmo: quantos dias de UC em falta a menos por dia, na média dos últimos {PACE_DAYS} dias. O dia "
        "que chega na sua própria manhã não conta como ritmo."
    )


def _conflicts(report: ClosingReport) -> list[Text | Table]:
    decide, change = (report.milestone(code) for code in (calendars.MUSD_DECIDED, calendars.MUSD_CHANGE))
    blocks: list[Text | Table] = [
        Text(
            f"{count(len(report.musd_conflicts))} horas, {kwh(report.conflict_kwh)} kWh. Decidir até "
            f"{day_text(decide.day)} ({decide.label}); o MUSD muda na CCEE até {day_text(change.day)} "
            f"({change.label})."
            if report.musd_conflicts
            else "Nenhuma hora acima do limite.",
            Tone.WARN if report.musd_conflicts else Tone.PLAIN,
        )
    ]
    if report.musd_conflicts:
        by_uc = groupby(report.musd_conflicts, key=lambda row: (row["agent_code"], row["uc_code"]))
        blocks.append(
            Table(
                "Conflitos por UC",
                [
                    Column("Agente", _CODE),
                    Column("UC", _CODE),
                    Column("Horas", _NUMBER),
                    Column("Energia, kWh", _NUMBER, 3),
                    Column("De"),
                    Column("Até"),
                    Column("MUSD hoje, kW", _NUMBER, None),
                    Column("Maior hora, kWh", _NUMBER, 3),
                ],
                [
                    (
                        agent_name(agent_code),
                        uc_code,
                        len(rows),
                        sum(Decimal(row["energy_kwh"]) for row in rows),
                        rows[0]["day"],
                        rows[-1]["day"],
                        plain(rows[-1]["musd_now_kw"]),
                        max(Decimal(row["energy_kwh"]) for row in rows),
                    )
                    for (agent_code, uc_code), group in by_uc
                    if (rows := list(group))
                ],
            )
        )
    if report.musd_unconfirmed:
        blocks.append(
            Table(
                "MUSD sem confirmação",
                [Column("UC sem MUSD confirmado", _CODE), Column("MUSD, kW", _NUMBER, None)],
                [(row["uc_code"], plain(row["musd_kw"])) for row in report.musd_unconfirmed],
            )
        )
    return blocks


def _estimates(closing: Closing) -> list[Text | Table]:
    report, again = closing.report, closing.again
    blocks: list[Text | Table] = []
    if again is not None:
        blocks.append(
            Text(
                "O mês foi estimado outra vez com uma só janela de histórico, até "
                f"{again.history_month:%m/%Y}: {count(again.ucs)} UCs olhadas, "
                f"{count(again.uc_days_changed)} dias de UC mudaram."
            )
        )
    blocks.append(
        Table(
            "Métodos",
            [Column("Método"), Column("Intervalos", _NUMBER)],
            [(_METHODS.get(method, method), slots) for method, slots in report.methods.items()],
            empty="Nada foi estimado.",
        )
    )
    return blocks


def _certificate(closing: Closing) -> list[Text | Table | Facts]:
    frozen = closing.frozen
    assert frozen is not None
    totals = frozen.certificate.document["totals"]
    return [
        Text(
            "O certificado congelado não muda. Uma mudança posterior faz outra versão, que lista o que seria "
            "recontabilizado e repete o resumo da congelada."
        ),
        Facts(
            [
                Fact("Entregue", f"{kwh(Decimal(totals['sent_kwh']))} kWh"),
                Fact("Conta como zero (MUSD)", f"{kwh(Decimal(totals['zeroed_kwh']))} kWh"),
                Fact("Contado", f"{kwh(Decimal(totals['counted_kwh']))} kWh"),
            ]
        ),
        Table(
            "Certificado",
            [
                Column("Versão", _NUMBER),
                Column("Feita em"),
                Column("O que é"),
                Column("SHA-256", _CODE),
                Column("Arquivo"),
            ],
            [
                (
                    one.version,
                    one.made_at.astimezone(closing.report.as_of.tzinfo),
                    "mês congelado" if one.version == 1 else "mudanças desde então",
                    one.sha256.hex(),
                    one.file_name,
                )
                for one in closing.certificates
            ],
        ),
    ]
