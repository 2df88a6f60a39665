"""For every run, whichever folder is asked for: the conformance plugin, and no haste in property tests."""

from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.conformance",)

# How long an example takes says how busy the machine is; whether a test hangs, pytest-timeout tells. All else
# stays as it is where the run is: with CI set, hypothesis takes the same examples each time.
settings.register_profile(
    "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")
