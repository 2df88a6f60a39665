"""Hundreds of mixed meters on bad links, for days: what could be had is there, and nothing is done twice.

SMF_CHAOS_FULL=1 lets 500 meters live a week (minutes); without it a smaller fleet lives two days.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter

import pytest
import structlog

from tests.collector import chaos, world

IS_FULL = os.environ.get("SMF_CHAOS_FULL", "") not in ("", "0")
METERS, DAYS = (500, 7) if IS_FULL else (40, 2)
METERS = int(os.environ.get("SMF_CHAOS_METERS", METERS))
DAYS = int(os.environ.get("SMF_CHAOS_DAYS", DAYS))
SEED = int(os.environ.get("SMF_CHAOS_SEED", "20261129"))


@pytest.mark.req("TR-5.5a", "TR-5.5b", "TR-5.5c", "TR-5.5d", "TR-5.7c", "X-sim")
@pytest.mark.timeout(7200 if IS_FULL else 300)
@pytest.mark.slow
def test_a_fleet_lives_days_on_bad_links(embedded_db, monkeypatch, capsys, tmp_path):
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=quiet, cache_logger_on_first_use=False)
    begun = time.perf_counter()
    try:
        lived = chaos.live(embedded_db, METERS, DAYS, SEED, monkeypatch, tmp_path)
    finally:
        structlog.reset_defaults()
    told = chaos.account(lived, DAYS)
    writes, resets = chaos.writes(lived), chaos.resets(lived)
    with capsys.disabled():
        print(
            f"\nchaos: seed {SEED}, {len(lived.ids)} meters, {DAYS} days in "
            f"{time.perf_counter() - begun:.0f} s; sessions {dict(lived.sessions)}; "
            f"{lived.bytes / 1e6:.1f} MB; intervals: {told.exact} exact, "
            f"{told.lost_by_meter} lost by meters, {told.unreachable} of silent meters; "
            f"writes {sum(done for done, _, _ in writes.values())}, "
            f"resets {dict(Counter(verdict for _, verdict in resets.values()))}"
        )

    assert told.wrong == []
    assert told.exact > 0.9 * (told.exact + told.lost_by_meter + told.unreachable)

    assert set(lived.witness.most.values()) == {1}
    assert not lived.witness.broken_off
    assert chaos.overlapping_sessions(lived.db) == []
    assert chaos.shared_lines(lived.db) == []
    assert world.query(lived.db, "SELECT count(*) FROM session WHERE outcome IS NULL") == [(0,)]

    still = (
        "SELECT count(*) FROM job_request WHERE requested_by = 'person' AND state IN ('queued', 'running')"
    )
    assert world.query(lived.db, still) == [(0,)]
    for serial, (done, on_record, confirmed) in writes.items():
        assert confirmed <= done <= on_record, serial
    assert sum(done for done, _, _ in writes.values()) > 0
    for serial, (done, verdict) in resets.items():
        assert (done, verdict) in ((1, "confirmed"), (0, None)), serial
    assert sum(done for done, _ in resets.values()) > len(resets) // 2
