"""One meter, a policy that allows all, and a command carried out on it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

from collector.commands.policy import parse_policy
from collector.commands.store import Person, approve, ask
from collector.drain import drain
from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.profiles import DEFAULT
from protocols.nbr14522.sending.layouts import Coding, LayoutField, WriteLayout
from tests.collector.world import NOW, meter, register, served

POLICY = """
[default]
roles = ["engineer"]
second_person = false
max_per_day = 50
[command.20]
second_person = true
[command.31]
second_person = true
[people]
ana = ["engineer"]
bruno = ["engineer"]
"""
ANA = Person("ana", frozenset({"engineer"}))
FULL = replace(
    DEFAULT,
    name="full",
    commands=frozenset(info.code for info in COMMANDS.values()),
    extended_commands=frozenset({0x30, 0x32, 0x95}),
    write_layouts=(
        WriteLayout(
            "63",
            (LayoutField("is_on", 5), LayoutField("day", 6), LayoutField("hour", 7)),
            "a maker's manual",
        ),
        WriteLayout(
            "66", tuple(LayoutField(f"quantity_{n + 1}", 5 + n) for n in range(3)), "a maker's manual"
        ),
        WriteLayout("98/30", (LayoutField("seconds", 6, 2, Coding.SIGNED),), "a maker's manual"),
    ),
)


def request(db, meter_id, command, values, person=ANA, approver="bruno"):
    policy = parse_policy(POLICY, "test")
    with db.connect() as conn:
        asked = ask(conn, db.settings, policy, person, meter_id, command, values, "because", NOW)
        if asked.decision.needs_approval and approver:
            approve(conn, policy, asked.request_id, approver)
    return asked.request_id


def status(db, request_id):
    with db.connect() as conn:
        cursor = conn.execute("SELECT * FROM command_status WHERE request_id = %s", [request_id])
        return dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))


@asynccontextmanager
async def one_meter(db, **spec):
    spec = {"profile": FULL, **spec}
    plan = spec.pop("plan", None)
    async with served(meter(plan=plan, **spec)) as servers:
        (meter_id,) = register(db, servers).values()
        yield servers[0], meter_id


def carry_out(db, command, values, **spec):
    """Ask, approve, send; the command's status."""

    async def work():
        async with one_meter(db, **spec) as (_, meter_id):
            request_id = request(db, meter_id, command, values)
            await drain(db, [request_id], lambda: NOW, deadline_s=60)
            return status(db, request_id)

    return asyncio.run(work())
