"""Days, shards and months as partitions."""

from __future__ import annotations

import datetime as dt

import pytest

from assets.partitions import Partitions, iana_zone
from derivation.window import Window
from faults import OperatorFault
from storage.settings import DagsterSettings, Settings
from tests.dagster_strict import strict_dagster

pytestmark = strict_dagster(pytest.mark.req("X-scale"))

FIRST = dt.date(2026, 11, 1)


def test_latest_partition_is_the_last_market_day_that_is_over() -> None:
    partitions = Partitions(FIRST)
    # 02:59 UTC is 23:59 of the day before at -03:00; one minute later that day is over.
    before, after = (dt.datetime(2026, 11, 21, h, m, tzinfo=dt.UTC) for h, m in ((2, 59), (3, 0)))
    assert partitions.latest_day(before) == dt.date(2026, 11, 19)
    assert partitions.latest_day(after) == dt.date(2026, 11, 20)
    assert partitions.daily.get_partition_keys(current_time=before)[-1] == "2026-11-19"
    assert partitions.daily.get_partition_keys(current_time=after)[-1] == "2026-11-20"


def test_the_running_month_has_a_partition() -> None:
    now = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    assert Partitions(FIRST).monthly.get_partition_keys(current_time=now) == ["2026-11-01"]


def test_windows_join_days_of_a_shard_that_follow_each_other() -> None:
    keys = ["2026-11-03|1", "2026-11-01|0", "2026-11-02|0", "2026-11-05|0"]
    assert Partitions(FIRST, shards=2).windows(keys) == [
        Window(dt.date(2026, 11, 1), dt.date(2026, 11, 2), 0, 2),
        Window(dt.date(2026, 11, 5), dt.date(2026, 11, 5), 0, 2),
        Window(dt.date(2026, 11, 3), dt.date(2026, 11, 3), 1, 2),
    ]


def test_years_of_days_stay_far_below_what_dagster_carries() -> None:
    """The documented limit is 100,000 partitions an asset; five years in ten shards are 18,260."""
    partitions = Partitions(dt.date(2021, 11, 20), shards=10)
    keys = partitions.daily.get_partition_keys(current_time=dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC))
    assert len(keys) == 18_260


@pytest.mark.parametrize(
    ("zone", "name"), [("-03:00", "Etc/GMT+3"), ("+02:00", "Etc/GMT-2"), ("-00:00", "Etc/GMT")]
)
def test_fixed_offsets_have_a_name(zone: str, name: str) -> None:
    assert iana_zone(zone) == name


def test_bad_settings_name_the_place() -> None:
    with pytest.raises(OperatorFault, match="first_day"):
        Partitions.of(Settings(dagster=DagsterSettings(first_day="2026-13-01")))
    with pytest.raises(OperatorFault, match="zone"):
        iana_zone("-03:30")
