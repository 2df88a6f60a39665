"""Judges the licence of every locked package, and writes what the product is made of (CycloneDX).

    python -m deploy.licences                       exit code 1 names each package nobody has judged
    python -m deploy.licences --sbom FILE           the SBOM of what the product runs on, without dev packages

Packages, versions and hashes come from the locks, licences and dependencies from the installed packages'
metadata, what is accepted from licences.toml.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1]
RUNTIME, DEVELOPMENT = HOME / "requirements.lock", HOME / "requirements-dev.lock"
TABLE = Path(__file__).with_name("licences.toml")
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Package:
    """One locked package; `hashes` are SHA-256 of the files of which any may be installed."""

    name: str
    version: str
    hashes: list[str] = field(default_factory=list)

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"

    @cached_property
    def metadata(self) -> metadata.PackageMetadata:
        return metadata.metadata(self.name)


def locked(*locks: Path) -> list[Package]:
    """The packages of the locks by name, each once."""
    packages: dict[str, Package] = {}
    for lock in locks:
        package = None
        for line in lock.read_text(encoding="utf-8").splitlines():
            if pin := _PIN.match(line):
                package = Package(pin["name"].lower(), pin["version"])
                packages[package.name] = package
            if package is not None:
                package.hashes.extend(_HASH.findall(line))
    return [packages[name] for name in sorted(packages)]


@dataclass(frozen=True)
class Licences:
    """The verdicts of licences.toml."""

    accepted: Mapping[str, str]
    spelled: Mapping[str, str]
    read: Mapping[str, str]
    bundled: list[dict[str, str]]

    @classmethod
    def load(cls) -> Licences:
        return cls(**tomllib.loads(TABLE.read_text(encoding="utf-8")))

    def of(self, package: Package) -> str | None:
        """The package's licence as an SPDX expression; None where neither it nor the table says."""
        if package.name in self.read:
            return self.read[package.name]
        if expression := package.metadata.get("License-Expression"):
            return expression
        for text in _own_words(package.metadata):
            if text in self.accepted:
                return text
            if text in self.spelled:
                return self.spelled[text]
        return None

    def accepts(self, expression: str) -> bool:
        """Whether all parts joined by AND are accepted, of those joined by OR any."""
        parts = re.split(r" AND (?![^(]*\))", expression)
        return all(any(name in self.accepted for name in part.strip("()").split(" OR ")) for part in parts)

    def findings(self, packages: Iterable[Package]) -> list[str]:
        """One line for each package that somebody must judge, and for each verdict that nobody needs."""
        packages = list(packages)
        lines = []
        for package in packages:
            expression = self.of(package)
            if expression is None:
                words = ", ".join(_own_words(package.metadata)) or "nothing"
                lines.append(f"{package.name} {package.version} does not say its licence; it says: {words}")
            elif not self.accepts(expression):
                lines.append(f"{package.name} {package.version} is under {expression}, which is not accepted")
        names = {package.name for package in packages}
        stale = {*self.read, *(item["package"] for item in self.bundled)} - names
        return lines + [f"{TABLE.name} judges {name}, which is not locked" for name in sorted(stale)]


def _own_words(facts: metadata.PackageMetadata) -> list[str]:
    """What a package without an SPDX expression says: one line of `License`, then its classifiers."""
    text = (facts.get("License") or "").strip()
    words = [text] if text and "\n" not in text else []
    classifiers = facts.get_all("Classifier") or []
    return words + [line.split(" :: ")[-1] for line in classifiers if line.startswith("License :: OSI")]


def sbom(packages: list[Package], licences: Licences) -> str:
    """The CycloneDX document (JSON, version 1.6) of the product and these packages."""
    # Loaded only here: the check is part of every `make check`.
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    spdx = LicenseFactory()

    def component(name: str, version: str, expression: str, **more: Any) -> Component:
        return Component(
            name=name,
            version=version,
            type=more.pop("type", ComponentType.LIBRARY),
            licenses=[spdx.make_from_string(expression)],
            **more,
        )

    bom = Bom()
    own = metadata.metadata("smf")
    bom.metadata.component = component(
        own["Name"], own["Version"], own["License-Expression"], type=ComponentType.APPLICATION, bom_ref="smf"
    )
    found = {
        package.name: component(
            package.name,
            package.version,
            licences.of(package) or "",
            bom_ref=package.purl,
            purl=PackageURL.from_string(package.purl),
            external_references=[
                ExternalReference(
                    type=ExternalReferenceType.DISTRIBUTION,
                    url=XsUri(package.purl),
                    hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.hashes],
                )
            ],
            components=[
                component(
                    item["name"], item["version"], item["licence"], bom_ref=f"{package.purl}#{item['name']}"
                )
                for item in licences.bundled
                if item["package"] == package.name
            ],
        )
        for package in packages
    }
    bom.components.update(found.values())
    bom.register_dependency(bom.metadata.component, [found[name] for name in _needs("smf") if name in found])
    for name, of_package in found.items():
        bom.register_dependency(of_package, [found[other] for other in _needs(name) if other in found])
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _needs(name: str) -> list[str]:
    """Names of what a package needs here; with an extra's packages, where the lock has them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return sorted({canonicalize_name(Requirement(text).name) for text in metadata.requires(name) or []})


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="write the SBOM")
    options = parser.parse_args(argv)
    licences = Licences.load()
    findings = licences.findings(locked(RUNTIME, DEVELOPMENT))
    for line in findings:
        print(f"licences: {line}; read its licence and judge it in deploy/{TABLE.name}", file=sys.stderr)
    if options.sbom and not findings:
        options.sbom.parent.mkdir(parents=True, exist_ok=True)
        packages = locked(RUNTIME)
        options.sbom.write_text(sbom(packages, licences) + "\n", encoding="utf-8")
        print(f"{options.sbom}: {len(packages)} packages")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
