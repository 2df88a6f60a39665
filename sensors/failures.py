"""Runs that failed, told to people: a notification, and e-mail or webhook where one is set."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from assets.resources import Metering
from assets.run_tags import DAY_TAG, MONTH_TAG
from ccee import notices
from sensors import outlets
from sensors.switch import HOW_TO_SWITCH_ON, Switch

NAME = "run_failure_sensor"
_MOST_CHARACTERS = 2000


def build(switch: Switch) -> dg.SensorDefinition:
    """The sensor; once per run, however often it is told of it."""

    @dg.run_failure_sensor(
        name=NAME,
        minimum_interval_seconds=30,
        default_status=switch.sensors,
        description=f"Avisa de cada execução que falhou, com a causa e o que fazer. {HOW_TO_SWITCH_ON}",
    )
    def run_failure_sensor(context: dg.RunFailureSensorContext, metering: Metering) -> None:
        run = context.dagster_run
        subject, body = message(run.job_name, run.run_id, run.tags, causes(context))
        with metering.open() as db:
            # First out, then written down: a way out that fails is tried again with the next look.
            outlets.send(db.settings.notifications, subject, body)
            with db.connect() as conn:
                notices.post(
                    conn, kind=notices.RUN_FAILED, dedup_key=f"run:{run.run_id}", subject=subject, body=body
                )

    return run_failure_sensor


def causes(context: dg.RunFailureSensorContext) -> list[str]:
    """What stopped each step, as its fault says it: what, where, what to do."""
    texts = []
    for event in context.get_step_failure_events():
        error = event.step_failure_data.error
        # Dagster wraps what a step raised; the cause is what a person must read.
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            texts.append(f"{event.step_key}: {error.message.split(': ', 1)[-1].strip()}")
    return texts or [context.failure_event.message or "a execução terminou sem dizer a causa"]


def message(job: str, run_id: str, tags: Mapping[str, str], texts: list[str]) -> tuple[str, str]:
    """Subject and body, in Portuguese; a step's own words stay as they are."""
    about = tags.get(DAY_TAG) or tags.get(MONTH_TAG) or tags.get("dagster/partition", "")
    subject = f"Execução falhou: {job}{f' de {about}' if about else ''}"
    body = "\n".join(
        [
            f"A execução {run_id} de {job} falhou{f' (dia ou mês: {about})' if about else ''}.",
            "Causas:",
            *(f"  - {text}" for text in texts),
            "Corrija o que a causa pede e execute de novo: nada é lido, derivado ou enviado duas vezes.",
        ]
    )
    return subject, body[:_MOST_CHARACTERS]
