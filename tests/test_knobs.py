"""Every key of the contract profile and of the settings is read by code, and each of the contract changes
something: a body, a request, or what a test that is named here shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ccee.body import render
from ccee.profile import Profile, load_profile
from collector.commands.policy import ClockPolicy, CommandRule
from derivation.layers import DerivationParameters
from exchange.import_profile import Column, FileRules, RowRules
from protocols.celesc.catalogue import CelescMeter, ExpectedPacket, NamedRegister
from protocols.celesc.sampling import PlanRow
from protocols.dlms.models import Channel, DlmsModel
from protocols.nbr14522.profile import MeterProfile
from protocols.pulse_csv.layout import PulseLayout, ValueColumn
from protocols.ssu.catalogue import SsuModel
from protocols.ssu.settings import SsuSettings
from storage.settings import describe

ROOT = Path(__file__).parent.parent
ROOMS = (
    "assets", "audit", "ccee", "closing", "collector", "derivation", "editing", "exchange", "pipelines",
    "protocols", "sensors", "simulator", "storage", "vee",
)  # fmt: skip
DECLARED = {ROOT / "ccee" / "profile.py", ROOT / "storage" / "settings.py"}
SECTIONS = ("auth", "headers", "send", "protocol", "musd", "deadline")

# Keys that shape a body, with another value.
SHAPES_A_BODY: dict[str, Any] = {
    "send.layout": "uc-day-flat",
    "send.decimals": 4,
    "send.stamp": "interval_start",
    "send.offset": "-04:00",
    "send.kinds.measured": "M",
    "send.kinds.adjusted": "A",
}
# Keys whose effect a test shows: file and test.
SHOWN = {
    "auth.token_path": ("ccee/test_client.py", "test_every_reply_shape_is_a_success"),
    "auth.grant_type": ("ccee/test_knobs.py", "test_the_token_request"),
    "auth.client_auth": ("ccee/test_knobs.py", "test_the_token_request"),
    "auth.refresh_margin_s": ("ccee/test_client.py", "test_a_token_is_renewed_before_it_ends"),
    "auth.client_cert_file": ("ccee/test_knobs.py", "test_a_certificate_that_cannot_be_used"),
    "auth.client_key_file": ("ccee/test_knobs.py", "test_a_certificate_that_cannot_be_used"),
    "headers.agent": ("ccee/test_knobs.py", "test_the_request_of_a_send"),
    "headers.profile": ("ccee/test_knobs.py", "test_the_request_of_a_send"),
    "headers.profile_equals_agent": ("ccee/test_knobs.py", "test_the_request_of_a_send"),
    "send.method": ("ccee/test_knobs.py", "test_the_request_of_a_send"),
    "send.path": ("ccee/test_knobs.py", "test_the_request_of_a_send"),
    "send.success_status": ("ccee/test_client.py", "test_a_success_status_that_the_contract_does_not_list"),
    "send.success_body": ("ccee/test_strange_replies.py", "test_what_a_success_must_hold_is_a_key"),
    "send.allow_partial_day": ("audit/test_trace_delivery.py", "allow_partial_day"),
    "send.limits.max_parallel": ("ccee/test_client.py", "test_calls_are_spaced_and_limited"),
    "send.limits.min_spacing_ms": ("ccee/test_client.py", "test_calls_are_spaced_and_limited"),
    "send.limits.timeout_s": ("ccee/test_client.py", "test_a_reply_beyond_the_time_out_is_unknown"),
    "send.limits.max_attempts": ("ccee/test_client.py", "test_tries_end_and_the_rest_is_for_the_next_run"),
    "protocol.mode": ("ccee/test_knobs.py", "test_a_ticket_is_followed"),
    "protocol.json_path": ("ccee/test_client.py", "test_a_receipt_is_found_under_a_path"),
    "protocol.status_path": ("ccee/test_knobs.py", "test_a_ticket_is_followed"),
    "protocol.situation_path": ("ccee/test_knobs.py", "test_a_ticket_is_followed"),
    "protocol.situation_processing": ("ccee/test_knobs.py", "test_a_ticket_is_followed"),
    "protocol.situation_accepted": ("ccee/test_knobs.py", "test_a_ticket_is_followed"),
    "musd.on_violation": ("derivation/test_parameters.py", "test_what_follows_from_a_rejected_hour"),
    "musd.factor": ("derivation/test_parameters.py", "test_the_contracts_factor_decides"),
    "musd.default_kw": ("derivation/test_parameters.py", "test_the_contracts_default_stands_in"),
    "musd.resend_on_change": ("ccee/test_knobs.py", "test_whether_a_changed_musd_is_sent_again"),
    "deadline.send_after_deadline": ("ccee/test_delivery.py", "send_after_deadline"),
}


def keys_of(section: Any, prefix: str) -> Iterator[str]:
    for item in fields(section):
        value = getattr(section, item.name)
        name = f"{prefix}.{item.name}"
        yield from keys_of(value, name) if is_dataclass(value) else [name]


def changed(profile: Profile, key: str, value: Any) -> Profile:
    """The profile with one key of `[send]` changed."""
    _, *path = key.split(".")
    inner = profile.send
    if len(path) == 1:
        return replace(profile, send=replace(inner, **{path[0]: value}))
    return replace(
        profile, send=replace(inner, **{path[0]: replace(getattr(inner, path[0]), **{path[1]: value})})
    )


CONTRACT_KEYS = [key for name in SECTIONS for key in keys_of(getattr(load_profile(), name), name)]


@pytest.fixture(scope="module")
def sources() -> str:
    """The product's code without the modules that declare the keys, and without their comments."""
    paths = (path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path not in DECLARED)
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


@pytest.mark.parametrize("key", CONTRACT_KEYS)
def test_each_key_of_the_contract_changes_something(key: str) -> None:
    profile, day = load_profile(), date(2026, 11, 20)
    if key in SHAPES_A_BODY or key.startswith("send.names."):
        other = changed(profile, key, SHAPES_A_BODY.get(key, "outroNome"))
        flags = [slot % 2 == 0 for slot in range(288)]
        bodies = [render(one, "1", 2, day, [1000] * 288, flags) for one in (profile, other)]
        assert bodies[0] != bodies[1]
        assert profile.body_format != other.body_format
        return
    file, words = SHOWN[key]
    assert words in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_musd_of_the_contract_is_the_rules() -> None:
    musd = load_profile().musd
    params = replace(musd, factor=Decimal("1.5"), default_kw=7, on_violation="hold_day").params
    assert (float(params.rejection_share), params.default_musd_kw, params.policy) == (1.5, 7, "hold_day")


@pytest.mark.parametrize("row", describe(), ids=lambda row: f"{row.section}.{row.key}")
def test_each_setting_is_read_by_code(row: Any, sources: str) -> None:
    declared = (ROOT / "storage" / "settings.py").read_text(encoding="utf-8")
    used = rf"\.{row.key}\b"
    assert re.search(used, sources) or re.search(rf"self\.{row.section}{used}|self{used}", declared), (
        f"nobody reads [{row.section}] {row.key}"
    )


def rule_keys(parameters: Any, prefix: str) -> Iterator[str]:
    """Keys of a dataclass of parameters, of the dataclasses in it, and of those in its dictionaries."""
    for item in fields(parameters):
        value = getattr(parameters, item.name)
        if is_dataclass(value):
            yield from rule_keys(value, f"{prefix}.{item.name}")
        elif isinstance(value, dict):
            for name, inner in value.items():
                yield from rule_keys(inner, f"{prefix}.{item.name}.{name}")
        else:
            yield f"{prefix}.{item.name}"


# Tables that a utility writes, and what declares their keys. A fleet's file refuses any key that
# `simulator.fleets` does not ask for, and needs no place here.
TABLES = {
    "celesc.meters": (CelescMeter, ExpectedPacket, NamedRegister),
    "celesc.sampling": (PlanRow,),
    "dlms.models": (DlmsModel, Channel),
    "nbr14522.models": (MeterProfile,),
    "pulse_csv.layouts": (PulseLayout, ValueColumn),
    "ssu.models": (SsuModel, SsuSettings),
    "command_policy": (CommandRule, ClockPolicy),
    "import_profiles": (FileRules, RowRules, Column),
}
TABLE_KEYS = [
    f"{table}.{item.name}" for table, kinds in TABLES.items() for kind in kinds for item in fields(kind)
]
TABLE_KEYS += list(rule_keys(DerivationParameters(), "rules"))


@pytest.mark.parametrize("key", TABLE_KEYS)
def test_each_key_of_a_table_is_read_by_code(key: str, sources: str) -> None:
    """Docs of the catalogues count as readers: what they show is there for people."""
    pages = (ROOT / "docs" / "generate.py").read_text(encoding="utf-8")
    assert re.search(rf"\.{key.rpartition('.')[2]}\b", sources + pages), f"nobody reads {key}"
