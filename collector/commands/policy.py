"""Who may have which command sent to a meter, when, how often, and whether a second person must agree. Pure.

The rules are a TOML file: `policy.toml` beside this module, or the one that `collector.command_policy_path`
names. A key nobody knows and a value that does not fit are refused, never ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from faults import OperatorFault

CLOCK_ROLE = "clock-rule"
"""The role of the collector itself when it corrects a clock within the limits of `[clock]`."""
_WHOLE_DAY = ((time(0), None),)

Window = tuple[time, time | None]
"""From, until (excluded; None: midnight), market time."""


@dataclass(frozen=True, slots=True)
class CommandRule:
    """What a command needs. `max_per_day`: of this command, for one meter, counted by market day."""

    roles: frozenset[str]
    second_person: bool = True
    windows: tuple[Window, ...] = _WHOLE_DAY
    max_per_day: int = 3


SetClock = Literal["automatic", "approval"]


@dataclass(frozen=True, slots=True)
class ClockPolicy:
    """Limits of clock correction (TR-5.6d); the reasons stand in `policy.toml`."""

    leave_below_s: float = 60.0
    automatic_up_to_s: float = 3600.0
    set_clock: SetClock = "automatic"
    guard_s: int = 10
    tolerance_s: float = 3.0
    max_round_trip_s: float = 20.0
    max_wait_s: float = 45.0
    micro_adjust_patience_h: float = 120.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole file. `people`: roles by person; `rules`: by command (`20`, `98/32`, `clock`)."""

    default: CommandRule
    rules: Mapping[str, CommandRule] = field(default_factory=dict)
    people: Mapping[str, frozenset[str]] = field(default_factory=dict)
    clock: ClockPolicy = field(default_factory=ClockPolicy)

    def rule(self, command: str) -> CommandRule:
        return self.rules.get(command, self.default)

    def roles_of(self, person: str) -> frozenset[str]:
        return self.people.get(person, frozenset())


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one request.

    Attributes:
        role: the role that allows it; None: nobody's, it is refused for `refusal`.
        not_before: naive market time at which a window opens; None: now.
    """

    role: str | None
    needs_approval: bool = False
    not_before: datetime | None = None
    refusal: str = ""

    def to_json(self) -> dict[str, Any]:
        moment = None if self.not_before is None else self.not_before.isoformat()
        return {
            "role": self.role,
            "needs_approval": self.needs_approval,
            "not_before": moment,
            "refusal": self.refusal,
        }


def decide(policy: Policy, command: str, roles: frozenset[str], now: datetime, done_today: int) -> Decision:
    """Judge a request.

    Args:
        roles: of the person who asks.
        now: naive market time.
        done_today: requests of this command for this meter on this market day, refused ones left out.
    """
    rule = policy.rule(command)
    allowed = sorted(roles & rule.roles)
    if not allowed:
        wanted = ", ".join(sorted(rule.roles))
        return Decision(None, refusal=f"command {command} needs one of the roles {wanted}")
    if done_today >= rule.max_per_day:
        return Decision(
            None,
            refusal=f"command {command}: {rule.max_per_day} a day for one meter, and as many were asked for",
        )
    return Decision(allowed[0], rule.second_person, _opening(rule.windows, now))


def may_approve(policy: Policy, command: str, person: str, requested_by: str) -> str:
    """The role by which a person may approve a request of another.

    Raises:
        OperatorFault: it is the same person, or one without a role for this command.
    """
    if person.strip().lower() == requested_by.strip().lower():
        raise OperatorFault(
            f"{person} made the request", where=f"command {command}", remedy="a second person must approve"
        )
    roles = sorted(policy.roles_of(person) & policy.rule(command).roles)
    if not roles:
        wanted = ", ".join(sorted(policy.rule(command).roles))
        raise OperatorFault(
            f"{person} has none of the roles {wanted}",
            where=f"command {command}",
            remedy="ask somebody who has, or give the role under [people] of the policy file",
        )
    return roles[0]


def _opening(windows: tuple[Window, ...], now: datetime) -> datetime | None:
    """When the next window opens; None while one is open."""
    opens = []
    for start, end in windows:
        if start <= now.time() and (end is None or now.time() < end):
            return None
        day = now.date() if now.time() < start else now.date() + timedelta(days=1)
        opens.append(datetime.combine(day, start))
    return min(opens)


# --- the file -----------------------------------------------------------------------------------------------


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy file; without a path, the one that is shipped.

    Raises:
        OperatorFault: not readable, or something in it does not fit.
    """
    if path is None:
        text = resources.files("collector.commands").joinpath("policy.toml").read_text(encoding="utf-8")
        return parse_policy(text, "policy.toml")
    try:
        return parse_policy(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise OperatorFault(
            f"cannot be read: {error.strerror}", where=str(path), remedy="check collector.command_policy_path"
        ) from error


def parse_policy(text: str, where: str) -> Policy:
    """A policy out of its TOML text."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OperatorFault(str(error), where=where, remedy="correct the TOML") from error
    _known(content, {"default", "command", "clock", "people"}, where)
    default = _rule(content.get("default", {}), None, f"{where} [default]")
    rules = {
        name: _rule(table, default, f"{where} [command.{name!r}]")
        for name, table in content.get("command", {}).items()
    }
    people = {name: frozenset(roles) for name, roles in content.get("people", {}).items()}
    return Policy(default, rules, people, _clock(content.get("clock", {}), f"{where} [clock]"))


def _rule(table: Mapping[str, Any], default: CommandRule | None, where: str) -> CommandRule:
    _known(table, {"roles", "second_person", "windows", "max_per_day"}, where)
    base = default or CommandRule(frozenset())
    roles, second = table.get("roles", sorted(base.roles)), table.get("second_person", base.second_person)
    most = table.get("max_per_day", base.max_per_day)
    good = isinstance(roles, list) and all(isinstance(role, str) for role in roles)
    if not good or not isinstance(second, bool) or not isinstance(most, int) or most < 1:
        raise OperatorFault(
            "a value does not fit",
            where=where,
            remedy='roles = ["..."], second_person = true or false, max_per_day = 1 or more',
        )
    windows = base.windows
    if "windows" in table:
        windows = tuple(_window(text, where) for text in table["windows"])
    return CommandRule(frozenset(roles), second, windows, most)


def _window(text: str, where: str) -> Window:
    try:
        start, _, end = text.partition("-")
        return time.fromisoformat(start), None if end == "24:00" else time.fromisoformat(end)
    except (ValueError, AttributeError) as error:
        raise OperatorFault(
            f"window {text!r} is no span of time", where=where, remedy='write "08:00-18:00"'
        ) from error


def _clock(table: Mapping[str, Any], where: str) -> ClockPolicy:
    names = set(ClockPolicy.__dataclass_fields__)
    _known(table, names, where)
    for name, value in table.items():
        is_good = value in get_args(SetClock) if name == "set_clock" else _is_positive(value)
        if not is_good:
            raise OperatorFault(
                f"{name} = {value!r} does not fit", where=where, remedy="see the comments of the shipped file"
            )
    return ClockPolicy(**table)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _known(table: Mapping[str, Any], names: set[str], where: str) -> None:
    unknown = sorted(set(table) - names)
    if unknown:
        raise OperatorFault(
            f"unknown key {unknown[0]!r}", where=where, remedy=f"known: {', '.join(sorted(names))}"
        )
