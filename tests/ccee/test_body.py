"""Bodies: the bytes are canonical, exact, and equal to what a JSON library would say."""

import hashlib
import json
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccee.body import day_stamps, refusals, render, render_batch
from ccee.profile import Profile, load_profile
from faults import OperatorFault

DAY = date(2025, 10, 10)
UC = "001347925802810"
PROFILE = load_profile()


def with_send(**changes: object) -> Profile:
    return replace(PROFILE, send=replace(PROFILE.send, **changes))


def intervals(body: bytes) -> list[dict]:
    return [entry for hour in json.loads(body, parse_float=Decimal)["horas"] for entry in hour["medicoes"]]


@pytest.mark.req("TR-2a")
@pytest.mark.parametrize(
    ("end", "day", "hour", "position", "index"),
    [
        ("2025-10-10T00:05-03:00", "2025-10-10", 1, 1, 1),
        ("2025-10-10T01:00-03:00", "2025-10-10", 1, 12, 12),
        ("2025-10-10T17:35-03:00", "2025-10-10", 18, 7, 211),
        ("2025-10-11T00:00-03:00", "2025-10-10", 24, 12, 288),
        ("2025-10-11T02:20+00:00", "2025-10-10", 24, 4, 280),
    ],
)
def test_stamps_follow_the_table_of_the_reference(end, day, hour, position, index):
    instant = datetime.fromisoformat(end)
    hours = json.loads(render(PROFILE, UC, 1, date.fromisoformat(day), [0] * 288, [False] * 288))["horas"]
    found = hours[hour - 1]["medicoes"][position - 1]["dataReferenciaConsumo"]
    assert datetime.fromisoformat(found) == instant
    assert found.endswith("-03:00")
    assert day_stamps(date.fromisoformat(day), PROFILE.send)[index - 1].text == found


@pytest.mark.req("TR-2a")
def test_a_body_has_the_four_items_the_contract_asks_for():
    values = [6027, 5986] + [0] * 286
    adjusted = [False, True] + [False] * 286
    body = json.loads(render(PROFILE, UC, 9999, DAY, values, adjusted), parse_float=Decimal)
    assert body["codigoUnidadeConsumidora"] == UC
    assert body["codigoAgenteConcessionaria"] == 9999
    assert body["diaReferencia"] == "2025-10-10"
    assert [hour["hora"] for hour in body["horas"]] == list(range(1, 25))
    assert {len(hour["medicoes"]) for hour in body["horas"]} == {12}
    assert body["horas"][0]["medicoes"][:2] == [
        {
            "dataReferenciaConsumo": "2025-10-10T00:05:00-03:00",
            "consumo": Decimal("6.027"),
            "tipoConsumo": "MEDIDO",
        },
        {
            "dataReferenciaConsumo": "2025-10-10T00:10:00-03:00",
            "consumo": Decimal("5.986"),
            "tipoConsumo": "AJUSTADO",
        },
    ]
    assert body["horas"][23]["medicoes"][11]["dataReferenciaConsumo"] == "2025-10-11T00:00:00-03:00"


milli = st.one_of(st.integers(0, 20_000), st.integers(0, 10**12))


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(milli, min_size=288, max_size=288),
    adjusted=st.lists(st.booleans(), min_size=288, max_size=288),
    decimals=st.sampled_from([3, 4, 6]),
)
def test_parsing_gives_back_the_same_values_and_the_text_is_canonical(values, adjusted, decimals):
    body = render(with_send(decimals=decimals), UC, 77, DAY, values, adjusted)
    found = intervals(body)
    assert [entry["consumo"] for entry in found] == [Decimal(value).scaleb(-3) for value in values]
    assert [entry["tipoConsumo"] for entry in found] == [
        "AJUSTADO" if flag else "MEDIDO" for flag in adjusted
    ]
    # A JSON library, told to keep each number's text, writes the same bytes.
    kept = json.loads(body, parse_float=lambda text: f"<{text}>")
    again = json.dumps(kept, sort_keys=True, separators=(",", ":")).replace('"<', "").replace('>"', "")
    assert again.encode() == body
    assert all(-entry["consumo"].as_tuple().exponent == decimals for entry in found)


@settings(max_examples=25, deadline=None)
@given(missing=st.sets(st.integers(0, 287), max_size=40))
def test_a_partial_day_omits_whole_hours_and_never_writes_zero(missing):
    values = [None if slot in missing else 1000 + slot for slot in range(288)]
    gaps = {slot // 12 for slot in missing}
    profile = with_send(allow_partial_day=True)
    if len(gaps) == 24:
        with pytest.raises(OperatorFault, match="no hour"):
            render(profile, UC, 1, DAY, values, [False] * 288)
        return
    body = render(profile, UC, 1, DAY, values, [False] * 288)
    assert [hour["hora"] for hour in json.loads(body)["horas"]] == [h + 1 for h in range(24) if h not in gaps]
    sent = [int(entry["consumo"] * 1000) for entry in intervals(body)]
    assert sent == [1000 + slot for slot in range(288) if slot // 12 not in gaps]


def test_a_gap_a_short_day_and_a_negative_value_are_refused():
    with pytest.raises(OperatorFault, match="1 intervals are missing"):
        render(PROFILE, UC, 1, DAY, [None] + [1] * 287, [False] * 288)
    with pytest.raises(OperatorFault, match="287 intervals given, the day has 288"):
        render(PROFILE, UC, 1, DAY, [1] * 287, [False] * 287)
    with pytest.raises(OperatorFault, match=f"UC {UC}, 2025-10-10: a value is negative"):
        render(PROFILE, UC, 1, DAY, [-1] + [1] * 287, [False] * 288)


def test_a_day_of_the_old_summer_time_still_has_288_intervals():
    body = render(PROFILE, UC, 1, date(2018, 11, 4), [1] * 288, [False] * 288)
    stamps = [entry["dataReferenciaConsumo"] for entry in intervals(body)]
    assert stamps[0] == "2018-11-04T00:05:00-03:00"
    assert stamps[-1] == "2018-11-05T00:00:00-03:00"


def test_the_flat_layout_has_the_same_intervals_without_hours():
    values = list(range(288))
    flat = json.loads(
        render(with_send(layout="uc-day-flat"), UC, 1, DAY, values, [False] * 288), parse_float=Decimal
    )
    assert "horas" not in flat
    assert flat["medicoes"] == intervals(render(PROFILE, UC, 1, DAY, values, [False] * 288))


def test_names_of_another_contract_change_the_order_but_not_the_content():
    names = replace(PROFILE.send.names, uc="zz", consumption="zKWh", hour="zHour")
    body = render(with_send(names=names), 'a"b', 1, DAY, [1] * 288, [True, False] * 144)
    parsed = json.loads(body)
    assert parsed["zz"] == 'a"b'
    assert list(parsed) == sorted(parsed)
    assert list(parsed["horas"][0]) == ["medicoes", "zHour"]
    assert list(parsed["horas"][0]["medicoes"][0]) == ["dataReferenciaConsumo", "tipoConsumo", "zKWh"]
    assert [entry["tipoConsumo"] for entry in intervals(body)[:2]] == ["AJUSTADO", "MEDIDO"]


def test_start_stamps_are_a_setting():
    body = render(with_send(stamp="interval_start"), UC, 1, DAY, [1] * 288, [False] * 288)
    assert intervals(body)[0]["dataReferenciaConsumo"] == "2025-10-10T00:00:00-03:00"
    assert intervals(body)[287]["dataReferenciaConsumo"] == "2025-10-10T23:55:00-03:00"


def test_the_hash_is_of_the_content_and_stays():
    body = next(
        render_batch(PROFILE, DAY, [UC], [9999], np.full((1, 288), 6027), np.zeros((1, 288), dtype=np.bool_))
    )
    assert body.sha256 == hashlib.sha256(body.content).digest()
    # A change of the canonical form cannot pass unseen: stored hashes would no longer match.
    assert body.sha256.hex() == ("19da4b52ae1da1116e1196a52ab8a02be9c3cd48ccca454d2d94e08fa98e3b4a")


def test_a_batch_equals_its_bodies_one_by_one():
    rng = np.random.default_rng(7)
    values = rng.integers(0, 300_000, (600, 288))
    adjusted = rng.random((600, 288)) < 0.1
    missing = np.zeros((600, 288), dtype=np.bool_)
    missing[5, 100] = missing[300, :24] = True
    values[missing] = -(10**12)  # what stands there is no value
    profile = with_send(allow_partial_day=True)
    codes = [f"{row:015d}" for row in range(600)]
    bodies = list(render_batch(profile, DAY, codes, [12] * 600, values, adjusted, missing))
    for row in (0, 5, 255, 256, 300, 599):
        one = [None if gap else int(value) for value, gap in zip(values[row], missing[row], strict=True)]
        assert bodies[row].content == render(profile, codes[row], 12, DAY, one, adjusted[row].tolist())


def test_rows_that_cannot_be_sent_are_named_so_that_the_others_flow():
    values = np.ones((4, 288), dtype=np.int64)
    missing = np.zeros((4, 288), dtype=np.bool_)
    missing[1, 3] = True
    values[2, 0] = -5
    assert sorted(refusals(PROFILE, values, missing)) == [1, 2]
