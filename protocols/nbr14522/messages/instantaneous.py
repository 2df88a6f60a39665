"""Answer to 14: instantaneous quantities, the fiscal page (section 4.1).

W, var and VA; reactive power is positive for inductive load, the voltage-current shift negative (it may
come modulo 360 with either sign). Whether values are primary or secondary is the meter's setting (C).
What the meter lacks is None: FF octets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.nbr14522.messages.base import Response
from protocols.nbr14522.messages.codecs import Binary32, PresentOctet, PresentRaw, Text, TimeDate
from protocols.nbr14522.messages.layout import at

MISSING = b"\xff\xff\xff\xff"


def _quantity(octet: int) -> float | None:
    value: float | None = at(octet, Binary32(), blank=MISSING)
    return value


@dataclass(frozen=True, kw_only=True)
class Instantaneous(Response):
    """Answer to 14."""

    meter_time: datetime | None = at(6, TimeDate())
    voltage_a_v: float | None = _quantity(12)
    voltage_b_v: float | None = _quantity(16)
    voltage_c_v: float | None = _quantity(20)
    voltage_ab_v: float | None = _quantity(24)
    voltage_bc_v: float | None = _quantity(28)
    voltage_ca_v: float | None = _quantity(32)
    current_a_a: float | None = _quantity(36)
    current_b_a: float | None = _quantity(40)
    current_c_a: float | None = _quantity(44)
    current_neutral_a: float | None = _quantity(48)
    active_power_a_w: float | None = _quantity(52)
    active_power_b_w: float | None = _quantity(56)
    active_power_c_w: float | None = _quantity(60)
    active_power_total_w: float | None = _quantity(64)
    reactive_power_a_var: float | None = _quantity(68)
    reactive_power_b_var: float | None = _quantity(72)
    reactive_power_c_var: float | None = _quantity(76)
    reactive_power_total_var: float | None = _quantity(80)
    apparent_power_rms_a_va: float | None = _quantity(84)
    apparent_power_rms_b_va: float | None = _quantity(88)
    apparent_power_rms_c_va: float | None = _quantity(92)
    apparent_power_rms_total_va: float | None = _quantity(96)
    apparent_power_vector_a_va: float | None = _quantity(100)
    apparent_power_vector_b_va: float | None = _quantity(104)
    apparent_power_vector_c_va: float | None = _quantity(108)
    apparent_power_vector_total_va: float | None = _quantity(112)
    distortion_power_a_va: float | None = _quantity(116)
    distortion_power_b_va: float | None = _quantity(120)
    distortion_power_c_va: float | None = _quantity(124)
    distortion_power_total_va: float | None = _quantity(128)
    cos_phi_a: float | None = _quantity(132)
    cos_phi_b: float | None = _quantity(136)
    cos_phi_c: float | None = _quantity(140)
    cos_phi_total: float | None = _quantity(144)
    load_kinds: str | None = at(148, Text(4))
    """Letters of A, B, C and the three phases together: L inductive, C capacitive."""
    power_factor_a: float | None = _quantity(152)
    power_factor_b: float | None = _quantity(156)
    power_factor_c: float | None = _quantity(160)
    power_factor_total: float | None = _quantity(164)
    shift_a_deg: float | None = _quantity(168)
    shift_b_deg: float | None = _quantity(172)
    shift_c_deg: float | None = _quantity(176)
    temperature_c: float | None = _quantity(180)
    frequency_hz: float | None = _quantity(184)
    connection_type: int | None = at(188, PresentOctet())
    position: bytes | None = at(189, PresentRaw(8))
    """Latitude degrees, minutes, seconds, N or S; longitude the same with E or W (never seen filled, B)."""
    meter_version: int | None = at(197, PresentOctet())
    voltage_angle_a_deg: float | None = _quantity(198)
    voltage_angle_b_deg: float | None = _quantity(202)
    voltage_angle_c_deg: float | None = _quantity(206)
    voltage_angle_ab_deg: float | None = _quantity(210)
    voltage_angle_bc_deg: float | None = _quantity(214)
    voltage_angle_ca_deg: float | None = _quantity(218)
    voltage_thd_a_pct: float | None = _quantity(222)
    voltage_thd_b_pct: float | None = _quantity(226)
    voltage_thd_c_pct: float | None = _quantity(230)
    current_thd_a_pct: float | None = _quantity(234)
    current_thd_b_pct: float | None = _quantity(238)
    current_thd_c_pct: float | None = _quantity(242)
    conversion_indicator: int | None = at(246, PresentOctet())
