"""The registry observed: after each change of it, what it holds and what the pre-flight says."""

import dagster as dg

from assets import registry
from assets.resources import CceeAccess, Clock, Metering
from sensors.switch import HOW_TO_SWITCH_ON, Switch

NAME = "registry_sensor"


def build(switch: Switch) -> dg.SensorDefinition:
    """The sensor. It asks for no run: it shows."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=60,
        default_status=switch.sensors,
        description=f"Observa o cadastro depois de cada alteração. {HOW_TO_SWITCH_ON}",
    )
    def registry_sensor(
        context: dg.SensorEvaluationContext, metering: Metering, clock: Clock, ccee: CceeAccess
    ) -> dg.SensorResult | dg.SkipReason:
        with metering.open() as db:
            found = registry.summary(db)
            if context.cursor == str(found.change):
                return dg.SkipReason("O cadastro não mudou.")
            seen = registry.observation(db, ccee.profile(), clock.now(), found)
        context.update_cursor(str(found.change))
        return dg.SensorResult(asset_events=[seen])

    return registry_sensor
