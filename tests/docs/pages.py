"""Commands that the manual's pages show: found, and run in order as they stand."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
# Pages whose commands are run on the demonstration's database.
DEMO_PAGES = (
    "treinamento", "para_engenheiros", "para_analistas", "para_auditores", "para_tecnicos",
    "para_administradores", "auditoria",
)  # fmt: skip
_SMF = [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())"]
# The port that pages show for a simulated meter; tests take a free one instead.
SHOWN_PORT = "7001"


@dataclass(frozen=True)
class Shown:
    """A command of a page: its words after `smf`, its exit code, whether it goes on beside the next."""

    words: list[str]
    code: int
    is_beside: bool


def shown_in(page: str) -> list[Shown]:
    """The commands of the ```sh blocks of a page."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    commands = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            command, _, comment = line.partition("#")
            words = shlex.split(command)
            if words[:1] == ["smf"]:
                code = re.search(r"saída (\d+)", comment)
                is_beside = words[-1] == "&"
                words = words[1 : -1 if is_beside else None]
                commands.append(Shown(words, int(code[1]) if code else 0, is_beside))
    return commands


@contextmanager
def beside(words: list[str], folder: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        [*_SMF, *words, "--json"], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), f"smf {' '.join(words)} ended"
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def run_page(page: str, folder: Path, port: int, **variables: str) -> dict[str, str]:
    """Run the commands of a page in order; what each wrote, by its words.

    Raises:
        AssertionError: one ended with another code than the page says.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SMF_")}
    environment |= {"COLUMNS": "200", **variables}
    written = {}
    with ExitStack() as stack:
        for command in shown_in(page):
            words = [word.replace(SHOWN_PORT, str(port)) for word in command.words]
            if command.is_beside:
                stack.enter_context(beside(words, folder, environment))
                continue
            done = subprocess.run(
                [*_SMF, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False
            )
            said = f"{page}: smf {' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            assert done.returncode == command.code, said
            written[" ".join(command.words)] = done.stdout
    return written
