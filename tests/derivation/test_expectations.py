"""The auditors' suite and its pages."""

from __future__ import annotations

import re

import pytest

from derivation import checking, expectations
from derivation.run import derive
from derivation.window import Window
from storage.database import Database
from tests.derivation.world import DAY, NOW, add_points, curve, put_readings

pytestmark = pytest.mark.req("TR-2b")


def test_pages_of_a_day_say_what_held_and_keep_each_run(embedded_db: Database) -> None:
    db = embedded_db
    with db.connect() as conn:
        points = add_points(conn, 3)
    put_readings(db, [(point.meter_id, DAY, curve(point.uc_id)) for point in points[:2]])
    derive(db, DAY, DAY, as_of=NOW, run_id="r1")
    folder = expectations.docs_folder(db.data_dir, DAY, 0, 1)

    frame = checking.ready_days(db, Window(DAY, DAY, 0, 1))
    good = expectations.validate(frame, folder, "run one")
    with db.connect() as conn:
        conn.execute(
            "UPDATE series_day SET numerators[5] = -1 WHERE layer = 5 AND uc_id = %s", [points[0].uc_id]
        )
    bad = expectations.validate(checking.ready_days(db, Window(DAY, DAY, 0, 1)), folder, "run two")

    assert frame.height == 2
    assert good.is_met
    assert good.expectations == 8
    assert not bad.is_met
    assert set(bad.failed) == {
        "expect_column_values_to_be_between(smallest_milli_kwh): 1",
        "expect_column_pair_values_to_be_equal(energy_milli_kwh, outcome_milli_kwh): 1",
    }
    assert bad.page == folder.resolve() / "index.html"
    index = bad.page.read_text("utf-8")
    pages = set(re.findall(r'href="?(validations/[^">]+\.html)', index))
    assert len(pages) == 2, "the index lists both runs"
    assert "Nenhum consumo negativo" in index
    for page in pages:
        loaded = re.findall(r'(?:src|href)="(https?:[^"]+)"', (folder / page).read_text("utf-8"))
        assert not loaded, "nothing comes from another server"
