"""The purchased models as data (celesc_serial.md 7)."""

from __future__ import annotations

import pytest

from faults import OperatorFault
from protocols.celesc.catalogue import (
    Need,
    add_catalogue,
    load_meters,
    meter_named,
    meters,
    remove_catalogue,
)

ENTRY = """
[meters.1]
description = "x"
description_pt = "x"
bought = 1
phases = 1
elements = 1
wires = 2
max_current_a = 100
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
        ("wires = 2", "wires = 2\nrate_bit_s = 9600", "300, 600"),
        ("wires = 2", 'wires = 2\nextends = "2"', "not an entry"),
    ],
)
def test_a_wrong_entry_is_one_fault_that_names_it(old: str, new: str, told: str) -> None:
    assert load_meters(("x", ENTRY))["1"].wires == 2
    with pytest.raises(OperatorFault) as caught:
        load_meters(("x", ENTRY.replace(old, new)))
    assert told in str(caught.value)


@pytest.mark.req("CE-models")
def test_a_file_adds_a_meter_and_corrects_a_shipped_one() -> None:
    own = """
    [meters.99001]
    extends = "35456"
    description_pt = "Medidor de outra compra"
    bought = 0
    register_digits = 6
    rate_bit_s = 1200
    [meters.27182]
    register_digits = 6
    """
    add_catalogue("own", own)
    try:
        meter = meter_named("celesc-99001")
        assert (meter.profile, meter.rate_bit_s, meter.register_digits) == ("celesc-99001", 1200, 6)
        assert (meter.is_bidirectional, meter.phases, meter.bought) == (True, 3, 0)
        assert [packet.code_text for packet in meter.packets] == ["0A02", "0A07", "0A0C", "0A51"]
        corrected = meter_named("27182")
        assert (corrected.register_digits, corrected.bought) == (6, 20000)
        with pytest.raises(OperatorFault):
            add_catalogue("own", own + "colour = 1")
        assert "99001" in meters()
    finally:
        remove_catalogue("own")
    assert len(meters()) == 5
    assert meter_named("27182").register_digits == 5
