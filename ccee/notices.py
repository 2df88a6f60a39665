"""Messages to the connected agent about its deliveries, in Portuguese, once per event."""

from __future__ import annotations

import hashlib
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg

MUSD_REJECTED = "ccee_musd"
DATA_REFUSED = "ccee_recusa"
AGENT_STOPPED = "ccee_agente_parado"
MONTH_LOST = "ccee_mes_perdido"
MONTH_CHANGED = "ccee_recontabilizacao"
DEADLINE_NEAR = "ccee_prazo"
RUN_FAILED = "execucao_falhou"
# Lines of a message; the report of the month has all.
_MOST_LINES = 50


def musd_hours(
    conn: psycopg.Connection[Any], day: date, uc_ids: list[int], register_closing: date, *, is_held: bool
) -> int:
    """Tell of each unit's hours above the limit; returns how many messages are new.

    Our own check is the only sure notice to the agent: no notification channel of CCEE is known (PdC 1.8,
    3.32, asks that the agent be told).
    """
    rows = conn.execute(
        "SELECT h.uc_id, u.code, c.agent_id, h.hour, h.energy_kwh, h.musd_kw, h.limit_kwh "
        "FROM musd_hour h JOIN uc u ON u.id = h.uc_id "
        "JOIN uc_agent c ON c.uc_id = h.uc_id AND c.valid @> h.day "
        "WHERE h.day = %s AND h.is_rejected AND h.uc_id = ANY(%s) ORDER BY h.uc_id, h.hour",
        [day, uc_ids],
    ).fetchall()
    by_uc: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_uc.setdefault(row[0], []).append(row)
    return sum(_musd_notice(conn, day, hours, register_closing, is_held) for hours in by_uc.values())


def _musd_notice(
    conn: psycopg.Connection[Any], day: date, hours: list[tuple[Any, ...]], closing: date, is_held: bool
) -> int:
    uc_id, code, agent_id, _, _, musd_kw, limit_kwh = hours[0]
    total = sum((row[4] for row in hours), Decimal(0))
    percent = _number(100 * limit_kwh / musd_kw)
    lines = [f"  hora {hour}: {_number(kwh)} kWh" for _, _, _, hour, kwh, _, _ in hours]
    # The same hours with the same energy and the same limit are the same event, whatever run finds them.
    digest = hashlib.sha256(repr([row[3:] for row in hours]).encode()).hexdigest()[:16]
    fate = (
        "O dia está retido à espera de decisão e ainda não foi enviado à CCEE."
        if is_held
        else "Na CCEE essas horas contam como zero, sem estimativa, até que sejam corrigidas."
    )
    return post(
        conn,
        kind=MUSD_REJECTED,
        dedup_key=f"musd:{uc_id}:{day}:{is_held}:{digest}",
        subject=f"UC {code}: consumo acima de {percent}% do MUSD em {_day(day)}",
        body=(
            f"A UC {code} teve em {_day(day)} horas com consumo acima do limite de {_number(limit_kwh)} kWh "
            f"(MUSD cadastrado de {_number(musd_kw)} kW):\n" + "\n".join(lines) + "\n"
            f"Energia atingida: {_number(total)} kWh. {fate}\n"
            f"Se o dado estiver certo, corrija o MUSD no cadastro da CCEE até {_day(closing)}; os dias "
            "atingidos serão reenviados. Se o dado estiver errado, corrija a medição; ela será reenviada "
            "como ajustada."
        ),
        agent_id=agent_id,
        uc_id=uc_id,
        day=day,
    )


def data_refused(conn: psycopg.Connection[Any], submission_id: int, reason: str) -> int:
    """Tell of a body that CCEE refused."""
    found = conn.execute(
        "SELECT s.uc_id, u.code, s.agent_id, s.day, s.version FROM submission s JOIN uc u ON u.id = s.uc_id "
        "WHERE s.id = %s",
        [submission_id],
    ).fetchone()
    if found is None:
        return 0
    uc_id, code, agent_id, day, version = found
    return post(
        conn,
        kind=DATA_REFUSED,
        dedup_key=f"refused:{submission_id}",
        subject=f"UC {code}: a CCEE recusou a medição de {_day(day)}",
        body=(
            f"A CCEE recusou a versão {version} da medição de {_day(day)} da UC {code}: {reason}\n"
            "O envio não será repetido com o mesmo conteúdo. Corrija o cadastro ou a medição."
        ),
        agent_id=agent_id,
        uc_id=uc_id,
        day=day,
    )


def agent_stopped(conn: psycopg.Connection[Any], agent_id: int, reason: str, run_id: str) -> int:
    """Tell that nothing more is sent for an agent."""
    return post(
        conn,
        kind=AGENT_STOPPED,
        dedup_key=f"stopped:{agent_id}:{run_id}",
        subject="Envios à CCEE interrompidos",
        body=(
            f"Os envios deste agente foram interrompidos e continuam pendentes; nenhum dado foi recusado. "
            f"Resposta recebida: {reason}\n"
            "Com 401 ou 403, verifique a credencial e o perfil do agente. Com outro código, verifique o "
            "endereço e os caminhos do contrato, e o proxy ou firewall entre este sistema e a CCEE. O "
            "próximo ciclo tentará de novo."
        ),
        agent_id=agent_id,
    )


def month_lost(
    conn: psycopg.Connection[Any],
    agent_id: int | None,
    month: date,
    lines: list[str],
    uc_days: int,
    closing: date,
) -> int:
    """Tell of the UC-days of a closed month that were not accepted.

    Args: agent_id: None for UC-days that the registry gives to no agent; lines: one a UC and cause.
    """
    whose = "" if agent_id is not None else " de UCs sem agente no cadastro"
    return post(
        conn,
        kind=MONTH_LOST,
        dedup_key=f"lost:{agent_id}:{month}",
        subject=f"Mês {month:%m/%Y} encerrado; perdidos: {_uc_days(uc_days)}{whose}",
        body=(
            f"O prazo de {_day(closing)} passou e a CCEE não aceitou {_uc_days(uc_days)}{whose}; "
            "ela não os estima: contam como zero.\n" + _listed(lines) + "\n"
            "Resta pedir a recontabilização; o certificado do mês "
            f"(smf run closing --month {month:%Y-%m}) lista todos."
        ),
        agent_id=agent_id,
    )


def month_changed(
    conn: psycopg.Connection[Any],
    agent_id: int | None,
    month: date,
    version: int,
    lines: list[str],
    difference_kwh: Decimal,
) -> int:
    """Tell of UC-days of a closed month that are no longer as they were frozen.

    Args: version: of the certificate that lists them.
    """
    return post(
        conn,
        kind=MONTH_CHANGED,
        dedup_key=f"recount:{agent_id}:{month}:{version}",
        subject=f"Mês {month:%m/%Y}: {_uc_days(len(lines))} a recontabilizar",
        body=(
            f"Mudou depois do fechamento: {_uc_days(len(lines))}; o certificado congelado continua o "
            f"mesmo e a versão {version} lista as mudanças.\n" + _listed(lines) + "\n"
            f"Diferença: {_number(difference_kwh)} kWh. Resta pedir a recontabilização à CCEE."
        ),
        agent_id=agent_id,
    )


def _uc_days(count: int) -> str:
    return f"{count} {'dia' if count == 1 else 'dias'} de UC"


def _listed(lines: list[str]) -> str:
    more = f"\n  ... e mais {len(lines) - _MOST_LINES}" if len(lines) > _MOST_LINES else ""
    return "\n".join(f"  {line}" for line in lines[:_MOST_LINES]) + more


def deadline_near(
    conn: psycopg.Connection[Any],
    *,
    agent_code: int,
    month: date,
    code: str,
    day: date,
    lead_days: int,
    lines: list[str],
    open_items: int,
) -> int:
    """Tell an agent what is open before a deadline of a month (TR-2d), once per lead time.

    Args: code: of the milestone; day: the last day; lines: what is open, the most frequent first.
    """
    row = conn.execute("SELECT id FROM agent WHERE code = %s", [agent_code]).fetchone()
    if row is None:
        return 0
    what = "alteração do MUSD" if code == "musd_change" else "envio da medição"
    return post(
        conn,
        kind=DEADLINE_NEAR,
        dedup_key=f"deadline:{row[0]}:{month}:{code}:{lead_days}",
        subject=f"Mês {month:%m/%Y}: {what} até {_day(day)}, {open_items} pendências",
        body=(
            f"O prazo para {what} do mês {month:%m/%Y} termina em {_day(day)} e há {open_items} pendências:\n"
            + _listed(lines)
            + f"\nO fechamento (smf run closing --month {month:%Y-%m}) mostra todas, com a causa."
        ),
        agent_id=row[0],
    )


def post(
    conn: psycopg.Connection[Any],
    *,
    kind: str,
    dedup_key: str,
    subject: str,
    body: str,
    agent_id: int | None = None,
    uc_id: int | None = None,
    day: date | None = None,
) -> int:
    """Write a message unless the same event has one; returns 1 when it is new."""
    return conn.execute(
        "INSERT INTO notification (agent_id, uc_id, day, kind, subject, body, dedup_key) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (dedup_key) DO NOTHING",
        [agent_id, uc_id, day, kind, subject, body, dedup_key],
    ).rowcount


def _number(value: Decimal) -> str:
    """A number as written in Brazil, without zeros at its end."""
    text = f"{value:,f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.translate(str.maketrans(",.", ".,"))


def _day(day: date) -> str:
    return f"{day:%d/%m/%Y}"
