"""The stand-in's own description of itself, as OpenAPI 3.1. It is not CCEE's."""

from __future__ import annotations

from typing import Any

from ccee.profile import Profile
from ccee.standin.rules import REPLY_MODES

_ERROR = {"$ref": "#/components/responses/Erro"}


def openapi(profile: Profile) -> dict[str, Any]:
    """The document served at `/openapi.json`."""
    names = profile.send.names
    month = {"type": "string", "pattern": r"^2\d{3}-(0[1-9]|1[0-2])$"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CCEE ABM stand-in",
            "version": "0.1.0",
            "description": "Strict about what is known of the interface, settable about what is not.",
        },
        "paths": {
            profile.auth.token_path: {"post": _token_call()},
            profile.send.path: {profile.send.method.lower(): _send_call(profile)},
            "/v1/varejista/consumo/medicoes": {"get": _read_call()},
            "/v1/varejista/migracoes": {"get": _register_call()},
            "/__contabilizacao/{uc}/{mes}": {
                "get": {
                    "summary": "The month as it would be counted",
                    "parameters": [_parameter("uc", "path"), _parameter("mes", "path", month)],
                    "responses": {
                        "200": _json("hour sums, zero for rejected and absent hours"),
                        "400": _ERROR,
                    },
                }
            },
            "/__protocolo/{id}": {
                "get": {
                    "summary": "What became of a ticket",
                    "parameters": [_parameter("id", "path")],
                    "responses": {"200": _json("situation"), "404": _ERROR},
                }
            },
            "/__control": {
                "get": {"summary": "Rules in force", "responses": {"200": _json("rules")}},
                "post": {
                    "summary": "Change clock, failures, rules, register",
                    "requestBody": _body({"$ref": "#/components/schemas/Control"}),
                    "responses": {"200": _json("rules in force"), "400": _ERROR},
                },
            },
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Erro": {
                    "description": "refused",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Erro"}}},
                }
            },
            "schemas": {
                "Erro": {
                    "type": "object",
                    "required": ["error", "message"],
                    # The message is usually a text, sometimes a list: clients must read it tolerantly.
                    "properties": {"error": {"type": "string"}, "message": {"type": ["string", "array"]}},
                },
                "Token": {
                    "type": "object",
                    "required": ["access_token", "expires_in", "token_type"],
                    "properties": {
                        "access_token": {"type": "string"},
                        "expires_in": {"type": "integer"},
                        "token_type": {"const": "Bearer"},
                        "scope": {"type": "string"},
                    },
                },
                "DiaMedicao": _object(
                    {
                        names.uc: {"type": "string", "minLength": 1},
                        names.agent: {"type": "integer"},
                        names.day: {"type": "string", "format": "date"},
                        names.hours: _array(24, {"$ref": "#/components/schemas/Hora"}),
                    }
                ),
                "Hora": _object(
                    {
                        names.hour: {"type": "integer", "minimum": 1, "maximum": 24},
                        names.values: _array(12, {"$ref": "#/components/schemas/Medicao"}),
                    }
                ),
                "Medicao": _object(
                    {
                        names.timestamp: {"type": "string", "format": "date-time"},
                        names.consumption: {"type": "number", "minimum": 0},
                        names.kind: {"enum": [profile.send.kinds.measured, profile.send.kinds.adjusted]},
                    }
                ),
                "Control": _control_schema(),
            },
        },
    }


def _token_call() -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["client_id", "client_secret"],
        "properties": {name: {"type": "string"} for name in ("client_id", "client_secret", "grant_type")},
    }
    token = {"$ref": "#/components/schemas/Token"}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": form}},
        },
        "responses": {"200": _json("token", token), "400": _ERROR, "401": _ERROR},
    }


def _send_call(profile: Profile) -> dict[str, Any]:
    ticket = {"type": "object", "properties": {"protocolo": {"type": "string"}}}
    refusals = {str(status): _ERROR for status in (400, 401, 403, 429, 500, 503)}
    headers = profile.headers
    return {
        "security": [{"bearer": []}],
        "parameters": [_parameter(headers.agent, "header"), _parameter(headers.profile, "header")],
        "requestBody": _body({"$ref": "#/components/schemas/DiaMedicao"}),
        "responses": {
            "200": {"description": "stored"},
            "201": _json("stored"),
            "202": _json("queued", ticket),
            "204": {"description": "stored"},
            **refusals,
        },
    }


def _read_call() -> dict[str, Any]:
    instant = {"type": "string", "format": "date-time"}
    return {
        "security": [{"bearer": []}],
        "parameters": [
            _parameter("codigoUnidadeConsumidora", "query"),
            _parameter("codigoAgenteConcessionaria", "query"),
            _parameter("dataInicio", "query", instant),
            _parameter("dataFim", "query", instant),
            _parameter("situacaoMedicao", "query", {"enum": ["CONSISTIDA", "REJEITADA"]}, required=False),
            _parameter("indexProximaPagina", "query", required=False),
        ],
        "responses": {
            "200": _json("a page of interval records"),
            "204": {"description": "nothing found"},
            "400": _ERROR,
            "401": _ERROR,
            "403": _ERROR,
        },
    }


def _register_call() -> dict[str, Any]:
    return {
        "security": [{"bearer": []}],
        "responses": {
            "200": _json("units", {"type": "array", "items": {"type": "object"}}),
            "204": {"description": "nothing found"},
            "401": _ERROR,
        },
    }


def _control_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "clock": {"type": ["string", "null"], "format": "date-time"},
            "failures": {"type": "array", "items": {"type": "object"}},
            "units": {"type": "array", "items": {"type": "object"}},
            "musd": {"type": "object"},
            "closings": {"type": "object"},
            "reply_mode": {"enum": list(REPLY_MODES)},
            "musd_mode": {"enum": ["mark", "refuse"]},
            "after_closing": {"enum": ["refuse", "accept"]},
            "judge_again": {"type": "boolean"},
            "allow_partial_day": {"type": "boolean"},
            "token_lifetime_s": {"type": "integer", "minimum": 0},
            "page_size": {"type": "integer", "minimum": 1},
            "ticket_polls": {"type": "integer", "minimum": 0},
        },
    }


def _parameter(
    name: str, place: str, schema: dict[str, Any] | None = None, *, required: bool = True
) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema or {"type": "string"}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _json(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema or {"type": "object"}}},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def _array(size: int, items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": size, "maxItems": size, "items": items}
