"""Fixtures for every room: an empty, migrated database on each kind of server.

`db` runs a test twice: on the embedded PostgreSQL and on TimescaleDB. Where no TimescaleDB can be had, its
half is reported as NOT RUN at the end of the report; with CI set, that is a failure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog

from storage.database import Database
from storage.embedded import SUPERUSER, EmbeddedServer
from storage.settings import DatabaseSettings, Settings
from tests.timescale import NotAvailableError, TimescaleServer

NOT_RUN = pytest.StashKey[str]()
_TEMPLATE = "smf_template"
# Test data may be lost with the power; each test then takes half the time.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """One folder for all xdist workers of this run. Not under pytest's own, which only its user may enter."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    return Path(tempfile.gettempdir()) / f"smf-tests-{run}"


@pytest.fixture(scope="session")
def embedded_server(shared_dir: Path) -> Iterator[Database]:
    """The maintenance database of an embedded server with a migrated template."""
    server = EmbeddedServer(shared_dir / "embedded", _FAST)
    server.acquire()
    url = f"postgresql://{SUPERUSER}@/postgres?host={server.socket_dir}"
    try:
        yield _with_template(Database(url, _settings(shared_dir, url)))
    finally:
        if server.release():
            shutil.rmtree(shared_dir / "embedded")
            _remove_if_empty(shared_dir)


@pytest.fixture(scope="session")
def timescale_server(shared_dir: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The maintenance database of a server with TimescaleDB, with a migrated template."""
    server = TimescaleServer(shared_dir / "timescale")
    try:
        url = server.acquire()
    except NotAvailableError as reason:
        request.config.stash[NOT_RUN] = str(reason)
        if os.environ.get("CI"):
            pytest.fail(f"no TimescaleDB, and CI has to run its tests: {reason}", pytrace=False)
        pytest.skip(f"NOT RUN on TimescaleDB: {reason}")
    try:
        yield _with_template(Database(url, _settings(shared_dir, url)))
    finally:
        server.release()
        _remove_if_empty(shared_dir)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command run in this process has logs go to its standard error, which the test closes."""
    yield
    structlog.reset_defaults()


@pytest.fixture(params=["embedded", pytest.param("timescale", marks=pytest.mark.timescale)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An open, migrated, empty database of its own; `db.settings` names it, `db.url` is for a child
    process.
    """
    server: Database = request.getfixturevalue(f"{request.param}_server")
    yield from _fresh(server, tmp_path)


@pytest.fixture
def embedded_db(embedded_server: Database, tmp_path: Path) -> Iterator[Database]:
    """Like `db`, on the embedded server only, for what does not depend on the kind of server."""
    yield from _fresh(embedded_server, tmp_path)


def _fresh(server: Database, tmp_path: Path) -> Iterator[Database]:
    name = f"t_{os.getpid()}_{next(_numbers)}"
    server.create_database(name, template=_TEMPLATE)
    url = server.sibling(name).url
    with Database(url, _settings(tmp_path, url)) as opened:
        yield opened
    with server.connect(autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


_numbers = iter(range(1, 1_000_000))


def _settings(data_dir: Path, url: str) -> Settings:
    return Settings(database=DatabaseSettings(url=url, data_dir=data_dir))


def _with_template(server: Database) -> Database:
    """Migrate once; each test copies the files, which is ten times quicker."""
    with server.connect() as conn:
        # Workers of one run wait here for the first one.
        conn.execute("SELECT pg_advisory_xact_lock(1)")
        done = f"{_TEMPLATE}_building"
        if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone():
            with server.connect(autocommit=True) as other:
                other.execute(f"DROP DATABASE IF EXISTS {done} WITH (FORCE)")
            server.create_database(done)
            template = server.sibling(done)
            template.migrate()
            with server.connect(autocommit=True) as other:
                # TimescaleDB's background worker would come back, and a database in use is not a template.
                other.execute(f"ALTER DATABASE {done} ALLOW_CONNECTIONS false")
                other.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [done]
                )
                other.execute(f"ALTER DATABASE {done} RENAME TO {_TEMPLATE}")
    return server


def _remove_if_empty(folder: Path) -> None:
    # Not empty, or another worker was quicker.
    with contextlib.suppress(OSError):
        folder.rmdir()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end one worker would run the longest alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reason = config.stash.get(NOT_RUN, None)
    if reason is None:
        # With xdist the workers know the reason, and the skips carry it here.
        for report in terminalreporter.stats.get("skipped", []):
            text = str(report.longrepr)
            if "NOT RUN on TimescaleDB: " in text:
                reason = text.split("NOT RUN on TimescaleDB: ", 1)[1].rstrip("')")
                break
    if reason is not None:
        terminalreporter.section("TimescaleDB: NOT RUN", sep="=", red=True, bold=True)
        terminalreporter.line(f"The half of the tests that needs TimescaleDB did not run: {reason}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Name what failed in the last lines: a long difference between lists hides everything above it."""
    result = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(reporter, pytest.TerminalReporter):
        for report in [*reporter.stats.get("failed", []), *reporter.stats.get("error", [])]:
            crash = getattr(report.longrepr, "reprcrash", None)
            first_line = str(report.longrepr if crash is None else crash.message).partition("\n")[0]
            reporter.write_line(f"{report.outcome} {report.nodeid} [{report.when}]: {first_line:.200}")
            for name, text in report.sections:
                for line in text.splitlines():
                    if "seed" in line.lower():
                        reporter.write_line(f"    {name}: {line:.120}")
    return result
