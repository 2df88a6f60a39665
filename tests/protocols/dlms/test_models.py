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
        ("[models.dlms-x]\nrepeat_s = inf", "no seconds", "own.toml, model dlms-x, repeat_s"),
        ("[models.dlms-x]\nanswer_s = true", "no seconds", "own.toml, model dlms-x, answer_s"),
        ("[models.dlms-x]\naccess = []", "no way", "own.toml, model dlms-x, access"),
        ("[models.dlms-x]\naccess = 'range'", "not list", "own.toml, model dlms-x, access"),
        (
            "[models.dlms-x]\nstatus_flags = {'80' = 'invalid'}\ninvalid_flags = ['invlid']",
            "invlid: no name",
            "own.toml, model dlms-x, invalid_flags",
        ),
        (
            "[models.dlms-x]\nchannels = [{channel = 1, quantity = 1, object = ['1-0:1.8.0'], objects = []}]",
            "unknown key object",
            "own.toml, model dlms-x, channels",
        ),
        (
            "[models.dlms-x]\nchannels = [{channel = 1, quantity = 1, objects = []}, "
            "{channel = 1, quantity = 10, objects = []}]",
            "two with one number",
            "own.toml, model dlms-x, channels",
        ),
        (
            "[models.dlms-x]\nframing = 'hdlc'\nphysical_device = 17",
            "no room",
            "own.toml, model dlms-x, physical_device",
        ),
        (
            "[models.dlms-x]\nframing = 'hdlc'\naddress_octets = 2\nphysical_device = 200",
            "room for 127",
            "own.toml, model dlms-x, physical_device",
        ),
        (
            "[models.dlms-x]\nframing = 'hdlc'\nlogical_device = 200",
            "room for 127",
            "own.toml, model dlms-x, logical_device",
        ),
    ],
)
def test_what_is_no_catalogue_is_refused_with_its_place(text: str, message: str, where: str) -> None:
    with pytest.raises(OperatorFault, match=message) as told:
        load_models(("own.toml", text))
    assert told.value.where == where
    assert told.value.remedy
