"""A DLMS meter with a wrong clock, the models and the policy that tests of clocks share.

Time is simulated: it stands still but for what a command itself waits, so that no machine is too slow for an
instant inside an interval.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.commands.clock.policy import request_correction
from collector.commands.policy import CLOCK_ROLE, load_policy
from collector.commands.steps import Tools
from collector.commands.store import Person, approve, ask
from collector.dlms import driver as dlms_driver
from collector.drain import drain
from collector.work.worklist import request_missing
from protocols.dlms.apdu import numbered
from simulator.dlms.meter import DlmsMeter
from simulator.dlms.server import DlmsServer
from simulator.load.clock import ClockModel, SettableClock
from simulator.load.curves import GeneratedLoad
from simulator.nbr14522.meter import SimulatedMeter
from simulator.nbr14522.spec import MeterSpec
from tests.collector.dlms.peers.world import AUTHENTICATION, ENCRYPTION, PASSWORD, SPEC
from tests.collector.world import DAY, add_meter, query, quick

ROOT = Path(__file__).parents[3]
SERIAL = "10000001"
SHIFT, SET = (
    b"\xc3\x01\xc1\x00\x08\x00\x00\x01\x00\x00\xff\x06",
    b"\xc1\x01\xc1\x00\x08\x00\x00\x01\x00\x00\xff\x02",
)
MODELS = """
[models.dlms-clock]
extends = "dlms-generic"
pulse_wh = "7.2"
answer_s = 20
[models.dlms-clock-hdlc]
extends = "dlms-clock"
framing = "hdlc"
[models.dlms-clock-gmac]
extends = "dlms-clock"
client = 1
authentication = "gmac"
counter_object = "0-0:43.1.5"
[models.dlms-clock-gmac-hdlc]
extends = "dlms-clock-gmac"
framing = "hdlc"
[models.dlms-clock-lls]
extends = "dlms-clock"
client = 3
authentication = "lls"
command_model = "dlms-clock-gmac"
[models.dlms-clock-set]
extends = "dlms-clock"
clock_shift_up_to_s = 0
clock_deviation = "unspecified"
clock_status = "ff"
clock_weekday = true
[models.dlms-clock-60]
extends = "dlms-clock-hdlc"
clock_shift_up_to_s = 60
[models.dlms-clock-closing]
extends = "dlms-clock"
clock_closes_period = true
"""
WAYS = ["dlms-clock", "dlms-clock-hdlc", "dlms-clock-gmac", "dlms-clock-gmac-hdlc", "dlms-clock-lls"]
POLICY = """
[default]
roles = ["engineer"]
[command.clock]
roles = ["clock-rule", "engineer"]
second_person = false
max_per_day = 24
[people]
ana = ["engineer"]
bruno = ["engineer"]
"""
ANA = Person("ana", frozenset({"engineer"}))
RULE = Person("clock rule", frozenset({CLOCK_ROLE}))


def carries(payload, service):
    """Whether octets hold the beginning of a service, whatever its invoke id."""
    return any(numbered(service, number) in payload for number in range(16))


def passing(clock):
    """What makes a command's tools, with a simulated time that passes while it sleeps and only then."""

    def tools(now, zone, sleep, *rest):
        async def pass_by(seconds):
            clock.set(clock() + timedelta(seconds=seconds))

        return Tools(now, zone, pass_by, *rest)

    return tools


class Case:
    """A DLMS meter whose clock is wrong, read, and then served whatever was queued."""

    def __init__(
        self, db, path, drift_s=-95.0, seconds_into_interval=60, model="dlms-clock", spec=SPEC, policy=POLICY
    ):
        secrets, rules = path / "secrets.toml", path / "policy.toml"
        secrets.write_text(
            f'[meters.{SERIAL}]\npassword = "{PASSWORD}"\nencryption_key = "{ENCRYPTION}"\n'
            f'authentication_key = "{AUTHENTICATION}"\n'
        )
        secrets.chmod(0o600)
        rules.write_text(policy)
        self.db = quick(db, dlms_secrets_path=secrets, command_policy_path=rules)
        self.policy = load_policy(rules)
        self.model = model
        # The meter shows 03:05 and so many seconds.
        shown = datetime(2026, 11, 21, 6, 5, tzinfo=UTC) + timedelta(seconds=seconds_into_interval)
        self.now = shown - timedelta(seconds=drift_s)
        self.clock = SettableClock(self.now, is_running=False)
        source = GeneratedLoad("supermarket", 120.0, 0.036, 7)
        started = datetime(2026, 9, 1, 10)
        self.meter = SimulatedMeter(MeterSpec(SERIAL, source, started, ClockModel(self.now, float(drift_s))))
        self.dlms = DlmsMeter(self.meter, spec)
        with self.db.connect() as conn:
            conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D')")
            conn.execute("INSERT INTO agent (code, name, distributor_id) SELECT 1, 'A', id FROM distributor")
            self.meter_id = add_meter(conn, 1, SERIAL, "tcp://127.0.0.1:1", model)

    @asynccontextmanager
    async def served(self):
        async with DlmsServer(self.dlms, self.clock, is_hdlc=self.model.endswith(("hdlc", "60"))) as server:
            with self.db.connect() as conn:
                conn.execute("UPDATE unit SET url = %s", [server.url])
            yield server

    async def drain(self, ids, deadline_s=60):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dlms_driver, "Tools", passing(self.clock))
            return await drain(self.db, ids, self.clock, deadline_s=deadline_s)

    def read(self, rounds=1, deadline_s=60):
        """An ordinary read, then so many rounds of what it queued."""

        async def work():
            async with self.served():
                await self.drain(request_missing(self.db, [DAY], self.clock(), "test"))
                for _ in range(rounds):
                    await self.drain(self.waiting(), deadline_s)

        asyncio.run(work())
        return self

    def read_again(self):
        """Another read, with the day before missing once more."""
        day = (self.clock() - timedelta(hours=3)).date() - timedelta(days=1)
        with self.db.connect() as conn:
            conn.execute("DELETE FROM reading_day")
            conn.execute("UPDATE job_request SET result = NULL")
        self.serve(*request_missing(self.db, [day], self.clock(), "test"))

    def serve(self, *ids, deadline_s=60):
        async def work():
            async with self.served():
                await self.drain(list(ids) or self.waiting(), deadline_s)

        asyncio.run(work())
        return self

    def ask(self, command, values, person=ANA, approver=None):
        with self.db.connect() as conn:
            asked = ask(
                conn,
                self.db.settings,
                self.policy,
                person,
                self.meter_id,
                command,
                values,
                "why",
                self.clock(),
            )
            if approver is not None:
                approve(conn, self.policy, asked.request_id, approver)
        return asked.request_id

    def correct(self, person=ANA):
        with self.db.connect() as conn:
            return request_correction(
                conn, self.db.settings, self.policy, person, self.meter_id, "why", self.clock()
            ).request_id

    def waiting(self):
        text = "SELECT id FROM job_request WHERE kind = 'command' AND state = 'queued' ORDER BY id"
        return [request_id for (request_id,) in query(self.db, text)]

    def commands(self):
        with self.db.connect() as conn:
            cursor = conn.execute("SELECT * FROM command_status ORDER BY request_id")
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def corrections(self):
        text = "SELECT method, step_s::int, decided_by FROM clock_correction ORDER BY id"
        return query(self.db, text)

    def flags(self):
        text = "SELECT day::text, first_slot, last_slot, flag FROM interval_flag ORDER BY day, first_slot"
        return query(self.db, text)

    def sent(self, mark):
        """Frames in the record that carry the plain service; SHIFT and SET under whatever number."""
        rows = query(self.db, "SELECT payload FROM frame WHERE direction = '>' ORDER BY session_id, seq")
        is_any = mark in (SHIFT, SET)
        return [payload for (payload,) in rows if (carries(payload, mark) if is_any else mark in payload)]

    def error_s(self):
        return self.meter.clock_error_s(self.clock())
