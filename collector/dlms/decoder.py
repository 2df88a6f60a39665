"""What stored frames of DLMS/COSEM mean, as `collector.drivers` has decoders."""

from __future__ import annotations

from collections.abc import Sequence

from collector.decoded import Decoded, Frame, MeterContext
from collector.dlms.decode import decode_dlms
from collector.drivers import Decoder, WithoutHistory
from protocols.dlms.models import model_named


class DlmsDecoder(WithoutHistory):
    """See `decode`."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return decode_dlms(frames, model_named(profile), context)


DECODER: Decoder = DlmsDecoder()
