"""How kinds of consumer use power over a day: the data behind generated loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class LoadShape:
    """How a kind of consumer uses power, as fractions of its usual peak.

    `weekday`, `saturday`, `sunday` are (hour, fraction) corners joined by straight lines; holidays follow
    `holiday`, which is Sunday's shape unless said. `cycling` is the part switched on and off by thermostats
    or level switches; `noise` the spread from interval to interval; `power_factor` that of the machines;
    `capacitors` the fixed bank, in kvar per kW of peak: at night it turns the balance capacitive.
    """

    weekday: tuple[tuple[float, float], ...]
    saturday: tuple[tuple[float, float], ...]
    sunday: tuple[tuple[float, float], ...]
    holiday: tuple[tuple[float, float], ...] = ()
    cycling: float = 0.0
    cycle_s: int = 2_700
    noise: float = 0.03
    summer: float = 0.05
    power_factor: float = 0.90
    capacitors: float = 0.22


_ONE_SHIFT = (
    (0, 0.1),
    (6.5, 0.12),
    (7.5, 0.8),
    (9, 0.95),
    (11.6, 0.92),
    (12.2, 0.45),
    (13.2, 0.9),
    (15, 1.0),
    (17, 0.9),
    (17.8, 0.3),
    (19, 0.14),
    (24, 0.1),
)
_IDLE = ((0, 0.09), (8, 0.1), (12, 0.12), (18, 0.1), (24, 0.09))
_TWO_SHIFTS = (
    (0, 0.2),
    (5, 0.2),
    (6.2, 0.82),
    (9, 0.95),
    (12, 0.85),
    (13.8, 0.97),
    (14.1, 0.6),
    (14.5, 0.95),
    (17.9, 0.98),
    (18.3, 0.7),
    (20.8, 0.7),
    (21.2, 0.9),
    (22.2, 0.3),
    (24, 0.2),
)
_THREE_SHIFTS = (
    (0, 0.86),
    (5.9, 0.88),
    (6.1, 0.7),
    (6.5, 0.93),
    (13.9, 0.98),
    (14.1, 0.74),
    (14.5, 0.96),
    (18, 0.9),
    (21, 0.88),
    (21.9, 0.92),
    (22.1, 0.7),
    (22.5, 0.9),
    (24, 0.86),
)
_SHOPS = (
    (0, 0.18),
    (7.5, 0.2),
    (9, 0.7),
    (11, 0.9),
    (14.5, 1.0),
    (17, 0.92),
    (18.5, 0.6),
    (20, 0.25),
    (24, 0.18),
)
_MARKET = (
    (0, 0.44),
    (5, 0.43),
    (6.5, 0.65),
    (8, 0.85),
    (12, 0.95),
    (15, 1.0),
    (19, 0.96),
    (21.5, 0.8),
    (22.3, 0.5),
    (24, 0.44),
)
_COLD = (
    (0, 0.8),
    (6, 0.72),
    (10, 0.85),
    (15, 0.98),
    (17.6, 0.95),
    (18, 0.55),
    (20.9, 0.55),
    (21.3, 0.98),
    (24, 0.8),
)
_PIVOT = ((0, 0.96), (5.6, 0.97), (6.1, 0.06), (12, 0.05), (18, 0.04), (21.3, 0.04), (21.7, 0.95), (24, 0.96))
_SCHOOL = (
    (0, 0.12),
    (6.4, 0.15),
    (7.5, 0.75),
    (10, 0.9),
    (12, 0.65),
    (14, 0.95),
    (17.5, 0.6),
    (19, 0.85),
    (21.5, 0.8),
    (22.7, 0.2),
    (24, 0.12),
)
_HOSPITAL = ((0, 0.55), (5, 0.52), (7.5, 0.75), (10, 0.92), (14.5, 1.0), (18, 0.85), (21, 0.7), (24, 0.55))
_PUMPS = (
    (0, 0.75),
    (6, 0.9),
    (9, 0.85),
    (12, 0.8),
    (17.7, 0.8),
    (18.1, 0.25),
    (20.9, 0.25),
    (21.2, 0.98),
    (24, 0.75),
)


def _scaled(corners: tuple[tuple[float, float], ...], factor: float) -> tuple[tuple[float, float], ...]:
    return tuple((hour, fraction * factor) for hour, fraction in corners)


SHAPES: Mapping[str, LoadShape] = MappingProxyType(
    {
        "industry_1_shift": LoadShape(_ONE_SHIFT, _scaled(_ONE_SHIFT, 0.45), _IDLE),
        "industry_2_shifts": LoadShape(_TWO_SHIFTS, _scaled(_TWO_SHIFTS, 0.6), _scaled(_IDLE, 1.6)),
        "industry_3_shifts": LoadShape(
            _THREE_SHIFTS, _THREE_SHIFTS, _scaled(_THREE_SHIFTS, 0.85), noise=0.025, summer=0.02
        ),
        "commerce": LoadShape(
            _SHOPS, _scaled(_SHOPS, 0.75), _scaled(_IDLE, 2.0), summer=0.12, power_factor=0.93
        ),
        "supermarket": LoadShape(
            _MARKET, _MARKET, _scaled(_MARKET, 0.9), cycling=0.12, summer=0.08, power_factor=0.92
        ),
        "cold_storage": LoadShape(
            _COLD, _COLD, _scaled(_COLD, 0.92), cycling=0.3, summer=0.1, power_factor=0.88, capacitors=0.3
        ),
        "irrigation": LoadShape(_PIVOT, _PIVOT, _PIVOT, noise=0.015, power_factor=0.86, capacitors=0.35),
        "school": LoadShape(
            _SCHOOL, _scaled(_SCHOOL, 0.3), _scaled(_IDLE, 1.3), summer=0.1, power_factor=0.93
        ),
        "hospital": LoadShape(
            _HOSPITAL,
            _scaled(_HOSPITAL, 0.9),
            _scaled(_HOSPITAL, 0.82),
            cycling=0.08,
            summer=0.1,
            power_factor=0.93,
        ),
        "pumping_station": LoadShape(
            _PUMPS, _PUMPS, _scaled(_PUMPS, 0.93), cycling=0.35, cycle_s=5_400, noise=0.02, power_factor=0.87
        ),
    }
)
