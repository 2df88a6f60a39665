"""The Brazilian object list (dlms_cosem.md, section 7)."""

from __future__ import annotations

import pytest

from protocols.dlms.apdu import obis_octets
from protocols.dlms.describe import describe
from protocols.dlms.models import models
from protocols.dlms.objects import known_object, known_objects


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize(
    ("obis", "class_id", "name"),
    [
        ("1-0:1.29.0", 3, "active_import_increment_p1"),
        ("1-0:1.8.0.255", 3, "active_import_total_rate_n"),
        ("1-0:1.8.4", 3, "active_import_total_rate_n"),
        ("0-0:15.3.7", 22, "schedule_key_expiry"),
        ("0-0:96.1.0", 1, "device_id_serial"),
    ],
)
def test_a_code_has_its_name_exact_or_as_one_of_a_range(obis: str, class_id: int, name: str) -> None:
    known = known_object(obis)
    assert known is not None
    assert (known.class_id, known.name, known.confidence) == (class_id, name, "B")


def test_an_unlisted_code_has_none() -> None:
    assert known_object("1-0:199.8.0") is None
    assert known_object("0-0:96.1.0.1") is None


def test_every_entry_is_found_by_its_own_code() -> None:
    listed = known_objects()
    assert len(listed) == 338
    for one in listed:
        assert known_object(one.obis.replace("x", "3")) == one
        assert len(obis_octets(one.obis.replace("x", "3"))) == 6


def test_the_brazilian_model_asks_for_objects_of_the_list() -> None:
    model = models()["dlms-nbr16968"]
    asked = [
        model.serial_object,
        model.load_profile,
        *model.registers,
        *model.status_objects,
        *model.event_logs,
    ]
    assert [obis for obis in asked if known_object(obis) is None] == []


def test_a_capture_names_the_object_that_is_asked_for() -> None:
    (record,) = describe(bytes.fromhex("C001C100030100010800FF0200"))
    assert (record["obis"], record["object"]) == ("1-0:1.8.0.255", "active_import_total_rate_n")
