"""Why an interval is missing: from what happened on the socket to trace, queue and the closing's report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from audit.trace import trace
from ccee.profile import load_profile
from closing.report import closing_report
from derivation.run import derive
from editing.queue import waiting
from pipelines.cli.trace import tree
from storage.database import Database
from tests.collector.dlms.peers import world as dlms
from tests.collector.dlms.peers.world import catalogue
from tests.collector.world import DAY, MARKET, NOW, add_meter, collect, meter, query, quick, register, served
from vee.calendars import load_calendars
from vee.missing import TEXTS, WORDS, MissingCause

__all__ = ["catalogue"]
pytestmark = pytest.mark.req("X-trace", "TR-2b")

# The memory of one meter is lost at 03:00; this interval is before that.
SLOT = 20


def no_link(db: Database, folder: Path, port: int) -> None:
    with db.connect() as conn:
        add_meter(conn, 1, "10000001", f"tcp://127.0.0.1:{port}")
    assert asyncio.run(collect(db))["10000001"].state == "failed"


def refused(db: Database, folder: Path, port: int) -> None:
    path = folder / "secrets.toml"
    path.write_text('[models.dlms-test]\npassword = "errada"\n')
    path.chmod(0o600)
    ready = quick(db, dlms_secrets_path=path)

    async def work() -> None:
        async with dlms.server() as way:
            dlms.registered(ready, way, "dlms-test")
            assert (await collect(ready))[dlms.SERIAL].actor == "operator"

    asyncio.run(work())


def of_a_meter(change: str = "", **options: object) -> Callable[[Database, Path, int], None]:
    """Reads a meter; `change`: what is wrong in the registry."""

    def happens(db: Database, folder: Path, port: int) -> None:
        async def work() -> None:
            async with served(meter(**options)) as servers:
                register(db, servers)
                if change:
                    execute(db, change)
                await collect(db)

        asyncio.run(work())

    return happens


def execute(db: Database, text: str) -> None:
    with db.connect() as conn:
        conn.execute(text)


def nobody_read(db: Database, folder: Path, port: int) -> None:
    with db.connect() as conn:
        add_meter(conn, 1, "10000001", f"tcp://127.0.0.1:{port}")


CLEARED = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=3)


@pytest.mark.parametrize(
    ("cause", "happens"),
    [
        (MissingCause.NO_LINK, no_link),
        (MissingCause.REFUSED, refused),
        (MissingCause.OVERWRITTEN, of_a_meter(memory_cleared=(CLEARED,))),
        (MissingCause.CLOCK, of_a_meter(offset_s=-7200)),
        (MissingCause.RULE, of_a_meter("UPDATE installation SET pulse_energy_num = 2 * pulse_energy_num")),
        (MissingCause.NOT_DUE, nobody_read),
    ],
    ids=lambda value: str(value) if isinstance(value, MissingCause) else "",
)
def test_the_cause_is_told(
    embedded_db: Database,
    tmp_path: Path,
    free_tcp_port: int,
    cause: MissingCause,
    happens: Callable[[Database, Path, int], None],
) -> None:
    db = quick(embedded_db)
    register(db, [])
    happens(db, tmp_path, free_tcp_port)
    execute(db, "INSERT INTO uc_status (uc_id, valid, status) SELECT id, '[2026-09-01,)', 'active' FROM uc")
    derive(db, DAY, DAY, run_id="t", as_of=NOW)

    end = datetime.combine(DAY, datetime.min.time(), MARKET) + (SLOT + 1) * timedelta(minutes=5)
    ((uc_code,),) = query(db, "SELECT code FROM uc")
    found = trace(db, load_profile(), uc_code, end)
    told = {verdict["rule"]: verdict for verdict in found.verdicts}
    assert told["V01"]["detail"]["cause"] == cause
    console = Console(width=300)
    with console.capture() as shown:
        console.print(tree(found))
    assert f"rule V01: missing {WORDS[cause]}" in shown.get()

    slots = found.outcome["detail"]["missing_by_cause"]
    assert slots[cause] >= SLOT
    report = closing_report(
        db, DAY.replace(day=1), as_of=NOW, latest_day=DAY, profile=load_profile(), known=load_calendars()
    )
    (run,) = [run for run in report.runs if run.first_day <= DAY <= run.last_day]
    assert f"{TEXTS[cause]} ({slots[cause]})" in run.text

    rows = [row for row in waiting(db, load_calendars(), NOW.date()) if row.day == DAY]
    if cause in (MissingCause.CLOCK, MissingCause.RULE):
        # Held readings stand for their day, with what holds them.
        assert {(row.key[0], row.rule) for row in rows} == {("H", {"clock": "V09", "rule": "V11"}[cause])}
    elif cause in (MissingCause.NO_LINK, MissingCause.REFUSED):
        assert rows == [], "the line waits to be mended, not for a word about an estimate"
    else:
        assert [(row.key[0], row.evidence) for row in rows] == [("A", slots)]
