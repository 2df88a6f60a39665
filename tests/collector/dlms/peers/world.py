"""DLMS meters of the tests: passwords, keys, models, and readings compared with the load."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import numpy as np
import pytest

from protocols.dlms import models
from protocols.dlms.apdu import Mechanism
from protocols.dlms.security import Keys
from simulator.dlms.meter import DlmsMeter, DlmsSpec
from simulator.dlms.server import DlmsServer
from tests.collector.world import (
    DAY,
    NOW,
    add_meter,
    collect,
    meter,
    quick,
    stored,
    truth,
)

SERIAL = "10000001"
PASSWORD = "sesamo-42"
ENCRYPTION, AUTHENTICATION = "000102030405060708090A0B0C0D0E0F", "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"
KEYS = Keys(bytes.fromhex(ENCRYPTION), bytes.fromhex(AUTHENTICATION))
MODELS = """
[models.dlms-test]
extends = "dlms-nbr16968"
pulse_wh = "7.2"
answer_s = 20
[models.dlms-test-hdlc]
extends = "dlms-test"
framing = "hdlc"
[models.dlms-test-gmac]
extends = "dlms-test"
client = 1
authentication = "gmac"
counter_object = "0-0:43.1.5"
[models.dlms-test-gmac-hdlc]
extends = "dlms-test-gmac"
framing = "hdlc"
"""
CLIENTS = {16: Mechanism.NONE, 3: Mechanism.LLS, 1: Mechanism.GMAC}
SPEC = DlmsSpec(clients=CLIENTS, password=PASSWORD.encode(), keys=KEYS, pulse_wh=Fraction(36, 5))


@pytest.fixture(autouse=True)
def catalogue():
    models.add_catalogue("test", MODELS)
    yield
    models.remove_catalogue("test")


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "secrets.toml"
    path.write_text(
        f'[models.dlms-test]\npassword = "{PASSWORD}"\n[meters.{SERIAL}]\npassword = "{PASSWORD}"\n'
        f'encryption_key = "{ENCRYPTION}"\nauthentication_key = "{AUTHENTICATION}"\n'
    )
    path.chmod(0o600)
    return path


def patient(db, secrets):
    """The database with a collector's settings that no busy machine is too slow for."""
    return quick(db, dlms_secrets_path=secrets, connect_timeout_s=20.0, lease_s=60.0)


def server(spec=SPEC, model="dlms-test", station=None):
    station = station or meter()
    return DlmsServer(DlmsMeter(station.meter, spec), lambda: NOW, is_hdlc="hdlc" in model)


def registered(db, way, model, options=""):
    with db.connect() as conn:
        conn.execute("INSERT INTO distributor (code, name) VALUES ('D', 'D') ON CONFLICT DO NOTHING")
        conn.execute(
            "INSERT INTO agent (code, name, distributor_id) SELECT 4711, 'Agente', id FROM distributor "
            "ON CONFLICT DO NOTHING"
        )
        return add_meter(conn, 1, way.meter.meter.spec.serial, way.url + options, model)


def scenario(db, secrets, *, spec=SPEC, model="dlms-test", days=(DAY,), station=None, times=1):
    ready = patient(db, secrets)

    async def work():
        async with server(spec, model, station) as way:
            meter_id = registered(ready, way, model)
            found = await collect(ready, days)
            for _ in range(times - 1):
                with ready.connect() as conn:
                    conn.execute("DELETE FROM reading_day")
                found = await collect(ready, days)
            return way, meter_id, found[way.meter.meter.spec.serial]

    return ready, *asyncio.run(work())


def assert_exact(db, meter_id, way, day=DAY):
    expected = truth(way.meter, day)
    for channel in (1, 2, 3):
        got = stored(db, meter_id, day, channel)
        assert got is not None, f"channel {channel}"
        assert np.array_equal(got, expected[:, channel - 1])
