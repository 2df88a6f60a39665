"""Every state that a slot or a UC-day can have: origins, reasons, causes, and their one table.

The tables in the manual are generated from `reason_rows` and `cause_rows`; nothing else defines a code.
Codes are stored (one octet per slot), so a number once used is never given another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Origin(IntEnum):
    """Where the value of a slot comes from. MEASURED is sent as MEDIDO, all other values as AJUSTADO."""

    MISSING = 0
    MEASURED = 1
    BACKUP = 2
    ESTIMATED = 3
    EDITED = 4


class Reason(IntEnum):
    """Why a slot has its value, or has none. 0-29 no value, 30-59 measured, 60-199 adjusted."""

    NOT_RECEIVED = 0
    REFUSED_NEGATIVE = 1
    REFUSED_OUT_OF_DAY = 2
    REFUSED_NOT_A_NUMBER = 3
    FUTURE = 4
    HELD_CONFLICT = 5
    NO_INSTALLATION = 6
    METER_SWAP = 7
    WRONG_CHANNEL = 8
    OUTSIDE_ACTIVE_PERIOD = 9
    OMITTED_MUSD = 10
    REJECTED_SUSPECT = 11
    REJECTED_BY_ANALYST = 12

    MEASURED_OK = 30
    LATE_RECOVERED = 31
    ZERO_IN_OUTAGE = 32
    ZERO_FROM_OUTAGE_LOG = 33
    PARTIAL_OUTAGE = 34
    DUPLICATE_DROPPED = 35
    HELD_SUSPECT = 36
    ACCEPTED_SUSPECT = 37

    BACKUP_METER = 60
    SPLIT_INTERVAL = 61
    PHASE_LOSS_C = 70
    INSIDE_HOUR = 71
    RULE_B = 72
    RULE_A = 73
    RULE_A_HOLIDAY = 74
    RULE_A_AWAITING_NEIGHBOUR = 75
    NO_HISTORY_PRIOR_MONTHS = 76
    NO_HISTORY_MUSD = 77
    E3_INTERPOLATION = 90
    E4_SIMILAR_DAYS = 91
    E5_CYCLE_MEAN = 92
    REGISTER_SCALED = 93

    EDITED_BY_ANALYST = 120
    MOVED_BY_CLOCK = 121


class Cause(StrEnum):
    """Why a UC-day is not ready for delivery (`uc_day_outcome.cause`)."""

    NO_READING = "no_reading"
    LINK_FAILED = "link_failed"
    MEMORY_GAP = "memory_gap"
    NO_HISTORY_NEEDS_APPROVAL = "no_history_needs_approval"
    NO_MUSD_FOR_ESTIMATE = "no_musd_for_estimate"
    NO_STRATEGY = "no_strategy"
    HELD_CONFLICT = "held_conflict"
    SUSPECT = "suspect"
    MUSD_EXCEEDED = "musd_exceeded"
    NO_AGENT = "no_agent"
    WRONG_CHANNEL = "wrong_channel"
    NO_INSTALLATION = "no_installation"
    REGISTER_MISMATCH = "register_mismatch"
    ARITHMETIC = "arithmetic"
    DAY_NOT_OVER = "day_not_over"
    SUSPENDED = "suspended"
    OUTSIDE_ACTIVE_PERIOD = "outside_active_period"


class Result(StrEnum):
    """What a validation rule says of a run of slots (`verdict.result`)."""

    MISSING = "missing"
    REFUSED = "refused"
    HELD = "held"
    SUSPECT = "suspect"
    BLOCKED = "blocked"
    ALERT = "alert"
    MEASURED_ZERO = "measured_zero"


@dataclass(frozen=True)
class ReasonInfo:
    """One line of the reason table: the origin a slot with this reason has, and its text in Portuguese."""

    reason: Reason
    origin: Origin
    text_pt: str


@dataclass(frozen=True)
class CauseInfo:
    """One line of the cause table: text and remedy in Portuguese and in English."""

    cause: Cause
    text_pt: str
    remedy_pt: str
    text_en: str
    remedy_en: str


_MISSING, _MEASURED, _ESTIMATED = Origin.MISSING, Origin.MEASURED, Origin.ESTIMATED

REASONS: tuple[ReasonInfo, ...] = (
    ReasonInfo(Reason.NOT_RECEIVED, _MISSING, "Intervalo não recebido do medidor"),
    ReasonInfo(Reason.REFUSED_NEGATIVE, _MISSING, "Valor negativo, recusado (V04)"),
    ReasonInfo(Reason.REFUSED_OUT_OF_DAY, _MISSING, "Registro fora do dia ou da grade de intervalos (V02)"),
    ReasonInfo(Reason.REFUSED_NOT_A_NUMBER, _MISSING, "Valor não numérico, recusado (V04)"),
    ReasonInfo(Reason.FUTURE, _MISSING, "Intervalo futuro: valor recusado, ou ainda por vir (V02)"),
    ReasonInfo(Reason.HELD_CONFLICT, _MISSING, "Duas leituras com valores diferentes: retido (V03)"),
    ReasonInfo(Reason.NO_INSTALLATION, _MISSING, "Nenhum medidor instalado neste intervalo"),
    ReasonInfo(Reason.METER_SWAP, _MISSING, "Troca de medidor: intervalo partido ou sem medidor"),
    ReasonInfo(Reason.WRONG_CHANNEL, _MISSING, "O canal lido não é de energia ativa direta"),
    ReasonInfo(Reason.OUTSIDE_ACTIVE_PERIOD, _MISSING, "Fora do período ativo da UC (V15)"),
    ReasonInfo(Reason.OMITTED_MUSD, _MISSING, "Hora omitida por superar 125% do MUSD (omit_hours)"),
    ReasonInfo(Reason.REJECTED_SUSPECT, _MISSING, "Medido e rejeitado por decisão sobre um suspeito"),
    ReasonInfo(Reason.REJECTED_BY_ANALYST, _MISSING, "Valor recusado por um analista; estimado como lacuna"),
    ReasonInfo(Reason.MEASURED_OK, _MEASURED, "Medido"),
    ReasonInfo(Reason.LATE_RECOVERED, _MEASURED, "Medido, recuperado depois da memória de massa (E1)"),
    ReasonInfo(Reason.ZERO_IN_OUTAGE, _MEASURED, "Zero medido durante falta de energia registrada (V20)"),
    ReasonInfo(
        Reason.ZERO_FROM_OUTAGE_LOG,
        _MEASURED,
        "Sem registro, mas todo dentro de falta de energia registrada pelo medidor: zero medido (V20)",
    ),
    ReasonInfo(Reason.PARTIAL_OUTAGE, _MEASURED, "Medido em intervalo com falta de energia parcial (V20)"),
    ReasonInfo(
        Reason.DUPLICATE_DROPPED, _MEASURED, "Medido; registro repetido de mesmo valor descartado (V03)"
    ),
    ReasonInfo(Reason.HELD_SUSPECT, _MEASURED, "Medido e suspeito: retido, não se envia até uma decisão"),
    ReasonInfo(Reason.ACCEPTED_SUSPECT, _MEASURED, "Medido; suspeito que uma decisão aceitou"),
    ReasonInfo(Reason.BACKUP_METER, Origin.BACKUP, "Medidor de retaguarda (E2)"),
    ReasonInfo(Reason.SPLIT_INTERVAL, _ESTIMATED, "Intervalo maior do medidor dividido em partes iguais"),
    ReasonInfo(Reason.PHASE_LOSS_C, _ESTIMATED, "Perda de fase: valor coletado vezes o fator da regra C"),
    ReasonInfo(Reason.INSIDE_HOUR, _ESTIMATED, "Média dos intervalos coletados da mesma hora"),
    ReasonInfo(Reason.RULE_B, _ESTIMATED, "Regra B: média da hora anterior e da posterior"),
    ReasonInfo(Reason.RULE_A, _ESTIMATED, "Regra A: média do mesmo dia da semana e hora em 12 semanas"),
    ReasonInfo(Reason.RULE_A_HOLIDAY, _ESTIMATED, "Regra A em feriado nacional: média dos domingos"),
    ReasonInfo(
        Reason.RULE_A_AWAITING_NEIGHBOUR,
        _ESTIMATED,
        "Regra A provisória: a hora vizinha da regra B ainda não foi coletada",
    ),
    ReasonInfo(
        Reason.NO_HISTORY_PRIOR_MONTHS,
        _ESTIMATED,
        "Sem histórico fechado: meses anteriores à migração, com aprovação",
    ),
    ReasonInfo(
        Reason.NO_HISTORY_MUSD, _ESTIMATED, "Sem histórico: 0,7 × MUSD por hora, plano, com aprovação"
    ),
    ReasonInfo(Reason.E3_INTERPOLATION, _ESTIMATED, "Interpolação linear de falha curta (E3)"),
    ReasonInfo(Reason.E4_SIMILAR_DAYS, _ESTIMATED, "Média de dias semelhantes (E4)"),
    ReasonInfo(Reason.E5_CYCLE_MEAN, _ESTIMATED, "Média dos últimos ciclos por posto, com aprovação (E5)"),
    ReasonInfo(Reason.REGISTER_SCALED, _ESTIMATED, "Estimado e ajustado à diferença dos registradores (E0)"),
    ReasonInfo(Reason.EDITED_BY_ANALYST, Origin.EDITED, "Informado por analista"),
    ReasonInfo(Reason.MOVED_BY_CLOCK, Origin.EDITED, "Deslocado por erro do relógio do medidor"),
)

CAUSES: tuple[CauseInfo, ...] = (
    CauseInfo(
        Cause.NO_READING,
        "Nenhuma leitura do dia",
        "Verificar o ponto na coleta; pedir a recuperação da memória de massa",
        "No reading of the day",
        "Look at the point in collection; ask for its mass memory",
    ),
    CauseInfo(
        Cause.LINK_FAILED,
        "A comunicação com o medidor falhou em todas as tentativas",
        "Verificar modem, sinal e endereço; abrir chamado se persistir",
        "Communication with the meter failed at every attempt",
        "Check modem, signal and address; open a call if it lasts",
    ),
    CauseInfo(
        Cause.MEMORY_GAP,
        "Faltam intervalos na memória do medidor e não puderam ser estimados",
        "Pedir a releitura do dia; verificar o histórico da UC",
        "Intervals are missing in the meter's memory and could not be estimated",
        "Ask for the day to be read again; look at the UC's history",
    ),
    CauseInfo(
        Cause.NO_HISTORY_NEEDS_APPROVAL,
        "Sem histórico para estimar: o método alternativo depende de aprovação",
        "Carregar os 12 meses anteriores à migração ou aprovar a estimativa",
        "No history to estimate from: the other method needs an approval",
        "Load the 12 months before the migration, or approve the estimate",
    ),
    CauseInfo(
        Cause.NO_MUSD_FOR_ESTIMATE,
        "Estimativa por MUSD aprovada, mas o MUSD da UC não está cadastrado",
        "Cadastrar o MUSD vigente na data",
        "Estimate by MUSD approved, but the registry has no MUSD of the UC",
        "Register the MUSD in force on that day",
    ),
    CauseInfo(
        Cause.NO_STRATEGY,
        "A estratégia de estimativa da UC não existe ou não vale nesta data",
        "Corrigir a estratégia no cadastro da UC",
        "The UC's strategy of estimation does not exist or is not in force on this day",
        "Correct the strategy in the UC's registry row",
    ),
    CauseInfo(
        Cause.HELD_CONFLICT,
        "Leituras diferentes para o mesmo intervalo",
        "Comparar as leituras na quarentena e decidir qual vale",
        "Different readings of the same interval",
        "Compare the readings in quarantine and decide which one counts",
    ),
    CauseInfo(
        Cause.SUSPECT,
        "Uma regra desconfia do que foi medido: o dia está retido",
        "Ver a evidência na fila de suspeitos e aceitar, rejeitar ou corrigir",
        "A rule doubts what was measured: the day is held",
        "Look at the evidence in the queue of suspects; accept, reject or correct",
    ),
    CauseInfo(
        Cause.MUSD_EXCEEDED,
        "Há hora acima de 125% do MUSD e a política retém o dia",
        "Corrigir o dado ou o MUSD no cadastro da CCEE até MS+3du",
        "An hour is above 125 % of the MUSD and the policy holds the day",
        "Correct the value, or the MUSD in CCEE's registry, by MS+3du",
    ),
    CauseInfo(
        Cause.NO_AGENT,
        "UC sem cadastro ou sem agente de conexão",
        "Completar o cadastro da UC antes do envio",
        "The UC is not registered or has no connecting agent",
        "Complete the UC's registry rows before sending",
    ),
    CauseInfo(
        Cause.WRONG_CHANNEL,
        "O canal cadastrado não traz energia ativa direta",
        "Corrigir o canal na instalação ou a programação do medidor",
        "The registered channel is not direct active energy",
        "Correct the channel of the installation, or the meter's programme",
    ),
    CauseInfo(
        Cause.NO_INSTALLATION,
        "Nenhum medidor principal instalado em parte do dia",
        "Corrigir as datas de instalação no cadastro",
        "No main meter installed in part of the day",
        "Correct the dates of installation in the registry",
    ),
    CauseInfo(
        Cause.REGISTER_MISMATCH,
        "A diferença dos registradores é menor que a energia conhecida do período",
        "Conferir os registradores e a constante do medidor",
        "The registers' difference is less than the known energy of the period",
        "Check the registers and the meter's constant",
    ),
    CauseInfo(
        Cause.ARITHMETIC,
        "O valor exato não cabe em 64 bits",
        "Conferir constante, TP, TC e percentuais de perdas da UC",
        "The exact value does not fit 64 bits",
        "Check the UC's constant, VT, CT and loss percentages",
    ),
    CauseInfo(
        Cause.DAY_NOT_OVER,
        "O dia ainda não terminou",
        "Aguardar o fim do dia",
        "The day is not over yet",
        "Wait for the end of the day",
    ),
    CauseInfo(
        Cause.SUSPENDED,
        "UC suspensa: não se envia",
        "Nenhuma; reativar no cadastro quando for o caso",
        "UC suspended: nothing is sent",
        "Nothing; reactivate in the registry when due",
    ),
    CauseInfo(
        Cause.OUTSIDE_ACTIVE_PERIOD,
        "Dia fora do período ativo da UC: não se envia",
        "Nenhuma; conferir as datas no cadastro quando for o caso",
        "Day outside the UC's active period: nothing is sent",
        "Nothing; check the dates in the registry when due",
    ),
)

# An analyst or the registry must speak first: no strategy may fill these.
NOT_ESTIMABLE: frozenset[Reason] = frozenset(
    {
        Reason.HELD_CONFLICT,
        Reason.OUTSIDE_ACTIVE_PERIOD,
        Reason.FUTURE,
        Reason.NO_INSTALLATION,
        Reason.WRONG_CHANNEL,
        Reason.OMITTED_MUSD,
    }
)


def reason_rows() -> list[dict[str, str | int]]:
    """The reason table for the manual: code, name, origin, Portuguese text; in order of code."""
    return [
        {
            "code": int(info.reason),
            "name": info.reason.name.lower(),
            "origin": info.origin.name.lower(),
            "text_pt": info.text_pt,
        }
        for info in sorted(REASONS, key=lambda info: info.reason)
    ]


def cause_rows() -> list[dict[str, str]]:
    """The cause table for the manual: cause, Portuguese text and remedy."""
    return [
        {"cause": info.cause.value, "text_pt": info.text_pt, "remedy_pt": info.remedy_pt} for info in CAUSES
    ]


_CAUSE_INFO = {info.cause: info for info in CAUSES}
_REASON_INFO = {info.reason: info for info in REASONS}


def describe_cause(cause: Cause | str) -> CauseInfo:
    """Text and remedy of one cause."""
    return _CAUSE_INFO[Cause(cause)]


def describe_reason(reason: Reason | int) -> ReasonInfo:
    """Origin and text of one reason code."""
    return _REASON_INFO[Reason(reason)]
