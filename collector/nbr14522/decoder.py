"""What stored frames of NBR 14522 mean, as `collector.drivers` has decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from collector.decoded import Decoded, Frame, Issue, MeterContext
from collector.drivers import Decoder
from collector.nbr14522.cross_checks import check_history
from collector.nbr14522.decode import decode_session
from protocols.nbr14522.profiles import profile_named


class Nbr14522Decoder:
    """See `decode`, and `cross_checks` for what sessions say about one another."""

    def decode(self, frames: Sequence[Frame], profile: str, context: MeterContext) -> Decoded:
        return decode_session(frames, profile_named(profile), context)

    def check_history(
        self, conn: psycopg.Connection[Any], sessions: Sequence[tuple[int, MeterContext, Decoded]]
    ) -> Mapping[int, Sequence[Issue]]:
        return check_history(conn, sessions)


DECODER: Decoder = Nbr14522Decoder()
