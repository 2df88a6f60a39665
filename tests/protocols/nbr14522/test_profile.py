"""Profiles are data, and every unverified fact is a named setting with its reason."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from faults import OperatorFault
from protocols.nbr14522.commands import COMMANDS
from protocols.nbr14522.frames import Addressing
from protocols.nbr14522.link import COMPOSITE_CODES
from protocols.nbr14522.memory import Packing
from protocols.nbr14522.messages import REQUESTS, RESPONSES
from protocols.nbr14522.profile import RELAXED, STRICT, LinkTiming, MeterProfile, unverified_settings
from protocols.nbr14522.profiles import DEFAULT, OLD_3CH, P8_GENERIC, PROFILES, profile_named

pytestmark = pytest.mark.req("TR-5.1")


def test_profiles_by_name() -> None:
    assert {"default", "old-3ch", "p8-generic"} <= PROFILES.keys()
    assert profile_named("default") is DEFAULT
    assert (DEFAULT.packing, P8_GENERIC.addressing) == (Packing.S, Addressing.P8)
    with pytest.raises(OperatorFault, match="old-3ch"):
        profile_named("none such")


@pytest.mark.req("TR-5.6b")
def test_an_old_meter_lacks_what_it_lacks() -> None:
    assert not OLD_3CH.commands & {0x14, 0x51, 0x52, 0x80}
    assert {0x21, 0x23, 0x26, 0x27} <= OLD_3CH.commands


def test_unverified_settings_name_confidence_and_reason() -> None:
    found = {setting.name: setting for setting in unverified_settings()}
    for name in ("packing", "enq_required", "p2_hand_shake", "empty_memory", "limited_count", "sign_bit"):
        assert found[f"profile.{name}"].confidence in ("B", "C")
        assert found[f"profile.{name}"].reason
    assert found["timing.synchronise_s"].confidence == "C"
    assert len(found) == len(unverified_settings())
    assert "profile.sunday" not in found, "two sources agree on it"


def test_strict_times_are_the_norms_as_reported() -> None:
    """Section 1.5: TMINREV is 2 ms, the rest follows."""
    assert (STRICT.max_char_gap_s, STRICT.min_enq_s, STRICT.max_enq_s) == (0.006, 0.022, 0.502)
    assert (STRICT.max_sync_s, STRICT.max_response_s, STRICT.max_wait_s) == (0.012, 0.502, 305.0)
    for item in fields(LinkTiming):
        if item.name != "name":
            assert getattr(RELAXED, item.name) >= getattr(STRICT, item.name)
    for timing in (STRICT, RELAXED):
        assert timing.drain_quiet_s < timing.meter_enq_period_s, "draining would never end"


def test_a_profile_checks_itself() -> None:
    with pytest.raises(ValueError, match="enq_required"):
        replace(DEFAULT, enq_required=3)
    assert MeterProfile(name="own").commands == DEFAULT.commands


def test_catalogue_knows_every_typed_command() -> None:
    codes = {info.code for info in COMMANDS.values()}
    assert REQUESTS.keys() | RESPONSES.keys() <= codes
    assert {info.code for info in COMMANDS.values() if info.is_composite} == COMPOSITE_CODES
    assert not COMMANDS["41"].has_layout
    assert not {0x05, 0x06, 0x10, 0x15} & codes, "signals are not codes"
