"""The catalogue of commands (section 2): names, kinds, known layouts, and how sure each of these is.

A command is named as operators write it: two digits, for the extended command with its sub-code (`98/30`).
Nothing here says whether a given meter has a command: that is its profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocols.nbr14522.errors import LocalProtocolError
from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.nbr14522.messages import (
    EXTENDED,
    EXTENDED_REQUESTS,
    REQUESTS,
    ExtendedHolidaysRequest,
    GenericRequest,
    InstallationCodeRequest,
    NominalValuesRequest,
    Request,
)


class CommandKind(StrEnum):
    """What a command does to the meter."""

    READ = "read"
    RESET = "reset"
    """Reads, and closes the billing period: 20."""
    WRITE = "write"
    READ_WRITE = "read_write"
    """Reads or writes, by what it carries."""
    SESSION = "session"
    ANSWER = "answer"
    """Only meters send it."""
    UNKNOWN = "unknown"
    """Vendor commands and codes without a public meaning: they may change the meter."""


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """One command.

    Attributes:
        code: o1 as on the wire. sub_code: o5 of command 98, else None.
        name: the standard's name, in Portuguese, as operators know it.
        name_confidence: A two sources, B one, C inferred.
        layout_confidence: of the parameters and the answer; None where no public source gives them.
        section: of the reference, where the layout is; empty where there is none.
    """

    code: int
    sub_code: int | None
    name: str
    kind: CommandKind
    name_confidence: str
    layout_confidence: str | None = None
    section: str = ""

    @property
    def key(self) -> str:
        return command_key(self.code, self.sub_code)

    @property
    def is_composite(self) -> bool:
        """Whether several blocks answer."""
        return self.code in COMPOSITE_CODES

    @property
    def has_layout(self) -> bool:
        """Whether a typed request exists; others travel as `OpaqueRequest` and `OpaqueResponse`."""
        return self.code in REQUESTS if self.sub_code is None else self.sub_code in EXTENDED_REQUESTS

    @property
    def may_change_meter(self) -> bool:
        return self.kind not in (CommandKind.READ, CommandKind.SESSION, CommandKind.ANSWER)


def command_key(code: int, sub_code: int | None = None) -> str:
    """The command as operators write it.

    >>> command_key(0x98, 0x30), command_key(0x21)
    ('98/30', '21')
    """
    return f"{code:02X}" if sub_code is None else f"{code:02X}/{sub_code:02X}"


def parse_command(key: str) -> tuple[int, int | None]:
    """Code and sub-code of a command as operators write it.

    Raises:
        LocalProtocolError: it is none.

    >>> parse_command("98/30")
    (152, 48)
    """
    code, slash, sub_code = key.strip().partition("/")
    try:
        found = (int(code, 16), int(sub_code, 16) if slash else None)
    except ValueError as error:
        raise LocalProtocolError(f"{key!r} is not a command", where="command") from error
    if len(code) != 2 or not found[0] or (slash and len(sub_code) != 2):
        raise LocalProtocolError(f"{key!r} is not a command: two digits, 98 with /sub-code", where="command")
    return found


def key_of(request: Request) -> str:
    """The command that a request is."""
    if request.code != EXTENDED:
        return command_key(request.code)
    return command_key(request.code, request.write()[4])


def info_of(request: Request) -> CommandInfo:
    """The catalogue's entry of a request; one without a name where the catalogue has none."""
    found = COMMANDS.get(key_of(request))
    if found is not None:
        return found
    sub_code = request.write()[4] if request.code == EXTENDED else None
    return CommandInfo(request.code, sub_code, "(sem nome conhecido)", CommandKind.UNKNOWN, "C")


def changes_meter(request: Request) -> bool:
    """Whether this very request may change the meter: codes that read or write say which by their fields."""
    match request:
        case InstallationCodeRequest():
            return not request.is_read
        case GenericRequest() | NominalValuesRequest():
            return bool(request.flags)
        case ExtendedHolidaysRequest():
            return request.is_write is not False
    return info_of(request).may_change_meter


_R, _W, _RW = CommandKind.READ, CommandKind.WRITE, CommandKind.READ_WRITE
_S, _X, _U = CommandKind.SESSION, CommandKind.ANSWER, CommandKind.UNKNOWN

# Command, name, kind, confidence of the name, confidence of the layout, section of the layout.
_TABLE: tuple[tuple[str, str, CommandKind, str, str | None, str], ...] = (
    ("11", "Abertura de sessão com senha", _S, "A", "B", "6.1"),
    ("12", "Programação de senha", _W, "B", None, ""),
    ("13", "Pedido de string para a senha", _S, "A", "A", "6.1"),
    ("14", "Grandezas instantâneas (página fiscal)", _R, "A", "A", "4"),
    ("16", "Cabeçalho de grandezas", _R, "B", None, ""),
    ("17", "Registros de grandezas", _R, "B", None, ""),
    ("20", "Leitura de parâmetros com reposição de demanda", CommandKind.RESET, "A", "A", "3"),
    ("21", "Parâmetros atuais, sem reposição", _R, "A", "A", "3"),
    ("22", "Parâmetros anteriores, sem reposição", _R, "A", "A", "3"),
    ("23", "Registradores atuais dos canais visíveis", _R, "A", "A", "5.1"),
    ("24", "Registradores da última reposição", _R, "A", "A", "5.1"),
    ("25", "Registros de faltas de energia", _R, "A", "A", "5.3"),
    ("26", "Memória de massa desde a última reposição", _R, "A", "B", "8"),
    ("27", "Memória de massa do período anterior", _R, "A", "B", "8"),
    ("28", "Registros de alterações", _R, "A", "A", "5.4"),
    ("29", "Alteração da data", _W, "A", "A", "6.2"),
    ("30", "Alteração da hora", _W, "A", "A", "6.2"),
    ("31", "Alteração do intervalo de demanda", _W, "A", "A", "6.2"),
    ("32", "Alteração dos feriados", _W, "A", "A", "6.2"),
    ("33", "Alteração das constantes dos canais", _W, "A", "A", "6.2"),
    ("34", "Alteração dos períodos sazonais", _W, "B", "C", "6.2"),
    ("35", "Alteração dos segmentos horários", _W, "A", "B", "6.2"),
    ("36", "Ativação do horário reservado", _W, "B", "C", "6.2"),
    ("37", "Limpeza da condição de ocorrência", _W, "A", "A", "6.2"),
    ("38", "Inicialização", _W, "A", "B", "6.2"),
    ("39", "Resposta: comando não implementado", _X, "A", "A", "7"),
    ("40", "Resposta: ocorrência no medidor", _X, "A", "A", "7"),
    ("41", "Registradores parciais anteriores, canal 1", _R, "A", None, "5.2"),
    ("42", "Registradores parciais anteriores, canal 2", _R, "A", None, "5.2"),
    ("43", "Registradores parciais anteriores, canal 3", _R, "A", None, "5.2"),
    ("44", "Registradores parciais atuais, canal 1", _R, "A", None, "5.2"),
    ("45", "Registradores parciais atuais, canal 2", _R, "A", None, "5.2"),
    ("46", "Registradores parciais atuais, canal 3", _R, "A", None, "5.2"),
    ("47", "Forma de cálculo da demanda", _W, "B", None, ""),
    ("51", "Parâmetros para leitura de toda a memória de massa", _R, "A", "A", "3"),
    ("52", "Memória de massa completa", _R, "A", "B", "8"),
    ("53", "Carga de programa", _W, "B", None, ""),
    ("54", "Carga de programa", _W, "B", None, ""),
    ("55", "Carga de programa", _W, "B", None, ""),
    ("56", "Visualização da demanda na ponta (obsoleto)", _W, "B", None, ""),
    ("59", "Visualização dos códigos adicionais do canal 2", _W, "B", None, ""),
    ("60", "Registro de conexão", _U, "B", None, ""),
    ("63", "Condição de reposição automática", _W, "A", None, ""),
    ("64", "Horário de verão", _W, "A", "A", "6.2"),
    ("65", "Conjunto 2 de segmentos horários", _W, "A", None, ""),
    ("66", "Grandezas dos canais", _W, "A", None, ""),
    ("67", "Tarifa de reativos", _W, "A", "C", "6.2"),
    ("68", "Base de tempo", _W, "B", None, ""),
    ("70", "Tabela de comandos (obsoleto)", _U, "B", None, ""),
    ("73", "Intervalo da memória de massa", _W, "A", "B", "6.2"),
    ("74", "Reversão de pulsos", _W, "B", None, ""),
    ("75", "Tempo de apresentação do mostrador", _W, "A", None, ""),
    ("76", "Divisão por 100", _W, "B", None, ""),
    ("77", "Segmentos em sábado, domingo e feriado", _W, "A", None, ""),
    ("78", "Horário composto / tipo de tarifa", _W, "A", None, ""),
    ("79", "Visualização dos códigos do mostrador", _W, "A", "B", "6.2"),
    ("80", "Leitura dos parâmetros de medição", _R, "A", "B", "5.5"),
    ("81", "Saída de usuário", _W, "B", None, ""),
    ("83", "(sem nome conhecido)", _U, "C", None, ""),
    ("84", "QTD/DTD", _U, "B", None, ""),
    ("85", "(sem nome conhecido)", _U, "C", None, ""),
    ("87", "Código da instalação", _RW, "A", "B", "6.2"),
    ("88", "Parâmetros de compensação de perdas", _R, "A", None, ""),
    ("89", "(sem nome conhecido)", _U, "C", None, ""),
    ("90", "Modo de apresentação das grandezas", _W, "A", "B", "6.2"),
    ("92", "Posto horário universal", _W, "A", None, ""),
    ("93", "Constantes Ke, Kh, TP, TC e modo (obsoleto)", _W, "A", None, ""),
    ("95", "Alteração ou leitura genérica", _RW, "A", "B", "6.2"),
    ("98", "Comando estendido", _U, "A", None, "6.3"),
    ("98/12", "Cadastro de senhas", _W, "B", None, ""),
    ("98/26", "(sem nome conhecido)", _U, "C", None, ""),
    ("98/30", "Ajuste fino do relógio (micro-ajuste)", _W, "B", None, ""),
    ("98/32", "Feriados estendidos", _RW, "B", "B", "6.3"),
    ("98/49", "(sem nome conhecido)", _U, "C", None, ""),
    ("98/50", "Monitor de qualidade", _U, "B", None, ""),
    ("98/55", "Parâmetros de qualidade", _U, "B", None, ""),
    ("98/56", "Dados de qualidade", _U, "B", None, ""),
    ("98/57", "Alarmes", _U, "B", None, ""),
    ("98/58", "Registro de cargas de programa", _U, "B", None, ""),
    ("98/66", "(sem nome conhecido)", _U, "C", None, ""),
    ("98/67", "(sem nome conhecido)", _U, "C", None, ""),
    ("98/73", "(sem nome conhecido)", _U, "C", None, ""),
    ("98/95", "Valores nominais", _RW, "B", "B", "6.3"),
    ("99", "Carga rápida; também prefixo de endereçamento", _U, "B", None, ""),
    ("2A", "Rede do fabricante encapsulada, simples", _U, "B", None, ""),
    ("2B", "Rede do fabricante encapsulada, composta", _U, "B", None, ""),
    ("AA", "Comandos do fabricante (Star Measure)", _U, "B", None, ""),
    ("AB", "Comandos do fabricante (Star Measure, medição centralizada)", _U, "B", None, ""),
    ("AC", "Comandos do fabricante (Star Measure)", _U, "B", None, ""),
    ("AD", "Comandos do fabricante (Star Measure)", _U, "B", None, ""),
    ("C1", "Remota CAS/Elster", _U, "B", None, "1.9"),
    ("E2", "Comandos do fabricante (Landis+Gyr)", _U, "B", None, ""),
    ("EB", "Comandos do fabricante (Star Measure, Easy)", _U, "B", None, ""),
)

COMMANDS: dict[str, CommandInfo] = {
    key: CommandInfo(*parse_command(key), name, kind, confidence, layout, section)
    for key, name, kind, confidence, layout, section in _TABLE
}
"""By command as operators write it, in the order of the reference."""
