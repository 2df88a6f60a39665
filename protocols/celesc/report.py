"""The inspection of a serial output as people read it: one self-contained HTML file in Portuguese."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from protocols.celesc.catalogue import CelescMeter
from protocols.celesc.inspection import Finding, MeterVerdict, Remark, Rule, Status
from protocols.celesc.sampling import LotStatus, LotVerdict

_RULES = {
    Rule.RATE: ("Taxa de transmissão", "desvio de no máximo ±3 %"),
    Rule.GAP_INSIDE: ("Pausa dentro do pacote", "no máximo 50 bits entre octetos"),
    Rule.GAP_BETWEEN: ("Pausa entre pacotes", "no mínimo 200 bits"),
    Rule.PERIOD: ("Periodicidade", "cada pacote obrigatório a cada 5 s, no máximo"),
    Rule.PACKETS: ("Pacotes do modelo", "todos os obrigatórios, nenhum de grandeza que não mede"),
    Rule.NUMBER: ("Identificador", "10 dígitos BCD, sempre o número do medidor"),
    Rule.BCD: ("Dados em BCD", "6 dígitos em 3 octetos"),
    Rule.CRC: ("CRC", "nenhum pacote com CRC errado"),
}
_STATUS = {
    Status.PASS: ("conforme", "ok"),
    Status.FAIL: ("não conforme", "bad"),
    Status.INCONCLUSIVE: ("inconclusivo", "open"),
}
_LOT = {
    LotStatus.ACCEPTED: ("Lote aceito", "ok"),
    LotStatus.REJECTED: ("Lote rejeitado", "bad"),
    LotStatus.INCOMPLETE: ("Inspeção incompleta", "open"),
}
_UNITS = {"%": "%", "bit": "bits", "s": "s", "packet": "pacotes"}
# {0}: what the remark is about.
_REMARKS = {
    Remark.NO_PACKETS: "nenhum pacote válido ({0} octetos ouvidos): ver polaridade, taxa e fiação",
    Remark.RATE_NOT_ADMITTED: "{0} bit/s não está entre as taxas admitidas",
    Remark.RATE_BY_STAMPS: "{0} bit/s em média, pelos instantes dos octetos",
    Remark.RATE_BY_INSTRUMENT: "{0} bit/s, medidos por instrumento",
    Remark.RATE_OR_PAUSES: "pode ser taxa baixa ou pausas curtas, que são permitidas: medir com instrumento",
    Remark.STAMPS_TOO_COARSE: "os instantes da gravação não bastam para decidir: gravar com analisador "
    "lógico ou medir com instrumento",
    Remark.TOO_SHORT: "gravação curta demais {0}: gravar de novo por mais tempo",
    Remark.PACKET_MISSING: "falta o pacote obrigatório {0}",
    Remark.PACKET_EXPECTED: "não veio o pacote {0}, que os documentos deixam em aberto",
    Remark.PACKET_NOT_OWNED: "veio o pacote {0}, de grandeza que o modelo não mede",
    Remark.PACKET_UNKNOWN: "pacote {0} além dos obrigatórios (permitido; guardado sem interpretação)",
    Remark.NUMBER_OTHER: "esperado {0}, conforme a placa",
    Remark.NUMBER_CHANGES: "mais de um número na mesma saída: {0}",
    Remark.NUMBER_NOT_BCD: "houve pacote com número que não é BCD",
    Remark.NUMBER_NOT_GIVEN: "número da placa não informado: só se conferiu que é BCD e não muda",
    Remark.DATA_NOT_BCD: "dados não são BCD: {0}",
    Remark.DATA_SIZE: "número de dígitos diferente de 6: {0}",
    Remark.CRC_FAILS: "{0} pacotes com erro",
    Remark.STRAY_OCTETS: "{0} octetos fora de pacotes",
}

# Longer texts take two columns.
_WIDE = 24

_STYLE = """
:root{--ok:#12613a;--okb:#e3f4ea;--bad:#9b1c1c;--badb:#fde8e8;--open:#7a4b00;--openb:#fdf1d8;--line:#d8dde3;
--ink:#1b2430;--soft:#556170}
*{box-sizing:border-box}body{margin:0;background:#f4f6f8;color:var(--ink);
font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1rem}
h1{font-size:1.35rem;margin:.2rem 0 1rem}h2{font-size:1.1rem;margin:1.6rem 0 .6rem}
.card{background:#fff;border:1px solid var(--line);border-radius:.6rem;padding:1rem;margin:0 0 .8rem}
.banner{font-size:1.25rem;font-weight:700}.ok{color:var(--ok);background:var(--okb)}
.bad{color:var(--bad);background:var(--badb)}.open{color:var(--open);background:var(--openb)}
.tag{display:inline-block;border-radius:1rem;padding:.1rem .65rem;font-size:.85rem;font-weight:600;
white-space:nowrap}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem 1rem;margin:.8rem 0 0}
.facts div{min-width:0}.facts .wide{grid-column:span 2}.facts dt,.soft{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;overflow-wrap:anywhere}
dl{margin:0}.warn{border-left:.35rem solid #d99a1c;padding-left:.8rem}
summary{cursor:pointer;display:flex;gap:.5rem 1rem;align-items:center;flex-wrap:wrap}
summary b{font-variant-numeric:tabular-nums}summary::marker{content:""}
summary::after{content:"▾";margin-left:auto;color:var(--soft)}details[open] summary::after{content:"▴"}
table{border-collapse:collapse;width:100%;margin-top:.8rem}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem .45rem 0;border-top:1px solid var(--line)}
th{font-size:.85rem;color:var(--soft);font-weight:600;border-top:0}td.n{white-space:nowrap}
ul{margin:0;padding-left:1.1rem}
@media(max-width:44rem){thead{display:none}tr{display:block;border-top:1px solid var(--line);padding:.5rem 0}
td{display:block;border:0;padding:.1rem 0}td.n:before{content:attr(data-h) ": ";color:var(--soft)}
td.n:empty{display:none}}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""


@dataclass(frozen=True, slots=True)
class About:
    """What heads the report."""

    made_at: datetime
    model: CelescMeter
    inspector: str = ""


def render(verdicts: Sequence[MeterVerdict], lot: LotVerdict | None, about: About) -> str:
    """The report; failed meters first, opened."""
    order = {Status.FAIL: 0, Status.INCONCLUSIVE: 1, Status.PASS: 2}
    shown = sorted(verdicts, key=lambda one: (order[one.status], one.meter_number))
    title = "Inspeção da saída serial" + (f" – lote {escape(lot.lot)}" if lot else "")
    body = [f"<h1>{title}</h1>", _lot(lot) if lot else "", _about(about), "<h2>Medidores</h2>"]
    body += [_meter(one, is_open=one.status is not Status.PASS or len(shown) == 1) for one in shown]
    return (
        '<!doctype html>\n<html lang="pt-BR"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<div{' class=wide' if len(text) > _WIDE else ''}><dt>{escape(name)}</dt>"
        f"<dd>{escape(text)}</dd></div>"
        for name, text in pairs
    )
    return f'<dl class="facts">{cells}</dl>'


def _lot(lot: LotVerdict) -> str:
    words, css = _LOT[lot.status]
    more = ""
    if lot.status is LotStatus.INCOMPLETE:
        missing = lot.sample - (lot.inspected - lot.inconclusive)
        if missing > 0:
            more = f" – {_counted(missing, 'falta', 'medidor')} com resultado"
        else:
            more = " – regravar os inconclusivos, que ainda decidem"
    facts = [
        ("Tamanho do lote", str(lot.size)),
        ("Amostra", str(lot.sample)),
        ("Inspecionados", str(lot.inspected)),
        ("Não conformes", str(lot.failed)),
        ("Inconclusivos", str(lot.inconclusive)),
        ("Aceitação / rejeição", f"até {lot.accept} / de {lot.reject} em diante"),
    ]
    if lot.repeats:
        facts.append(("Gravados mais de uma vez", ", ".join(lot.repeats)))
    example = (
        '<p class="warn"><b>O plano de amostragem é um exemplo.</b> Antes de decidir sobre um lote, ponha '
        "o plano do contrato em um arquivo e indique-o com <code>--plan</code>.</p>"
        if lot.plan.is_example
        else ""
    )
    return (
        f'<section class="card {css}"><div class="banner">{words}{more}</div></section>'
        f'<section class="card">{example}<div><b>{escape(lot.plan.name_pt)}</b></div>'
        f'<div class="soft">Origem do plano: {escape(lot.plan.source_pt)}</div>{_facts(facts)}</section>'
    )


def _about(about: About) -> str:
    model = about.model
    facts = [
        ("Modelo (código de material)", f"{model.code} – {model.description_pt}"),
        ("Elementos, fios", f"{model.elements}, {model.wires}"),
        (
            "Tensão, corrente",
            f"{model.nominal_voltage_v} V, {model.nominal_current_a}({model.max_current_a}) A",
        ),
        ("Pacotes do modelo", ", ".join(packet.code_text for packet in model.packets)),
        ("Relatório feito em", f"{about.made_at:%d/%m/%Y %H:%M}"),
    ]
    if about.inspector:
        facts.append(("Responsável", about.inspector))
    return f'<section class="card">{_facts(facts)}</section>'


def _meter(verdict: MeterVerdict, is_open: bool) -> str:
    words, css = _STATUS[verdict.status]
    rows = "".join(_row(finding) for finding in verdict.findings)
    registers = (
        ", ".join(f"{code} = {value}" for code, value in sorted(verdict.registers.items())) or "nenhum"
    )
    facts = [
        ("Gravação", verdict.source),
        ("Duração", f"{_number(verdict.duration_s)} s"),
        ("Pacotes válidos", str(verdict.packets)),
        ("Taxa do receptor", f"{verdict.rate_bit_s} bit/s"),
        ("Registros", registers),
    ]
    return (
        f'<details class="card"{" open" if is_open else ""}><summary>'
        f"<b>{escape(verdict.meter_number or 'sem número')}</b>"
        f'<span class="tag {css}">{words}</span></summary>{_facts(facts)}'
        "<table><thead><tr><th>Regra</th><th>Resultado</th><th>Medido</th><th>Limite</th><th>Observações</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></details>"
    )


def _row(finding: Finding) -> str:
    name, rule = _RULES[finding.rule]
    words, css = _STATUS[finding.status]
    notes = "".join(f"<li>{escape(_said(remark, about))}</li>" for remark, about in finding.remarks)
    measured = limit = ""
    if finding.measured is not None and finding.unit != "packet":
        unit = _UNITS[finding.unit]
        spread = f" ± {_number(finding.uncertainty)}" if finding.uncertainty else ""
        measured = f"{_number(finding.measured)}{spread} {unit}"
        limit = f"{'±' if finding.rule is Rule.RATE else ''}{finding.limit:g} {unit}"
    return (
        f'<tr><td><b>{name}</b><div class="soft">{rule}</div></td>'
        f'<td><span class="tag {css}">{words}</span></td>'
        f'<td class="n" data-h="Medido">{measured}</td><td class="n" data-h="Limite">{limit}</td>'
        f"<td>{f'<ul>{notes}</ul>' if notes else ''}</td></tr>"
    )


def _said(remark: Remark, about: str) -> str:
    if remark in (Remark.RATE_BY_STAMPS, Remark.RATE_BY_INSTRUMENT):
        about = about.replace(".", ",")
    return _REMARKS[remark].format(about).replace(" :", ":")


def _number(value: float) -> str:
    return f"{value:.2f}".replace(".", ",") if abs(value) < 100 else f"{value:.0f}"


def _counted(count: int, verb: str, noun: str) -> str:
    """As "falta 1 medidor" and "faltam 2 medidores"."""
    return f"{verb} 1 {noun}" if count == 1 else f"{verb}m {count} {noun}es"
