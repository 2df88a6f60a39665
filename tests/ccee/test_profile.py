"""The contract profile: every error by key, production refused while unverified, the error table."""

from decimal import Decimal

import pytest

from ccee.profile import Action, load_profile, parse_profile, unverified_settings
from faults import OperatorFault
from tests.ccee.profiles import table


def test_the_shipped_profile_is_the_assumed_contract():
    profile = load_profile()
    assert profile.name == "abm-assumed-2025"
    assert profile.send.path == "/medidas/v1/medicao"
    assert profile.musd.factor == Decimal("1.25")
    assert profile.musd.default_kw == 500
    assert profile.send.success_status == (200, 201, 202, 204)


@pytest.mark.req("TR-2g")
@pytest.mark.parametrize("flag", ["verified_against_official_docs", "verified_in_sandbox"])
def test_production_is_refused_while_either_flag_is_false(flag: str):
    changed = table()
    changed["profile"] |= {"verified_against_official_docs": True, "verified_in_sandbox": True, flag: False}
    profile = parse_profile(changed, "test")
    with pytest.raises(OperatorFault, match=flag):
        profile.environment("production")
    # The production host under another name is production all the same.
    with pytest.raises(OperatorFault, match=flag):
        profile.environment("sandbox", "https://API-ABM.ccee.org.br/")
    assert profile.environment("sandbox").base_url.startswith("https://sandbox")


def test_production_opens_once_both_flags_are_true():
    changed = table()
    changed["profile"] |= {"verified_against_official_docs": True, "verified_in_sandbox": True}
    assert parse_profile(changed, "test").environment("production").base_url == "https://api-abm.ccee.org.br"


def test_every_error_is_named_by_key_in_one_fault():
    changed = table()
    changed["send"]["layout"] = "list"
    changed["send"]["limits"]["max_parallel"] = 0
    changed["send"]["decimals"] = 2
    changed["send"]["colour"] = "blue"
    changed["musd"]["factor"] = "much"
    changed["auth"].pop("token_path")
    changed["headers"]["profile_equals_agent"] = "yes"
    changed["errors"].append({"http": 418, "action": "brew"})
    changed["surprise"] = {}
    with pytest.raises(OperatorFault) as caught:
        parse_profile(changed, "contract.toml")
    text = str(caught.value)
    assert text.startswith("contract.toml: 9 problems")
    for key in (
        "send.layout: 'list' is not one of",
        "send.limits.max_parallel: 0 must be at least 1",
        "send.decimals: 2 must be at least 3",
        "send.colour: unknown key",
        "musd.factor: 'much' is not a decimal",
        "auth.token_path: missing",
        "headers.profile_equals_agent: 'yes' is not true or false",
        "errors[11].action",
        "surprise: unknown section",
    ):
        assert key in text


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("musd", "on_violation", "omit_hours", "allow_partial_day"),
        ("protocol", "mode", "ticket", "status_path"),
        ("send", "offset", "BRT", "send.offset"),
        ("send", "success_status", [404], "success_status"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(section, key, value, message):
    changed = table()
    changed[section][key] = value
    with pytest.raises(OperatorFault, match=message):
        parse_profile(changed, "test")


def test_any_removed_key_is_reported_by_its_name():
    def walk(node, path):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, [*path, key])
            elif key != "errors" and path[0] != "environment":
                yield [*path, key]

    base = table()
    for path in list(walk({k: v for k, v in base.items() if k != "environment"}, [""])):
        changed = table()
        node = changed
        for key in path[1:-1]:
            node = node[key]
        del node[path[-1]]
        with pytest.raises(OperatorFault) as caught:
            parse_profile(changed, "test")
        assert ".".join(path[1:]) in str(caught.value)


def test_a_profile_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    with pytest.raises(OperatorFault, match="abm-assumed-2025"):
        load_profile("abm-2030")
    with pytest.raises(OperatorFault, match="cannot read"):
        load_profile(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("[profile\n")
    with pytest.raises(OperatorFault, match=r"bad\.toml: not TOML"):
        load_profile(bad)


@pytest.mark.parametrize(
    ("status", "code", "text", "action"),
    [
        (401, "", "", Action.REFRESH_TOKEN),
        (403, "", "ERR_CREDENCIAL_INVALIDA", Action.REFRESH_TOKEN),
        (403, "", "no", Action.STOP_AGENT),
        (429, "", "", Action.RETRY_AFTER),
        (400, "ERR_VALIDACAO_CAMPOS", "", Action.FIX_DATA),
        (400, "ERR_X", "hora acima do MUSD", Action.REJECTED_MUSD),
        (500, "", "", Action.RETRY),
        (503, "", "", Action.RETRY),
        (408, "", "", Action.RETRY),
        (404, "", "", Action.STOP_AGENT),
        (404, "ERR_MIGRACAO_CONCLUIDA_NAO_ENCONTRADA", "", Action.FIX_DATA),
        (400, "ERR_NOVO", "", Action.RETRY_LATER),
        (400, "", "<html>", Action.STOP_AGENT),
        (409, "", "", Action.RETRY),
    ],
)
def test_the_error_table_says_what_to_do(status, code, text, action):
    assert load_profile().action_for(status, code, text) is action


def test_what_is_assumed_is_listed_with_confidence_and_reason():
    listed = {setting.key: setting for setting in unverified_settings(load_profile())}
    assert listed["send.path"].confidence == "B"
    assert listed["send.limits.max_parallel"].confidence == "C"
    assert "send.names.uc" not in listed
    assert all(setting.why and setting.confidence in "BC" for setting in listed.values())
