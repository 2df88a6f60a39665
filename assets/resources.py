"""Resources: the database, the clock and the way to CCEE, each replaceable in `build_defs(resources=...)`.

https://docs.dagster.io/guides/build/external-resources
What belongs here: objects that assets, checks and sensors ask for by name. What does not: settings of their
own (they read `storage.settings`), pools of connections (the database has them).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from ccee.client import CceeClient, Credentials, credentials_for
from ccee.profile import DEFAULT_PROFILE, Profile, load_profile
from storage.database import Database
from storage.settings import CceeSettings, Settings


class Metering(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic only over what it gives to ops
    """The metering database and its settings; fields left empty come from file and environment."""

    url: str = ""
    data_dir: str = ""

    def settings(self) -> Settings:
        loaded = Settings.load()
        database = loaded.database
        if self.url:
            database = replace(database, url=self.url)
        if self.data_dir:
            database = replace(database, data_dir=Path(self.data_dir))
        return replace(loaded, database=database)

    @contextmanager
    def open(self) -> Iterator[Database]:
        with Database.open(self.settings()) as db:
            yield db


class Clock(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic only over what it gives to ops
    """The time that assets see.

    `at` (ISO 8601 with offset) stops it, for tests. `reference` leaves it running, and is the moment as at
    which is decided what is over, closed and due: for another month than the present one.
    """

    at: str = ""
    reference: str = ""

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at) if self.at else datetime.now(UTC)

    def as_of(self) -> datetime:
        return datetime.fromisoformat(self.reference) if self.reference else self.now()


class CceeAccess(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic only over what it gives to ops
    """The contract profile and the way to CCEE; fields left empty come from file and environment.

    Credentials are read from the environment when a client is made, and are never configuration of a run.
    """

    base_url: str = ""

    def settings(self) -> CceeSettings:
        loaded = Settings.load().ccee
        return replace(loaded, base_url=self.base_url) if self.base_url else loaded

    def profile(self) -> Profile:
        return load_profile(self.settings().profile_path or DEFAULT_PROFILE)

    def address(self) -> str:
        """Where a delivery goes."""
        settings = self.settings()
        return self.profile().environment(settings.environment, settings.base_url or "").base_url

    def client(self, agent_codes: frozenset[int]) -> CceeClient:
        """A client for these agents; use it as an async context manager.

        Raises:
            OperatorFault: an agent without credentials, an unknown environment, production while the profile
                is not verified.
        """
        settings, profile = self.settings(), self.profile()
        shared = (
            Credentials(settings.client_id, settings.client_secret)
            if settings.client_id and settings.client_secret
            else None
        )
        return CceeClient(
            profile,
            profile.environment(settings.environment, settings.base_url or ""),
            credentials_for(agent_codes, os.environ, shared),
        )
