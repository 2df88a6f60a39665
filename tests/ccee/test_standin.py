"""The stand-in itself: strict, described, forgetful of nothing it was told to keep."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ccee.profile import load_profile
from ccee.standin.register import units_from_file, units_from_registry
from ccee.standin.server import serve_in_thread
from faults import OperatorFault
from tests.ccee.conftest import (
    AGENT,
    DAY,
    SECRET,
    UCS,
    control,
    day_body,
    http_get,
    http_post,
    make_operator,
    month_of,
    register,
)


def token(base_url: str) -> dict[str, str]:
    pair = {"client_id": f"CONCESSIONARIA_{AGENT}", "client_secret": SECRET}
    reply = http_post(f"{base_url}/sso/oauth/token", data=pair).json()
    return {
        "Authorization": f"Bearer {reply['access_token']}",
        "codigoAgente": str(AGENT),
        "codigoPerfil": str(AGENT),
    }


def send(serving, body, **headers) -> httpx.Response:
    sent = token(serving.base_url) | {"Content-Type": "application/json"} | headers
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http_post(f"{serving.base_url}/medidas/v1/medicao", content=content, headers=sent)


def changed(**top):
    return json.loads(day_body()) | top


def with_interval(hour: int, position: int, **members):
    document = json.loads(day_body())
    document["horas"][hour - 1]["medicoes"][position - 1] |= members
    return document


@pytest.mark.req("TR-2a")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON inv"),
        (b"[1]", "campos esperados"),
        (changed(extra=1), "campos esperados"),
        (changed(diaReferencia="20/11/2026"), "AAAA-MM-DD"),
        (changed(diaReferencia="2026-11-19"), "inesperada"),
        (changed(horas=json.loads(day_body())["horas"][:23]), "24 horas"),
        (changed(horas=json.loads(day_body())["horas"][::-1]), "hora 1 esperada"),
        (changed(codigoAgenteConcessionaria=1), "difere do agente"),
        (changed(codigoUnidadeConsumidora=5), "deve ser texto"),
        (with_interval(1, 1, dataReferenciaConsumo="2026-11-20T00:00:00-03:00"), "inesperada"),
        (with_interval(24, 12, dataReferenciaConsumo="2026-11-20T24:00:00-03:00"), "inesperada"),
        (with_interval(5, 3, consumo=-0.001), "negativo"),
        (with_interval(5, 3, consumo=0.0001), "mais de 3 casas"),
        (with_interval(5, 3, consumo="1.000"), "deve ser n"),
        (with_interval(5, 3, tipoConsumo="ESTIMADO"), "desconhecido"),
        (with_interval(5, 3, tipo="MEDIDO"), "campos errados"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_its_place(standin, body, message):
    reply = send(standin, body)
    assert reply.status_code == 400
    assert reply.json()["error"] == "ERR_VALIDACAO_CAMPOS"
    assert message in json.dumps(reply.json()["message"], ensure_ascii=False)
    assert not standin.operator.days


@pytest.mark.parametrize(
    ("day", "error"),
    [
        (date(2026, 11, 22), "ERR_PERIODO_INVALIDO_MEDICOES"),
        (date(2024, 7, 31), "ERR_SISTEMA_MIGRACAO_IMPLATADO_MEDICOES"),
        (date(2026, 9, 30), "ERR_PERIODO_INVALIDO_MEDICOES"),
    ],
)
def test_days_that_cannot_be_sent_are_refused(standin, day, error):
    reply = send(standin, day_body(day=day))
    assert (reply.status_code, reply.json()["error"]) == (400, error)


def test_identity_is_checked_in_token_header_and_profile(standin):
    base = standin.base_url
    assert send(standin, day_body(), Authorization="Bearer none").status_code == 401
    assert send(standin, day_body(), codigoAgente="1").json()["error"] == "ERR_CREDENCIAL_INVALIDA"
    assert send(standin, day_body(), codigoPerfil="1").status_code == 403
    pair = {"client_id": f"CONCESSIONARIA_{AGENT}", "client_secret": SECRET}
    assert http_post(f"{base}/sso/oauth/token", json=pair).status_code == 400
    assert http_post(f"{base}/sso/oauth/token", data=pair | {"client_secret": "x"}).status_code == 401
    lived = control(standin, token_lifetime_s=0)
    assert lived["token_lifetime_s"] == 0
    assert send(standin, day_body()).status_code == 401


@pytest.mark.req("TR-2f")
def test_an_hour_counts_as_zero_strictly_above_the_limit(standin):
    document = json.loads(day_body(value=0))
    for entry in document["horas"][7]["medicoes"]:
        entry["consumo"] = 3.125
    document["horas"][8] = json.loads(json.dumps(document["horas"][8]))
    for entry in document["horas"][8]["medicoes"]:
        entry["consumo"] = 3.125
    document["horas"][8]["medicoes"][0]["consumo"] = 3.126
    assert send(standin, document).status_code == 200
    counted = {(hour["dia"], hour["hora"]): hour for hour in month_of(standin, UCS[0])["horas"]}
    assert counted["2026-11-20", 8] == {
        "dia": "2026-11-20",
        "hora": 8,
        "kwh": "37.500",
        "situacao": "CONSISTIDA",
    }
    assert counted["2026-11-20", 9]["situacao"] == "REJEITADA"
    assert counted["2026-11-20", 9]["kwh"] == "0"
    assert counted["2026-11-21", 1]["situacao"] == "AUSENTE"


def test_stored_days_are_judged_again_only_where_it_is_so_set(standin):
    send(standin, day_body(value=4000))
    control(standin, musd={"uc": UCS[0], "month": "2026-11", "kw": 40})
    assert month_of(standin, UCS[0])["horasRejeitadas"] == 24
    control(standin, judge_again=True)
    control(standin, musd={"uc": UCS[0], "month": "2026-11", "kw": 39})
    assert month_of(standin, UCS[0])["horasRejeitadas"] == 0


@pytest.mark.req("TR-2d")
def test_musd_closes_on_ms3du_and_data_on_ms7du(standin):
    url = f"{standin.base_url}/__control"
    change = {"musd": {"uc": UCS[0], "month": "2026-11", "kw": 60}}
    control(standin, clock="2026-12-03T23:59:00-03:00")
    assert http_post(url, json=change).status_code == 200
    control(standin, clock="2026-12-04T00:00:00-03:00")
    assert http_post(url, json=change).json()["error"] == "ERR_PERIODO_INVALIDO_MUSD"
    control(standin, clock="2026-12-09T23:59:00-03:00")
    assert send(standin, day_body()).status_code == 200
    control(standin, clock="2026-12-10T00:00:00-03:00")
    assert send(standin, day_body()).json()["error"] == "ERR_PERIODO_INVALIDO_MEDICOES"
    control(standin, closings={"2026-11": "2026-12-11"})
    assert send(standin, day_body()).status_code == 200
    control(standin, clock="2026-12-31T00:00:00-03:00", after_closing="accept")
    assert send(standin, day_body()).status_code == 200


def test_what_was_stored_is_read_back_in_pages(standin):
    send(standin, day_body(value=4000))
    send(standin, day_body(uc=UCS[1]))
    control(standin, page_size=100)
    headers = token(standin.base_url)
    query = {
        "codigoUnidadeConsumidora": UCS[0],
        "codigoAgenteConcessionaria": str(AGENT),
        "dataInicio": "2026-11-01T00:00:00-03:00",
        "dataFim": "2026-11-30T23:59:59-03:00",
    }
    url = f"{standin.base_url}/v1/varejista/consumo/medicoes"
    found, cursor = [], None
    while True:
        page = http_get(
            url, params=query | ({"indexProximaPagina": cursor} if cursor else {}), headers=headers
        ).json()
        found += page["medicoes"]
        cursor = page["indexProximaPagina"]
        if cursor is None:
            break
    assert len(found) == 288
    assert {record["situacaoMedicao"] for record in found} == {"REJEITADA"}
    assert found[0]["dataReferenciaConsumo"] == "2026-11-20T00:05:00-03:00"
    nothing = http_get(url, params=query | {"situacaoMedicao": "CONSISTIDA"}, headers=headers)
    assert (nothing.status_code, nothing.content) == (204, b"")
    two_months = http_get(url, params=query | {"dataInicio": "2026-10-31T00:00:00-03:00"}, headers=headers)
    assert two_months.json()["error"] == "ERR_PERIODO_INVALIDO_MEDICOES"


def test_the_register_shows_the_default_where_no_musd_was_declared(standin):
    control(standin, units=[{"codigoUnidadeConsumidora": "77", "codigoAgenteConcessionaria": AGENT}])
    listed = http_get(f"{standin.base_url}/v1/varejista/migracoes", headers=token(standin.base_url)).json()
    values = {unit["codigoUnidadeConsumidora"]: unit["valorMusd"] for unit in listed}
    assert values["77"] == 500
    assert values[UCS[0]] == 30


@pytest.mark.parametrize(
    "change",
    [
        {"reply_mode": "other"},
        {"nothing": 1},
        {"failures": [{"kind": "flood"}]},
        {"failures": 3},
        {"clock": "yesterday"},
        {"page_size": -1},
        {"page_size": "many"},
        {"units": [{"a": 1}]},
        {"musd": {"uc": "0", "month": "2026-11", "kw": 1}},
        {"closings": {"x": "2026-12-01"}},
        {"reply_mode": "empty204", "page_size": True},
    ],
)
def test_control_refuses_what_it_does_not_know_and_changes_nothing(standin, change):
    before = http_get(f"{standin.base_url}/__control").json()
    reply = http_post(f"{standin.base_url}/__control", json=change)
    assert (reply.status_code, reply.json()["error"]) == (400, "ERR_CONTROL")
    after = http_get(f"{standin.base_url}/__control").json()
    assert {**after, "clock": ""} == {**before, "clock": ""}


def test_what_was_stored_outlives_the_server(tmp_path):
    journal = tmp_path / "standin.jsonl"
    with serve_in_thread(make_operator(journal=journal)) as serving:
        control(serving, musd={"uc": UCS[0], "month": "2026-11", "kw": 20}, reply_mode="empty204")
        send(serving, day_body(value=3000))
        send(serving, day_body(value=2500))
        send(serving, day_body(uc=UCS[1]))
        before = month_of(serving, UCS[0])
    with journal.open("a") as file:
        file.write('{"op": "day", "torn')
    after_musd_closing = datetime(2027, 3, 1, tzinfo=UTC)
    with serve_in_thread(make_operator(journal=journal, now=lambda: after_musd_closing)) as serving:
        assert month_of(serving, UCS[0]) == before
        assert before["horasRejeitadas"] == 24
        stored = serving.operator.days[UCS[0], DAY]
        assert (stored.writes, stored.hour_kwh(1)) == (2, Decimal(30))
        assert http_get(f"{serving.base_url}/__control").json()["reply_mode"] == "empty204"
    broken = tmp_path / "broken.jsonl"
    broken.write_text("words\n{}\n")
    with pytest.raises(OperatorFault, match="line 1"):
        make_operator(journal=broken)


def test_a_taken_port_is_told(standin):
    port = int(standin.base_url.rsplit(":", 1)[1])
    with pytest.raises(OperatorFault, match=f"port {port}"), serve_in_thread(make_operator(), port):
        pass


def test_the_register_comes_from_a_file_or_from_our_own(embedded_db, tmp_path):
    file = tmp_path / "units.json"
    file.write_text('[{"codigoUnidadeConsumidora": "1", "codigoAgenteConcessionaria": 2, "valorMusd": 12.5}]')
    (unit,) = units_from_file(file)
    assert unit.musd_kw(DAY, 500) == Decimal("12.5")
    file.write_text("{}")
    with pytest.raises(OperatorFault, match=r"units\.json"):
        units_from_file(file)
    register(embedded_db, musd_kw=44)
    units = units_from_registry(embedded_db)
    assert sorted(unit.code for unit in units) == UCS
    assert {unit.musd_kw(DAY, 500) for unit in units} == {Decimal(44)}
    assert all(unit.starts <= DAY < unit.ends for unit in units)


def test_it_keeps_to_its_own_description(standin):
    """Generated requests, right and wrong, never break the server nor leave its description."""
    base = standin.base_url
    document = http_get(f"{base}/openapi.json").json()
    assert document["paths"].keys() >= {load_profile().send.path, "/__control"}
    # Control would plan failures; it has its own test.
    document["paths"].pop("/__control")
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=base)
    headers = token(base)
    checks = [status_code_conformance, response_schema_conformance, content_type_conformance]
    bounded = settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    tried = 0

    for operation in schema.get_all_operations():

        @bounded
        @given(case=operation.ok().as_strategy())
        def generated(case):
            nonlocal tried
            tried += 1
            response = case.call(headers=headers)
            case.validate_response(response, checks=checks)
            assert response.status_code < 500

        generated()
    assert tried > 50
