"""What the stand-in keeps: units, days as written, planned failures, switches; and its refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from faults import OperatorFault

FAILURE_KINDS = ("status", "expire_token", "drop_before", "drop_after", "slow", "malformed")


class RefusedReply(Exception):
    """A reply that is not a success: an answer to the caller, not an error of this program."""

    def __init__(self, status: int, error: str, message: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.message = message
        self.headers = headers or {}


@dataclass
class Unit:
    """One consumer unit of the operator's register.

    Attributes:
        starts, ends: first day in effect and first day no longer so.
        musd: registered MUSD in kW by first month of validity; None where none was declared.
        former_agents: (first day no longer connected to it, agent), oldest first; `agent` is the one since.
    """

    code: str
    agent: int
    starts: date = date.min
    ends: date = date.max
    musd: dict[date, Decimal | None] = field(default_factory=dict)
    former_agents: tuple[tuple[date, int], ...] = ()

    def agent_on(self, day: date) -> int:
        """The agent that the unit was connected to on a day."""
        return next((agent for until, agent in self.former_agents if day < until), self.agent)

    def musd_kw(self, day: date, default_kw: int) -> Decimal:
        """The value that holds on a day; the operator's default where none was declared."""
        months = [month for month in self.musd if month <= day]
        declared = self.musd[max(months)] if months else None
        return Decimal(default_kw) if declared is None else declared


@dataclass
class StoredDay:
    """The last write of one UC-day, and how its hours were judged."""

    uc: str
    agent: int
    day: date
    entity: str
    updated_at: datetime
    hours: dict[int, list[tuple[Decimal, str]]]
    rejected: frozenset[int] = frozenset()
    writes: int = 1
    polls_left: int = 0

    def hour_kwh(self, hour: int) -> Decimal:
        return sum((value for value, _ in self.hours[hour]), Decimal(0))


@dataclass
class Failure:
    """One line of the failure plan: what happens to the next `count` sends (of one unit, where named)."""

    kind: str
    count: int = 1
    status: int = 503
    retry_after: str = ""
    error: str = ""
    seconds: float = 0.0
    uc: str = ""


@dataclass
class Rules:
    """What is not known of the operator, as switches; `POST /__control` changes them."""

    reply_mode: str = "sync200"
    musd_mode: str = "mark"
    judge_again: bool = False
    after_closing: str = "refuse"
    allow_partial_day: bool = False
    token_lifetime_s: int = 300
    page_size: int = 1000
    ticket_polls: int = 1


def unit_from_json(item: Any) -> Unit:
    """{"codigoUnidadeConsumidora", "codigoAgenteConcessionaria", "valorMusd"?, "inicio"?, "fim"?}.

    Raises: OperatorFault naming what is wrong.
    """
    try:
        musd = item.get("valorMusd")
        return Unit(
            code=str(item["codigoUnidadeConsumidora"]),
            agent=int(item["codigoAgenteConcessionaria"]),
            starts=date.fromisoformat(item["inicio"]) if item.get("inicio") else date.min,
            ends=date.fromisoformat(item["fim"]) if item.get("fim") else date.max,
            musd={date.min: None if musd is None else Decimal(str(musd))},
        )
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise OperatorFault(
            f"not a unit: {item!r} ({type(error).__name__}: {error})",
            where="stand-in register",
            remedy="give codigoUnidadeConsumidora and codigoAgenteConcessionaria; valorMusd, inicio, fim too",
        ) from error


def failure_from_json(item: Any) -> Failure:
    failure = Failure(**item)
    if failure.kind not in FAILURE_KINDS or type(failure.count) is not int:
        raise ValueError(f"failure {item!r}; kinds are {', '.join(FAILURE_KINDS)}")
    return failure
