"""Who must act on what is missing, and until when.

What belongs here: one row a cause. What does not: what a cause means and its remedy (`vee.quality`), the
dates (`vee.calendars`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum

from documents import Language
from vee import calendars
from vee.quality import Cause, describe_cause

# A UC-day nobody has derived yet; not a cause of vee's, which has not seen the day.
NOT_DERIVED = "not_derived"
# Ready, but CCEE has not been told, or has refused it.
NOT_DELIVERED = "not_delivered"


class Who(Enum):
    """Who must act, in Portuguese and in English."""

    OPERATION = ("operação", "operator")
    OPERATION_AND_FIELD = ("operação, depois equipe de campo", "operator, then field crew")
    ANALYST = ("analista", "analyst")
    ANALYST_AND_UTILITY = ("analista e distribuidora", "analyst and utility")
    REGISTRY = ("cadastro", "registry")
    NOBODY = ("ninguém", "nobody")


@dataclass(frozen=True)
class Acting:
    """What is missing in words, who must act, what they do, and the milestone until when."""

    who: Who
    milestone: str
    text_pt: str
    remedy_pt: str
    text_en: str
    remedy_en: str

    @property
    def who_pt(self) -> str:
        return self.who.value[0]

    def words(self, language: Language) -> tuple[str, str, str]:
        """What is missing, who acts, and what to do."""
        if language is Language.PORTUGUESE:
            return self.text_pt, self.who.value[0], self.remedy_pt
        return self.text_en, self.who.value[1], self.remedy_en


_BY_CAUSE: Mapping[str, tuple[Who, str]] = {
    Cause.NO_READING: (Who.OPERATION, calendars.GAPS_KNOWN),
    Cause.LINK_FAILED: (Who.OPERATION_AND_FIELD, calendars.GAPS_KNOWN),
    Cause.MEMORY_GAP: (Who.OPERATION, calendars.GAPS_KNOWN),
    Cause.NO_HISTORY_NEEDS_APPROVAL: (Who.ANALYST, calendars.CONSOLIDATION),
    Cause.NO_MUSD_FOR_ESTIMATE: (Who.REGISTRY, calendars.MUSD_CHANGE),
    Cause.NO_STRATEGY: (Who.REGISTRY, calendars.CONSOLIDATION),
    Cause.HELD_CONFLICT: (Who.ANALYST, calendars.CONSOLIDATION),
    Cause.SUSPECT: (Who.ANALYST, calendars.CONSOLIDATION),
    Cause.MUSD_EXCEEDED: (Who.ANALYST_AND_UTILITY, calendars.MUSD_DECIDED),
    Cause.NO_AGENT: (Who.REGISTRY, calendars.MUSD_CHANGE),
    Cause.WRONG_CHANNEL: (Who.REGISTRY, calendars.CONSOLIDATION),
    Cause.NO_INSTALLATION: (Who.REGISTRY, calendars.CONSOLIDATION),
    Cause.REGISTER_MISMATCH: (Who.ANALYST, calendars.CONSOLIDATION),
    Cause.ARITHMETIC: (Who.REGISTRY, calendars.CONSOLIDATION),
    Cause.DAY_NOT_OVER: (Who.NOBODY, calendars.MEASUREMENT),
    Cause.SUSPENDED: (Who.NOBODY, calendars.MEASUREMENT),
    Cause.OUTSIDE_ACTIVE_PERIOD: (Who.NOBODY, calendars.MEASUREMENT),
}
_OURS: Mapping[str, Acting] = {
    NOT_DERIVED: Acting(
        Who.OPERATION,
        calendars.GAPS_KNOWN,
        "Dia ainda não processado",
        "Processar o dia (smf run daily) ou conferir por que a execução não o alcançou",
        "Day not processed yet",
        "Process the day (smf run daily), or find out why the run did not reach it",
    ),
    NOT_DELIVERED: Acting(
        Who.OPERATION,
        calendars.LAST_RESEND,
        "Pronto, não entregue à CCEE",
        "Enviar (smf ccee deliver) e ver a resposta no livro de envios",
        "Ready, not delivered to CCEE",
        "Send it (smf ccee deliver) and look at the answer in the ledger",
    ),
}
# Where the milestone of a cause is past, the next of these that is not.
_LATER = (calendars.CONSOLIDATION, calendars.LAST_RESEND, calendars.MEASUREMENT)


def acting_on(cause: str) -> Acting:
    """The row of a cause."""
    if cause in _OURS:
        return _OURS[cause]
    known = describe_cause(cause)
    who, milestone = _BY_CAUSE[known.cause]
    return Acting(who, milestone, known.text_pt, known.remedy_pt, known.text_en, known.remedy_en)


def act_by(milestone: str, period: calendars.Period, today: date, known: calendars.Calendars) -> date:
    """The last day for whoever must act: the milestone's, or of the next ones that is not past."""
    days = [known.date_of(code, period) for code in (milestone, *_LATER)]
    return next((day for day in days if day >= today), days[-1])
