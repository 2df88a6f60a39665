"""A connection that hands whole results over as Arrow, through ADBC's own interface.

Not through its DB-API: that loads pyarrow's datasets and with them pandas, a second and 80 MB that nobody
here needs. polars takes the Arrow stream as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import polars as pl
from adbc_driver_manager import AdbcConnection, AdbcStatement
from adbc_driver_postgresql import connect


class ArrowConnection:
    """A transaction of its own, opened by the first query; closing gives it up."""

    def __init__(self, url: str) -> None:
        self._database = connect(url)
        self._connection = AdbcConnection(self._database)
        self._connection.set_autocommit(False)

    def read(self, query: str, parameters: Sequence[Any] | None = None) -> pl.DataFrame:
        """The rows of a query with $1, $2 ... for the parameters."""
        with AdbcStatement(self._connection) as statement:
            statement.set_sql_query(query)
            if parameters:
                statement.prepare()
                statement.bind_stream(pl.DataFrame({str(n): [value] for n, value in enumerate(parameters)}))
            stream, _ = statement.execute_query()
            return pl.DataFrame(stream)

    def rollback(self) -> None:
        """End the transaction, so that the next query sees what others committed since."""
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
