"""Changed contract profiles for the tests."""

import tomllib
from importlib import resources


def table() -> dict:
    text = (resources.files("ccee") / "profiles" / "abm-assumed-2025.toml").read_text("utf-8")
    return tomllib.loads(text)
