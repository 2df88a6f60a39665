"""The catalogue of command codes (section 2): names and how sure they are, kinds, known layouts."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.nbr14522.link.exchange import COMPOSITE_CODES
from protocols.nbr14522.messages import REQUESTS


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """One command.

    Attributes:
        code: o1 as on the wire.
        name: the standard's name, in Portuguese, as operators know it.
        confidence: of the name: A, B or C.
    """

    code: int
    name: str
    confidence: str

    @property
    def is_composite(self) -> bool:
        """Whether several blocks answer."""
        return self.code in COMPOSITE_CODES

    @property
    def has_layout(self) -> bool:
        """Whether a typed request exists; others travel as `OpaqueRequest` and `OpaqueResponse`."""
        return self.code in REQUESTS


_NAMES = {
    0x11: ("Abertura de sessão com senha", "A"),
    0x12: ("Programação de senha", "B"),
    0x13: ("Pedido de string para a senha", "A"),
    0x14: ("Grandezas instantâneas (página fiscal)", "A"),
    0x16: ("Cabeçalho de grandezas", "B"),
    0x17: ("Registros de grandezas", "B"),
    0x20: ("Leitura de parâmetros com reposição de demanda", "A"),
    0x21: ("Parâmetros atuais, sem reposição", "A"),
    0x22: ("Parâmetros anteriores, sem reposição", "A"),
    0x23: ("Registradores atuais dos canais visíveis", "A"),
    0x24: ("Registradores da última reposição", "A"),
    0x25: ("Registros de faltas de energia", "A"),
    0x26: ("Memória de massa desde a última reposição", "A"),
    0x27: ("Memória de massa do período anterior", "A"),
    0x28: ("Registros de alterações", "A"),
    0x29: ("Alteração da data", "A"),
    0x30: ("Alteração da hora", "A"),
    0x31: ("Alteração do intervalo de demanda", "A"),
    0x32: ("Alteração dos feriados", "A"),
    0x33: ("Alteração das constantes dos canais", "A"),
    0x34: ("Alteração dos períodos sazonais", "B"),
    0x35: ("Alteração dos segmentos horários", "A"),
    0x36: ("Ativação do horário reservado", "B"),
    0x37: ("Limpeza da condição de ocorrência", "A"),
    0x38: ("Inicialização", "A"),
    0x39: ("Resposta: comando não implementado", "A"),
    0x40: ("Resposta: ocorrência no medidor", "A"),
    0x41: ("Registradores parciais anteriores, canal 1", "A"),
    0x42: ("Registradores parciais anteriores, canal 2", "A"),
    0x43: ("Registradores parciais anteriores, canal 3", "A"),
    0x44: ("Registradores parciais atuais, canal 1", "A"),
    0x45: ("Registradores parciais atuais, canal 2", "A"),
    0x46: ("Registradores parciais atuais, canal 3", "A"),
    0x47: ("Forma de cálculo da demanda", "B"),
    0x51: ("Parâmetros para leitura de toda a memória de massa", "A"),
    0x52: ("Memória de massa completa", "A"),
    0x53: ("Carga de programa", "B"),
    0x54: ("Carga de programa", "B"),
    0x55: ("Carga de programa", "B"),
    0x56: ("Visualização da demanda na ponta (obsoleto)", "B"),
    0x59: ("Visualização dos códigos adicionais do canal 2", "B"),
    0x60: ("Registro de conexão", "B"),
    0x63: ("Condição de reposição automática", "A"),
    0x64: ("Horário de verão", "A"),
    0x65: ("Conjunto 2 de segmentos horários", "A"),
    0x66: ("Grandezas dos canais", "A"),
    0x67: ("Tarifa de reativos", "A"),
    0x68: ("Base de tempo", "B"),
    0x70: ("Tabela de comandos (obsoleto)", "B"),
    0x73: ("Intervalo da memória de massa", "A"),
    0x74: ("Reversão de pulsos", "B"),
    0x75: ("Tempo de apresentação do mostrador", "A"),
    0x76: ("Divisão por 100", "B"),
    0x77: ("Segmentos em sábado, domingo e feriado", "A"),
    0x78: ("Horário composto / tipo de tarifa", "A"),
    0x79: ("Visualização dos códigos do mostrador", "A"),
    0x80: ("Leitura dos parâmetros de medição", "A"),
    0x81: ("Saída de usuário", "B"),
    0x83: ("(sem nome conhecido)", "C"),
    0x84: ("QTD/DTD", "B"),
    0x85: ("(sem nome conhecido)", "C"),
    0x87: ("Código da instalação", "A"),
    0x88: ("Parâmetros de compensação de perdas", "A"),
    0x89: ("(sem nome conhecido)", "C"),
    0x90: ("Modo de apresentação das grandezas", "A"),
    0x92: ("Posto horário universal", "A"),
    0x93: ("Constantes Ke, Kh, TP, TC e modo (obsoleto)", "A"),
    0x95: ("Alteração ou leitura genérica", "A"),
    0x98: ("Comando estendido", "A"),
    0x99: ("Carga rápida; também prefixo de endereçamento", "B"),
    0x2A: ("Rede do fabricante encapsulada, simples", "B"),
    0x2B: ("Rede do fabricante encapsulada, composta", "B"),
    0xAB: ("Comandos do fabricante (Star Measure)", "B"),
    0xC1: ("Remota CAS/Elster", "B"),
    0xE2: ("Comandos do fabricante (Landis+Gyr)", "B"),
    0xEB: ("Comandos do fabricante (Star Measure, Easy)", "B"),
}

COMMANDS: dict[int, CommandInfo] = {
    code: CommandInfo(code, name, confidence) for code, (name, confidence) in _NAMES.items()
}
