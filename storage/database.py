"""Connections: where the database is, and handles for each kind of client."""

from __future__ import annotations

import atexit
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

from faults import OperatorFault, RetryFault
from storage.embedded import SUPERUSER, EmbeddedServer
from storage.settings import Settings

if TYPE_CHECKING:
    from storage.arrow import ArrowConnection

DEFAULT_NAME = "smf"
_CONNECT_TIMEOUT_S = 10
# Our queries are many and short: compiling one (a third of a second) costs more than running it.
_WITHOUT_JIT = "-c jit=off"
# A server's own style of dates must not reach text that we read or write.
_OPTIONS = f"-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres {_WITHOUT_JIT}"


class Database:
    """One database on a server: the one that `SMF_DATABASE_URL` names, or the embedded one.

    Use as a context manager, or call `close`. A handle made by `sibling` lives no longer than its maker.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self._parts = urlsplit(url)
        self.settings = settings
        self._server: EmbeddedServer | None = None
        self._pool: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._has_timescale: bool | None = None

    @classmethod
    def open(cls, settings: Settings | None = None) -> Database:
        """Reach the database, starting the embedded server and creating its database where needed.

        Raises:
            OperatorFault: the address is wrong or refused. RetryFault: nothing answers there now.
        """
        chosen = settings or Settings.load()
        if chosen.database.url:
            opened = cls(_checked_url(chosen.database.url), chosen)
            opened.connect().close()
            return opened
        server = EmbeddedServer(chosen.database.data_dir)
        server.acquire()
        atexit.register(server.release)
        host = quote(str(server.socket_dir), safe="")
        maintenance = cls(f"postgresql://{SUPERUSER}@/postgres?host={host}", chosen)
        try:
            maintenance.create_database(DEFAULT_NAME)
        except BaseException:
            server.release()
            raise
        opened = maintenance.sibling(DEFAULT_NAME)
        opened._server = server
        return opened

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pool and leave the embedded server; the last process that leaves stops it."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._server is not None:
            atexit.unregister(self._server.release)
            self._server.release()

    @property
    def url(self) -> str:
        """libpq address: psycopg, ADBC, psql."""
        return urlunsplit(self._parts._replace(scheme="postgresql"))

    @property
    def sqlalchemy_url(self) -> str:
        """For dagster-postgres and Great Expectations (psycopg2, see the dependency notes)."""
        return urlunsplit(self._parts._replace(scheme="postgresql+psycopg2"))

    @property
    def name(self) -> str:
        return unquote(self._parts.path.lstrip("/"))

    @property
    def is_embedded(self) -> bool:
        return not self.settings.database.url

    @property
    def data_dir(self) -> Path:
        return self.settings.database.data_dir

    def dbt_env(self) -> dict[str, str]:
        """Environment that the dbt profile reads; a Unix socket's folder is a host for dbt, too."""
        query = dict(parse_qsl(self._parts.query))
        return {
            "SMF_DBT_HOST": query.get("host") or unquote(self._parts.hostname or "localhost"),
            "SMF_DBT_PORT": query.get("port") or str(self._parts.port or 5432),
            "SMF_DBT_USER": unquote(self._parts.username or query.get("user") or SUPERUSER),
            "SMF_DBT_PASSWORD": unquote(self._parts.password or query.get("password") or ""),
            "SMF_DBT_DBNAME": self.name,
        }

    @property
    def has_timescale(self) -> bool:
        """Whether the extension is active in this database (after `migrate`)."""
        if self._has_timescale is None:
            with self.connect(autocommit=True) as conn:
                found = conn.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
            self._has_timescale = found is not None
        return self._has_timescale

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        """A new connection, UTC; in a `with` it commits (on an exception rolls back) and closes."""
        try:
            conn: psycopg.Connection[Any] = psycopg.connect(
                self.url, autocommit=autocommit, connect_timeout=_CONNECT_TIMEOUT_S, options=_OPTIONS
            )
        except psycopg.OperationalError as error:
            raise _connection_fault(error, self.safe_url) from error
        return conn

    def connect_arrow(self) -> ArrowConnection:
        """A new connection for whole results; in a `with` it closes."""
        # With polars it weighs as much as 1,000 sessions of a collector, which needs neither.
        from storage.arrow import ArrowConnection

        query = parse_qsl(self._parts.query)
        given = " ".join(value for name, value in query if name == "options")
        others = [(name, value) for name, value in query if name != "options"]
        options = ("options", f"{given} {_OPTIONS}".strip())
        with_options = urlencode([*others, options], quote_via=quote)
        return ArrowConnection(urlunsplit(self._parts._replace(scheme="postgresql", query=with_options)))

    @property
    def pool(self) -> ConnectionPool[psycopg.Connection[Any]]:
        """Shared connections for many short pieces of work from threads; closed with the database."""
        if self._pool is None:
            self._pool = ConnectionPool(
                self.url, min_size=1, max_size=16, open=True, kwargs={"options": _OPTIONS}
            )
        return self._pool

    @property
    def safe_url(self) -> str:
        """The address without its password, to be shown."""
        host = self._parts.netloc
        if self._parts.password:
            host = host.replace(f":{self._parts.password}@", ":***@")
        return urlunsplit(self._parts._replace(netloc=host))

    def sibling(self, name: str) -> Database:
        """A handle on another database of the same server, with the same credentials."""
        url = urlunsplit(self._parts._replace(path="/" + quote(name, safe="")))
        return Database(url, self.settings)

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create a database on the same server; one that is there stays as it is."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with self.connect(autocommit=True) as conn:
            if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                return
            try:
                conn.execute(statement)
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # Another process was quicker.
            except psycopg.errors.InsufficientPrivilege as error:
                raise OperatorFault(
                    f"the login may not create database {name!r}",
                    where=self.safe_url,
                    remedy=f"have an administrator run: CREATE DATABASE {name} OWNER <login>",
                ) from error

    def dagster_database(self) -> Database:
        """The database of Dagster's own storage, beside ours (`smf_dagster` for `smf`), made if missing."""
        name = f"{self.name}_dagster"
        self.create_database(name)
        return self.sibling(name)

    def migrate(self) -> list[str]:
        """Bring the schema to the newest revision; returns the revisions that were applied."""
        # Alembic is slow to import, and only this needs it.
        from storage.migrations.run import upgrade

        self._has_timescale = None
        return upgrade(self)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
        raise OperatorFault(
            "not the address of a PostgreSQL database",
            where="SMF_DATABASE_URL",
            remedy="write postgresql://user:password@host:port/database",
        )
    query = urlencode(parse_qsl(parts.query), quote_via=quote, safe="")
    return urlunsplit(parts._replace(scheme="postgresql", query=query))


def _connection_fault(error: psycopg.OperationalError, where: str) -> OperatorFault | RetryFault:
    text = str(error).strip().splitlines()[-1]
    refused = (
        "authentication failed",
        "does not exist",
        "no pg_hba.conf entry",
        "no password supplied",
        "role ",
    )
    if any(words in text for words in refused):
        return OperatorFault(
            f"the database refuses us: {text}",
            where=where,
            remedy="correct SMF_DATABASE_URL, or the server's access",
        )
    return RetryFault(
        f"the database does not answer: {text}",
        where=where,
        remedy="check the server and SMF_DATABASE_URL; unset it to use the embedded one",
    )
