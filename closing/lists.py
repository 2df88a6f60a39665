"""The lists of a closing: columns and cells of each table.

What belongs here: tables that a sheet has in full. What does not: the document around them (`document`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from closing.recount import WORDS_PT
from closing.report import ClosingReport
from documents import Column, Kind, Language, Table
from documents.wording import day as written_day
from documents.wording import number

_PT = Language.PORTUGUESE
_CODE, _NUMBER, _SHARE = Kind.CODE, Kind.NUMBER, Kind.SHARE


def deadlines(report: ClosingReport) -> Table:
    return Table(
        "Prazos",
        [
            Column("Marco"),
            Column("Último dia"),
            Column("Faltam, dias", _NUMBER),
            Column("De quem"),
            Column("O quê"),
        ],
        [
            (row.label, row.day, row.days_left, "CCEE" if row.side == "ccee" else "nosso", row.text)
            for row in report.milestones
        ],
    )


def missing(report: ClosingReport) -> Table:
    return Table(
        "Faltas",
        [
            Column("Agir até"),
            Column("Quem age"),
            Column("Agente", _CODE),
            Column("UC", _CODE),
            Column("Nome"),
            Column("De"),
            Column("Até"),
            Column("Dias", _NUMBER),
            Column("Por quê"),
            Column("O que fazer"),
        ],
        [
            (
                run.act_by,
                run.who,
                agent_name(run.agent_code),
                run.uc_code,
                run.uc_name,
                run.first_day,
                run.last_day,
                run.days,
                run.text,
                run.remedy,
            )
            for run in report.runs
        ],
        empty="Nada falta.",
    )


def conflict_hours(report: ClosingReport) -> Table:
    return Table(
        "Horas acima do MUSD",
        [
            Column("Agente", _CODE),
            Column("UC", _CODE),
            Column("Dia"),
            Column("Hora", _NUMBER),
            Column("Energia, kWh", _NUMBER, 3),
            Column("Limite, kWh", _NUMBER, None),
            Column("MUSD usado, kW", _NUMBER, None),
            Column("MUSD hoje, kW", _NUMBER, None),
        ],
        [
            (
                agent_name(row["agent_code"]),
                row["uc_code"],
                row["day"],
                row["hour"],
                Decimal(row["energy_kwh"]),
                plain(row["limit_kwh"]),
                plain(row["musd_kw"]),
                plain(row["musd_now_kw"]),
            )
            for row in report.musd_conflicts
        ],
        empty="Nenhuma.",
    )


def recounts(changes: Sequence[dict[str, Any]]) -> list[Table]:
    """What would be recounted, by UC-day and by hour."""
    return [
        Table(
            "Recontabilização",
            [
                Column("Agente", _CODE),
                Column("UC", _CODE),
                Column("Dia"),
                Column("O que mudou"),
                Column("Congelado, kWh", _NUMBER, 3),
                Column("Agora, kWh", _NUMBER, 3),
                Column("Diferença contada, kWh", _NUMBER, 3),
                Column("Corpo congelado, SHA-256", _CODE),
                Column("Corpo agora, SHA-256", _CODE),
            ],
            [
                (
                    agent_name(one["agent_code"]),
                    one["uc_code"],
                    date.fromisoformat(one["day"]),
                    WORDS_PT[one["what"]],
                    Decimal(one["frozen"]["sent_kwh"]),
                    Decimal(one["now"]["sent_kwh"]),
                    Decimal(one["difference_kwh"]),
                    one["frozen"]["body_sha256"] or "",
                    one["now"]["body_sha256"] or "",
                )
                for one in changes
            ],
            empty="Nada mudou desde o fechamento.",
        ),
        Table(
            "Recontabilização, horas",
            [
                Column("UC", _CODE),
                Column("Dia"),
                Column("Hora", _NUMBER),
                Column("Congelado, kWh", _NUMBER, 3),
                Column("Agora, kWh", _NUMBER, 3),
                Column("Agora sem perdas, kWh", _NUMBER, 6),
            ],
            [
                (
                    one["uc_code"],
                    date.fromisoformat(one["day"]),
                    hour["hour"],
                    Decimal(hour["frozen_kwh"]),
                    Decimal(hour["now_kwh"]),
                    None
                    if hour["now_without_losses_kwh"] is None
                    else Decimal(hour["now_without_losses_kwh"]),
                )
                for one in changes
                for hour in one["hours"]
            ],
        ),
    ]


def ucs(report: ClosingReport) -> Table:
    return Table(
        "UCs",
        [
            Column("UC", _CODE),
            Column("Nome"),
            Column("Agente", _CODE),
            Column("Devidos", _NUMBER),
            Column("Prontos", _NUMBER),
            Column("Entregues", _NUMBER),
            Column("A reenviar", _NUMBER),
            Column("Ajustado", _SHARE),
            Column("Entregue, kWh", _NUMBER, 3),
            Column("Zerado, kWh", _NUMBER, 3),
            Column("Pronto não entregue, kWh", _NUMBER, 3),
        ],
        [
            (
                uc.uc_code,
                uc.uc_name,
                agent_name(uc.agent_code),
                uc.figures.days_due,
                uc.figures.days_ready,
                uc.figures.days_delivered,
                uc.figures.days_to_resend,
                uc.figures.adjusted_share,
                uc.figures.sent_kwh,
                uc.figures.zeroed_kwh,
                uc.figures.unsent_kwh,
            )
            for uc in report.ucs
        ],
        empty="Nenhuma UC.",
    )


def agent_name(code: int | None) -> str:
    return "sem agente" if code is None else str(code)


def plain(text: str | None) -> Decimal | None:
    """A stored number without the zeros at its end."""
    return None if text is None else Decimal(f"{Decimal(text).normalize():f}")


def count(value: int) -> str:
    return number(value, _PT)


def kwh(value: Decimal) -> str:
    return number(value, _PT, 3)


def percent(value: Decimal) -> str:
    return f"{number(value * 100, _PT, 2)} %"


def day_text(value: date) -> str:
    return written_day(value, _PT)
