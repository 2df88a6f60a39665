"""The conformance table: which test shows which requirement.

A pytest plugin (loaded by the root `conftest.py`) and a command:

    python -m tests.conformance            rewrites docs/conformidade.md
    python -m tests.conformance --check    exit code 1 when the page is stale

The marks `@pytest.mark.req("TR-5.9c")` are the only source of the right-hand column, and
`docs/requisitos.csv` the only source of ids, texts and states: an id that is not in it is an error, so that
a typing mistake cannot make a requirement look unproven (or a test look useful). What is whole, in part or
not yet is said there by a person, with one sentence of what is missing; tests decide only what cannot be
claimed. A mark stands on a test that goes through the application: on none that calls a rule by hand.

The plugin also says at the end of a run what was *not* run and why. Where `CI` is set, a test left out
fails the run, except for the reasons in `ALLOWED_SKIPS`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS_CSV = ROOT / "docs" / "requisitos.csv"
PAGE = ROOT / "docs" / "conformidade.md"

# A skip with one of these words in its reason is not a hole in CI: the recorded month is data that may
# not be distributed with the project.
ALLOWED_SKIPS = ("real data",)

# The states of a requirement, as `docs/requisitos.csv` says them.
WHOLE, IN_PART, NOT_YET = "inteiro", "em parte", "ainda não"
# Tests that call rules by hand show no requirement.
BY_HAND = "tests/vee/"

# A test function shows its requirement once, however many parameters it runs with.
Shown = dict[str, set[str]]


def read_requirements() -> list[tuple[str, str, str]]:
    """Rows (id, group, text) in the order of the file."""
    with REQUIREMENTS_CSV.open(encoding="utf-8", newline="") as file:
        rows = [(row["id"], row["grupo"], row["texto"]) for row in csv.DictReader(file, delimiter=";")]
    cut = [row[0] for row in rows if not row[2].endswith(".")]
    if cut:
        raise pytest.UsageError(f"{REQUIREMENTS_CSV.name}: text not quoted or not ended: {', '.join(cut)}")
    repeated = [name for name, count in Counter(row[0] for row in rows).items() if count > 1]
    if repeated:
        raise pytest.UsageError(f"{REQUIREMENTS_CSV.name}: repeated ids {', '.join(repeated)}")
    return rows


def read_states() -> dict[str, tuple[str, str]]:
    """Id -> state and what is missing, as `docs/requisitos.csv` says them."""
    with REQUIREMENTS_CSV.open(encoding="utf-8", newline="") as file:
        states = {
            row["id"]: (row["estado"], row["falta"] or "") for row in csv.DictReader(file, delimiter=";")
        }
    for name, (state, missing) in states.items():
        if state not in (WHOLE, IN_PART, NOT_YET):
            raise pytest.UsageError(f"{REQUIREMENTS_CSV.name}: {name}: estado {state!r}")
        if (state == WHOLE) == missing.endswith("."):
            raise pytest.UsageError(
                f"{REQUIREMENTS_CSV.name}: {name}: falta is one sentence, and none where it is {WHOLE}"
            )
    return states


def unproven_claims(shown: Shown) -> list[str]:
    """Items said to be whole or in part without a test."""
    return [name for name, (state, _) in read_states().items() if state != NOT_YET and name not in shown]


def state_of(name: str, tests: Iterable[str], said: tuple[str, str]) -> tuple[str, str]:
    """State and what is missing: without a test nothing is more than not yet, with one it is begun."""
    state, missing = said
    if not tests:
        return f"{NOT_YET} (sem teste)", missing
    return (IN_PART if state == NOT_YET else state), missing


def requirements_of(items: Iterable[pytest.Item]) -> Shown:
    """Requirement id -> test functions (`folder/file.py::name`), from the marks of collected tests."""
    shown: Shown = defaultdict(set)
    for item in items:
        for mark in item.iter_markers("req"):
            for name in mark.args:
                shown[name].add(item.nodeid.split("[")[0])
            if item.nodeid.startswith(BY_HAND):
                raise pytest.UsageError(f"{item.nodeid}: calls rules by hand, and shows no requirement")
    return dict(shown)


def unknown_ids(shown: Shown) -> list[str]:
    """One line for each id that no requirement has, with the tests that name it."""
    unknown = sorted(set(shown) - {row[0] for row in read_requirements()})
    return [f"{name}: {', '.join(sorted(shown[name]))}" for name in unknown]


def render(shown: Shown) -> str:
    """The page, in Portuguese."""
    rows, states = read_requirements(), read_states()
    found = {name: state_of(name, shown.get(name, ()), states[name]) for name, _, _ in rows}
    count = Counter(state.partition(" (")[0] for state, _ in found.values())
    lines = [
        "# Conformidade",
        "",
        "Página gerada por `make conformance` a partir das marcas `@pytest.mark.req` dos testes e dos textos",
        "de `docs/requisitos.csv`; não se edita à mão, e a CI falha se estiver desatualizada.",
        "",
        "**Inteiro**: os testes exercitam o item todo, pela aplicação, e passam na integração contínua.",
        "**Em parte**: há testes, e falta o que a linha diz. **Ainda não**: nada aqui prova o item.",
        "",
        f"Itens: {len(rows)}. Inteiros: {count[WHOLE]}. Em parte: {count[IN_PART]}. "
        f"Ainda não: {count[NOT_YET]}.",
    ]
    group = ""
    for name, row_group, text in rows:
        if row_group != group:
            group = row_group
            lines += [
                "",
                f"## {group}",
                "",
                "| Item | Requisito | Estado | O que falta | Testes |",
                "| --- | --- | --- | --- | --- |",
            ]
        tests = sorted(shown.get(name, ()))
        state, missing = found[name]
        listed = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests)
        lines.append(f"| {name} | {text} | {state} | {missing} | {listed} |")
    return "\n".join(lines) + "\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    bad = unknown_ids(requirements_of(items))
    if bad:
        raise pytest.UsageError(f"requirement ids not in {REQUIREMENTS_CSV.name}: " + "; ".join(bad))


def _skip_reasons(reporter: pytest.TerminalReporter) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for report in reporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    return reasons


def _not_run_in_ci(reporter: pytest.TerminalReporter) -> list[str]:
    if not os.environ.get("CI"):
        return []
    return [reason for reason in _skip_reasons(reporter) if not any(word in reason for word in ALLOWED_SKIPS)]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = _skip_reasons(terminalreporter)
    if reasons:
        terminalreporter.section("NOT RUN", sep="=", yellow=True)
        for reason, count in reasons.most_common():
            terminalreporter.write_line(f"{count} test{'s' if count > 1 else ''} not run: {reason}")
    if _not_run_in_ci(terminalreporter):
        terminalreporter.write_line("CI: a test that is not run counts as failed", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.exitstatus == 0 and _not_run_in_ci(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _Collector:
    """Keeps what a collect-only run found."""

    def __init__(self) -> None:
        self.shown: Shown = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.shown = requirements_of(session.items)


def main(argv: Sequence[str]) -> int:
    collector = _Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = pytest.main(["--collect-only", "-qq", "tests"], plugins=[collector])
    if code != pytest.ExitCode.OK:
        print(said.getvalue()[said.getvalue().find(" ERRORS ") :])
        print("conformance: the tests could not be collected (see above)")
        return 1
    if claims := unproven_claims(collector.shown):
        print(f"conformance: no test for {', '.join(claims)}, which {REQUIREMENTS_CSV.name} claims")
        return 1
    page = render(collector.shown)
    if "--check" not in argv:
        PAGE.write_text(page, encoding="utf-8")
        print(f"conformance: {PAGE.relative_to(ROOT)} written")
        return 0
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print(f"conformance: {PAGE.relative_to(ROOT)} is stale; run `make conformance` and commit it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
