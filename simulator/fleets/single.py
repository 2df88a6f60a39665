"""One meter by hand: from a recording or a kind of load, ready to be put on a line."""

from __future__ import annotations

from datetime import datetime, timedelta

from protocols.nbr14522.profile import MeterProfile
from simulator.load.clock import ClockModel
from simulator.load.curves import GeneratedLoad, PulseSource
from simulator.load.grid import DAY_S, MARKET_ZONE, wall_clock
from simulator.load.recording import RecordedLoad
from simulator.nbr14522.spec import MeterSpec

USUAL_CAPACITY_DAYS = 140
LIVED_DAYS = 200


def end_of(recording: RecordedLoad) -> datetime:
    """The instant at which the last recorded interval has just ended."""
    return wall_clock(recording.ends_at_s).replace(tzinfo=MARKET_ZONE)


def recorded_meter(
    recording: RecordedLoad,
    *,
    serial: str,
    constant: tuple[int, int],
    profile: MeterProfile,
    clock: ClockModel,
) -> MeterSpec:
    """A meter installed when the recording begins, which never closes a period: 26 gives all of it."""
    days = -(-len(recording.counts) * recording.interval_s // DAY_S) + 1
    return MeterSpec(
        serial=serial,
        source=recording,
        started_at=wall_clock(recording.starts_at_s),
        clock=clock,
        pulse_constant=constant,
        profile=profile,
        capacity_days=max(days, USUAL_CAPACITY_DAYS),
        automatic_reset_day=None,
    )


def generated_meter(
    shape: str,
    peak_kw: float,
    seed: int,
    *,
    serial: str,
    constant: tuple[int, int],
    profile: MeterProfile,
    clock: ClockModel,
) -> MeterSpec:
    """A meter that has counted a kind of load for some months before the clock's reference."""
    source: PulseSource = GeneratedLoad(shape, peak_kw, constant[0] / constant[1], seed)
    begin = (clock.reference - timedelta(days=LIVED_DAYS)).astimezone(MARKET_ZONE)
    return MeterSpec(
        serial=serial,
        source=source,
        started_at=begin.replace(tzinfo=None, hour=9, minute=20, second=0, microsecond=0),
        clock=clock,
        pulse_constant=constant,
        profile=profile,
        rated_kw=peak_kw,
    )
