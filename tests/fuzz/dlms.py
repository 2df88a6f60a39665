"""DLMS: what is fuzzed of records, of the reader's side and of the simulated meter's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from collector.decoded import Frame, MeterContext
from collector.dlms import script as dlms_script
from collector.dlms.decode import decode_dlms
from collector.work.planning import Span
from faults import OperatorFault, RetryFault
from protocols.dlms.access import AccessRefused, Credentials
from protocols.dlms.client import DlmsClient, Steps
from protocols.dlms.describe import describe
from protocols.dlms.framing import HdlcFrame
from protocols.dlms.mode_e import SPEEDS, Identification, Listen, SignOn, Step, Wait, is_opening
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


def _events(data: bytes) -> Iterator[bytes]:
    """Octets cut where their own values say; nothing for 0: silence."""
    place = 0
    while place < len(data):
        size = data[place]
        yield data[place + 1 : place + 1 + size]
        place += 1 + size


def _on_line(piece: bytes) -> bytes:
    """The octets themselves, or in a frame whose checksums hold: control octet and information."""
    if piece[0] & 1 or len(piece) < 2:
        return piece[1:]
    return HdlcFrame(b"\x21", b"\x03", piece[1], piece[2:], bool(piece[0] & 2)).encode()


def hdlc_line(data: bytes) -> None:
    """Any line, silences and all, gives values or a fault; what is sent in answer is bounded."""
    model = model_named("dlms-generic-hdlc")
    framing = model.framing_for(model.client)
    client = DlmsClient(framing, Credentials(), max_apdu=model.max_apdu)
    sent = 0
    with suppress(RetryFault, OperatorFault, AccessRefused, StopIteration):
        steps = _visit(client, model.name)
        next(steps)
        for number, piece in zip(range(_MAX_PIECES), _events(data), strict=False):
            if not piece:
                sent += len(framing.timed_out())
            sent += len(steps.send(_on_line(piece) if piece else b""))
            # A request or a poll for each event, and a repetition for each frame of nine octets.
            assert sent <= 300 * (number + 2) + 40 * len(data)


def mode_e(data: bytes) -> None:
    """Any answer to a sign-on opens the port at a speed that there is, or is a fault; it comes to an end."""
    said: list[bytes] = []
    with suppress(RetryFault):
        found = _opened(SignOn(repeats=3).steps(said.append), _events(data), 2 * len(data) + 100)
        assert found.baud in SPEEDS.values()
        assert all(is_opening(line) for line in said)


def _opened(steps: Generator[Step, bytes, Identification], heard: Iterator[bytes], most: int) -> Any:
    try:
        step = next(steps)
        for _ in range(most):
            step = steps.send(next(heard, b"") if isinstance(step, Listen | Wait) else b"")
    except StopIteration as end:
        return end.value
    raise AssertionError("no end")


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
    "dlms-line-hdlc": hdlc_line,
    "dlms-mode-e": mode_e,
}
