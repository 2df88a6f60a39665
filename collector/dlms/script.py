"""What one visit asks a DLMS meter. Pure: a generator of octets, see `protocols.dlms.client`.

Scalers and columns are asked for before the rows, in each visit: a record then explains itself, and a meter
that was changed cannot be read by what another one said. How the rows are asked for: `asking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from collector.dlms.asking import RowReader
from collector.dlms.rows import LoadProfile
from collector.work.planning import Goal, SequenceName, Span
from faults import OperatorFault
from protocols.dlms.access import AccessRefused
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import Data
from protocols.dlms.client import DlmsClient, Steps
from protocols.dlms.errors import ServiceRefused
from protocols.dlms.models import DlmsModel
from protocols.dlms.profile import (
    BUFFER,
    COLUMNS,
    PERIOD,
    PROFILE,
    SORT_METHOD,
    CaptureObject,
    decode_capture_objects,
)

DATA, REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER, CLOCK, ASSOCIATION = 1, 3, 4, 5, 8, 15
CURRENT_ASSOCIATION = "0-0:40.0.0.255"


def visit(client: DlmsClient, model: DlmsModel, goal: Goal, now: datetime, zone: timezone) -> Steps[None]:
    """Everything of one visit between opening and release.

    Args:
        now: meter time as expected, naive; zone: of the meter.

    Raises:
        OperatorFault: the meter has no load profile, or refuses every way to its rows.
    """
    if goal.sequence in (SequenceName.RECOVERY, SequenceName.CLOSING, SequenceName.FISCAL_PAGE):
        raise OperatorFault(
            f"sequence {goal.sequence} is one of NBR 14522",
            where="DLMS",
            remedy="read missing intervals, verification or whole",
        )
    yield from identity(client, model)
    if goal.with_records:
        yield from registers(client, model.registers)
        for log in model.event_logs:
            yield from whole_log(client, log)
    if goal.sequence is SequenceName.VERIFICATION:
        return
    spans = None if goal.sequence is SequenceName.WHOLE else [s for s in goal.spans if s.first_end <= now]
    if spans is None or spans:
        yield from load_profile(client, model, spans, now, zone)


def identity(client: DlmsClient, model: DlmsModel) -> Steps[None]:
    """Serial number and clock, which name and date all that follows."""
    yield from ask(client, Attribute(DATA, model.serial_object, 2))
    yield from ask(client, Attribute(CLOCK, model.clock_object, 2))


def registers(client: DlmsClient, objects: Sequence[str]) -> Steps[None]:
    """Value and scaler of registers; those that the meter lacks are passed over."""
    for obis in objects:
        if (yield from ask(client, Attribute(REGISTER, obis, 2))) is not None:
            yield from ask(client, Attribute(REGISTER, obis, 3))


def whole_log(client: DlmsClient, obis: str) -> Steps[None]:
    """Columns and rows of an event log."""
    if (yield from ask(client, Attribute(PROFILE, obis, COLUMNS))) is not None:
        yield from ask(client, Attribute(PROFILE, obis, BUFFER))


def discovery(client: DlmsClient) -> Steps[Data | None]:
    """The list of the meter's objects that this association may see."""
    return (yield from ask(client, Attribute(ASSOCIATION, CURRENT_ASSOCIATION, 2)))


def ask(
    client: DlmsClient, attribute: Attribute, selector: int = 0, selection: Data | None = None
) -> Steps[Data | None]:
    """An attribute's value, None where the meter refuses it: the next object may still be there."""
    try:
        return (yield from client.get(attribute, selector, selection))
    except (AccessRefused, ServiceRefused):
        return None


def load_profile(
    client: DlmsClient, model: DlmsModel, spans: Sequence[Span] | None, now: datetime, zone: timezone
) -> Steps[None]:
    """Columns, period and scalers, then the rows of the spans (None: all that there are)."""
    obis = model.load_profile
    columns = yield from ask(client, Attribute(PROFILE, obis, COLUMNS))
    period = yield from ask(client, Attribute(PROFILE, obis, PERIOD))
    if columns is None or period is None:
        raise OperatorFault(
            "the meter does not show its load profile to this client",
            where=obis,
            remedy="check load_profile, client and authentication of the meter's model",
        )
    captured = decode_capture_objects(columns)
    sort_method = yield from ask(client, Attribute(PROFILE, obis, SORT_METHOD))
    yield from _scalers(client, captured)
    yield from _constants(client, model)
    load = LoadProfile(
        columns=captured,
        period_s=period.value if type(period.value) is int and period.value > 0 else 0,
        sort_method=None if sort_method is None else sort_method.value,
    )
    yield from RowReader(client, model, load, now, zone).read(spans)


def _constants(client: DlmsClient, model: DlmsModel) -> Steps[None]:
    """The meter's own constants, which the registry's are compared with; a meter need not have them."""
    for obis in model.ratio_objects:
        yield from ask(client, Attribute(DATA, obis, 2))
    if model.pulse_constant_object is not None:
        yield from registers(client, [model.pulse_constant_object])


def _scalers(client: DlmsClient, columns: Sequence[CaptureObject]) -> Steps[None]:
    """Scalers of the registers whose value is a column; each once."""
    of_registers = (REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER)
    wanted = {
        (column.class_id, column.obis, column.scaler_attribute)
        for column in columns
        if column.class_id in of_registers and column.attribute in (2, 3)
    }
    for class_id, obis, index in sorted(wanted):
        yield from ask(client, Attribute(class_id, obis, index))
