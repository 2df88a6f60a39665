"""What no public source settles about the user output, as named settings."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_POSTS = ("own", "extended")


@dataclass(frozen=True)
class SsuSettings:
    """Settings of one line.

    Attributes:
        interval_s: length of the demand interval. It is not in the block (section 6); 900 is usual, 300 and
            3600 exist.
        silence_s: silence that ends a burst. 0.150 is between the longest octet (0.100) and the shortest
            silence between blocks (0.180), section 5.
        seconds_tolerance: how far the countdown may be from previous minus elapsed (section 5: 2).
        lock_after: coherent blocks before the format is taken as settled (section 5, one source: 10).
        unlock_after: refused windows in a row before both formats are tried again (section 5: 30).
        complete_within_s: an interval whose last block had more seconds left lacks its end (section 6). 0
            asks for the closing block, which comes three times; a meter that sends none needs 1, and loses
            what it counts in its last second.
        normal_closings: closing blocks with the same counters that a normal block's interval needs: its check
            is a mere XOR, and one that passes it damaged would close an interval with a false count. Of the
            three that are sent, two; a meter that sends fewer, or none, needs 1 or 0.
        unnoticed_s: an extended block shows the registers of its quadrant only. One that does not show again
            after a longer hole than this may have counted in it, and is not told. 0 tells none after any lost
            block; 5 is half a hundredth of a quarter of an hour.
        mixed_hour_post: "own" reads the control word of a mixed block by its own coding, "extended" by the
            extended block's. The two conflict in the one public description (section 4); unknown.
    """

    interval_s: int = 900
    silence_s: float = 0.150
    seconds_tolerance: int = 2
    lock_after: int = 10
    unlock_after: int = 30
    complete_within_s: int = 0
    normal_closings: int = 2
    unnoticed_s: int = 5
    mixed_hour_post: str = "own"
