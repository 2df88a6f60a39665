"""Who may have which command sent to a meter, when, how often, and whether a second person must agree. Pure.

The rules are a TOML file: `policy.toml` beside this module, or the one that `collector.command_policy_path`
names. A key nobody knows and a value that does not fit are refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from faults import OperatorFault
from faults.toml_tables import Key, build, load_toml, parse_toml

CLOCK_ROLE = "clock-rule"
"""The role of the collector itself when it corrects a clock within the limits of `[clock]`."""
_WHOLE_DAY = ((time(0), None),)

Window = tuple[time, time | None]
"""From, until (excluded; None: midnight), market time."""


def _windows(texts: list[str]) -> tuple[Window, ...]:
    return tuple(_window(text) for text in texts)


def _window(text: str) -> Window:
    start, _, end = text.partition("-")
    return time.fromisoformat(start), None if end == "24:00" else time.fromisoformat(end)


@dataclass(frozen=True, slots=True)
class CommandRule:
    """What a command needs. `max_per_day`: of this command, for one meter, counted by market day."""

    roles: frozenset[str] = frozenset()
    second_person: bool = True
    windows: Annotated[tuple[Window, ...], Key('write windows = ["08:00-18:00"]', convert=_windows)] = (
        _WHOLE_DAY
    )
    max_per_day: Annotated[int, Key(least=1)] = 3


_Positive = Key("see the comments of the shipped file", above=0)
SetClock = Literal["automatic", "approval"]


@dataclass(frozen=True, slots=True)
class ClockPolicy:
    """Limits of clock correction (TR-5.6d); the reasons stand in `policy.toml`."""

    leave_below_s: Annotated[float, _Positive] = 60.0
    automatic_up_to_s: Annotated[float, _Positive] = 3600.0
    set_clock: SetClock = "automatic"
    guard_s: Annotated[int, _Positive] = 10
    tolerance_s: Annotated[float, _Positive] = 3.0
    max_round_trip_s: Annotated[float, _Positive] = 20.0
    max_wait_s: Annotated[float, _Positive] = 45.0
    micro_adjust_patience_h: Annotated[float, _Positive] = 120.0


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
    document = load_toml(path, what="the command policy", remedy="check collector.command_policy_path")
    return _policy(document, str(path))


def parse_policy(text: str, where: str) -> Policy:
    """A policy out of its TOML text."""
    return _policy(parse_toml(text, where), where)


@dataclass(frozen=True, slots=True)
class _Document:
    default: CommandRule = field(default_factory=CommandRule)
    command: Annotated[Mapping[str, Any], Key(convert=dict)] = field(default_factory=dict)
    clock: ClockPolicy = field(default_factory=ClockPolicy)
    people: Mapping[str, frozenset[str]] = field(default_factory=dict)


def _policy(table: Mapping[str, Any], where: str) -> Policy:
    document = build(_Document, table, where)
    # What a command's table does not say is as in [default].
    rules = {
        name: build(CommandRule, own, f"{where} [command.{name!r}]", base=document.default)
        for name, own in document.command.items()
    }
    return Policy(document.default, rules, document.people, document.clock)
