"""What each column of a registry file means, in Portuguese: for the template and for the manual.

Each text says what to write, in which unit, and what an empty cell means. Forms and bounds are the columns'
own (`sheets`); here they are only said in words.
"""

from __future__ import annotations

from collections.abc import Iterator

from storage.registry.cells import Column
from storage.registry.sheets import SHEETS

NOTES = "leia-me"

_SHEETS = {
    "distributors": "Distribuidoras",
    "agents": "Agentes conectados na CCEE",
    "customers": "Clientes",
    "ucs": "Unidades consumidoras (UC)",
    "former_codes": "Códigos que as UCs já tiveram, e até quando",
    "uc_agents": "Agente conectado de cada UC, por período (sem linhas: o de ucs, desde sempre)",
    "status": "Situação da UC: se seus dias são enviados à CCEE",
    "contracts": "Subgrupo tarifário e demanda contratada",
    "musd": "MUSD como declarado à CCEE",
    "estimation": "Estratégia que preenche as lacunas",
    "points": "Pontos de medição: a energia da UC é a soma dos seus pontos, com sinal e parcela",
    "losses": "Perdas entre o medidor e o ponto de entrega, por instante",
    "schedules": "De quanto em quanto tempo o ponto é lido",
    "meter_models": "Modelos de medidor",
    "meters": "Medidores",
    "units": "Unidades de telemetria (remotas)",
    "installations": "Qual medidor está em qual ponto, com suas constantes",
}

_ANY = {
    "uc_code": "código da UC, com os zeros à esquerda",
    "point_code": "código do ponto de medição (folha points)",
    "valid_from": "primeiro dia em que vale; vazio: desde sempre",
    "valid_to": "primeiro dia em que já não vale; vazio: em aberto",
    "name": "nome",
}

_COLUMNS = {
    ("distributors", "code"): "código seu da distribuidora",
    ("distributors", "tax_id"): "CNPJ, só os caracteres, sem pontos",
    ("agents", "code"): "código do agente na CCEE",
    ("agents", "distributor_code"): "distribuidora do agente (folha distributors)",
    ("customers", "code"): "código seu do cliente",
    ("customers", "tax_id"): "CNPJ ou CPF, sem pontos",
    ("ucs", "code"): "código da UC como está na CCEE, só dígitos, com os zeros à esquerda (15 no código "
    "nacional)",
    ("ucs", "agent_code"): "agente conectado de agora; mudanças passadas ficam em uc_agents",
    ("ucs", "customer_code"): "cliente da UC (folha customers)",
    ("ucs", "cea_date"): "dia da convocação pela CCEE (CEA)",
    ("ucs", "aliases"): "códigos que a UC já teve, separados por espaço: um código novo com o antigo "
    "aqui é a "
    "mesma UC, com o seu histórico",
    ("former_codes", "code"): "código antigo",
    ("former_codes", "uc_code"): "código de agora",
    ("former_codes", "valid_to"): "primeiro dia em que o código antigo já não valia; vazio: não se sabe",
    ("uc_agents", "agent_code"): "agente conectado no período",
    ("status", "status"): "active: enviada; suspended_open: fornecimento suspenso com contrato em "
    "vigor, enviada; suspended: suspensa com o contrato encerrado, não enviada; inactive: desativada; "
    "captive: voltou ao cativo",
    ("status", "note"): "observação",
    ("contracts", "tariff_subgroup"): "A1, A2, A3, A3a, A4, AS, B1 ...",
    ("contracts", "tariff_modality"): "verde, azul, branca ...",
    ("contracts", "contracted_demand_kw"): "demanda contratada, kW",
    ("contracts", "supply_voltage_kv"): "tensão de fornecimento, kV",
    ("musd", "musd_kw"): "MUSD, kW; vazio: não declarado (a CCEE supõe 500 kW)",
    ("musd", "confirmed_on"): "dia em que foi comparado com o cadastro da CCEE",
    ("estimation", "strategy"): "ccee-pdc-1.8-r1 ou chain-e; sem linha: a da configuração",
    ("points", "code"): "código seu do ponto de medição",
    ("points", "uc_code"): "UC do ponto; vários pontos da mesma UC se somam",
    ("points", "sign"): "add: soma; subtract: subtrai (um vizinho atrás do mesmo medidor)",
    ("points", "share"): "parcela que conta, exata: 1, 0.25, 25% ou 1/3",
    ("losses", "kind"): "transformation: de transformação; line: de linha",
    ("losses", "percent"): "em por cento: 2.5 é 2,5 %",
    ("losses", "compensated_at"): "quem aplica: platform (o SMF), meter (o medidor já compensa), none "
    "(ninguém)",
    ("losses", "valid_from"): "instante em que passa a valer (dia, ou dia e hora), hora do mercado; "
    "vazio: sempre",
    ("losses", "valid_to"): "instante em que deixa de valer; vazio: em aberto",
    ("schedules", "kind"): "daily: diária; hourly: horária; quarter_hourly: a cada 15 minutos",
    ("meter_models", "code"): "código seu do modelo",
    ("meter_models", "maker"): "fabricante",
    ("meter_models", "profile"): "perfil de protocolo; veja os nomes com: smf model list",
    ("meters", "serial"): "número de série como o medidor o diz, com os zeros à esquerda (8 dígitos na "
    "NBR 14522)",
    ("meters", "model_code"): "modelo do medidor (folha meter_models)",
    ("units", "code"): "código seu da remota",
    ("units", "url"): "endereço: tcp://HOST:PORTA, rfc2217://HOST:PORTA, serial:///dev/NOME ou "
    "dialin://CODIGO",
    ("units", "cell"): "célula de rádio; limita as sessões simultâneas",
    ("units", "monthly_plan_bytes"): "plano de dados, octetos por mês; vazio: 20 MB",
    ("installations", "meter_serial"): "número de série do medidor (folha meters)",
    ("installations", "unit_code"): "remota que o alcança (folha units); vazio: só por arquivo",
    ("installations", "role"): "main: principal; backup: retaguarda",
    ("installations", "active_channel"): "canal da energia ativa direta; vazio: 1",
    ("installations", "pulse_energy_num"): "kWh por pulso, numerador, inteiro",
    ("installations", "pulse_energy_den"): "kWh por pulso, denominador, inteiro",
    ("installations", "tp_ratio"): "relação do TP; vazio: 1",
    ("installations", "tc_ratio"): "relação do TC; vazio: 1",
    ("installations", "constant_includes_ratios"): "true: o kWh por pulso já é do primário; false: "
    "multiplica por "
    "TP e TC",
    ("installations", "element_count"): "elementos do medidor: 1, 2 ou 3; vazio: 3",
    ("installations", "interval_s"): "intervalo da memória de massa, segundos; vazio: 300",
    ("installations", "valid_from"): "instante da instalação, hora do mercado; vazio: desde sempre",
    ("installations", "valid_to"): "instante da retirada, hora do mercado; vazio: em aberto",
}  # fmt: skip

HEADINGS = ("folha", "coluna", "obrigatória", "o que é")


def explanations() -> Iterator[tuple[str, str, str, str]]:
    """HEADINGS for each column of each sheet; a sheet's first row says what the sheet is."""
    for sheet in SHEETS:
        yield sheet.name, "", "", _SHEETS[sheet.name]
        for column in sheet.columns:
            yield sheet.name, column.name, "sim" if column.required else "", explained(sheet.name, column)


def explained(sheet: str, column: Column) -> str:
    """A column in Portuguese."""
    return _COLUMNS.get((sheet, column.name)) or _ANY[column.name]


def as_text() -> str:
    """The same as plain lines, for beside a CSV file."""
    lines = [
        "Cadastro do SMF. Uma planilha por folha; a primeira linha tem os nomes das colunas.",
        "Datas: 2026-11-20 ou 20/11/2026. Números: vírgula ou ponto decimal, o mesmo no arquivo todo, sem",
        "separador de milhar. Códigos são texto, com os zeros à esquerda. (*) obrigatória.",
    ]
    for sheet, column, required, text in explanations():
        if not column:
            lines += ["", f"{sheet}: {text}"]
        else:
            lines.append(f"  {column}{' (*)' if required else ''}: {text}")
    return "\n".join(lines) + "\n"


def flat_as_text(labels: Iterator[tuple[str, str, str]]) -> str:
    """The columns of the file with one row per UC: (label, sheet, column)."""
    columns = {(sheet.name, column.name): column for sheet in SHEETS for column in sheet.columns}
    lines = ["Cadastro do SMF com uma linha por UC: um ponto, um medidor, uma vigência.", ""]
    seen: set[str] = set()
    for label, sheet, name in labels:
        if label not in seen:
            seen.add(label)
            lines.append(f"  {label}: {explained(sheet, columns[sheet, name])}")
    return "\n".join(lines) + "\n"
