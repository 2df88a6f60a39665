"""A load profile as a meter answers it, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from collector.decoded import Decoded, Frame, MeterContext
from collector.dlms.decode import decode_dlms
from protocols.dlms.apdu import Attribute, get_request, obis_octets
from protocols.dlms.axdr import Data, Tag, array, encode, octets, structure
from protocols.dlms.clock import encode_date_time
from protocols.dlms.models import model_named
from tests.collector.world import MARKET

MODEL = model_named("dlms-nbr16968")
LOAD = MODEL.load_profile
INCREMENT, TOTAL = "1-0:1.29.0.255", "1-0:1.8.0.255"
READ_AT = datetime(2026, 11, 21, 6, tzinfo=UTC)
SERIAL = "10000001"


class Session:
    """A record of GETs and their answers, each over one bare APDU."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.got(1, MODEL.serial_object, 2, octets(SERIAL.encode()))

    def got(self, class_id: int, obis: str, index: int, value: Data, at: datetime = READ_AT) -> Session:
        return self.answered(class_id, obis, index, b"\xc4\x01\xc1\x00" + encode(value), at)

    def answered(
        self, class_id: int, obis: str, index: int, answer: bytes, at: datetime = READ_AT
    ) -> Session:
        for is_sent, apdu in ((True, get_request(Attribute(class_id, obis, index))), (False, answer)):
            self.frames.append(Frame(len(self.frames) + 1, at, is_sent, True, apdu))
        return self

    def profile(
        self, column: str = INCREMENT, period_s: int = 900, scaler: int = 0, unit: int = 30
    ) -> Session:
        self.got(7, LOAD, 3, array(captured(8, "0-0:1.0.0"), captured(3, column)))
        self.got(7, LOAD, 4, Data(Tag.UINT32, period_s))
        return self.got(3, column, 3, structure(Data(Tag.INT8, scaler), Data(Tag.ENUM, unit)))

    def rows(self, *rows: tuple[Data, Data], at: datetime = READ_AT) -> Session:
        return self.got(7, LOAD, 2, array(*(structure(*row) for row in rows)), at)

    def decoded(self) -> Decoded:
        return decode_dlms(self.frames, MODEL, MeterContext(1, SERIAL, 1, MARKET))


def captured(class_id: int, obis: str, attribute: int = 2) -> Data:
    return structure(
        Data(Tag.UINT16, class_id),
        octets(obis_octets(obis)),
        Data(Tag.INT8, attribute),
        Data(Tag.UINT16, 0),
    )


def at(text: str, status: int | None = None) -> Data:
    """A moment of the market's, as 2026-11-20T10:15."""
    return octets(encode_date_time(datetime.fromisoformat(text).replace(tzinfo=MARKET), status=status))


def wh(count: int) -> Data:
    return Data(Tag.UINT32, count)


def intervals(found: Decoded) -> dict[str, int]:
    """Pulses of channel 1 by the end of their interval."""
    return {
        (
            datetime.combine(vector.day, datetime.min.time())
            + (index + 1) * timedelta(seconds=vector.interval_s)
        ).isoformat(timespec="minutes"): int(vector.pulses[index])
        for vector in found.vectors
        for index in vector.present.nonzero()[0]
    }


def reasons(found: Decoded) -> list[str]:
    return [issue.reason for issue in found.issues]
