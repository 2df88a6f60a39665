"""The sections of a trace: what CCEE was told, the reading, the registry, the parameters, the instants.

What belongs here: sentences and tables of one section each. What does not: their order (`document`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import orjson

from audit.pages.places import place_blocks
from audit.pages.words import Words
from audit.parts import Check, Delivery, Reading, Trace
from audit.registry_changes import RegistryChange
from ccee.profile import Profile
from documents import Block, Column, Fact, Facts, Kind, Table, Text, Tone
from documents.wording import day

OUTCOMES = {
    "accepted": ("aceito", "accepted"),
    "processing": ("em processamento", "in processing"),
    "rejected": ("recusado", "refused"),
    "transient": ("falhou, tentar de novo", "failed, to be tried again"),
    "unknown": ("resultado desconhecido", "outcome unknown"),
}
_STATUS = {
    "active": ("ativa", "active"),
    "suspended_open": ("suspensa, contrato aberto", "suspended, contract open"),
    "suspended": ("suspensa", "suspended"),
    "inactive": ("inativa", "inactive"),
    "captive": ("cativa", "captive"),
}
_LOSSES = {"transformation": ("de transformação", "transformation"), "line": ("de linha", "line")}
_BY = {
    "platform": ("aplicada aqui", "applied here"),
    "meter": ("compensada no medidor", "compensated in the meter"),
    "none": ("não compensada", "not compensated"),
}
_ROLES = {"main": ("principal", "main"), "backup": ("retaguarda", "backup")}
# Comparisons are named in the code's words; these are their Portuguese ones, longer ones first.
_CHECKS_PT = (
    ("count in the frame's octets", "contagem nos octetos do quadro"),
    ("count decoded from the session's frames", "contagem decodificada dos quadros da sessão"),
    ("count in the", "contagem em:"),
    ("count decoded from the", "contagem decodificada de:"),
    ("counts of meter", "contagens do medidor"),
    ("decoded from its octets", "decodificadas dos seus octetos"),
    ("sum of the points", "soma dos pontos"),
    (" of point ", " do ponto "),
    ("differs in intervals", "difere nos intervalos"),
    (" intervals", " intervalos"),
    ("layer 1 primary", "camada 1, primária"),
    ("layer 2 validated", "camada 2, validada"),
    ("layer 3 estimated", "camada 3, estimada"),
    ("layer 4 adjusted", "camada 4, com perdas"),
    ("layer 5 ccee", "camada 5, pronta para a CCEE"),
    ("no word found", "nenhuma palavra encontrada"),
    ("missing", "faltante"),
)
STATES_EN = {
    "pendente": "pending",
    "validado": "sealed",
    "enviando": "being sent",
    "aceito": "accepted",
    "em_processamento": "in processing",
    "rejeitado_musd": "refused for its MUSD",
    "rejeitado_dado": "refused",
    "falha_transitoria": "failed, to be tried again",
    "resultado_desconhecido": "outcome unknown",
    "definitivo": "final",
    "perdido": "lost",
}


def delivery_blocks(
    delivery: Delivery | None, found: Trace, words: Words, *, is_whole_day: bool = False
) -> list[Block]:
    """What CCEE was told, and what it answered; of one interval also its place in the body."""
    if delivery is None:
        cause = found.outcome.get("cause_text") or words("ainda não enviado", "not sent yet")
        return [Text(words(f"Nada foi dito à CCEE: {cause}.", f"CCEE was told nothing: {cause}."), Tone.WARN)]
    told = delivery.submission
    blocks: list[Block] = [
        Facts(
            [
                Fact(words("Agente", "Agent"), str(told["agent_code"]), is_code=True),
                Fact(
                    words("Submissão", "Submission"),
                    words(f"versão {told['version']} do dia", f"version {told['version']} of the day"),
                ),
                Fact(words("Contrato", "Contract"), str(told["profile"])),
                Fact(words("Corpo, octetos", "Body, octets"), str(told["body_bytes"])),
                Fact(
                    words("Corpo, SHA-256", "Body, SHA-256"), bytes(told["body_sha256"]).hex(), is_code=True
                ),
                Fact(
                    words("Refeito, SHA-256", "Made anew, SHA-256"),
                    delivery.body_sha256.hex() if delivery.body_sha256 else delivery.not_rendered,
                    is_code=delivery.body_sha256 is not None,
                ),
            ]
        )
    ]
    if delivery.record is not None and not is_whole_day:
        blocks.append(
            Facts(
                [
                    Fact(
                        words("Este intervalo no corpo", "This interval in the body"),
                        orjson.dumps(delivery.record).decode(),
                        is_code=True,
                    )
                ]
            )
        )
    blocks.append(
        Table(
            words("Tentativas", "Attempts"),
            [
                Column("Nº", Kind.NUMBER),
                Column(words("Início", "Began")),
                Column(words("Fim", "Ended")),
                Column("HTTP", Kind.NUMBER),
                Column(words("Resultado", "Outcome")),
                Column(words("Recibo", "Receipt"), Kind.CODE),
                Column(words("Resposta", "Reply"), Kind.CODE),
            ],
            [
                (
                    one["attempt"],
                    words.at(one["started_at"]),
                    words.at(one["ended_at"]),
                    one["http_status"],
                    words(*OUTCOMES[one["outcome"]]),
                    one["receipt"] or "",
                    one["reply_body"] or one["error"] or "",
                )
                for one in delivery.attempts
            ],
            empty=words("Nenhum pedido saiu.", "No request left."),
        )
    )
    blocks.append(
        Table(
            words("Estados", "States"),
            [Column(words("Quando", "When")), Column(words("Estado", "State"))],
            [
                (
                    words.at(one["at"]),
                    _state(str(one["state"]), words),
                )
                for one in delivery.events
            ],
        )
    )
    return blocks


def _state(state: str, words: Words) -> str:
    return words(state.replace("_", " "), STATES_EN.get(state, state))


def reading_blocks(reading: Reading | None, words: Words) -> list[Block]:
    if reading is None or reading.session is None:
        return [
            Text(
                words("Nenhuma sessão trouxe este intervalo.", "No session brought this interval."), Tone.WARN
            )
        ]
    session, meter = reading.session, reading.meter
    drift = session["drift_s"]
    clock = (
        ""
        if drift is None
        else words(
            f" O relógio do medidor estava a {drift:+.0f} s.", f" The meter's clock was {drift:+.0f} s off."
        )
    )
    sentence = words(
        f"O medidor {meter['serial']} ({meter['model']}) disse {reading.pulses} pulsos na sessão "
        f"{session['id']}, "
        f"{session['protocol']} por {session['url'] or 'endereço não guardado'}, começada em "
        f"{words.at(session['started_at'])} pelo coletor {session['collector']}: {session['bytes_sent']} "
        "octetos "
        f"enviados, {session['bytes_received']} recebidos, {session['retries']} repetições.{clock}",
        f"Meter {meter['serial']} ({meter['model']}) said {reading.pulses} pulses in session "
        f"{session['id']}, "
        f"{session['protocol']} over {session['url'] or 'an address that was not kept'}, begun "
        f"{words.at(session['started_at'])} by collector {session['collector']}: {session['bytes_sent']} "
        "octets "
        f"sent, {session['bytes_received']} received, {session['retries']} retries.{clock}",
    )
    blocks: list[Block] = [Text(sentence)]
    if is_simulated(session["url"]):
        blocks.append(
            Text(
                words(
                    "O endereço é desta máquina: um medidor simulado. As suas horas são do relógio do "
                    "simulador.",
                    "The address is this machine's: a simulated meter. Its times are of the simulator's "
                    "clock.",
                ),
                Tone.NOTE,
            )
        )
    if reading.hold is not None:
        hold = reading.hold
        shift = words(
            f" A hora que o medidor disse, {hold.told_end:%d/%m/%Y %H:%M}, foi deslocada de "
            f"{hold.shift_s} s.",
            f" The time that the meter said, {hold.told_end:%Y-%m-%d %H:%M}, was shifted by "
            f"{hold.shift_s} s.",
        )
        blocks.append(
            Text(
                words(
                    f"Esta leitura esteve retida (H{hold.hold_id}, {hold.rule or hold.reason}); "
                    f"{hold.decided_by} a "
                    f"liberou em {words.at(hold.decided_at)}: {hold.why}.",
                    f"This reading was held (H{hold.hold_id}, {hold.rule or hold.reason}); "
                    f"{hold.decided_by} let it "
                    f"pass at {words.at(hold.decided_at)}: {hold.why}.",
                )
                + (shift if hold.shift_s else ""),
                Tone.NOTE,
            )
        )
    return blocks + place_blocks(reading.place, words)


def is_simulated(url: str | None) -> bool:
    """Whether a meter answers on this very machine, as the simulator's do."""
    host = urlsplit(url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_words(text: str, words: Words) -> str:
    """The name or the side of a comparison in the document's language."""
    if words("pt", "en") == "en":
        return text
    for english, portuguese in _CHECKS_PT:
        text = text.replace(english, portuguese)
    return "corpo" if text == "body" else text


def _dated(registry: dict[str, Any], words: Words) -> list[Fact]:
    """What the registry said of the UC on that day."""
    none = words("não dito", "not said")
    status, musd, contract, strategy = (registry[name] for name in ("status", "musd", "contract", "strategy"))
    facts = []
    if status:
        said = words(*_STATUS.get(status["status"], (status["status"], status["status"])))
        note = f"; {status['note']}" if status["note"] else ""
        facts.append(Fact(words("Situação", "Status"), f"{said}, {words.span(status['valid'])}{note}"))
    if musd and musd["musd_kw"] is not None:
        confirmed = (
            words("confirmado em ", "confirmed on ") + day(musd["confirmed_on"], words.language)
            if musd["confirmed_on"]
            else words("sem confirmação", "not confirmed")
        )
        power = words.exact(Fraction(musd["musd_kw"]))
        facts.append(Fact("MUSD", f"{power} kW, {confirmed}, {words.span(musd['valid'])}"))
    else:
        facts.append(Fact("MUSD", none))
    if contract:
        demand = contract["contracted_demand_kw"]
        parts = [
            contract["tariff_subgroup"],
            contract["tariff_modality"],
            f"{words.exact(Fraction(demand))} kW" if demand is not None else "",
            words.span(contract["valid"]),
        ]
        facts.append(Fact(words("Contrato", "Contract"), ", ".join(filter(None, parts))))
    if strategy:
        facts.append(
            Fact(words("Estratégia", "Strategy"), f"{strategy['strategy']}, {words.span(strategy['valid'])}")
        )
    return facts


def registry_blocks(registry: dict[str, Any], changes: Sequence[RegistryChange], words: Words) -> list[Block]:
    """What the registry said of the day, and who changed it."""
    facts = [*_dated(registry, words)]
    for loss in registry["losses"]:
        kind, by = words(*_LOSSES[loss["kind"]]), words(*_BY[loss["compensated_at"]])
        percent = words.exact(Fraction(loss["percent"]))
        facts.append(Fact(words("Perda", "Loss"), f"{kind}: {percent} %, {by}, {words.span(loss['valid'])}"))
    for meter in registry["installations"]:
        ratios = (
            words("já com TP e TC", "ratios included")
            if meter["constant_includes_ratios"]
            else f"TP {meter['tp_ratio']}, TC {meter['tc_ratio']}"
        )
        facts.append(
            Fact(
                words(f"Ponto {meter['point']}", f"Point {meter['point']}"),
                words(
                    f"medidor {meter['serial']} ({meter['model']}), {words(*_ROLES[meter['role']])}, canal "
                    f"{meter['active_channel']}, {meter['pulse_energy_num']}/{meter['pulse_energy_den']} "
                    "kWh por "
                    f"pulso, {ratios}, {words.span(meter['valid'])}",
                    f"meter {meter['serial']} ({meter['model']}), {words(*_ROLES[meter['role']])}, channel "
                    f"{meter['active_channel']}, {meter['pulse_energy_num']}/{meter['pulse_energy_den']} "
                    "kWh a "
                    f"pulse, {ratios}, {words.span(meter['valid'])}",
                ),
            )
        )
    table = Table(
        words("Quem mudou", "Who changed it"),
        [
            Column(words("Quando", "When")),
            Column(words("Quem", "Who")),
            Column(words("Planilha", "Sheet")),
            Column(words("Antes", "Before")),
            Column(words("Depois", "After")),
            Column(words("Auditoria", "Audit"), Kind.NUMBER),
        ],
        [
            (words.at(one.at), one.actor, one.sheet, _rows(one.before), _rows(one.after), one.id)
            for one in changes
        ],
        empty=words(
            "A trilha de auditoria não tem importação destas linhas: vieram de fora do comando de "
            "importação.",
            "The audit trail has no import of these rows: they came from outside of the import command.",
        ),
    )
    return [Facts(facts), table]


def _rows(rows: Sequence[dict[str, Any]]) -> str:
    return " | ".join(
        ", ".join(f"{key} {value}" for key, value in row.items() if value not in (None, "")) for row in rows
    )


def parameters(found: Trace, profile: Profile, words: Words) -> Facts:
    """Of all parameters only those that had a part in this value; `--json` has the others."""
    _, _, estimated, adjusted, sent = found.layers
    facts = [
        Fact(
            words("Código", "Code"),
            ", ".join(sorted({layer.code_version for layer in found.layers if layer.code_version})),
        ),
        Fact(words("Execução", "Run"), sent.run_id, is_code=True),
    ]
    if found.estimate is not None:
        names = (
            "window_days",
            "history",
            "keep_collected",
            "holiday_calendar",
            "closing_day_counts",
            "register_bound",
        )
        facts += [
            Fact(name.replace("_", " "), str(estimated.parameters[name]))
            for name in names
            if name in estimated.parameters
        ]
    if estimated.value_kwh != adjusted.value_kwh:
        mode = adjusted.parameters.get("mode", "product")
        facts.append(
            Fact(
                words("Perdas", "Losses"),
                words(
                    "multiplicadas uma pela outra" if mode == "product" else "somadas",
                    "multiplied" if mode == "product" else "added",
                ),
            )
        )
    facts.append(
        Fact(
            words("Arredondamento", "Rounding"),
            words("meio para cima, três casas, uma vez", "half up, three decimals, once"),
        )
    )
    if any(row["rule"] == "V17" for row in found.verdicts):
        facts.append(Fact("MUSD", f"{profile.musd.factor} × MUSD"))
    return Facts(facts)


def instants(found: Trace, words: Words) -> list[Block]:
    """Each instant, with the clock it is by. One that comes before what it needs was not a clock's."""
    session = found.reading.session if found.reading else None
    simulated = bool(session and is_simulated(session["url"]))
    meter_clock = words("relógio do medidor", "meter's clock") + (
        words(" (simulado)", " (simulated)") if simulated else ""
    )
    rows: list[tuple[str, Any, str]] = [
        (words("fim do intervalo", "end of the interval"), found.interval_end, meter_clock)
    ]
    if session:
        rows.append(
            (
                words("leitura", "reading"),
                session["started_at"],
                words("relógio do coletor", "collector's clock"),
            )
        )
    rows.append(
        (
            words("série derivada", "series derived"),
            found.layers[-1].recorded_at,
            words("relógio do sistema", "system's clock"),
        )
    )
    if found.delivery is not None:
        rows.append(
            (
                words("corpo selado", "body sealed"),
                found.delivery.submission["created_at"],
                words("relógio do sistema", "system's clock"),
            )
        )
        rows += [
            (
                words("resposta da CCEE", "CCEE's reply"),
                one["ended_at"],
                words("relógio do sistema", "system's clock"),
            )
            for one in found.delivery.attempts
        ]
    shown = []
    latest = None
    for what, at, clock in rows:
        is_before = latest is not None and at < latest
        mark = (
            words("simulado: anterior ao que o precede", "simulated: before what it follows")
            if is_before
            else ""
        )
        latest = at if latest is None else max(latest, at)
        shown.append((what, words.at(at), clock, mark))
    return [
        Table(
            words("Instantes", "Instants"),
            [
                Column(words("O quê", "What")),
                Column(words("Quando", "When")),
                Column(words("Por qual relógio", "By which clock")),
                Column(words("Observação", "Remark")),
            ],
            shown,
        )
    ]


def checks_table(checks: Sequence[Check], words: Words) -> Table:
    """What is stored beside what was made anew."""
    return Table(
        words("Conferência", "Comparison"),
        [
            Column(words("O quê", "What")),
            Column(words("Guardado", "Stored"), Kind.CODE),
            Column(words("Refeito", "Made anew"), Kind.CODE),
            Column(words("Igual", "Same")),
        ],
        [
            (
                check_words(check.what, words),
                check_words(check.stored, words),
                check_words(check.not_made or check.computed, words),
                words("não comparado", "not compared") if check.not_made else check.is_identical,
            )
            for check in checks
        ],
    )
