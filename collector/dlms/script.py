"""What one visit asks a DLMS meter. Pure: a generator of octets, see `protocols.dlms.client`.

Scalers and columns are asked for before the rows, in each visit: a record then explains itself, and a meter
that was changed cannot be read by what another one said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, tzinfo

from collector.planning import Goal, SequenceName, Span
from faults import OperatorFault
from protocols.dlms.apdu import Attribute
from protocols.dlms.axdr import Data
from protocols.dlms.client import AccessRefused, DlmsClient, Steps
from protocols.dlms.models import Access, DlmsModel, Timestamps
from protocols.dlms.profile import (
    BUFFER,
    COLUMNS,
    ENTRIES_IN_USE,
    LAST_IN_FIRST_OUT,
    PERIOD,
    SORT_METHOD,
    CaptureObject,
    by_entry,
    by_range,
    decode_capture_objects,
)

DATA, REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER, PROFILE, CLOCK, ASSOCIATION = 1, 3, 4, 5, 7, 8, 15
CURRENT_ASSOCIATION = "0-0:40.0.0.255"
_LONGEST_PERIOD_S = 86_400
# For the meter's clock, and for rows doubled when it was set.
_SPARE_ROWS = 2


def visit(client: DlmsClient, model: DlmsModel, goal: Goal, now: datetime, zone: tzinfo) -> Steps[None]:
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
    except AccessRefused:
        return None


def load_profile(
    client: DlmsClient, model: DlmsModel, spans: Sequence[Span] | None, now: datetime, zone: tzinfo
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
    if spans is None:
        yield from client.get(Attribute(PROFILE, obis, BUFFER))
        return
    is_newest_first = sort_method is not None and sort_method.value == LAST_IN_FIRST_OUT
    period_s = period.value if isinstance(period.value, int) and period.value > 0 else _LONGEST_PERIOD_S
    ways = list(model.access)
    for start, end in _requests(spans, model, period_s):
        span = (start.replace(tzinfo=zone), end.replace(tzinfo=zone))
        count = int((now.replace(tzinfo=zone) - span[0]).total_seconds() // period_s) + _SPARE_ROWS
        yield from _rows(client, obis, ways, span, count, is_newest_first)
        if ways[0] in (Access.ALL, Access.ENTRY):
            return  # both go on to the newest row


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


def _requests(spans: Sequence[Span], model: DlmsModel, period_s: int) -> Iterator[tuple[datetime, datetime]]:
    """First and last moment of each request. One row more before: totals need something to differ from."""
    period = timedelta(seconds=period_s)
    most = timedelta(days=model.days_per_request)
    for span in spans:
        start, last = span.first_end - period, span.last_end
        while start < last:
            end = min(start + most, last)
            shift = period if model.timestamps is Timestamps.START else timedelta()
            yield start - shift, end - shift
            start = end


def _rows(
    client: DlmsClient,
    obis: str,
    ways: list[Access],
    span: tuple[datetime, datetime],
    count: int,
    is_newest_first: bool,
) -> Steps[None]:
    """Rows of the span, both ends included, by the first of the ways that the meter takes.

    Args:
        count: of the newest rows, among which are those of the span.
    """
    buffer = Attribute(PROFILE, obis, BUFFER)
    while ways:
        try:
            if ways[0] is Access.ALL:
                yield from client.get(buffer)
            elif ways[0] is Access.ENTRY:
                yield from _newest(client, obis, count, is_newest_first)
            else:
                selection = by_range(
                    *span,
                    with_deviation=ways[0] is not Access.RANGE_UNSPECIFIED,
                    with_weekday=ways[0] is Access.RANGE_WEEKDAY,
                )
                yield from client.get(buffer, 1, selection)
        except AccessRefused as refused:
            fault = refused.as_fault("the meter cannot give its load profile now:", obis, "")
            if not isinstance(fault, OperatorFault):
                raise fault from refused
            ways.pop(0)
            continue
        return
    raise OperatorFault(
        "the meter refuses every way to the rows of its load profile",
        where=obis,
        remedy="check the rights of the client in the meter, and `access` of its model",
    )


def _newest(client: DlmsClient, obis: str, count: int, is_newest_first: bool) -> Steps[None]:
    """The newest rows, however they are sorted; rows count from 1."""
    in_use = yield from client.get(Attribute(PROFILE, obis, ENTRIES_IN_USE))
    held = in_use.value if isinstance(in_use.value, int) else 0
    if held > 0:
        wanted = by_entry(1, min(count, held)) if is_newest_first else by_entry(max(1, held - count + 1))
        yield from client.get(Attribute(PROFILE, obis, BUFFER), 2, wanted)
