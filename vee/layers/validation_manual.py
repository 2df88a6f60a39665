"""What the manual says of the rules of `vee.layers.validation`: how, why, and one worked case, in
Portuguese."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RuleText:
    """Formula, reason and example of a rule."""

    formula_pt: str
    reason_pt: str
    example_pt: str


TEXTS: dict[str, RuleText] = {
    "V01": RuleText(
        "intervalos com valor = intervalos do dia (24 h / 5 min, calculado do fuso)",
        "um dia com falta não vai como está; cada falta leva a sua causa",
        "285 de 288 intervalos: três faltantes, estimados dentro da hora",
    ),
    "V02": RuleText(
        "instante múltiplo de 5 minutos, dentro do dia, não depois de agora",
        "um registro fora do lugar seria energia no intervalo errado",
        "registro das 10:03: recusado; registro de amanhã: recusado",
    ),
    "V03": RuleText(
        "dois registros para o mesmo intervalo: iguais, um sai; diferentes, nenhum vale",
        "ninguém sabe qual dos dois é o certo; escolher sozinho seria editar",
        "146 e depois 152 pulsos para 10:05: retido até uma decisão",
    ),
    "V04": RuleText(
        "número finito, maior ou igual a zero",
        "energia ativa direta não anda para trás",
        "−3 pulsos: recusado e estimado; 0 pulsos: medido",
    ),
    "V09": RuleText(
        "o relógio do medidor foi acertado dentro do intervalo",
        "o intervalo durou mais ou menos que cinco minutos; o valor é o que o medidor contou",
        "acerto às 03:07: o intervalo 03:10 leva o aviso; leituras de relógio errado são retidas na coleta",
    ),
    "V15": RuleText(
        "situação da UC no dia = ativa",
        "uma UC suspensa ou encerrada não é mais enviada (TR 8.1)",
        "suspensa em 21/11: nada de 21/11 em diante",
    ),
    "V19": RuleText(
        "UC e agente cadastrados; dois dígitos verificadores do código de 15 algarismos",
        "sem agente não há quem receba; dígito errado é código digitado errado",
        "001347925802811: o certo termina em 10; avisa",
    ),
    "V20": RuleText(
        "zeros inteiramente dentro de uma falta registrada pelo medidor, ou sem registro com "
        "`outage_fills_gap`",
        "sem tensão não há consumo: o zero é medido, não estimado",
        "falta de 07:58 a 16:01: os zeros de 08:05 a 16:00 são medidos",
    ),
    "V21": RuleText(
        "MUSD não declarado, ou igual a 500 kW sem confirmação",
        "sem MUSD a CCEE supõe 500 kW (1.8/3.15.1): frouxo demais para uns, destruidor para outros",
        "UC de 800 kW sem MUSD: toda hora acima de 625 kWh contaria zero",
    ),
    "V22": RuleText(
        "tensão ou corrente zero em uma ou duas fases, com carga nas outras, no intervalo inteiro",
        "a regra C multiplica o coletado, mas só com prova do medidor ou ordem de serviço",
        "três elementos, uma fase morta: 3,412 kWh × 1,5 = 5,118 kWh",
    ),
}
