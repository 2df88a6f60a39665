"""A TimescaleDB server for the tests.

In this order: the server that `SMF_TEST_DATABASE_URL` names; this machine's own PostgreSQL 17 where Debian's
package of TimescaleDB is installed (Debian 13); as root on an older Debian, a Debian 13 root under build/,
made once by debootstrap from the mirror that the machine is set up with, and entered with chroot. Otherwise
`NotAvailableError` says why. `python -m tests.timescale` prepares the root ahead of time and says what
would be used.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from storage.embedded import SharedUse

REPOSITORY = Path(__file__).parent.parent
ROOT = REPOSITORY / "build" / "timescale-root"
_SUITE = "trixie"
_PACKAGES = "postgresql-17,postgresql-17-timescaledb"
_BIN = "usr/lib/postgresql/17/bin"
_LIBRARY = "usr/lib/postgresql/17/lib/timescaledb.so"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_preload_libraries": "timescaledb",
    # In a bare root neither /dev/shm nor /proc is mounted.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "100",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "4GB",
    "timezone": "UTC",
    "timescaledb.telemetry_level": "off",
}


class NotAvailableError(Exception):
    """No TimescaleDB here; the text says why and what would help."""


class TimescaleServer:
    """One server shared by all processes that give the same `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._use = SharedUse(directory, "timescale")
        self._state = directory / "server.json"

    def acquire(self) -> str:
        """Start it unless it runs; returns the address of its maintenance database."""
        if url := os.environ.get("SMF_TEST_DATABASE_URL"):
            return url
        root = prepare_root()
        self._use.enter(lambda: self._start(root))
        return str(json.loads(self._state.read_text())["url"])

    def release(self) -> None:
        """Leave; the last one stops the server and removes its data."""
        if self._use.leave(self._stop):
            shutil.rmtree(self._directory)

    def _start(self, root: Path) -> None:
        if self._state.exists():
            return
        pgdata = Path("/var/tmp") / f"smf-timescale-{os.getpid()}-{secrets.token_hex(4)}"
        outside = root / pgdata.relative_to("/")
        outside.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(outside, *_postgres_user(root))
        _run(root, "initdb", "-D", str(pgdata), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        with (outside / "postgresql.auto.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
        port = _start_on_free_port(root, pgdata)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self._state.write_text(json.dumps({"url": url, "root": str(root), "pgdata": str(pgdata)}))

    def _stop(self) -> None:
        state = json.loads(self._state.read_text())
        root, pgdata = Path(state["root"]), Path(state["pgdata"])
        _run(root, "pg_ctl", "stop", "-w", "-t", "120", "-m", "immediate", "-D", str(pgdata))
        shutil.rmtree(root / pgdata.relative_to("/"))


def _start_on_free_port(root: Path, pgdata: Path, tries: int = 5) -> int:
    """Other tests take ports all the time: one that is free now may be gone when the server wants it."""
    port, log = _free_port(), str(pgdata / "server.log")
    try:
        _run(root, "pg_ctl", "start", "-w", "-t", "120", "-D", str(pgdata), "-l", log, "-o", f"-p {port}")
    except NotAvailableError:
        if tries == 1:
            raise
        return _start_on_free_port(root, pgdata, tries - 1)
    return port


def prepare_root() -> Path:
    """The file system that holds PostgreSQL with TimescaleDB: "/" or a Debian 13 root, made on first need."""
    if Path("/", _LIBRARY).exists():
        return Path("/")
    system = _os_release()
    if system.get("ID") != "debian" or os.geteuid() != 0:
        raise NotAvailableError(
            "neither SMF_TEST_DATABASE_URL, nor Debian's postgresql-17-timescaledb, nor root on Debian"
        )
    if (ROOT / _LIBRARY).exists():
        return ROOT
    use = SharedUse(ROOT.parent, "timescale-root")
    use.enter(lambda: _debootstrap(system["VERSION_CODENAME"]))
    use.leave(lambda: None)
    return ROOT


def _debootstrap(codename: str) -> None:
    if (ROOT / _LIBRARY).exists():
        return
    if shutil.which("debootstrap") is None:
        _prepare(["apt-get", "update", "-q"])
        _prepare(["apt-get", "install", "-q", "-y", "--no-install-recommends", "debootstrap"])
    unfinished = ROOT.with_name(ROOT.name + ".unfinished")
    mirror = _mirror(codename)
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(unfinished), mirror]
    _prepare(command, starting=lambda: _clear(unfinished))
    unfinished.rename(ROOT)


def _clear(unfinished: Path) -> None:
    """Remove what an interrupted debootstrap left; it may have left the machine's /proc mounted in it."""
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    inside = [
        place for place in (line.split()[1] for line in mounts) if Path(place).is_relative_to(unfinished)
    ]
    for place in sorted(inside, reverse=True):
        subprocess.run(["umount", place], check=True)
    shutil.rmtree(unfinished, ignore_errors=True)


def _prepare(command: list[str], starting: Callable[[], None] = lambda: None) -> None:
    """Run it with its output in a log, three times before giving up: downloads are cut off."""
    log = ROOT.with_name("timescale-root.log")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for pause_s in (0, 5, 20):
        time.sleep(pause_s)
        starting()
        with log.open("ab") as output:
            done = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False)
        if done.returncode == 0:
            return
    raise NotAvailableError(
        f"{command[0]} failed with code {done.returncode}; see {log.relative_to(REPOSITORY)}"
    )


def _mirror(codename: str) -> str:
    """The mirror that this machine's apt uses for its own release."""
    for source in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if source.is_file() and (found := _mirror_in(source.read_text(), codename)):
            return found
    raise NotAvailableError("apt's sources name no mirror of this Debian release")


def _mirror_in(text: str, codename: str) -> str | None:
    for stanza in text.split("\n\n"):
        fields = dict(
            line.split(":", 1) for line in stanza.splitlines() if ":" in line and line[0] not in "# \t"
        )
        if codename in fields.get("Suites", "").split():
            return fields["URIs"].split()[0]
    for line in text.splitlines():
        words = [word for word in line.split("]")[-1].split() if word != "deb"]
        if line.startswith("deb ") and len(words) > 1 and words[1] == codename:
            return words[0]
    return None


def _os_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def _postgres_user(root: Path) -> tuple[int, int]:
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if name == "postgres":
            return int(uid), int(gid)
    raise NotAvailableError("the root has no user postgres")


def _run(root: Path, program: str, *arguments: str) -> None:
    command = [f"/{_BIN}/{program}", *arguments]
    if root != Path("/"):
        command = ["chroot", "--userspec=postgres:postgres", str(root), *command]
    identity = {}
    if root == Path("/") and os.geteuid() == 0:
        uid, gid = _postgres_user(root)
        identity = {"user": uid, "group": gid, "extra_groups": []}
    # The server inherits pg_ctl's outputs and would hold a pipe open: files.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, cwd="/", **identity
        )
        output.seek(0)
        said = output.read().decode(errors="replace")
    if done.returncode:
        raise NotAvailableError(f"{program} failed with code {done.returncode}: {said[-500:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        print(f"TimescaleDB for the tests: {os.environ.get('SMF_TEST_DATABASE_URL') or prepare_root()}")
    except NotAvailableError as reason:
        print(f"TimescaleDB for the tests: NOT AVAILABLE: {reason}")
        sys.exit(1)
