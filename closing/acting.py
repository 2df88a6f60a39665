"""Who must act on what is missing, and until when.

What belongs here: one row a cause. What does not: what a cause means and its remedy (`vee.quality`), the
dates (`vee.calendars`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from vee import calendars
from vee.quality import Cause, describe_cause

# A UC-day nobody has derived yet; not a cause of vee's, which has not seen the day.
NOT_DERIVED = "not_derived"
# Ready, but CCEE has not been told, or has refused it.
NOT_DELIVERED = "not_delivered"

OPERATION, ANALYST, REGISTRY, NOBODY = "operação", "analista", "cadastro", "ninguém"
_BOTH = "analista e distribuidora"


@dataclass(frozen=True)
class Acting:
    """What is missing in words, who must act, what they do, and the milestone until when."""

    text_pt: str
    remedy_pt: str
    who_pt: str
    milestone: str


_BY_CAUSE: Mapping[str, tuple[str, str]] = {
    Cause.NO_READING: (OPERATION, calendars.GAPS_KNOWN),
    Cause.LINK_FAILED: (OPERATION, calendars.GAPS_KNOWN),
    Cause.MEMORY_GAP: (OPERATION, calendars.GAPS_KNOWN),
    Cause.NO_HISTORY_NEEDS_APPROVAL: (ANALYST, calendars.CONSOLIDATION),
    Cause.NO_MUSD_FOR_ESTIMATE: (REGISTRY, calendars.MUSD_CHANGE),
    Cause.NO_STRATEGY: (REGISTRY, calendars.CONSOLIDATION),
    Cause.HELD_CONFLICT: (ANALYST, calendars.CONSOLIDATION),
    Cause.SUSPECT: (ANALYST, calendars.CONSOLIDATION),
    Cause.MUSD_EXCEEDED: (_BOTH, calendars.MUSD_DECIDED),
    Cause.NO_AGENT: (REGISTRY, calendars.MUSD_CHANGE),
    Cause.WRONG_CHANNEL: (REGISTRY, calendars.CONSOLIDATION),
    Cause.NO_INSTALLATION: (REGISTRY, calendars.CONSOLIDATION),
    Cause.REGISTER_MISMATCH: (ANALYST, calendars.CONSOLIDATION),
    Cause.ARITHMETIC: (REGISTRY, calendars.CONSOLIDATION),
    Cause.DAY_NOT_OVER: (NOBODY, calendars.MEASUREMENT),
    Cause.SUSPENDED: (NOBODY, calendars.MEASUREMENT),
    Cause.OUTSIDE_ACTIVE_PERIOD: (NOBODY, calendars.MEASUREMENT),
}
_OURS: Mapping[str, Acting] = {
    NOT_DERIVED: Acting(
        "Dia ainda não processado",
        "Processar o dia (smf run daily) ou conferir por que a execução não o alcançou",
        OPERATION,
        calendars.GAPS_KNOWN,
    ),
    NOT_DELIVERED: Acting(
        "Pronto, não entregue à CCEE",
        "Enviar (smf ccee deliver) e ver a resposta no livro de envios",
        OPERATION,
        calendars.LAST_RESEND,
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
    return Acting(known.text_pt, known.remedy_pt, who, milestone)


def act_by(milestone: str, period: calendars.Period, today: date, known: calendars.Calendars) -> date:
    """The last day for whoever must act: the milestone's, or of the next ones that is not past."""
    days = [known.date_of(code, period) for code in (milestone, *_LATER)]
    return next((day for day in days if day >= today), days[-1])
