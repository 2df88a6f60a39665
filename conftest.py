"""For every run, whichever folder is asked for: the conformance plugin, no haste, and one terminal."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.conformance",)

# How long an example takes says how busy the machine is; whether a test hangs, pytest-timeout tells. All else
# stays as it is where the run is: with CI set, hypothesis takes the same examples each time.
settings.register_profile(
    "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")

# What commands print for people is laid out for the terminal that these tell of; tests read it at this one.
for _name in ("FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(_name, None)
os.environ |= {"COLUMNS": "80", "LINES": "25"}
