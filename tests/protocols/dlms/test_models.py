"""Catalogues of DLMS models: what is wrong with one is told with its place."""

from __future__ import annotations

import pytest

from faults import OperatorFault
from protocols.dlms.models import load_models


@pytest.mark.req("TR-5.1")
@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("models = 3", "only tables", "own.toml"),
        ("[other]", "only tables", "own.toml"),
        ("[models]\nx = 1", "not a table", "own.toml, model x"),
        ("[models", "not TOML", "own.toml"),
        ("[models.dlms-x]\ncommand_model = 'dlms-y'", "is no model", "own.toml, model dlms-x"),
        (
            "[models.dlms-x]\nclock_shift_up_to_s = 901",
            "0 to 900",
            "own.toml, model dlms-x, clock_shift_up_to_s",
        ),
        ("[models.dlms-x]\nclock_status = '100'", "100", "own.toml, model dlms-x, clock_status"),
    ],
)
def test_what_is_no_catalogue_is_refused_with_its_place(text: str, message: str, where: str) -> None:
    with pytest.raises(OperatorFault, match=message) as told:
        load_models(("own.toml", text))
    assert told.value.where == where
    assert told.value.remedy
