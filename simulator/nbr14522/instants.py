"""The fiscal page (command 14): voltages, currents, powers and angles that agree with the running load.

Primary values in V, A, W, var, VA. Which side real meters show is a setting of theirs (C).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from protocols.nbr14522.messages import Instantaneous
from simulator.load.channels import LIGHT_LOAD_VOLTAGE, LOAD_SKEW, PHASES, SAG, VOLTAGE_SKEW
from simulator.nbr14522.meter import SimulatedMeter

NEUTRAL_FRACTION = 0.04


@dataclass(frozen=True)
class _Phase:
    voltage: float
    active: float
    reactive: float

    @property
    def apparent(self) -> float:
        return math.hypot(self.active, self.reactive)

    @property
    def current(self) -> float:
        return self.apparent / self.voltage if self.voltage else 0.0

    @property
    def power_factor(self) -> float:
        return self.active / self.apparent if self.apparent else 1.0

    @property
    def kind(self) -> str:
        return "C" if self.reactive < 0 else "L"

    @property
    def shift_deg(self) -> float:
        """Negative for an inductive load (reference 4.2)."""
        return -math.degrees(math.atan2(self.reactive, self.active)) if self.apparent else 0.0


def instantaneous(meter: SimulatedMeter, now: datetime) -> Instantaneous:
    """The answer to 14 at `now`."""
    active_kw, reactive_kvar = meter.power(now)
    live = [float(meter.has_voltage(i, now)) for i in range(PHASES)]
    # What the meter sees is the whole load's without the phases that have no voltage.
    seen = sum(one * (1.0 + LOAD_SKEW[i]) for i, one in enumerate(live)) / PHASES or 1.0
    # A loaded feeder sags by up to 3 %; taken from the load itself, so that the page stays a pure function.
    sag = SAG * (active_kw / meter.spec.rated_kw if meter.spec.rated_kw else 0.0)
    nominal_v = meter.spec.phase_voltage_v
    phases = [
        _Phase(
            live[i] * nominal_v * (LIGHT_LOAD_VOLTAGE - sag + VOLTAGE_SKEW[i]),
            live[i] * 1000.0 * active_kw / seen / PHASES * (1.0 + LOAD_SKEW[i]),
            live[i] * 1000.0 * reactive_kvar / seen / PHASES * (1.0 + LOAD_SKEW[i]),
        )
        for i in range(PHASES)
    ]
    a, b, c = phases
    # Lead positive, as the known meter sends them: in ABC, B lags A.
    lead_b_deg = -120.0 if meter.spec.phase_sequence == "ABC" else 120.0
    total = _Phase(
        sum(p.voltage for p in phases) / PHASES,
        sum(p.active for p in phases),
        sum(p.reactive for p in phases),
    )
    rms_total = sum(p.apparent for p in phases)
    return Instantaneous(
        code=0x14,
        meter_time=meter.meter_now(now),
        voltage_a_v=a.voltage,
        voltage_b_v=b.voltage,
        voltage_c_v=c.voltage,
        voltage_ab_v=_line_voltage(a, b),
        voltage_bc_v=_line_voltage(b, c),
        voltage_ca_v=_line_voltage(c, a),
        current_a_a=a.current,
        current_b_a=b.current,
        current_c_a=c.current,
        current_neutral_a=NEUTRAL_FRACTION * total.current / PHASES,
        active_power_a_w=a.active,
        active_power_b_w=b.active,
        active_power_c_w=c.active,
        active_power_total_w=total.active,
        reactive_power_a_var=a.reactive,
        reactive_power_b_var=b.reactive,
        reactive_power_c_var=c.reactive,
        reactive_power_total_var=total.reactive,
        apparent_power_rms_a_va=a.apparent,
        apparent_power_rms_b_va=b.apparent,
        apparent_power_rms_c_va=c.apparent,
        apparent_power_rms_total_va=rms_total,
        apparent_power_vector_a_va=a.apparent,
        apparent_power_vector_b_va=b.apparent,
        apparent_power_vector_c_va=c.apparent,
        apparent_power_vector_total_va=total.apparent,
        load_kinds="".join(p.kind for p in (*phases, total)),
        power_factor_a=a.power_factor,
        power_factor_b=b.power_factor,
        power_factor_c=c.power_factor,
        power_factor_total=total.power_factor,
        shift_a_deg=a.shift_deg,
        shift_b_deg=b.shift_deg,
        shift_c_deg=c.shift_deg,
        temperature_c=27.0,
        frequency_hz=60.0,
        connection_type=meter.spec.connection_type,
        voltage_angle_a_deg=0.0,
        voltage_angle_b_deg=lead_b_deg,
        voltage_angle_c_deg=-lead_b_deg,
    )


def _line_voltage(one: _Phase, other: _Phase) -> float:
    """Between two phases 120 degrees apart."""
    return math.sqrt(one.voltage**2 + other.voltage**2 + one.voltage * other.voltage)
