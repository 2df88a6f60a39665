"""The contract profile: what changes with CCEE's contract, as frozen typed values read from one TOML file.

Every key is required, save two of `[musd]` that the procedure itself gives, and every unknown key is refused:
a profile says the whole contract or nothing. The field declarations below are the one table of what a key may
hold, how sure its value is (confidence A, B or C of the reference) and why it has that value; reading and the
list of unverified settings come from it. What the contract leaves no choice about is no key: energy in kWh,
rounded half up once; hours above the limit, judged strictly and as sent, count as zero. Deadlines are the
market's, in `vee/data/milestones.csv`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_type_hints
from urllib.parse import urlsplit

from faults import OperatorFault
from faults.toml_tables import Key, Problem, build, load_toml, parse_toml
from vee.musd import DEFAULT_MUSD_KW, POLICIES, REJECTION_FACTOR, MusdParams

DEFAULT_PROFILE = "abm-assumed-2025"
PRODUCTION = "production"
ERROR_PREFIX = "ERR_"
"""How the codes of this interface's refusals begin."""


class Action(StrEnum):
    """What a reply that is not a success asks of the sender."""

    REFRESH_TOKEN = "refresh_token"
    RETRY_AFTER = "retry_after"
    RETRY = "retry"
    RETRY_LATER = "retry_later"
    STOP_AGENT = "stop_agent"
    FIX_DATA = "fix_data"
    REJECTED_MUSD = "rejected_musd"


@dataclass(frozen=True, slots=True)
class About(Key):
    """What is known of one key: confidence in its value (A, B, C), why it has it, and what it may hold."""

    confidence: str = ""
    why: str = ""


def _about(
    confidence: str,
    why: str,
    choices: tuple[Any, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
) -> About:
    return About(choices=choices, least=least, most=most, above=above, confidence=confidence, why=why)


@dataclass(frozen=True, slots=True)
class Environment:
    """One place to send to; the two limits, where given, replace those of `[send.limits]`."""

    base_url: Annotated[str, _about("A", "hosts seen in independent clients")]
    max_parallel: Annotated[int | None, _about("C", "the stand-in has no limit of its own", least=1)] = None
    min_spacing_ms: Annotated[int | None, _about("C", "the stand-in has no limit of its own", least=0)] = None


@dataclass(frozen=True, slots=True)
class Auth:
    token_path: Annotated[str, _about("A", "seen in the official description and a public client")]
    grant_type: Annotated[
        str, _about("B", "the public client sends none; OAuth2 would say client_credentials")
    ]
    client_auth: Annotated[
        str, _about("B", "the public client sends the pair in the form", choices=("body", "basic"))
    ]
    refresh_margin_s: Annotated[int, _about("C", "a tenth of the 300 s seen in the sandbox", least=0)]
    client_cert_file: Annotated[str, _about("C", "public clients use no certificate")]
    client_key_file: Annotated[str, _about("C", "public clients use no certificate")]


@dataclass(frozen=True, slots=True)
class Headers:
    agent: Annotated[str, _about("A", "two public clients")]
    profile: Annotated[str, _about("A", "two public clients")]
    profile_equals_agent: Annotated[
        bool, _about("B", "so in the sandbox; which profile a distributor sends is not said")
    ]


@dataclass(frozen=True, slots=True)
class Names:
    uc: Annotated[str, _about("A", "also on the read side")]
    agent: Annotated[str, _about("A", "also on the read side")]
    day: Annotated[str, _about("A", "also on the read side")]
    hours: Annotated[str, _about("B", "one demonstration program only")]
    hour: Annotated[str, _about("B", "one demonstration program only")]
    values: Annotated[str, _about("B", "one demonstration program only")]
    timestamp: Annotated[str, _about("A", "also on the read side")]
    consumption: Annotated[str, _about("A", "also on the read side")]
    kind: Annotated[str, _about("A", "also on the read side")]


@dataclass(frozen=True, slots=True)
class Kinds:
    measured: Annotated[str, _about("A", "seen in a real month")]
    adjusted: Annotated[str, _about("B", "read side only; its spelling on input is not known")]


@dataclass(frozen=True, slots=True)
class Limits:
    max_parallel: Annotated[int, _about("C", "CCEE's limit is not known: gentle by default", least=1)]
    min_spacing_ms: Annotated[int, _about("C", "CCEE's limit is not known: gentle by default", least=0)]
    timeout_s: Annotated[int, _about("C", "reply times are not known", least=1)]
    max_attempts: Annotated[int, _about("C", "about two minutes of back-off, then the next run", least=1)]


@dataclass(frozen=True, slots=True)
class Send:
    method: Annotated[str, _about("B", "one demonstration program only", choices=("POST", "PUT"))]
    path: Annotated[str, _about("B", "one demonstration program only")]
    # "list" is left out on purpose: whether several UC-days fit in one call is unknown, and a receipt must
    # belong to one UC-day.
    layout: Annotated[
        str, _about("B", "one demonstration program only", choices=("uc-day-hours", "uc-day-flat"))
    ]
    success_status: Annotated[tuple[int, ...], _about("C", "no recorded reply of the send call exists")]
    success_body: Annotated[
        str,
        _about(
            "C", "no recorded reply of the send call exists", choices=("any", "entity", "ticket", "empty")
        ),
    ]
    allow_partial_day: Annotated[bool, _about("C", "a real month suggests hour blocks are taken; not proved")]
    # The stored layer is rounded once to milli-kWh; fewer decimals would round a second time.
    decimals: Annotated[int, _about("B", "at most three were seen in a real month", least=3, most=9)]
    stamp: Annotated[
        str, _about("A", "a real month and the legacy service", choices=("interval_end", "interval_start"))
    ]
    offset: Annotated[str, _about("A", "a real month; no summer time since 2019")]
    names: Names
    kinds: Kinds
    limits: Limits


@dataclass(frozen=True, slots=True)
class Protocol:
    mode: Annotated[
        str, _about("C", "whether a protocol number comes back is not known", choices=("sync", "ticket"))
    ]
    json_path: Annotated[str, _about("C", "whether a protocol number comes back is not known")]
    status_path: Annotated[str, _about("C", "whether a protocol number comes back is not known")]
    situation_path: Annotated[str, _about("C", "whether a protocol number comes back is not known")]
    situation_processing: Annotated[str, _about("C", "whether a protocol number comes back is not known")]
    situation_accepted: Annotated[str, _about("C", "whether a protocol number comes back is not known")]


@dataclass(frozen=True, slots=True)
class Musd:
    """The check of hours against the contracted use, and what follows from it."""

    on_violation: Annotated[str, _about("C", "sending the truth keeps the day", choices=POLICIES)]
    resend_on_change: Annotated[bool, _about("C", "nothing says stored days are judged again after a change")]
    factor: Annotated[Decimal, _about("A", "PdC 1.8, 3.32: more than 25 %", above=0)] = REJECTION_FACTOR
    default_kw: Annotated[int, _about("A", "PdC 1.8, 3.15.1", least=1)] = DEFAULT_MUSD_KW

    @property
    def params(self) -> MusdParams:
        """The same for the rule that judges."""
        return MusdParams(
            policy=self.on_violation,
            rejection_share=Fraction(self.factor),
            default_musd_kw=self.default_kw,
        )


@dataclass(frozen=True, slots=True)
class Deadline:
    send_after_deadline: Annotated[
        bool, _about("C", "behaviour after closing is not known; a recount has a fee")
    ]


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row of the error table; a condition left out matches anything."""

    action: Action
    http: int | None = None
    http_class: int | None = None
    code: str | None = None
    code_contains: str | None = None

    def __post_init__(self) -> None:
        conditions = [item.name for item in fields(self) if item.name != "action"]
        if all(getattr(self, name) is None for name in conditions):
            raise ValueError(f"needs a condition ({', '.join(conditions)})")

    def matches(self, status: int, code: str, text: str) -> bool:
        """Args: HTTP status, the reply's code, and all its texts together (codes hide in messages)."""
        return (
            (self.http is None or self.http == status)
            and (self.http_class is None or self.http_class == status // 100)
            and (self.code is None or self.code == code)
            and (self.code_contains is None or self.code_contains in text)
        )


@dataclass(frozen=True, slots=True)
class Head:
    """`[profile]`: the contract's name, and whether anybody has proved it."""

    name: str
    verified_against_official_docs: bool
    verified_in_sandbox: bool


@dataclass(frozen=True, slots=True)
class _Document:
    """The file, section by section."""

    profile: Head
    environment: Mapping[str, Environment]
    auth: Auth
    headers: Headers
    send: Send
    protocol: Protocol
    musd: Musd
    deadline: Deadline
    errors: tuple[ErrorRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A contract version of CCEE's interface. Source: the TOML file it was read from."""

    name: str
    verified_against_official_docs: bool
    verified_in_sandbox: bool
    environments: Mapping[str, Environment]
    auth: Auth
    headers: Headers
    send: Send
    protocol: Protocol
    musd: Musd
    deadline: Deadline
    errors: tuple[ErrorRule, ...]

    def environment(self, name: str, base_url: str = "") -> Environment:
        """The environment of that name, refused where sending would be unsafe.

        Args: name: standin, sandbox, production or another of the file; base_url: replaces the file's.
        Raises: OperatorFault for an unknown name, and for production while the profile is unverified. The
            production host counts as production under any name.
        """
        found = self.environments.get(name)
        if found is None:
            raise OperatorFault(
                f"environment {name!r} is not in the profile",
                where=f"profile {self.name}",
                remedy=f"choose one of {', '.join(sorted(self.environments))} (setting ccee.environment)",
            )
        chosen = replace(found, base_url=base_url) if base_url else found
        production = self.environments.get(PRODUCTION)
        is_production = name == PRODUCTION or (
            production is not None and _host(chosen.base_url) == _host(production.base_url)
        )
        missing = [
            flag
            for flag in ("verified_against_official_docs", "verified_in_sandbox")
            if not getattr(self, flag)
        ]
        if is_production and missing:
            raise OperatorFault(
                f"sending to production is refused: {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} false",
                where=f"profile {self.name}",
                remedy="prove the contract in the sandbox, correct the profile, then set the flags",
            )
        return chosen

    @property
    def body_format(self) -> str:
        """Name and digest of what shapes a body: with the same one, equal values give equal bytes."""
        send = self.send
        # "half_up" was a key with one value; it stays in the digest, which sealed bodies name.
        shape = (send.layout, send.decimals, "half_up", send.stamp, send.offset, send.names, send.kinds)
        return f"{self.name}@{hashlib.sha256(repr(shape).encode()).hexdigest()[:8]}"

    def for_sealed(self) -> Self:
        """For making again what was sealed: that partial days may not be sent now says nothing of it."""
        return replace(self, send=replace(self.send, allow_partial_day=True))

    def limits(self, environment: Environment) -> Limits:
        """The sending limits that hold in that environment."""
        own = self.send.limits
        return replace(
            own,
            max_parallel=own.max_parallel if environment.max_parallel is None else environment.max_parallel,
            min_spacing_ms=(
                own.min_spacing_ms if environment.min_spacing_ms is None else environment.min_spacing_ms
            ),
        )

    def rule_for(self, status: int, code: str, text: str) -> Action | None:
        """What the first matching rule of the error table says; None where none matches."""
        return next((rule.action for rule in self.errors if rule.matches(status, code, text)), None)

    def action_for(self, status: int, code: str, text: str) -> Action:
        """What a reply that is not a success asks for.

        Data are refused only by a code that the error table names. With no rule that matches, what can pass
        by itself (408, 409, 425, 5xx) is retried; a code of this interface that is new concerns that UC-day,
        which waits for the next run; any other 4xx comes from a wrong path, a gateway or a firewall: the
        set-up is at fault, and the agent waits until somebody has looked.
        """
        action = self.rule_for(status, code, text)
        if action is not None:
            return action
        if status in (408, 409, 425) or status >= 500:
            return Action.RETRY
        return Action.RETRY_LATER if code.startswith(ERROR_PREFIX) else Action.STOP_AGENT


@dataclass(frozen=True, slots=True)
class UnverifiedSetting:
    """One line of the list of what is assumed: key, value, confidence (B or C) and reason."""

    key: str
    value: str
    confidence: str
    why: str


_SECTIONS = ("auth", "headers", "send", "protocol", "musd", "deadline")
_REMEDY = "correct the keys named; profiles/abm-assumed-2025.toml shows every key"


def load_profile(source: str | Path = DEFAULT_PROFILE) -> Profile:
    """Read a profile by name (one that comes with the product) or by path.

    Raises: OperatorFault naming the file and every wrong, missing or unknown key, each with its remedy.
    """
    shipped = resources.files("ccee") / "profiles"
    if isinstance(source, Path) or "/" in source or source.endswith(".toml"):
        document = load_toml(
            Path(source),
            what="the contract profile",
            remedy="check the path and its permissions (setting ccee.profile_path)",
        )
        return parse_profile(document, str(source))
    file = shipped / f"{source}.toml"
    if not file.is_file():
        names = sorted(entry.name[:-5] for entry in shipped.iterdir() if entry.name.endswith(".toml"))
        raise OperatorFault(
            f"no contract profile {source!r}",
            where="setting ccee.profile_path",
            remedy=f"use one of {', '.join(names)}, or the path of a TOML file",
        )
    where = f"profile {source}"
    return parse_profile(parse_toml(file.read_text("utf-8"), where), where)


def parse_profile(table: Mapping[str, Any], where: str) -> Profile:
    """Check a parsed TOML table and freeze it. Raises as `load_profile`."""
    document = build(_Document, table, where, remedy=_REMEDY, check=_contradictions)
    head = document.profile
    return Profile(
        name=head.name,
        verified_against_official_docs=head.verified_against_official_docs,
        verified_in_sandbox=head.verified_in_sandbox,
        environments=document.environment,
        auth=document.auth,
        headers=document.headers,
        send=document.send,
        protocol=document.protocol,
        musd=document.musd,
        deadline=document.deadline,
        errors=document.errors,
    )


def unverified_settings(profile: Profile) -> list[UnverifiedSetting]:
    """Every setting whose value rests on one source (B) or on our own choice (C), in file order."""
    return [
        setting for section in _SECTIONS for setting in _unverified(getattr(profile, section), f"{section}.")
    ]


def _unverified(section: Any, prefix: str) -> list[UnverifiedSetting]:
    rows = []
    hints = get_type_hints(type(section), include_extras=True)
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            rows += _unverified(value, f"{prefix}{item.name}.")
            continue
        about: About = get_args(hints[item.name])[1]
        if about.confidence != "A":
            rows.append(UnverifiedSetting(f"{prefix}{item.name}", _shown(value), about.confidence, about.why))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _contradictions(document: _Document) -> list[Problem]:
    """What is wrong with values that are good one by one."""
    send, protocol = document.send, document.protocol
    problems = []
    names = [getattr(send.names, item.name) for item in fields(Names)]
    if len(set(names)) != len(names):
        problems.append(Problem("send.names", "two fields have the same name"))
    if send.kinds.measured == send.kinds.adjusted:
        problems.append(Problem("send.kinds", "measured and adjusted must differ"))
    if not _is_offset(send.offset):
        problems.append(Problem("send.offset", f"{send.offset!r} is not an offset such as -03:00"))
    if not send.success_status or any(not 200 <= status < 300 for status in send.success_status):
        problems.append(Problem("send.success_status", "give at least one status, all from 200 to 299"))
    if document.musd.on_violation == "omit_hours" and not send.allow_partial_day:
        problems.append(Problem("musd.on_violation", "omit_hours needs send.allow_partial_day = true"))
    if protocol.mode == "ticket" and "{id}" not in protocol.status_path:
        problems.append(Problem("protocol.status_path", "ticket mode needs a path with {id}"))
    for key, environment in document.environment.items():
        url = environment.base_url
        if urlsplit(url).scheme not in ("http", "https") or not _host(url):
            problems.append(Problem(f"environment.{key}.base_url", f"{url!r} is not an http(s) address"))
    return problems


def _is_offset(text: str) -> bool:
    digits = text[1:3] + text[4:]
    return (
        len(text) == 6
        and text[0] in "+-"
        and text[3] == ":"
        and digits.isdecimal()
        and int(text[1:3]) < 24
        and int(text[4:]) < 60
    )
