"""The contract profile: what changes with CCEE's contract, as frozen typed values read from one TOML file.

Every key is required and every unknown key is refused: a profile says the whole contract or nothing. The
field declarations below are the one table of what a key may hold, how sure its value is (confidence A, B
or C of the reference) and why it has that value; parsing and the list of unverified settings come from it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_type_hints
from urllib.parse import urlsplit

from faults import OperatorFault

DEFAULT_PROFILE = "abm-assumed-2025"
PRODUCTION = "production"


class Action(StrEnum):
    """What a reply that is not a success asks of the sender."""

    REFRESH_TOKEN = "refresh_token"
    RETRY_AFTER = "retry_after"
    RETRY = "retry"
    STOP_AGENT = "stop_agent"
    FIX_DATA = "fix_data"
    REJECTED_MUSD = "rejected_musd"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of one key: confidence in its value (A, B, C), why it has it, what it may hold."""

    confidence: str
    why: str
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """One place to send to; the two limits, where given, replace those of `[send.limits]`."""

    base_url: Annotated[str, About("A", "hosts seen in independent clients")]
    max_parallel: Annotated[int | None, About("C", "the stand-in has no limit of its own", least=1)] = None
    min_spacing_ms: Annotated[int | None, About("C", "the stand-in has no limit of its own", least=0)] = None


@dataclass(frozen=True, slots=True)
class Auth:
    token_path: Annotated[str, About("A", "seen in the official description and a public client")]
    grant_type: Annotated[
        str, About("B", "the public client sends none; OAuth2 would say client_credentials")
    ]
    client_auth: Annotated[
        str, About("B", "the public client sends the pair in the form", choices=("body", "basic"))
    ]
    refresh_margin_s: Annotated[int, About("C", "a tenth of the 300 s seen in the sandbox", least=0)]
    client_cert_file: Annotated[str, About("C", "public clients use no certificate")]
    client_key_file: Annotated[str, About("C", "public clients use no certificate")]


@dataclass(frozen=True, slots=True)
class Headers:
    agent: Annotated[str, About("A", "two public clients")]
    profile: Annotated[str, About("A", "two public clients")]
    profile_equals_agent: Annotated[
        bool, About("B", "so in the sandbox; which profile a distributor sends is not said")
    ]


@dataclass(frozen=True, slots=True)
class Names:
    uc: Annotated[str, About("A", "also on the read side")]
    agent: Annotated[str, About("A", "also on the read side")]
    day: Annotated[str, About("A", "also on the read side")]
    hours: Annotated[str, About("B", "one demonstration program only")]
    hour: Annotated[str, About("B", "one demonstration program only")]
    values: Annotated[str, About("B", "one demonstration program only")]
    timestamp: Annotated[str, About("A", "also on the read side")]
    consumption: Annotated[str, About("A", "also on the read side")]
    kind: Annotated[str, About("A", "also on the read side")]


@dataclass(frozen=True, slots=True)
class Kinds:
    measured: Annotated[str, About("A", "seen in a real month")]
    adjusted: Annotated[str, About("B", "read side only; its spelling on input is not known")]


@dataclass(frozen=True, slots=True)
class Limits:
    max_parallel: Annotated[int, About("C", "CCEE's limit is not known: gentle by default", least=1)]
    min_spacing_ms: Annotated[int, About("C", "CCEE's limit is not known: gentle by default", least=0)]
    timeout_s: Annotated[int, About("C", "reply times are not known", least=1)]
    max_attempts: Annotated[int, About("C", "about two minutes of back-off, then the next run", least=1)]


@dataclass(frozen=True, slots=True)
class Send:
    method: Annotated[str, About("B", "one demonstration program only", choices=("POST", "PUT"))]
    path: Annotated[str, About("B", "one demonstration program only")]
    # "list" is left out on purpose: whether several UC-days fit in one call is unknown, and a receipt must
    # belong to one UC-day.
    layout: Annotated[
        str, About("B", "one demonstration program only", choices=("uc-day-hours", "uc-day-flat"))
    ]
    success_status: Annotated[tuple[int, ...], About("C", "no recorded reply of the send call exists")]
    success_body: Annotated[
        str,
        About("C", "no recorded reply of the send call exists", choices=("any", "entity", "ticket", "empty")),
    ]
    allow_partial_day: Annotated[bool, About("C", "a real month suggests hour blocks are taken; not proved")]
    # The stored layer is rounded once to milli-kWh; fewer decimals would round a second time.
    decimals: Annotated[int, About("B", "at most three were seen in a real month", least=3, most=9)]
    rounding: Annotated[str, About("C", "not said; half up is the trade's habit", choices=("half_up",))]
    unit: Annotated[str, About("A", "magnitudes of a real month", choices=("kWh",))]
    stamp: Annotated[
        str, About("A", "a real month and the legacy service", choices=("interval_end", "interval_start"))
    ]
    offset: Annotated[str, About("A", "a real month; no summer time since 2019")]
    names: Names
    kinds: Kinds
    limits: Limits


@dataclass(frozen=True, slots=True)
class Protocol:
    mode: Annotated[
        str, About("C", "whether a protocol number comes back is not known", choices=("sync", "ticket"))
    ]
    json_path: Annotated[str, About("C", "whether a protocol number comes back is not known")]
    status_path: Annotated[str, About("C", "whether a protocol number comes back is not known")]
    situation_path: Annotated[str, About("C", "whether a protocol number comes back is not known")]
    situation_processing: Annotated[str, About("C", "whether a protocol number comes back is not known")]
    situation_accepted: Annotated[str, About("C", "whether a protocol number comes back is not known")]


@dataclass(frozen=True, slots=True)
class Read:
    enabled: Annotated[bool, About("C", "the distributor's own view has a right but no known path")]
    path: Annotated[str, About("C", "the distributor's own view has a right but no known path")]
    empty_status: Annotated[tuple[int, ...], About("B", "read side of a public client")]


@dataclass(frozen=True, slots=True)
class Musd:
    factor: Annotated[Decimal, About("A", "PdC 1.8, 3.32")]
    compare: Annotated[str, About("A", "PdC 1.8, 3.32: more than 25 %", choices=("gt",))]
    basis: Annotated[
        str, About("C", "the twelve values sent, after losses and rounding", choices=("sent", "measured"))
    ]
    posts: Annotated[
        str, About("A", "PdC 1.8, 3.15: one value per unit", choices=("single", "max", "per_post"))
    ]
    on_violation: Annotated[
        str,
        About("C", "sending the truth keeps the day", choices=("send_and_alert", "hold_day", "omit_hours")),
    ]
    rejected_value: Annotated[str, About("A", "PdC 1.8, 3.32.1", choices=("zero",))]
    default_kw: Annotated[int, About("A", "PdC 1.8, 3.15.1", least=1)]
    resend_on_change: Annotated[bool, About("C", "nothing says stored days are judged again after a change")]


@dataclass(frozen=True, slots=True)
class Deadline:
    business_day: Annotated[int, About("A", "PdC 1.8, 3.28", least=1)]
    register_change_business_day: Annotated[int, About("A", "PdC 1.8, 3.20", least=1)]
    closed_business_day: Annotated[int, About("A", "PdC 2.1 and 5.1", least=1)]
    calendar: Annotated[
        str,
        About(
            "A", "PdC 1.4; its content was not seen", choices=("ccee", "nacional", "bancario", "bancario_sp")
        ),
    ]
    safety_margin_days: Annotated[int, About("C", "the hour of delivery was not seen", least=0)]
    send_after_deadline: Annotated[
        bool, About("C", "behaviour after closing is not known; a recount has a fee")
    ]


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One row of the error table; a condition left out matches anything."""

    action: Action
    http: int | None = None
    http_class: int | None = None
    code: str | None = None
    code_contains: str | None = None

    def matches(self, status: int, code: str, text: str) -> bool:
        """Args: HTTP status, the reply's code, and all its texts together (codes hide in messages)."""
        return (
            (self.http is None or self.http == status)
            and (self.http_class is None or self.http_class == status // 100)
            and (self.code is None or self.code == code)
            and (self.code_contains is None or self.code_contains in text)
        )


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
    read: Read
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
        shape = (send.layout, send.decimals, send.rounding, send.stamp, send.offset, send.names, send.kinds)
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

    def action_for(self, status: int, code: str, text: str) -> Action:
        """What the first matching rule of the error table says.

        With no match, replies that can pass by themselves (408, 425, 5xx) are retried and the rest of 4xx
        is a matter of data, since in the other calls of this interface business refusals are HTTP 400.
        """
        for rule in self.errors:
            if rule.matches(status, code, text):
                return rule.action
        return Action.RETRY if status in (408, 425) or status >= 500 else Action.FIX_DATA


@dataclass(frozen=True, slots=True)
class UnverifiedSetting:
    """One line of the list of what is assumed: key, value, confidence (B or C) and reason."""

    key: str
    value: str
    confidence: str
    why: str


_SECTIONS: dict[str, type[Any]] = {
    "auth": Auth,
    "headers": Headers,
    "send": Send,
    "protocol": Protocol,
    "read": Read,
    "musd": Musd,
    "deadline": Deadline,
}


def load_profile(source: str | Path = DEFAULT_PROFILE) -> Profile:
    """Read a profile by name (one that comes with the product) or by path.

    Raises: OperatorFault naming the file and every wrong, missing or unknown key, each with its remedy.
    """
    where, content = _read(source)
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise OperatorFault(f"not TOML: {error}", where=where, remedy="correct the line named") from error
    return parse_profile(table, where)


def parse_profile(table: Mapping[str, Any], where: str) -> Profile:
    """Check a parsed TOML table and freeze it. Raises as `load_profile`."""
    problems: list[str] = []
    known = {"profile", "environment", "errors", *_SECTIONS}
    problems += [f"{key}: unknown section; remove it" for key in table if key not in known]
    head = _sub_table(table, "profile", "", problems)
    name = _value(head, "profile.", "name", str, None, problems)
    flags = {
        flag: _value(head, "profile.", flag, bool, None, problems)
        for flag in ("verified_against_official_docs", "verified_in_sandbox")
    }
    problems += [f"profile.{key}: unknown key; remove it" for key in head if key not in {"name", *flags}]
    environments = {
        key: _section(Environment, value, f"environment.{key}.", problems)
        for key, value in _sub_table(table, "environment", "", problems).items()
    }
    sections = {
        key: _section(cls, _sub_table(table, key, "", problems), f"{key}.", problems)
        for key, cls in _SECTIONS.items()
    }
    rules = _error_rules(table.get("errors", []), problems)
    if not problems:
        problems += _cross_checks(sections, environments)
    if problems:
        listed = "; ".join(problems)
        raise OperatorFault(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''}: {listed}",
            where=where,
            remedy="correct the keys named; profiles/abm-assumed-2025.toml shows every key",
        )
    return Profile(name=name, **flags, environments=environments, **sections, errors=rules)


def unverified_settings(profile: Profile) -> list[UnverifiedSetting]:
    """Every setting whose value rests on one source (B) or on our own choice (C), in file order."""
    return [
        setting for section in _SECTIONS for setting in _unverified(getattr(profile, section), f"{section}.")
    ]


def _unverified(section: Any, prefix: str) -> list[UnverifiedSetting]:
    found = []
    hints = get_type_hints(type(section), include_extras=True)
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            found += _unverified(value, f"{prefix}{item.name}.")
            continue
        about: About = get_args(hints[item.name])[1]
        if about.confidence != "A":
            found.append(
                UnverifiedSetting(f"{prefix}{item.name}", _shown(value), about.confidence, about.why)
            )
    return found


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read(source: str | Path) -> tuple[str, str]:
    shipped = resources.files("ccee") / "profiles"
    if isinstance(source, str) and "/" not in source and not source.endswith(".toml"):
        file = shipped / f"{source}.toml"
        if not file.is_file():
            names = sorted(entry.name[:-5] for entry in shipped.iterdir() if entry.name.endswith(".toml"))
            raise OperatorFault(
                f"no contract profile {source!r}",
                where="setting ccee.profile",
                remedy=f"use one of {', '.join(names)}, or the path of a TOML file",
            )
        return f"profile {source}", file.read_text("utf-8")
    try:
        return str(source), Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(
            f"cannot read the contract profile: {error}",
            where=str(source),
            remedy="check the path and its permissions (setting ccee.profile)",
        ) from error


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _sub_table(table: Mapping[str, Any], key: str, prefix: str, problems: list[str]) -> Mapping[str, Any]:
    value = table.get(key)
    if isinstance(value, dict):
        return value
    problems.append(f"{prefix}{key}: missing section; add [{prefix}{key}]")
    return {}


def _section(cls: type[Any], table: Any, prefix: str, problems: list[str]) -> Any:
    if not isinstance(table, dict):
        problems.append(f"{prefix[:-1]}: must be a section")
        return None
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            inner = _sub_table(table, item.name, prefix, problems)
            values[item.name] = _section(hint, inner, f"{prefix}{item.name}.", problems)  # type: ignore[arg-type]  # is_dataclass also narrows to instances
        elif item.name in table or item.default is MISSING:
            kind, about = get_args(hint)
            values[item.name] = _value(table, prefix, item.name, kind, about, problems)
    known = {item.name for item in fields(cls)}
    problems += [f"{prefix}{key}: unknown key; remove it" for key in table if key not in known]
    # A section with problems is never used: `parse_profile` raises before anybody sees it.
    return cls(**values)


_WANTED = {
    str: "a text in quotes",
    bool: "true or false",
    int: "a whole number",
    tuple[int, ...]: "a list of whole numbers",
    Decimal: 'a decimal number in quotes, such as "1.25"',
}


def _value(
    table: Mapping[str, Any], prefix: str, key: str, hint: Any, about: About | None, problems: list[str]
) -> Any:
    if hint == int | None:
        hint = int
    if key not in table:
        problems.append(f"{prefix}{key}: missing; give {_WANTED[hint]}")
        return None
    value = _converted(table[key], hint)
    if value is None:
        problems.append(f"{prefix}{key}: {table[key]!r} is not {_WANTED[hint]}")
        return None
    if about is not None:
        problems += [f"{prefix}{key}: {text}" for text in _out_of_bounds(value, about)]
    return value


def _out_of_bounds(value: Any, about: About) -> list[str]:
    problems = []
    if about.choices and value not in about.choices:
        problems.append(f"{value!r} is not one of {', '.join(about.choices)}")
    if about.least is not None and value < about.least:
        problems.append(f"{value} must be at least {about.least}")
    if about.most is not None and value > about.most:
        problems.append(f"{value} must be at most {about.most}")
    return problems


def _converted(value: Any, hint: Any) -> Any:
    if hint is Decimal:
        try:
            number = Decimal(value) if isinstance(value, str) else None
        except InvalidOperation:
            return None
        return number if number is not None and number.is_finite() and number > 0 else None
    if hint == tuple[int, ...]:
        is_list = isinstance(value, list) and all(type(item) is int for item in value)
        return tuple(value) if is_list else None
    return value if type(value) is hint else None


def _error_rules(rows: Any, problems: list[str]) -> tuple[ErrorRule, ...]:
    kinds = {"http": int, "http_class": int, "code": str, "code_contains": str}
    rules = []
    for number, row in enumerate(rows if isinstance(rows, list) else [], start=1):
        place = f"errors[{number}]"
        if not isinstance(row, dict) or row.get("action") not in set(Action):
            problems.append(f"{place}.action: must be one of {', '.join(Action)}")
            continue
        conditions = {key: value for key, value in row.items() if key != "action"}
        wrong = [key for key, value in conditions.items() if type(value) is not kinds.get(key)]
        problems += [f"{place}.{key}: unknown condition or wrong type" for key in wrong]
        if not conditions:
            problems.append(f"{place}: needs a condition ({', '.join(kinds)})")
        elif not wrong:
            rules.append(ErrorRule(action=Action(row["action"]), **conditions))
    return tuple(rules)


def _cross_checks(sections: Mapping[str, Any], environments: Mapping[str, Environment]) -> list[str]:
    send: Send = sections["send"]
    problems = []
    names = [getattr(send.names, item.name) for item in fields(Names)]
    if len(set(names)) != len(names):
        problems.append("send.names: two fields have the same name")
    if send.kinds.measured == send.kinds.adjusted:
        problems.append("send.kinds: measured and adjusted must differ")
    if not _is_offset(send.offset):
        problems.append(f"send.offset: {send.offset!r} is not an offset such as -03:00")
    if not send.success_status or any(not 200 <= status < 300 for status in send.success_status):
        problems.append("send.success_status: give at least one status, all from 200 to 299")
    if sections["musd"].on_violation == "omit_hours" and not send.allow_partial_day:
        problems.append("musd.on_violation: omit_hours needs send.allow_partial_day = true")
    if sections["protocol"].mode == "ticket" and "{id}" not in sections["protocol"].status_path:
        problems.append("protocol.status_path: ticket mode needs a path with {id}")
    if sections["read"].enabled and not sections["read"].path:
        problems.append("read.path: needed while read.enabled is true")
    for key, environment in environments.items():
        if urlsplit(environment.base_url).scheme not in ("http", "https") or not _host(environment.base_url):
            problems.append(f"environment.{key}.base_url: {environment.base_url!r} is not an http(s) address")
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
