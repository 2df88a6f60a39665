"""The one list of the rules, with the words of the manual; and why a rule could not judge.

The texts are Portuguese: `docs/regras.md` and the portal show them as they stand.
"""

from __future__ import annotations

from vee.rules.base import Rule, RuleParams, Stage
from vee.rules.history import MonthParams, ShapeParams, v16_history, v23_month
from vee.rules.limits import LimitParams, v05_limit
from vee.rules.meters import (
    BackupParams,
    ConstantParams,
    RegisterParams,
    v06_registers,
    v11_constants,
    v12_backup,
)
from vee.rules.phases import DeadPhaseParams, WeakPhaseParams, v13_weak_phase, v22_dead_phase
from vee.rules.repeats import RepeatParams, SwapParams, v24_repeated_block, v25_swapped_channels
from vee.rules.shares import MusdParams, ShareParams, v17_musd, v18_estimated
from vee.rules.spikes import SpikeParams, v07_spike
from vee.rules.still import FrozenParams, ZeroParams, v08_frozen, v14_zeros

RULES: tuple[Rule, ...] = (
    Rule(
        "V05",
        Stage.MEASURED,
        v05_limit,
        LimitParams(),
        "Valor acima do que a instalação comporta, ou contador só com uns",
        "kW do intervalo > menor entre √3 · kV · (RTC × 5 A × `overload`) · `margin` e `demand_times` × "
        "maior entre MUSD e demanda contratada; ou contagem igual a um valor de `all_ones`, mais de uma vez "
        "no dia ou acima de `all_ones_times` × a mediana do dia",
        "o TC e o contrato limitam a potência; uma palavra com todos os bits em um é memória apagada ou "
        "contador saturado, não consumo",
        "MUSD 1.000 kW: o limite é 5.000 kW, 416,667 kWh em 5 minutos; 20.000 kWh ficam retidos",
    ),
    Rule(
        "V06",
        Stage.MEASURED,
        v06_registers,
        RegisterParams(),
        "O que o registrador andou entre duas leituras contra a soma dos intervalos",
        "suspeito se a soma dos intervalos inteiros passa do registrador, ou o registrador passa da soma "
        "mais os intervalos que as leituras cortam, por mais que o maior entre `share` do registrador e "
        "`steps` pulsos; com intervalos faltando, só o primeiro caso",
        "o registrador conta sem memória de massa: pico, congelamento, zeros, repetição e linhas perdidas "
        "aparecem na diferença",
        "entre 06:02 de um dia e 06:02 do seguinte o registrador andou 57.804 pulsos e os intervalos somam "
        "69.365: 11.561 a mais, 20 %, o período fica suspeito",
    ),
    Rule(
        "V07",
        Stage.MEASURED,
        v07_spike,
        SpikeParams(),
        "Pico: poucos intervalos muito acima do que a UC tem nessa hora",
        "até `most_slots` intervalos seguidos com kWh > `times` × maior média entre a hora e as vizinhas "
        "nos dias semelhantes, e kW > `demand_share` × MUSD; sem dias semelhantes, contra a mediana dos "
        "`around_slots` de cada lado",
        "uma carga que parte dura mais que 15 minutos; um bit trocado dura um intervalo",
        "mediana da hora 2,0 kWh por intervalo, MUSD 100 kW: um intervalo de 9,0 kWh (108 kW) é pico; de "
        "7,5 não",
    ),
    Rule(
        "V08",
        Stage.MEASURED,
        v08_frozen,
        FrozenParams(),
        "Valor congelado: a mesma contagem por horas",
        "a mesma contagem em `slots` intervalos seguidos, se for de `pulses` pulsos ou mais; em "
        "`low_slots`, se for de `low_pulses` ou mais; de `pulses` ou mais, já em `known_slots`, se forem "
        "`known_times` × a maior repetição dos dias semelhantes (pelo menos `min_days`)",
        "uma carga real oscila mais que um pulso em cem; poucos pulsos por intervalo repetem-se sozinhos",
        "146 pulsos em cada intervalo das 09:00 às 12:00 (36 intervalos): congelado",
    ),
    Rule(
        "V11",
        Stage.MEASURED,
        v11_constants,
        ConstantParams(),
        "Constante, TP, TC e canal que o próprio medidor diz, contra o cadastro",
        "qualquer diferença, exata (1/25 e 0,04 são iguais), retém o dia",
        "uma constante errada multiplica todo o consumo e nenhuma outra regra a vê",
        "o medidor diz 1/25 kWh por pulso, o cadastro 2/25: dia retido, energia em jogo 50 % do dia",
    ),
    Rule(
        "V12",
        Stage.MEASURED,
        v12_backup,
        BackupParams(),
        "Medidor principal contra o de retaguarda em sete dias",
        "|principal − retaguarda| / principal > `share`, nos intervalos que os dois têm do dia e dos `days` "
        "− 1 anteriores, com pelo menos `min_hours` horas e mais de `steps` pulsos de diferença; a "
        "retaguarda não preenche falhas enquanto isso",
        "dois medidores da mesma energia diferem menos que a sua classe; se diferem, não se sabe qual está "
        "certo",
        "principal 10 kWh e retaguarda 100 kWh por intervalo em sete dias: no oitavo, sem o principal, a "
        "retaguarda não é usada",
    ),
    Rule(
        "V13",
        Stage.MEASURED,
        v13_weak_phase,
        WeakPhaseParams(),
        "Uma fase com tensão ou corrente muito abaixo das outras: registro a menor",
        "em `min_samples` amostras do dia, ou em todas as últimas `min_samples` de `days` dias, uma só fase "
        "com tensão < `voltage_share` × a maior, ou corrente < `current_share` × a maior",
        "TP ou TC com defeito mede menos; várias fases sem corrente são carga monofásica, uma só é TC "
        "perdido",
        "tensões 127, 126 e 88 V em três amostras: 88 < 0,8 × 127, suspeito",
    ),
    Rule(
        "V14",
        Stage.MEASURED,
        v14_zeros,
        ZeroParams(),
        "Zeros sem falta de energia registrada, em horas em que a UC consome",
        "`hours` horas de zeros seguidas, mais da metade em horas acima de `loaded_share` × a hora média "
        "dos dias semelhantes; ou `sure_hours`, se nenhum dia semelhante esteve abaixo de `sure_share` dela; "
        "ou `short_hours`, se até o de menor carga de `short_days` dias tem ali `short_share` da energia de "
        "um dia; com menos de três dias semelhantes, contra os últimos sete dias",
        "zero medido é dado (V20), mas oito horas paradas sem falta registrada são defeito até prova em "
        "contrário",
        "terça-feira, zeros das 08:00 às 16:00, terças anteriores com 40 kWh por hora, nenhuma falta: "
        "suspeito",
    ),
    Rule(
        "V16",
        Stage.MEASURED,
        v16_history,
        ShapeParams(),
        "Forma e história: o dia contra os dias semelhantes da UC",
        "dia > `day_times` × o maior dia semelhante, ou hora > `hour_times` × a maior hora mediana, se "
        "acima de `demand_share` × MUSD: suspeito; dia < `low_share` × a mediana: só informado",
        "uma constante errada, um canal trocado ou um dia de outra UC muda a ordem de grandeza; o dobro "
        "acontece de verdade (no mês real, uma máquina nova dobrou o dia de 390 para 738 kWh)",
        "dias semelhantes de 390 a 420 kWh, dia de 3.900 kWh: suspeito; de 800 kWh: passa",
    ),
    Rule(
        "V22",
        Stage.MEASURED,
        v22_dead_phase,
        DeadPhaseParams(),
        "Fase morta que a regra C não corrige",
        "perda de fase não comprovada, ou sem fator no anexo 7.2: os intervalos ficam suspeitos; a "
        "comprovada com fator é corrigida e vai como `AJUSTADO`. Comprova a tensão média zero no intervalo; "
        "a corrente zero sozinha, o instante no fim do intervalo e a página instantânea só acusam",
        "o valor medido com fase morta é menor que o consumo",
        "três elementos, fase 2 sem tensão das 10:00 às 12:00 sem prova: 24 intervalos suspeitos",
    ),
    Rule(
        "V24",
        Stage.MEASURED,
        v24_repeated_block,
        RepeatParams(),
        "Bloco repetido: a mesma sequência de contagens de outro trecho ou de outro dia",
        "`slots` contagens seguidas iguais, na mesma ordem, às de outro trecho do dia; ou um oitavo do dia "
        "(3 horas) igual ao mesmo oitavo da véspera ou de um dia semelhante; com `distinct` valores "
        "diferentes ou mais, e variação média de três pulsos ou mais de um intervalo ao outro",
        "uma carga viva não repete doze contagens exatas: só a memória, um bloco lido duas vezes ou um "
        "arquivo de outro dia o faz",
        "as contagens das 08:00 às 09:00 voltam, iguais, das 09:00 às 10:00: doze intervalos suspeitos",
    ),
    Rule(
        "V25",
        Stage.MEASURED,
        v25_swapped_channels,
        SwapParams(),
        "Canais trocados: energia reativa no lugar da ativa",
        "reativa por ativa do dia > `times` × a maior dos dias semelhantes, inversa da usual (a menos de "
        "`tolerance`, em logaritmo, ou do que ela varia de um dia a outro), e reativa do tamanho da ativa "
        "usual (até `level` vezes); com menos de `min_days` dias semelhantes, contra os últimos sete dias",
        "a grandeza do canal é parâmetro do medidor, e uma troca dele não muda a forma do dia; a relação "
        "entre as duas energias é da UC e muda pouco",
        "ativa 390 kWh e reativa 195 kvarh nos dias semelhantes; hoje ativa 195 e reativa 390: suspeito",
    ),
    Rule(
        "V17",
        Stage.SENT,
        v17_musd,
        MusdParams(),
        "Hora enviada acima de 125 % do MUSD",
        "soma dos 12 valores enviados > 1,25 × MUSD, estritamente",
        "a CCEE conta a hora como zero; a política do contrato (`musd.on_violation`) decide se o dia vai "
        "assim",
        "MUSD 150 kW: 188,603 kWh na hora passam de 187,5",
    ),
    Rule(
        "V18",
        Stage.SENT,
        v18_estimated,
        ShareParams(),
        "Parte do mês que não é medida",
        "intervalos ajustados no mês, até o dia, > `share` dos intervalos e pelo menos `min_slots`",
        "estimativa é para falhas; um mês feito dela precisa de outra leitura, não de outra média",
        "dia 10, 900 de 2.880 intervalos estimados: 31 %, informado",
    ),
    Rule(
        "V23",
        Stage.SENT,
        v23_month,
        MonthParams(),
        "Potência média do mês contra os meses anteriores",
        "no último dia do mês: média < `low` ou > `high` da média dos até 12 meses anteriores",
        "revisão antes da consolidação: contrato novo, férias coletivas ou erro que cresceu devagar",
        "média de 12 meses 24 kW, mês de 38 kW: 158 %, informado",
    ),
)

BY_ID: dict[str, Rule] = {rule.id: rule for rule in RULES}

SKIP_REASONS: dict[str, str] = {
    "disabled": "desligada por parâmetro",
    "no_limit": "nem TC e tensão nem MUSD ou demanda estão cadastrados",
    "no_registers": "não há duas leituras de registrador em volta do dia",
    "no_demand": "nem MUSD nem demanda contratada estão cadastrados",
    "no_constant": "não há uma só constante no dia: medidor trocado ou não cadastrado",
    "not_told": "o medidor não informou as suas constantes",
    "no_backup": "não há medidor de retaguarda com leituras",
    "no_reactive": "o medidor não guarda energia reativa, ou o dia não está inteiro",
    "no_phases": "o medidor não informa tensões e correntes por fase",
    "no_history": "há poucos dias semelhantes, ou nenhum mês anterior",
}


def default_rules() -> dict[str, RuleParams]:
    """Parameters of all rules, by id."""
    return {rule.id: rule.defaults for rule in RULES}
