"""How every command speaks: a table or sentence for people, JSON for programs, faults with a remedy.

Exit codes: 0 done; 1 done, but something needs attention; 2 wrong usage; then by who must act:
10 retry, 11 operator, 12 field crew, 13 developer.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import orjson
import structlog
import typer
from rich.markup import escape

from faults import Actor, DeveloperFault, Fault, OperatorFault
from pipelines.cli.whole_tables import WholeConsole

AsOption = Annotated[str | None, typer.Option("--as", help="Who acts; default: the login of this shell.")]
EXIT_ATTENTION = 1
EXIT_BY_ACTOR = {Actor.RETRY: 10, Actor.OPERATOR: 11, Actor.FIELD_CREW: 12, Actor.DEVELOPER: 13}

# Into a pipe or a file nothing is cut or wrapped: whoever reads it there has no 80 columns.
_PIPE_WIDTH = 2000


def _console(stream: TextIO, *, is_error: bool) -> WholeConsole:
    is_free = not stream.isatty() and "COLUMNS" not in os.environ
    return WholeConsole(stderr=is_error, width=_PIPE_WIDTH if is_free else None)


console = _console(sys.stdout, is_error=False)
errors = _console(sys.stderr, is_error=True)


def set_up_logging() -> None:
    """Log lines to standard error, from warnings on, short tracebacks, no notices meant for developers."""
    # Dagster's partitioned checks are said to be new at each import; whoever runs a command cannot act on it.
    warnings.filterwarnings("ignore", message=r"(?s).*currently in (beta|preview)")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def emit_json(value: Any) -> None:
    """Print one JSON document; dates, tuples, dataclasses and numpy numbers are taken as they are."""
    typer.echo(
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY, default=str).decode()
    )


def fault_document(fault: Fault) -> dict[str, str]:
    """A fault for programs: who must act, what, where, and what to do."""
    return {
        "actor": fault.actor.value,
        "message": fault.message,
        "where": fault.where,
        "remedy": fault.remedy,
    }


def login_name(option: str | None = None) -> str:
    """Who is logged in.

    Args:
        option: of the command, with which a person can name themselves instead.

    Raises:
        OperatorFault: nobody by name, as in a container that runs under a number of its own.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise OperatorFault(
            "who asks is not known: this login has no name",
            where=option or "the login",
            remedy=f"name yourself {f'with {option}, or ' if option else ''}in the variable LOGNAME",
        ) from error


@contextmanager
def faults_to_exit(as_json: bool = False) -> Iterator[None]:
    """Turn an expected failure into one message with its remedy, and into its exit code."""
    try:
        with _schema_named(), _files_named():
            yield
    except Fault as fault:
        if as_json:
            emit_json({"error": fault_document(fault)})
        else:
            place = f"{fault.where}: " if fault.where else ""
            errors.print(f"[bold red]error[/] {escape(place + fault.message)}", highlight=False)
            if fault.remedy:
                errors.print(f"[bold]what to do[/] {escape(fault.remedy)}", highlight=False)
        raise typer.Exit(EXIT_BY_ACTOR[fault.actor]) from fault


@contextmanager
def _files_named() -> Iterator[None]:
    """A file that cannot be read or written is a person's path, not a defect of the product."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise OperatorFault(
            error.strerror or str(error),
            where=str(error.filename),
            remedy="name a file in a folder that exists, with permissions for this user",
        ) from error


@contextmanager
def _schema_named() -> Iterator[None]:
    """A table or column that is not there means a database of another version, and a person can mend it."""
    try:
        yield
    except Exception as error:
        # By name: a command that needs no database does not load its clients (psycopg and ADBC).
        if str(getattr(error, "sqlstate", "")) not in _OTHER_SCHEMA:
            raise
        raise OperatorFault(
            f"the database has another schema than this version of smf: {_first_line(error)}",
            where="database",
            remedy="smf db migrate, then run the command again",
        ) from error


# SQLSTATE of a table, a column, a function and a type that the server does not have.
_OTHER_SCHEMA = {"42P01", "42703", "42883", "42704"}


def _first_line(error: Exception) -> str:
    """What the server said, without the query that ADBC adds."""
    line = str(error).splitlines()[0]
    return line.rpartition("ERROR:  ")[2]


def tell_defect(error: Exception, as_json: bool) -> int:
    """Say that a command broke, with what a developer needs; returns the exit code."""
    fault = DeveloperFault(
        f"smf broke: {type(error).__name__}: {error}",
        remedy="report it with the lines above; what was stored before is stored, run the command again",
    )
    if as_json:
        emit_json({"error": fault_document(fault)})
    else:
        errors.print(
            "".join(traceback.format_exception(error)), markup=False, highlight=False, soft_wrap=True
        )
        errors.print(f"[bold red]error[/] {escape(fault.message)}", highlight=False)
        errors.print(f"[bold]what to do[/] {escape(fault.remedy)}", highlight=False)
    return EXIT_BY_ACTOR[Actor.DEVELOPER]
