"""One configuration, and what is wrong with it in one message."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from faults import OperatorFault
from storage.settings import Settings, describe


def load(tmp_path: Path, text: str = "", **environ: str) -> Settings:
    path = tmp_path / "smf.toml"
    path.write_text(text)
    return Settings.load(path, environ)


def test_defaults_need_no_file() -> None:
    settings = Settings.load(environ={})
    assert settings == Settings()
    assert settings.market.tzinfo.utcoffset(None) == dt.timedelta(hours=-3)
    assert settings.database.url is None


def test_file_then_environment(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[collector]\nmax_sessions = 10\nlease_s = 5\n"
        '[ccee]\nenvironment = "sandbox"\nprofile_path = "p.toml"\n[database]\ndata_dir = "d"\n',
        SMF_COLLECTOR_MAX_SESSIONS="20",
        SMF_CCEE_CLIENT_SECRET="s3cret",
        SMF_DATABASE_URL="postgresql://u:hidden@h/db",
        SMF_DATA_DIR="/elsewhere",
        HOME="/nowhere",
    )
    assert (settings.collector.max_sessions, settings.collector.lease_s) == (20, 5.0)
    assert settings.ccee.environment == "sandbox"
    assert settings.ccee.profile_path == tmp_path / "p.toml", "a path in the file is relative to the file"
    assert settings.database.data_dir == Path("/elsewhere")
    assert settings.dagster_home == Path("/elsewhere/dagster")
    assert "s3cret" not in repr(settings)
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        ("[colector]\n", {}, ["smf.toml", "colector", "[collector]"]),
        ("[collector]\nmax_session = 1\n", {}, ["smf.toml", "max_session", "max_sessions"]),
        ('[collector]\nmax_sessions = "many"\n', {}, ["smf.toml [collector] max_sessions", "a whole number"]),
        ("[collector]\nmax_sessions = 0\n", {}, ["max_sessions", "at least 1"]),
        ("[collector]\nmax_sessions = true\n", {}, ["max_sessions", "True"]),
        ('[market]\nzone = "America/Sao_Paulo"\n', {}, ["zone", "fixed offset"]),
        ('[ccee]\nenvironment = "prod"\n', {}, ["environment", "production"]),
        ('[ccee]\nclient_secret = "x"\n', {}, ["client_secret", "SMF_CCEE_CLIENT_SECRET"]),
        ("collector = 3\n", {}, ["[collector]"]),
        ("[collector\n", {}, ["smf.toml", "TOML"]),
        ("", {"SMF_COLLECTOR_LEASE_S": "soon"}, ["SMF_COLLECTOR_LEASE_S", "soon", "a number"]),
        ("", {"SMF_COLLECTOR_LEASES": "3"}, ["SMF_COLLECTOR_LEASES", "SMF_COLLECTOR_LEASE_S"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_remedy(
    tmp_path: Path, text: str, environ: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(OperatorFault) as caught:
        load(tmp_path, text, **environ)
    assert caught.value.remedy
    assert [word for word in words if word not in str(caught.value)] == []


def test_missing_file_that_was_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorFault, match="SMF_CONFIG"):
        Settings.load(environ={"SMF_CONFIG": str(tmp_path / "none.toml")})


def test_every_key_is_described() -> None:
    rows = describe()
    assert {row.section for row in rows} == {
        "database",
        "acquisition",
        "market",
        "collector",
        "ccee",
        "dagster",
        "public_files",
        "notifications",
        "editing",
        "scores",
    }
    assert all(row.help_line for row in rows)
    assert {"SMF_DATABASE_URL", "SMF_DATA_DIR", "SMF_CCEE_CLIENT_ID"} <= {row.environment for row in rows}
    assert len({row.environment for row in rows}) == len(rows)
