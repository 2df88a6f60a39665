"""Loads the conformance plugin for every run, whichever folder of tests is asked for."""

pytest_plugins = ("tests.conformance",)
