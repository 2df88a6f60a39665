"""The catalogue of meter models: data in, profiles out, clear words where the data are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import pytest

from faults import OperatorFault
from protocols.nbr14522.commands import command_key
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.models import (
    _PROFILE_KEYS,
    add_catalogue,
    load_models,
    models,
    remove_catalogue,
)
from protocols.nbr14522.profile import DEFAULT, STRICT, ClockChange, MeterProfile
from protocols.nbr14522.profiles import PROFILES, profile_named

pytestmark = pytest.mark.req("TR-5.1", "TR-5.6b")

OWN = """
[models.acme-7]
extends = "old-3ch"
maker = "Acme"
description = "Found in a substation."
model_codes = ["0707"]
confidence = "C"
packing = "M"
addressing = "P2"
address = 7
timing = "strict"
add_commands = ["63", "98"]
remove_commands = ["28"]
extended_commands = ["98/30"]
serial_prefixes = ["30"]
facts = [{ text = "Blinks.", confidence = "C" }]

[[models.acme-7.write_layouts]]
command = "63"
source = "manual, edition 3, page 40"
fields = [
    { name = "is_on", octet = 5, coding = "binary", allowed = [0, 1] },
    { name = "day", octet = 6 },
]

[models.landis-e750]
enq_required = 1
"""


@pytest.fixture
def own() -> Iterator[None]:
    add_catalogue("own.toml", OWN)
    yield
    remove_catalogue("own.toml")


def test_models_of_the_reference() -> None:
    """Section 11."""
    assert profile_named("landis-e550-g2").addressing is Addressing.P8
    assert profile_named("landis-e550-g2").instantaneous_filling == 0xFF
    assert [model.profile.groups for model in models().with_code("1681")] == [7]
    absoluto = profile_named("star-absoluto")
    keys = {command_key(code) for code in absoluto.commands}
    assert {"63", "77", "92"} <= keys
    assert not {"29", "33", "87", "39", "40"} & keys
    assert absoluto.has_command(0x98, 0x32)
    assert not absoluto.has_command(0x98, 0x95)
    assert absoluto.clock_change is ClockChange.CLOSE_PERIOD
    assert not profile_named("star-easy").has_command(0x11)
    assert profile_named("saga1500").addressing is Addressing.P2


def test_a_model_is_added_without_code(own: None) -> None:
    profile = profile_named("acme-7")
    assert (profile.name, profile.packing, profile.addressing, profile.address) == (
        "acme-7",
        Packing.M,
        Addressing.P2,
        7,
    )
    assert profile.timing == STRICT
    assert not profile.has_command(0x14)
    assert not profile.has_command(0x28)
    assert profile.has_command(0x98, 0x30)
    layout = profile.layout_of("63")
    assert layout is not None
    assert layout.request({"is_on": 1, "day": 5}).encode("000001")[4:6] == b"\x01\x05"
    assert [model.profile for model in models().with_code("0707")] == [profile]
    assert "acme-7" in PROFILES
    assert len(PROFILES) == len(list(PROFILES))
    assert models()["acme-7"].facts[0].text == "Blinks."


def test_an_entry_laid_over_keeps_what_it_does_not_say(own: None) -> None:
    profile = profile_named("landis-e750")
    assert profile.enq_required == 1
    assert profile.password_transform == "landis-commercial-sha256"
    assert profile_named("landis-e650").enq_required == 1, "what extends it follows"


def test_a_catalogue_can_be_taken_out_again() -> None:
    add_catalogue("own.toml", OWN)
    remove_catalogue("own.toml")
    assert "acme-7" not in PROFILES
    assert profile_named("landis-e750").enq_required == DEFAULT.enq_required


def test_the_serial_as_printed() -> None:
    saga = profile_named("saga1000")
    assert saga.same_serial("30-1234567-8", "01234567")
    assert saga.same_serial("1234567", "01234567")
    assert not saga.same_serial("30-7654321-8", "01234567")
    assert DEFAULT.same_serial("0001234567", "01234567")
    assert not DEFAULT.same_serial("1234568", "01234567")
    assert saga.wire_serials("30-1234567-8") == {"3012345678", "301234567", "12345678", "1234567"}


@pytest.mark.parametrize(
    ("model", "registered", "addressed"),
    [
        ("saga1000", "30-1234567-8", "01234567"),
        ("saga1000", "3012345678", "01234567"),
        ("saga1000", "30123456", "30123456"),
        ("saga1000", "1234567", "01234567"),
        ("landis-e750", "0001234567", "01234567"),
        ("landis-e750", "00ab12cd", "00AB12CD"),
    ],
)
def test_the_serial_as_addressed(model: str, registered: str, addressed: str) -> None:
    profile = profile_named(model)
    assert profile.addressed_serial(registered) == addressed
    assert profile.same_serial(registered, addressed), "addressed by what it answers with"


def test_every_setting_of_a_profile_can_be_said_in_the_catalogue() -> None:
    assert _PROFILE_KEYS.keys() | {"name"} == {item.name for item in fields(MeterProfile)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.x\n", "not TOML"),
        ("a = 1", "only tables"),
        ("[models]\nx = 1", "not a table"),
        ("[models.default]\n", "general profile"),
        ('[models.x]\nextends = "y"', "which is not an entry"),
        ('[models.x]\nextends = "z"\n[models.z]\nextends = "x"', "extends itself"),
        ("[models.x]\ncolour = 1", "unknown key colour"),
        ('[models.x]\npacking = "Q"', "none of S, M, L"),
        ('[models.x]\naddress = "1"', "not int"),
        ("[models.x]\nenq_required = 3", "0, 1 or 2"),
        ('[models.x]\ncommands = ["98/30"]', "extended_commands"),
        ('[models.x]\nextended_commands = ["21"]', "only sub-codes"),
        ('[models.x]\ncommands = ["zz"]', "not a command"),
        ('[models.x]\ntiming = "fast"', "strict, relaxed"),
        ("[models.x]\ntiming = { max_wait_s = -1 }", "seconds"),
        ('[models.x]\npassword_transform = "rot13"', "none of"),
        ('[models.x]\nfacts = [{ text = "a" }]', "confidence"),
        ('[models.x]\nconfidence = "D"', "none of A, B, C"),
        ('[models.x]\nwrite_layouts = [{ command = "63" }]', "command, source and fields"),
        (
            '[models.x]\nwrite_layouts = [{ command = "63", source = "m", '
            'fields = [{ name = "a", octet = 65 }] }]',
            "outside the parameters",
        ),
        ("[models.x]\nsecond_set_active_octet = 256", "no octet"),
    ],
)
def test_bad_entries_are_the_operators(text: str, words: str) -> None:
    with pytest.raises(OperatorFault, match=words) as fault:
        load_models(("own.toml", text))
    assert fault.value.where.startswith("own.toml")
    assert fault.value.remedy


def test_a_timing_of_its_own() -> None:
    profile = load_models(("own.toml", "[models.x]\ntiming = { max_response_s = 30 }"))["x"].profile
    assert (profile.timing.max_response_s, profile.timing.name) == (30.0, "own")
    assert profile.timing.max_char_gap_s == DEFAULT.timing.max_char_gap_s


def test_models_of_an_unknown_and_of_a_shared_code() -> None:
    with pytest.raises(OperatorFault, match="no meter profile"):
        profile_named("9999")
    assert models().with_code("9999") == ()
    add_catalogue("two.toml", '[models.a]\nmodel_codes = ["1681"]')
    try:
        assert len(models().with_code("1681")) == 2
    finally:
        remove_catalogue("two.toml")
