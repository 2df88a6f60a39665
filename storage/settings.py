"""One configuration: a TOML file, overridden by environment variables.

The file is `SMF_CONFIG`, or `smf.toml` in the working directory where it exists. Each key has an environment
variable `SMF_<SECTION>_<KEY>`; `SMF_DATABASE_URL` and `SMF_DATA_DIR` are the two that most people need.
A key nobody knows and a value that does not fit are refused with the place and the remedy, never ignored.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from faults import OperatorFault
from faults.market_time import MARKET_ZONE, OFFSET_PATTERN, fixed_offset
from faults.toml_tables import KEY, Key, build, convert, load_toml

# Names that start like a section but are not a key of one.
_OTHER_ENVIRONMENT = {"SMF_CONFIG", "SMF_DATA_DIR"}


def setting(
    default: Any, help_line: str, *, minimum: float | None = None, pattern: str = "", secret: bool = False
) -> Any:
    """A key of a section: default, one line for the documentation, and what a good value looks like.

    A secret is read from the environment only, so that it never lands in a file under version control.
    """
    key = Key(remedy=help_line, least=minimum, pattern=pattern)
    return field(default=default, metadata={KEY: key, "help": help_line, "secret": secret}, repr=not secret)


@dataclass(frozen=True)
class DatabaseSettings:
    """Where the data lives."""

    url: str | None = setting(
        None, "postgresql:// address; without it an embedded server is used", secret=True
    )
    data_dir: Path = setting(Path("data"), "folder of the embedded server, archives and generated reports")


@dataclass(frozen=True)
class MarketSettings:
    """Facts of the market that every room computes with."""

    zone: str = setting(
        MARKET_ZONE,
        "fixed offset of market time; CCEE counts without daylight saving",
        pattern=OFFSET_PATTERN,
    )
    calendar_path: Path | None = setting(
        None,
        "CCEE's calendar of operations and dates moved by notice (CSV: calendar,date,name,source); without "
        "its year the earliest date of the known calendars serves",
    )
    milestones_path: Path | None = setting(
        None, "milestones of a month (CSV, as vee/data/milestones.csv); without it the ones that are shipped"
    )

    rules_path: Path | None = setting(
        None, "parameters of the rules that differ from their defaults (TOML); kept with each derivation"
    )

    @property
    def tzinfo(self) -> dt.timezone:
        return fixed_offset(self.zone)


@dataclass(frozen=True)
class CollectorSettings:
    """Limits and patience of the collector."""

    name: str = setting("collector", "name of this collector in sessions and claims")
    max_sessions: int = setting(2000, "sessions open at once in one process", minimum=1)
    per_cell_limit: int = setting(8, "sessions open at once in one radio cell", minimum=1)
    per_host_limit: int = setting(64, "sessions open at once towards one host", minimum=1)
    reader_serial: str = setting(
        "000001", "serial number we give as a reader; meters log it with each change", pattern=r"\d{6}"
    )
    connect_timeout_s: float = setting(
        20.0,
        "patience for a connection; on GPRS the fourth SYN, after 1, 3 and 7 s, may be the first to arrive",
        minimum=0.1,
    )
    gateway_connect_timeout_s: float = setting(
        30.0, "the same for rfc2217, which also agrees on the port's settings", minimum=0.1
    )
    idle_timeout_s: float = setting(
        330.0,
        "longest silence of a line; above the 305 s that a meter may take between two WAIT",
        minimum=0.1,
    )
    session_timeout_s: float = setting(900.0, "longest session before it is cut", minimum=1)
    serial_session_timeout_s: float = setting(
        3600.0,
        "the same for serial lines and rfc2217: a month of 12 channels takes an hour at 300 bit/s",
        minimum=1,
    )
    stream_session_s: float = setting(
        3600.0,
        "how much of a stream (SSU, CELESC) is one session; its readings are merged when it ends",
        minimum=60,
    )
    stream_store_s: float = setting(
        5.0,
        "what a stream said is stored so often: as much is lost when a collector is killed; 20 would save a "
        "third of the rows' space",
        minimum=1,
    )
    listen_host: str = setting("0.0.0.0", "address on which units that dial in are awaited")
    listen_port: int | None = setting(
        None, "port on which units that dial in are awaited; without it none are", minimum=0
    )
    dial_in_kinds_path: Path | None = setting(
        None,
        "kinds of units that dial in (TOML): hello and keep-alive; without it meters are asked who they are",
    )
    dial_in_hello_s: float = setting(
        5.0, "patience for a hello before the meter is asked; a GPRS round trip takes up to 2 s", minimum=0
    )
    dial_in_identify_s: float = setting(
        60.0, "time to be identified; then a caller is recorded and closed", minimum=1
    )
    dial_in_unidentified: int = setting(
        512,
        "callers at once that are not identified yet; a cell that comes back calls all together",
        minimum=1,
    )
    dial_in_idle_octets: int = setting(
        4096,
        "octets a minute that a caller may send unasked; four ENQ a second are 240, more eats the data plan",
        minimum=1,
    )
    dial_in_keepalive_s: float = setting(
        600.0,
        "silence after which TCP probes a ready connection; 0.7 MB of a unit's 20 MB a month",
        minimum=10,
    )
    dial_in_spares: int = setting(1, "older connections of a unit that are kept beside its newest", minimum=0)
    dial_in_wait_s: float = setting(
        1800.0, "how long a request waits for its unit to call; units call again after minutes", minimum=0
    )
    stop_grace_s: float = setting(
        30.0, "time for running sessions to end when the service is stopped", minimum=0
    )
    poll_s: float = setting(2.0, "look into the queue at least so often, notified or not", minimum=0.05)
    recovery_days: int = setting(7, "past days in which gaps are looked for", minimum=1)
    recovery_every_s: float = setting(3600.0, "how often gaps are looked for", minimum=1)
    lease_s: float = setting(120.0, "a claim not renewed for so long is free again", minimum=1)
    backoff_base_s: float = setting(30.0, "wait before the first retry; doubles each time", minimum=0)
    backoff_max_s: float = setting(3600.0, "longest wait between retries", minimum=0)
    meter_models_path: Path | None = setting(
        None,
        "folder of meter models of one's own, a catalogue (TOML) a protocol: nbr14522.toml, dlms.toml ...; "
        "each is laid over the shipped one",
    )
    meter_passwords_path: Path | None = setting(
        None, "passwords of meters (TOML), readable by the collector only and kept out of version control"
    )
    dlms_secrets_path: Path | None = setting(
        None, "keys and passwords of DLMS meters (TOML), readable by the collector alone (mode 600)"
    )
    dlms_client_title: str = setting(
        "534D460000000001",
        "our system title, 8 octets; collectors that share a key but no database need one each",
        pattern=r"[0-9A-Fa-f]{16}",
    )
    command_policy_path: Path | None = setting(
        None,
        "who may send which command (TOML); the policy that is shipped knows no person",
    )


@dataclass(frozen=True)
class AcquisitionSettings:
    """When what a source brings is held for a person instead of becoming readings."""

    clock_ceiling_s: float = setting(
        3600.0,
        "a session whose meter's clock is further off is held; up to 60 minutes clocks are corrected by "
        "themselves (TR-5.6d)",
        minimum=0,
    )
    clock_hour_tolerance_s: float = setting(
        120.0,
        "so near to a whole hour an error is no drift but a zone or summer time mistaken, and is held, too; "
        "0: not looked at",
        minimum=0,
    )
    total_ceiling_times: float = setting(
        5.0,
        "growth of a running total is believed up to so many times the plant's power (the largest of TC with "
        "supply voltage, MUSD and contracted demand); what single intervals may hold is rule V05's",
        minimum=1,
    )


@dataclass(frozen=True)
class CceeSettings:
    """How to reach CCEE; production needs a verified profile."""

    profile_path: Path | None = setting(None, "contract profile (TOML); without it the one that is shipped")
    environment: Literal["sandbox", "production", "standin"] = setting(
        "standin", "which of CCEE's environments"
    )
    base_url: str | None = setting(None, "overrides the address in the profile (the stand-in's, say)")
    client_id: str | None = setting(None, "OAuth2 client", secret=True)
    client_secret: str | None = setting(None, "OAuth2 secret", secret=True)


@dataclass(frozen=True)
class DagsterSettings:
    """Where Dagster keeps what is not in the database."""

    home: Path | None = setting(None, "DAGSTER_HOME; without it dagster/ under the data folder")
    first_day: str = setting(
        "2025-01-01",
        "first day that has a partition; a year is about 365 of them",
        pattern=r"\d{4}-\d{2}-\d{2}",
    )
    collect_deadline_s: float = setting(
        1800.0, "longest wait of a daily run for its reads; what comes later is late data", minimum=0
    )
    automation: Literal["off", "on"] = setting(
        "off",
        "schedules and sensors run from the start (on), or each waits until a person switches it on in the "
        "interface; what was chosen there goes before this",
    )
    evidence_url: str = setting(
        "http://127.0.0.1:3080",
        "address of the evidence pages: links of assets and checks lead there, and `smf run ui` serves it",
        pattern=r"https?://.+",
    )
    shards: int = setting(1, "parts of the fleet that run as separate steps, by a hash of the UC", minimum=1)


@dataclass(frozen=True)
class NotificationSettings:
    """The ways to people who do not look at a screen; without any, messages stay in the database."""

    smtp_host: str | None = setting(None, "mail server that takes messages without a login")
    smtp_port: int = setting(25, "its port", minimum=1)
    mail_from: str = setting("smf@localhost", "sender of messages")
    mail_to: str | None = setting(None, "who is told of runs that failed; several addresses with commas")
    webhook_url: str | None = setting(
        None, "address that gets the same as JSON (subject, text) by POST", secret=True
    )


@dataclass(frozen=True)
class PublicFileSettings:
    """How files of the public formats are written and taken, where no source settles it."""

    fk7_memory: Literal["whole", "current"] = setting(
        "whole", "FK7 written: memory as answers to 51 and 52 (whole), or to 21 and 26 (current)"
    )
    fk7_memory_place: Literal["last", "first"] = setting(
        "last", "FK7 written: memory behind registers, power failures and changes, or before them"
    )
    text_installation_code: Literal["blank", "uc"] = setting(
        "blank", "text written: 2378 to 2391 blank, or the code of the UC where it has 14 characters at most"
    )
    text_user_output: str = setting(
        "", "text written: the digit of 2377, extended user output; without it blank", pattern=r"\d"
    )
    text_max_lines: int = setting(999, "text written: lines of memory in one file, 999 at most", minimum=1)
    parameters_after_s: int = setting(
        86_400, "written: how much later than a file's time its parameters may have been read", minimum=0
    )
    clock_ahead_s: int = setting(
        86_400, "import: a file whose meter was further ahead of our clock is refused", minimum=0
    )


@dataclass(frozen=True)
class EditingSettings:
    """When a decision about values needs a second person. No public text sets these limits."""

    second_person_kwh: float = setting(
        1000.0,
        "energy that a decision may change by one person's word; some hours of a medium-sized consumer",
        minimum=0,
    )
    second_person_share: float = setting(
        0.1, "share of the energy of the days concerned that one person may change; 1 for no limit", minimum=0
    )


@dataclass(frozen=True)
class ScoreSettings:
    """How estimates are scored: what is drawn, and what the score warns of."""

    window_days: int = setting(
        90, "days before today that good days and the shapes of gaps are taken from", minimum=1
    )
    uc_days: int = setting(1000, "UC-days that get a gap, at most", minimum=1)
    days: int = setting(14, "different days among them; two of each weekday", minimum=1)
    seed: int = setting(1, "of the draw; the same seed over the same data draws the same", minimum=0)
    default_gaps: str = setting(
        "09:40+10 14:15+15 10:00+60 18:00+60 07:00+180 16:00+240 22:00+240 00:00+1440 00:00+2880",
        "gaps (begin+minutes) that are drawn from while the window has none of its own",
    )
    least_gaps: int = setting(
        30,
        "fewer gaps of a length and class say little: the score of all classes is shown instead",
        minimum=1,
    )
    warn_share: float = setting(
        0.15, "expected error of a method, as a share of the energy, above which the check warns", minimum=0
    )


@dataclass(frozen=True)
class Settings:
    """All sections. `Settings.load()` reads file and environment; `Settings()` is all defaults."""

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    market: MarketSettings = field(default_factory=MarketSettings)
    collector: CollectorSettings = field(default_factory=CollectorSettings)
    acquisition: AcquisitionSettings = field(default_factory=AcquisitionSettings)
    ccee: CceeSettings = field(default_factory=CceeSettings)
    dagster: DagsterSettings = field(default_factory=DagsterSettings)
    notifications: NotificationSettings = field(default_factory=NotificationSettings)
    public_files: PublicFileSettings = field(default_factory=PublicFileSettings)
    editing: EditingSettings = field(default_factory=EditingSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the configuration.

        Args:
            path: the TOML file; default `SMF_CONFIG`, else `smf.toml` where it exists, else none.
            environ: default `os.environ`.
        Raises:
            OperatorFault: file not readable, unknown section or key, value of the wrong kind.
        """
        env = os.environ if environ is None else environ
        source = path or _default_path(env)
        tables = (
            load_toml(
                source,
                what="the configuration",
                remedy="correct SMF_CONFIG, or unset it to use the defaults",
            )
            if source
            else {}
        )
        hints = get_type_hints(cls)
        unknown = sorted(set(tables) - set(hints))
        if unknown:
            raise OperatorFault(
                f"unknown section [{unknown[0]}]",
                where=str(source),
                remedy=f"sections are {', '.join(f'[{name}]' for name in hints)}",
            )
        return cls(
            **{name: _section(name, kind, tables.get(name, {}), source, env) for name, kind in hints.items()}
        )

    @property
    def dagster_home(self) -> Path:
        return self.dagster.home or self.database.data_dir / "dagster"


@dataclass(frozen=True)
class SettingRow:
    """One key, for the documentation."""

    section: str
    key: str
    environment: str
    default: str
    help_line: str


def describe() -> list[SettingRow]:
    """Every key with its environment variable, default and meaning, in order."""
    rows = []
    for section, kind in get_type_hints(Settings).items():
        for item in fields(kind):
            rows.append(
                SettingRow(
                    section=section,
                    key=item.name,
                    environment=_env_name(section, item.name),
                    default="" if item.default in (None, MISSING) else str(item.default),
                    help_line=item.metadata["help"],
                )
            )
    return rows


def _default_path(env: Mapping[str, str]) -> Path | None:
    if named := env.get("SMF_CONFIG"):
        return Path(named)
    here = Path("smf.toml")
    return here if here.is_file() else None


def _env_name(section: str, key: str) -> str:
    return "SMF_DATA_DIR" if (section, key) == ("database", "data_dir") else f"SMF_{section}_{key}".upper()


def _section(name: str, kind: Any, table: Any, source: Path | None, env: Mapping[str, str]) -> Any:
    known = {item.name: item for item in fields(kind)}
    where = f"{source} [{name}]"
    for key in table if isinstance(table, dict) else ():
        if key in known and known[key].metadata["secret"] and key != "url":
            raise OperatorFault(
                f"{key!r} may not be in the file",
                where=where,
                remedy=f"set {_env_name(name, key)} in the environment",
            )
    # A path in the file means the same wherever the command is started.
    of_file = build(kind, table, where, beside=source.parent if source else None)
    return replace(of_file, **_of_environment(name, kind, env))


def _of_environment(name: str, kind: Any, env: Mapping[str, str]) -> dict[str, Any]:
    """The keys that the environment sets."""
    variables = {_env_name(name, item.name): item for item in fields(kind)}
    prefix = f"SMF_{name.upper()}_"
    for variable in env:
        if variable.startswith(prefix) and variable not in variables and variable not in _OTHER_ENVIRONMENT:
            raise OperatorFault(
                f"unknown variable {variable}",
                where="environment",
                remedy=f"known are {', '.join(sorted(variables))}",
            )
    hints = get_type_hints(kind)
    return {
        item.name: convert(
            env[variable],
            hints[item.name],
            item.metadata[KEY],
            f"environment variable {variable}",
            is_text=True,
        )
        for variable, item in variables.items()
        if env.get(variable)
    }
