"""The purchased models as data (celesc_serial.md 7)."""

from __future__ import annotations

import pytest

from faults import OperatorFault
from protocols.celesc.catalogue import Need, load_meters, meter_named, meters

ENTRY = """
[meters.1]
description = "x"
description_pt = "x"
bought = 1
phases = 1
elements = 1
wires = 2
max_current_a = 100
temperature_c = [-10, 70]
display = [{ code = "", quantity = "active_energy_kwh" }]
packets = [{ code = "0A02", register = "active", need = "required", confidence = "A" }]
"""


@pytest.mark.req("CE-models")
@pytest.mark.parametrize(
    ("code", "phases", "elements", "wires", "current", "bought", "required"),
    [
        ("27184", 1, 1, 2, 100, 0, ["0A02"]),
        ("27182", 3, 3, 4, 120, 20000, ["0A02", "0A07", "0A0C"]),
        ("35454", 1, 1, 2, 100, 40, ["0A02"]),
        ("35456", 3, 3, 4, 120, 200, ["0A02", "0A07", "0A0C"]),
        ("36291", 2, 2, 3, 120, 3000, ["0A02"]),
    ],
)
def test_the_five_models(
    code: str, phases: int, elements: int, wires: int, current: int, bought: int, required: list[str]
) -> None:
    meter = meter_named(code)
    assert (meter.phases, meter.elements, meter.wires) == (phases, elements, wires)
    assert (meter.nominal_voltage_v, meter.nominal_current_a, meter.max_current_a) == (240, 15, current)
    assert (meter.bought, meter.display_digits, meter.frequency_hz) == (bought, 5, 60)
    assert [p.code_text for p in meter.packets if p.need is Need.REQUIRED] == required
    assert len(meters()) == 5


@pytest.mark.req("CE-bidi")
@pytest.mark.parametrize("code", ["35454", "celesc-35456"])
def test_bidirectional_models_name_both_registers_and_the_ratchet(code: str) -> None:
    meter = meter_named(code)
    assert [(r.code, r.quantity) for r in meter.registers] == [
        ("003", "active_energy_kwh"),
        ("303", "active_energy_reverse_kwh"),
    ]
    assert meter.accumulation == "ratchet"
    assert [p.confidence for p in meter.packets if p.register == "active_reverse"] == ["C"]


def test_an_unknown_code_is_told_with_the_known_ones() -> None:
    with pytest.raises(OperatorFault) as caught:
        meter_named("1")
    assert "27182" in caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("phases = 1", "phases = 4", "1 to 3"),
        ("phases = 1", 'phases = "1"', "phases"),
        ("bought = 1\n", "", "bought"),
        ("wires = 2", "wires = 2\ncolour = 1", "colour"),
        ("0A02", "0A", "two octets"),
        ("required", "perhaps", "perhaps"),
        ("wires = 2", "wires = 2\nis_bidirectional = true", "reverse"),
        ("wires = 2", "wires = 2\nregister_digits = 7", "5 or 6"),
        ("wires = 2", "wires = ", "TOML"),
    ],
)
def test_a_wrong_entry_is_one_fault_that_names_it(old: str, new: str, told: str) -> None:
    assert load_meters(ENTRY, "x")["1"].wires == 2
    with pytest.raises(OperatorFault) as caught:
        load_meters(ENTRY.replace(old, new), "x")
    assert told in caught.value.message
