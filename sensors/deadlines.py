"""Warnings before MS+3du and MS+7du, while something of the month is open (TR-2d)."""

from datetime import timedelta

import dagster as dg
import orjson

from assets import closing
from assets.partitions import Partitions
from assets.resources import CceeAccess, Clock, Metering
from closing.report import closing_report
from closing.warnings import Warned, near_deadlines, warn
from derivation.parameters import parameters_in_force
from editing.timeouts import apply_timeouts, lapse_approvals
from sensors.switch import HOW_TO_SWITCH_ON, Switch
from vee.calendars import market_calendars

NAME = "deadline_sensor"


def build(partitions: Partitions, switch: Switch) -> dg.SensorDefinition:
    """The sensor. It asks for no run: it tells people."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=1800,
        default_status=switch.sensors,
        description=(
            "Avisa os agentes antes de MS+3du (MUSD) e MS+7du (medição) se há pendência. " + HOW_TO_SWITCH_ON
        ),
    )
    def deadline_sensor(
        context: dg.SensorEvaluationContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> dg.SensorResult | dg.SkipReason:
        now = clock.now()
        known = market_calendars(metering.settings().market)
        with metering.open() as db:
            # What a rule's policy decides is derived again by the sensor of late data.
            rules = parameters_in_force(db.settings.market, ccee.profile().musd.params).rules
            apply_timeouts(db, rules, known, now)
            lapse_approvals(db, known, now)
        latest = partitions.latest_day(now)
        told: list[str] = orjson.loads(context.cursor) if context.cursor else []
        near = near_deadlines(latest + timedelta(days=1), known)
        fresh = [one for one in near if one.key not in told]
        # Only what is still near is remembered, so the cursor stays small.
        cursor = [one.key for one in near]
        if not fresh:
            context.update_cursor(orjson.dumps(cursor).decode())
            return dg.SkipReason(f"{len(near)} prazos próximos, todos já avisados.")
        warned = []
        with metering.open() as db:
            for one in fresh:
                report = closing_report(
                    db,
                    one.month,
                    as_of=now,
                    latest_day=latest,
                    profile=ccee.profile(),
                    known=known,
                )
                warned.append(warn(db, one, report))
        context.update_cursor(orjson.dumps(cursor).decode())
        return dg.SensorResult(asset_events=[_observation(one) for one in warned])

    return deadline_sensor


def _observation(warned: Warned) -> dg.AssetObservation:
    near = warned.near
    return dg.AssetObservation(
        closing.NAME,
        partition=near.month.isoformat(),
        description=f"Prazo {near.code} em {near.day:%d/%m/%Y}",
        metadata={
            "deadline": str(near.day),
            "days_left": near.days_left,
            "open_items": warned.open_items,
            "messages": warned.messages,
        },
    )
