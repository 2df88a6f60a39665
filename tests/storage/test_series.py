"""Writing UC-days: one version for all layers, written once, replaced while open, kept once delivered."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal

import polars as pl
import pytest

from faults import DeveloperFault
from storage import series
from storage.database import Database
from storage.series import Layer, UcDays, WriteResult, read_layer, write_uc_days
from tests.storage.factory import AT, DAY, add_points, add_submission
from vee.quality import Origin

SLOTS = 4


def layer_frame(values: dict[int, list[int | None]], derivation_id: int, day: dt.date = DAY) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "uc_id": list(values),
            "day": [day] * len(values),
            "interval_s": [300] * len(values),
            "denominator": [1000] * len(values),
            "numerators": list(values.values()),
            "origin": [bytes(0 if v is None else 1 for v in vs) for vs in values.values()],
            "reason": [bytes(len(vs)) for vs in values.values()],
            "derivation_id": [derivation_id] * len(values),
        },
        schema=series.WRITE_SCHEMA,
    )


def batch(
    values: dict[int, list[int | None]],
    *,
    derivation_id: int = 1,
    input_version: int = 1,
    state: str = "ready",
    with_series: bool = True,
) -> UcDays:
    """The same values in all five layers, with an estimate, a verdict, a MUSD hour and an outcome for each
    UC.
    """
    ucs = list(values)
    key = {"uc_id": ucs, "day": [DAY] * len(ucs)}
    layers = {layer: layer_frame(values, derivation_id) for layer in Layer}
    layers[Layer.PRIMARY] = layers[Layer.PRIMARY].with_columns(input_version=pl.lit(input_version, pl.Int32))
    kwh = [str(Decimal(sum(v or 0 for v in vs)) / 1000) for vs in values.values()]
    detail = pl.lit('{"neighbours": [1, 3]}')
    return UcDays(
        layers=layers if with_series else {},
        estimates=pl.DataFrame(key).with_columns(
            first_slot=pl.lit(1),
            last_slot=pl.lit(2),
            strategy=pl.lit("s"),
            method=pl.lit("A"),
            detail=detail,
            approved_by=pl.lit(None, pl.String),
        ),
        verdicts=pl.DataFrame(key).with_columns(
            first_slot=pl.lit(0),
            last_slot=pl.lit(0),
            rule=pl.lit("V01"),
            result=pl.lit("missing"),
            detail=detail,
        ),
        musd_hours=pl.DataFrame({**key, "energy_kwh": kwh}).with_columns(
            hour=pl.lit(1), musd_kw=pl.lit("10"), limit_kwh=pl.lit("12.5"), is_rejected=pl.lit(False)
        ),
        outcomes=pl.DataFrame({**key, "energy_kwh": kwh}).with_columns(
            state=pl.lit(state), cause=pl.lit(""), measured=pl.lit(4), backup=pl.lit(0), estimated=pl.lit(0),
            edited=pl.lit(0), missing=pl.lit(0), detail=pl.lit("{}"),
        ),
    )  # fmt: skip


def write(db: Database, content: UcDays, run_id: str = "run1") -> WriteResult:
    with db.connect() as conn:
        return write_uc_days(conn, content, run_id=run_id, at=AT)


def rows(db: Database, query: str) -> list[tuple]:
    with db.connect() as conn:
        return conn.execute(query).fetchall()


ALL = (
    "SELECT layer, version, numerators, run_id, input_version FROM series_day WHERE uc_id = 1 "
    "ORDER BY version, layer"
)


def test_five_layers_and_their_words_in_one_go(db: Database) -> None:
    result = write(db, batch({1: [1, 2, None, 4], 2: [5, 6, 7, 8]}))
    assert (result.count("insert"), result.written, result.removed) == (2, 2, 0)
    assert rows(db, ALL) == [(layer, 1, [1, 2, None, 4], "run1", 1) for layer in range(1, 6)]
    assert rows(db, "SELECT detail, version FROM estimate WHERE uc_id = 1") == [({"neighbours": [1, 3]}, 1)]
    assert rows(db, "SELECT rule, run_id FROM verdict WHERE uc_id = 2") == [("V01", "run1")]
    assert rows(db, "SELECT energy_kwh FROM musd_hour ORDER BY uc_id") == [
        (Decimal("0.007"),),
        (Decimal("0.026"),),
    ]
    assert rows(db, "SELECT state, updated_at FROM uc_day_outcome WHERE uc_id = 2") == [("ready", AT)]


def test_same_content_again_writes_nothing(db: Database) -> None:
    content = batch({1: [1, 2, None, 4]})
    write(db, content)
    result = write(db, content, "run2")
    assert (result.count("keep"), result.written) == (1, 0)
    assert {row[3] for row in rows(db, ALL)} == {"run1"}
    for table in ("verdict", "musd_hour", "uc_day_outcome"):
        assert rows(db, f"SELECT run_id FROM {table}") == [("run1",)]


@pytest.mark.parametrize(
    "change",
    [
        {"values": {1: [1, 2, 3, 4]}},
        {"values": {1: [1, 2, 0, 4]}},
        {"derivation_id": 2},
        {"input_version": 2},
    ],
    ids=["filled", "zero is not missing", "other parameters", "other readings"],
)
def test_open_day_is_replaced_in_place(db: Database, change: dict) -> None:
    before = {"values": {1: [1, 2, None, 4]}}
    write(db, batch(**before))
    result = write(db, batch(**{**before, **change}), "run2")
    assert result.count("replace") == 1
    found = rows(db, ALL)
    assert [row[1] for row in found] == [1] * 5
    assert {row[3] for row in found} == {"run2"}
    assert rows(db, "SELECT version FROM estimate") == [(1,)]


@pytest.mark.req("TR-5.7d")
def test_delivered_day_keeps_what_was_delivered(db: Database) -> None:
    """After a submission a change is a new version of all layers, estimates too; the old one stays to be
    explained.
    """
    with db.connect() as conn:
        add_points(conn, 1)
        add_submission(conn, 1)
    write(db, batch({1: [1, 2, None, 4]}))
    result = write(db, batch({1: [1, 2, 3, 4]}), "run2")
    assert result.versions.rows() == [(1, DAY, 2, "append")]
    assert rows(db, ALL) == [
        *((layer, 1, [1, 2, None, 4], "run1", 1) for layer in range(1, 6)),
        (1, 2, [1, 2, 3, 4], "run2", 1),
        *((layer, 2, [1, 2, 3, 4], "run2", 2) for layer in range(2, 6)),
    ]
    assert rows(db, "SELECT version FROM estimate ORDER BY 1") == [(1,), (2,)]
    assert write(db, batch({1: [1, 2, 3, 4]})).written == 0, "the latest version is what counts"
    latest = read_layer(db, Layer.CCEE, DAY, DAY)
    assert latest.select("version", "numerators").rows() == [(2, [1, 2, 3, 4])]
    known = rows(db, "SELECT DISTINCT version FROM series_interval_all_versions ORDER BY 1")
    assert known == [(1,), (2,)]
    assert rows(db, "SELECT DISTINCT version FROM series_interval") == [(2,)]


def test_only_what_changed_is_replaced(db: Database) -> None:
    write(db, batch({1: [1, 2, 3, 4], 2: [5, 6, 7, 8]}))
    result = write(db, batch({1: [1, 2, 3, 4], 2: [5, 6, 7, 9], 3: [0, 0, 0, 0]}), "run2")
    assert [result.count(action) for action in ("keep", "replace", "insert")] == [1, 1, 1]
    found = rows(db, "SELECT uc_id, run_id FROM uc_day_outcome ORDER BY 1")
    assert found == [(1, "run1"), (2, "run2"), (3, "run2")]


def test_series_that_is_no_more(db: Database) -> None:
    """A UC-day that has only an outcome loses its series, unless it was delivered."""
    with db.connect() as conn:
        add_points(conn, 2)
        add_submission(conn, 2)
    write(db, batch({1: [1, 2, 3, 4], 2: [5, 6, 7, 8]}))
    result = write(db, batch({1: [1] * 4, 2: [1] * 4}, state="not_expected", with_series=False), "run2")
    assert (result.removed, result.written) == (1, 0)
    assert rows(db, "SELECT DISTINCT uc_id FROM series_day") == [(2,)]


def test_reading_by_shard_and_by_uc(db: Database) -> None:
    write(db, batch({uc: [uc, None, 0, 2**60] for uc in range(1, 8)}))
    assert read_layer(db, Layer.ADJUSTED, DAY, DAY, 2, 3)["uc_id"].to_list() == [2, 5]
    some = read_layer(db, Layer.PRIMARY, DAY, DAY + dt.timedelta(days=9), uc_ids=[7, 3])
    assert some["numerators"].to_list() == [[3, None, 0, 2**60], [7, None, 0, 2**60]]
    assert some["origin"].to_list() == [bytes([1, 0, 1, 1])] * 2
    assert read_layer(db, Layer.PRIMARY, DAY, DAY, uc_ids=[99]).is_empty()
    stored = rows(db, f"SELECT version, length(content_hash) FROM series_day WHERE layer = {int(Layer.CCEE)}")
    assert stored == [(1, 32)] * 7


def test_derivation_is_one_row_for_the_same_parameters(db: Database) -> None:
    with db.connect() as conn:
        first = series.derivation(conn, "adjusted", "1.0", {"percent": "2.5", "kind": "line"})
        assert series.derivation(conn, "adjusted", "1.0", {"kind": "line", "percent": "2.5"}) == first
        assert series.derivation(conn, "adjusted", "1.0", {"percent": "2.6", "kind": "line"}) != first


def test_interrupted_write_leaves_the_old_rows(db: Database) -> None:
    write(db, batch({1: [1, 2, 3, 4]}))
    before = rows(db, ALL)
    conn = db.connect()
    write_uc_days(conn, batch({1: [9, 9, 9, 9]}), run_id="run2", at=AT)
    with db.connect(autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
    assert rows(db, ALL) == before
    assert rows(db, "SELECT run_id FROM uc_day_outcome") == [("run1",)]


def test_two_runs_at_once_end_in_one_version(db: Database) -> None:
    failures = []

    def run(run_id: str) -> None:
        try:
            for value in range(5):
                write(db, batch({uc: [value] * SLOTS for uc in range(1, 20)}), run_id)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f"run{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = rows(
        db, "SELECT uc_id, count(*), count(DISTINCT content_hash) FROM series_day WHERE layer > 1 GROUP BY 1"
    )
    assert [row[1] for row in found] == [4] * 19


def test_what_no_layer_may_be(embedded_db: Database) -> None:
    short = batch({1: [1, 2, 3, 4]})
    layers = {**short.layers, Layer.CCEE: short.layers[Layer.CCEE].with_columns(origin=pl.lit(b"\x01"))}
    with pytest.raises(DeveloperFault, match="one octet per slot"):
        write(embedded_db, UcDays(layers=layers, outcomes=short.outcomes))
    twice = {Layer.CCEE: pl.concat([short.layers[Layer.CCEE]] * 2)}
    with pytest.raises(DeveloperFault, match="twice"):
        write(embedded_db, UcDays(layers=twice, outcomes=short.outcomes))


def test_a_row_per_interval_in_market_time(db: Database) -> None:
    """Intervals are named by their end; the last one of the day ends at 00:00 of the next, -03:00."""
    with db.connect() as conn:
        add_points(conn, 1)
    write(db, batch({1: [1500, None, 0, 4]}))
    found = rows(
        db,
        "SELECT uc_code, layer_name, slot, interval_start, interval_end, energy_kwh, origin_name, version "
        "FROM series_interval WHERE layer_name = 'ccee' ORDER BY slot",
    )
    midnight = dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC)
    assert [row[3] - midnight for row in found] == [dt.timedelta(minutes=5 * n) for n in range(4)]
    assert found[0][4] - found[0][3] == dt.timedelta(minutes=5)
    assert found[0][:3] == ("0000000001", "ccee", 0)
    assert [row[5] for row in found] == [Decimal("1.5"), None, 0, Decimal("0.004")]
    assert [row[6] for row in found] == ["measured", "missing", "measured", "measured"]
    names = rows(db, "SELECT origin_name(i) FROM generate_series(0, 4) i")
    assert [name.upper() for (name,) in names] == [origin.name for origin in Origin]
