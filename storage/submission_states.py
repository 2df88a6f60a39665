"""States of a submission to CCEE, and what groups of them mean; the table's check has the same words."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """States of a submission (interface reference, section 12, plus the unknown outcome)."""

    VALIDATED = "validado"
    SENDING = "enviando"
    ACCEPTED = "aceito"
    PROCESSING = "em_processamento"
    REJECTED_MUSD = "rejeitado_musd"
    REJECTED_DATA = "rejeitado_dado"
    TRANSIENT = "falha_transitoria"
    UNKNOWN = "resultado_desconhecido"
    FINAL = "definitivo"
    LOST = "perdido"


# May have reached CCEE without our knowing: only the same body may follow. A process killed between
# `enviando` and the reply leaves the first of the two.
IN_DOUBT = (State.SENDING, State.UNKNOWN)
DELIVERED = (State.ACCEPTED, State.FINAL)
REFUSED = (State.REJECTED_DATA, State.REJECTED_MUSD)
ANSWERED = (*DELIVERED, State.REJECTED_MUSD)
"""CCEE has it: accepted, or counted as zero for its MUSD."""
OWED = (State.VALIDATED, State.SENDING, State.TRANSIENT, State.UNKNOWN)
"""CCEE is still owed something; `enviando` only while a run is at it, or after one died."""
