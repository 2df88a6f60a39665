"""The manual names every rule and every parameter of a rule, with a reason."""

from __future__ import annotations

import csv
from dataclasses import fields
from pathlib import Path

from vee.layers import validation
from vee.layers.validation_manual import TEXTS
from vee.rules.base import RuleParams
from vee.rules.table import RULES, SKIP_REASONS

DOCS = Path(__file__).parents[2] / "docs"
COMMON = {item.name for item in fields(RuleParams)}


def test_each_parameter_of_a_rule_has_its_reason() -> None:
    with (DOCS / "parametros.csv").open(encoding="utf-8", newline="") as file:
        explained = {row["parametro"] for row in csv.DictReader(file, delimiter=";") if row["por_que"]}
    own = {f"{rule.id}.{item.name}" for rule in RULES for item in fields(rule.defaults)}
    assert {name for name in own if name.split(".")[1] not in COMMON} - explained == set()


def test_each_rule_is_in_the_manual_with_formula_reason_and_example() -> None:
    page = (DOCS / "regras.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert all((rule.check_pt, rule.formula_pt, rule.reason_pt, rule.example_pt))
        assert f"### {rule.id} – {rule.check_pt}" in page
    assert {rule.id for rule in validation.RULES} == set(TEXTS)
    for rule_id in TEXTS:
        assert f"| {rule_id} |" in page
    for word in SKIP_REASONS:
        assert f"`{word}`" in page
