"""DLMS: what is fuzzed of records, of the reader's side and of the simulated meter's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from collector import dlms_script
from collector.decoded import Frame, MeterContext
from collector.dlms_decode import decode_dlms
from collector.planning import Span
from faults import OperatorFault, RetryFault
from protocols.dlms.client import AccessRefused, Credentials, DlmsClient, Steps
from protocols.dlms.describe import describe
from protocols.dlms.models import model_named

ZONE = timezone(timedelta(hours=-3))
NOW = datetime(2026, 11, 21, 3, 7, tzinfo=ZONE)
CONTEXT = MeterContext(1, "10000001", 1, ZONE)
MODEL = model_named("dlms-nbr16968")
# A peer that answers in pieces for ever is ended by the session's time; here by this.
_MAX_PIECES = 500


def pieces(data: bytes) -> Iterator[bytes]:
    """Octets cut where their own values say."""
    place = 0
    while place < len(data):
        size = data[place] or 256
        yield data[place + 1 : place + 1 + size]
        place += 1 + size


def record(data: bytes) -> None:
    """A stored session of any octets decodes; no count is below zero."""
    frames = [
        Frame(number, NOW, bool(number % 2), True, piece)
        for number, piece in enumerate(pieces(data), start=1)
    ]
    found = decode_dlms(frames, MODEL, CONTEXT)
    assert all((vector.pulses >= 0).all() for vector in found.vectors)


def capture(data: bytes) -> None:
    """Any octets are described, each octet at most once."""
    assert sum(
        record["error"]["count"]
        for record in describe(data)
        if "offset" in record and "count" in record.get("error", {})
    ) <= len(data)


def reader(name: str) -> Callable[[bytes], None]:
    """The client takes any answer, or ends with a fault of the meter's or the operator's."""

    def take(data: bytes) -> None:
        model = model_named(name)
        client = DlmsClient(model.framing_for(model.client), Credentials(), max_apdu=model.max_apdu)
        with suppress(RetryFault, OperatorFault, AccessRefused, StopIteration):
            steps = _visit(client, name)
            next(steps)
            for _, piece in zip(range(_MAX_PIECES), pieces(data), strict=False):
                steps.send(piece)

    return take


def _visit(client: DlmsClient, name: str) -> Steps[None]:
    model = model_named(name)
    yield from client.open()
    yield from dlms_script.identity(client, model)
    local = NOW.replace(tzinfo=None)
    span = Span(local - timedelta(days=1), local)
    yield from dlms_script.load_profile(client, model, [span], local, ZONE)
    yield from dlms_script.whole_log(client, "0-0:99.98.0.255")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "dlms-record": record,
    "dlms-capture": capture,
    "dlms-reader-wrapper": reader("dlms-generic"),
    "dlms-reader-hdlc": reader("dlms-generic-hdlc"),
}
