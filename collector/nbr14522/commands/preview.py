"""What a person sees before a command of NBR 14522 is sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from collector.commands.names import CLOCK
from collector.commands.preview import Preview
from collector.commands.steps import NOW
from collector.nbr14522.commands import readback
from collector.nbr14522.commands.asking import MICRO_ADJUST, ON_DEMAND, RESET, SET_DATE, SET_TIME, build
from collector.nbr14522.commands.clock import adjustment
from faults import OperatorFault
from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.frames import wrap_command
from protocols.nbr14522.messages import OpaqueRequest
from protocols.nbr14522.profile import MeterProfile

# English, Portuguese: what the command does. The values follow, field by field.
_WORDS: dict[str, tuple[str, str]] = {
    "14": ("read the instantaneous quantities", "ler as grandezas instantâneas (página fiscal)"),
    "20": (
        "close the billing period: demand reset, cannot be undone",
        "fechar o período de faturamento: reposição de demanda, sem volta",
    ),
    "26": ("read the mass memory since the last reset", "ler a memória de massa desde a última reposição"),
    "27": ("read the mass memory of the closed period", "ler a memória de massa do período anterior"),
    "29": ("set the date", "alterar a data"),
    "30": ("set the time", "alterar a hora"),
    "31": ("set the demand interval", "alterar o intervalo de demanda"),
    "32": ("replace the 15 holidays", "substituir os 15 feriados"),
    "33": ("set the constants of the channels", "alterar as constantes dos canais"),
    "34": ("set the seasons", "alterar os períodos sazonais"),
    "35": ("set the time segments", "alterar os segmentos horários"),
    "36": ("switch the reserved segment", "ativar ou desativar o horário reservado"),
    "37": ("clear an occurrence", "limpar uma ocorrência"),
    "38": ("initialise the meter", "inicializar o medidor"),
    "63": ("set the automatic reset", "alterar a reposição automática"),
    "64": ("set daylight saving", "alterar o horário de verão"),
    "66": ("set the quantities of the channels", "alterar as grandezas dos canais"),
    "67": ("set the reactive tariff", "alterar a tarifa de reativos"),
    "73": ("set the interval of the mass memory", "alterar o intervalo da memória de massa"),
    "79": ("show or hide display codes", "mostrar ou esconder códigos do mostrador"),
    "80": ("read the measurement parameters", "ler os parâmetros de medição"),
    "87": ("set the installation code", "alterar o código da instalação"),
    "90": ("set how quantities are shown", "alterar o modo de apresentação das grandezas"),
    "95": ("set general parameters", "alterar parâmetros gerais"),
    "98/30": ("adjust the clock finely", "ajustar o relógio (micro-ajuste)"),
    "98/32": ("write extended holidays", "gravar feriados estendidos"),
    "98/95": ("set nominal values", "alterar os valores nominais"),
    CLOCK: ("correct the clock", "corrigir o relógio"),
}
_CLOCK_KEYS = frozenset({SET_DATE, SET_TIME, CLOCK})


def preview(
    profile: MeterProfile,
    command: str,
    values: Mapping[str, Any],
    *,
    meter_serial: str,
    reader_serial: str,
    local_now: datetime,
) -> Preview:
    """What a command will do to a meter.

    Raises:
        OperatorFault: it cannot be sent: its layout is not known for this profile, or a value does not fit.
    """
    request = (
        _clock_request(profile, values, local_now)
        if command == CLOCK
        else build(profile, command, values, local_now)
    )
    frame = wrap_command(
        request.encode(reader_serial),
        profile.addressing,
        meter_serial=meter_serial,
        address=profile.address,
    )
    name = COMMANDS[command].name if command in COMMANDS else command
    english, portuguese = _WORDS.get(
        command, (f"send command {command}", f"enviar o comando {command} ({name})")
    )
    told = _values(values)
    notes = list(_notes(profile, command, values))
    if isinstance(request, OpaqueRequest) and (layout := profile.layout_of(command)) is not None:
        notes.append((f"layout by {layout.source}", f"leiaute conforme {layout.source}"))
    if command not in ON_DEMAND | {RESET, "37"} | _CLOCK_KEYS and not readback.places(request, values):
        notes.append(
            (
                "no command reads this back: judged by the meter's answer",
                "nenhum comando relê este dado: julgado pela resposta do medidor",
            )
        )
    return Preview(
        f"Meter {meter_serial}: {english}{told}.",
        f"Medidor {meter_serial}: {portuguese}{told}.",
        (frame.hex(" ").upper(),),
        tuple(english for english, _ in notes),
        tuple(portuguese for _, portuguese in notes),
    )


def _clock_request(profile: MeterProfile, values: Mapping[str, Any], local_now: datetime) -> Any:
    if values.get("method") not in ("micro_adjust", "set"):
        raise OperatorFault(
            "the correction does not say how", where=f"command {CLOCK}", remedy="ask with smf clock correct"
        )
    if values.get("method") == "micro_adjust":
        return build(
            profile, MICRO_ADJUST, adjustment(profile, -round(float(values.get("drift_s", 0)))), local_now
        )
    return build(profile, SET_TIME, {"clock": NOW}, local_now)


def _notes(profile: MeterProfile, command: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    notes = []
    if command in _CLOCK_KEYS:
        notes.append(
            (
                "the octets show this moment; those sent carry the time of sending",
                "os octetos mostram este momento; os enviados levam a hora do envio",
            )
        )
    if command == CLOCK:
        notes.append(
            (
                "sent in the safe part of an interval; the interval touched is flagged",
                "enviado na parte segura de um intervalo; o intervalo tocado é marcado",
            )
        )
    elif command in (SET_DATE, SET_TIME):
        notes.append(
            (
                "may cross interval borders: smf clock correct does not",
                "pode cruzar fronteiras de intervalo: smf clock correct não cruza",
            )
        )
    info = COMMANDS.get(command)
    if info is not None and not profile.has_command(info.code, info.sub_code):
        notes.append(
            (
                f"profile {profile.name} does not list this command: the meter may answer 39",
                f"o perfil {profile.name} não lista este comando: o medidor pode responder 39",
            )
        )
    return notes


def _values(values: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} = {_short(value)}" for name, value in values.items() if value is not None)
    return f" ({told})" if told else ""


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(_short(one) for one in value.values())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_short(one) for one in value if one is not None) + "]"
    return str(value)
