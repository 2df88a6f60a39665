"""What the stand-in server decides and remembers, without HTTP: a market operator in one object.

Strict about what is known of the interface (stamps, order, decimals, kinds, identity), settable about what is
not (reply shape, what happens to an hour above the limit, closing). What it refuses it names with codes in
the style seen on other calls of the interface; the codes of the send call are assumptions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from ccee.body import SLOTS_PER_HOUR, Stamp, day_stamps
from ccee.counting import ABSENT, CONSISTENT, REJECTED
from ccee.deadlines import closing_of
from ccee.profile import Profile, Send
from ccee.standin.records import (
    Failure,
    RefusedReply,
    Rules,
    StoredDay,
    Unit,
    failure_from_json,
    unit_from_json,
)
from faults import OperatorFault
from faults.market_time import parse_zone
from vee.calendars import Calendars, Period, parse_month

REPLY_MODES = ("sync200", "created201_id", "created201_entity", "accepted202_ticket", "empty204")

# Section 5 of the interface reference: the simplified model's system begins here.
FIRST_DAY = date(2024, 8, 1)
# An error list longer than this tells a person nothing more.
_MESSAGES_SHOWN = 20


class StandIn:
    """The operator's memory and judgement.

    Args:
        profile: names, kinds, decimals, MUSD and closing rules come from it.
        agents: client secret by agent code; the client id is `CONCESSIONARIA_<code>`.
        units: the register.
        now: the clock, aware; `control` can fix another.
        journal: a file that outlives the process: each change is a line, flushed before the reply.
    """

    def __init__(
        self,
        profile: Profile,
        calendars: Calendars,
        agents: dict[int, str],
        units: Iterable[Unit],
        now: Callable[[], datetime],
        journal: Path | None = None,
    ) -> None:
        self.profile = profile
        self.calendars = calendars
        self.agents = agents
        self.rules = Rules()
        self.units = {unit.code: unit for unit in units}
        self.days: dict[tuple[str, date], StoredDay] = {}
        self.by_entity: dict[str, StoredDay] = {}
        self.failures: list[Failure] = []
        self.closings: dict[date, date] = {}
        self.sends = 0
        self._real_now = now
        self._fixed_now: datetime | None = None
        self._journal = journal
        self._replaying = False
        if journal is not None and journal.exists():
            self._replay(journal)

    def now(self) -> datetime:
        return self._fixed_now or self._real_now()

    # --- send ------------------------------------------------------------------------------------------

    def store(self, agent: int, content: bytes) -> StoredDay:
        """Check a body and keep it as the last word on its UC-day. Raises: RefusedReply."""
        stored = self._checked(agent, content)
        if self.rules.musd_mode == "refuse" and stored.rejected:
            hours = ", ".join(map(str, sorted(stored.rejected)))
            raise RefusedReply(400, "ERR_MEDICAO_ACIMA_MUSD", f"MUSD excedido em mais de 25%: horas {hours}")
        previous = self.days.get((stored.uc, stored.day))
        stored.writes += previous.writes if previous else 0
        stored.polls_left = self.rules.ticket_polls
        self.days[stored.uc, stored.day] = stored
        self.by_entity[stored.entity] = stored
        self._write(
            op="day",
            agent=agent,
            entity=stored.entity,
            at=stored.updated_at.isoformat(),
            rejected=sorted(stored.rejected),
            body=content.decode(),
        )
        return stored

    def _checked(self, agent: int, content: bytes) -> StoredDay:
        document = _parsed(content)
        names = self.profile.send.names
        uc, day = self._identity(document, agent)
        problems: list[str] = []
        hours = self._hours(document[names.hours], day, problems)
        if problems:
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", problems[:_MESSAGES_SHOWN])
        self._check_period(uc, agent, day)
        stored = StoredDay(uc, agent, day, str(uuid4()), self.now(), hours)
        stored.rejected = self._judged(stored)
        return stored

    def _identity(self, document: Any, agent: int) -> tuple[str, date]:
        names = self.profile.send.names
        wanted = {names.uc, names.agent, names.day, names.hours}
        if not isinstance(document, dict) or set(document) != wanted:
            raise RefusedReply(
                400, "ERR_VALIDACAO_CAMPOS", [f"campos esperados: {', '.join(sorted(wanted))}"]
            )
        uc, said, day_text = document[names.uc], document[names.agent], document[names.day]
        # The server also takes a string of digits for an agent.
        is_digits = isinstance(said, str) and said.isascii() and said.isdecimal()
        if not (type(said) is int or is_digits) or int(said) != agent:
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", [f"{names.agent} difere do agente da credencial"])
        if not isinstance(uc, str) or not uc:
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", [f"{names.uc} deve ser texto"])
        day = _iso_date(day_text)
        if day is None:
            raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", [f"{names.day} deve ser AAAA-MM-DD"])
        return uc, day

    def _hours(self, hours: Any, day: date, problems: list[str]) -> dict[int, list[tuple[Decimal, str]]]:
        names = self.profile.send.names
        partial = self.rules.allow_partial_day
        if not isinstance(hours, list) or not (1 if partial else 24) <= len(hours) <= 24:
            problems.append(f"{names.hours}: 24 horas esperadas")
            return {}
        stamps = _stamps_by_hour(self.profile.send, day)
        found: dict[int, list[tuple[Decimal, str]]] = {}
        last = 0
        for position, block in enumerate(hours, start=1):
            number = block.get(names.hour) if isinstance(block, dict) else None
            in_order = type(number) is int and (last < number <= 24 if partial else number == position)
            if not in_order or set(block) != {names.hour, names.values}:
                problems.append(f"{names.hours}[{position}]: hora {position} esperada")
                continue
            last = int(block[names.hour])
            found[last] = self._intervals(block[names.values], stamps[last], last, problems)
        return found

    def _intervals(
        self, values: Any, stamps: list[Stamp], hour: int, problems: list[str]
    ) -> list[tuple[Decimal, str]]:
        if not isinstance(values, list) or len(values) != SLOTS_PER_HOUR:
            problems.append(f"hora {hour}: {SLOTS_PER_HOUR} medições esperadas")
            return []
        found = []
        for entry, stamp in zip(values, stamps, strict=True):
            problem = self._interval_problem(entry, stamp)
            if problem:
                problems.append(f"hora {hour}, {stamp.text}: {problem}")
            else:
                names = self.profile.send.names
                found.append((Decimal(entry[names.consumption]), str(entry[names.kind])))
        return found

    def _interval_problem(self, entry: Any, stamp: Stamp) -> str:
        send = self.profile.send
        names = send.names
        if not isinstance(entry, dict) or set(entry) != {names.timestamp, names.consumption, names.kind}:
            return "campos errados"
        value = entry[names.consumption]
        if entry[names.timestamp] != stamp.text:
            return f"{names.timestamp} inesperada: {entry[names.timestamp]!r}"
        if not isinstance(value, Decimal) and type(value) is not int:
            return f"{names.consumption} deve ser número"
        if value < 0:
            return f"{names.consumption} negativo"
        exponent = Decimal(value).as_tuple().exponent
        if isinstance(exponent, int) and -exponent > send.decimals:
            return f"{names.consumption} com mais de {send.decimals} casas"
        if entry[names.kind] not in (send.kinds.measured, send.kinds.adjusted):
            return f"{names.kind} desconhecido: {entry[names.kind]!r}"
        return ""

    def _check_period(self, uc: str, agent: int, day: date) -> None:
        unit = self.units.get(uc)
        if unit is None or unit.agent_on(day) != agent or not unit.starts <= day < unit.ends:
            raise RefusedReply(
                400, "ERR_MIGRACAO_CONCLUIDA_NAO_ENCONTRADA", f"unidade {uc} sem migração vigente em {day}"
            )
        if day < FIRST_DAY:
            raise RefusedReply(
                400, "ERR_SISTEMA_MIGRACAO_IMPLATADO_MEDICOES", f"sem medições antes de {FIRST_DAY}"
            )
        today = self.today()
        if day > today:
            raise RefusedReply(400, "ERR_PERIODO_INVALIDO_MEDICOES", f"{day} está no futuro")
        closing = self.closing(day)
        if self.rules.after_closing == "refuse" and today > closing:
            raise RefusedReply(400, "ERR_PERIODO_INVALIDO_MEDICOES", f"mês encerrado em {closing}")

    def closing(self, day: date) -> date:
        """Last day for the measurement of that day's month: MS+7du, or what control says."""
        month = day.replace(day=1)
        return self.closings.get(month) or closing_of(self.calendars, month).data

    def today(self) -> date:
        """The civil day of the contract's zone."""
        return self.now().astimezone(parse_zone(self.profile.send.offset)).date()

    def _judged(self, stored: StoredDay) -> frozenset[int]:
        """Hours strictly above the limit (PdC 1.8, 3.32)."""
        musd = self.profile.musd
        limit_kwh = self.units[stored.uc].musd_kw(stored.day, musd.default_kw) * musd.factor
        return frozenset(hour for hour in stored.hours if stored.hour_kwh(hour) > limit_kwh)

    # --- read ------------------------------------------------------------------------------------------

    def records(
        self, uc: str, agent: int, first: datetime, last: datetime, situation: str
    ) -> list[dict[str, Any]]:
        """Interval records of a unit between two instants, ends inclusive, as the read call shows them."""
        names = self.profile.send.names
        found = []
        for (code, day), stored in sorted(self.days.items()):
            if code != uc or stored.agent != agent:
                continue
            for hour, stamp, value, kind in self._intervals_of(stored):
                status = REJECTED if hour in stored.rejected else CONSISTENT
                if not first <= datetime.fromisoformat(stamp) <= last or situation not in ("", status):
                    continue
                found.append(
                    {
                        "identificadorMedicaoConsumo": str(uuid5(NAMESPACE_URL, f"{uc}/{stamp}")),
                        names.uc: uc,
                        names.agent: stored.agent,
                        names.day: day.isoformat(),
                        names.timestamp: stamp,
                        names.consumption: float(value),
                        names.kind: kind,
                        "dataAtualizacao": stored.updated_at.isoformat(),
                        "situacaoMedicao": status,
                    }
                )
        return found

    def _intervals_of(self, stored: StoredDay) -> Iterator[tuple[int, str, Decimal, str]]:
        stamps = _stamps_by_hour(self.profile.send, stored.day)
        for hour, values in sorted(stored.hours.items()):
            for stamp, (value, kind) in zip(stamps[hour], values, strict=True):
                yield hour, stamp.text, value, kind

    def month(self, uc: str, month: date) -> dict[str, Any]:
        """The month as it would be counted: hour sums, zero for rejected and for absent hours."""
        hours = []
        counted = rejected = Decimal(0)
        tally = dict.fromkeys((CONSISTENT, REJECTED, ABSENT), 0)
        day = month
        while day < Period.month(month).following:
            stored = self.days.get((uc, day))
            for hour in range(1, 25):
                status, kwh = ABSENT, Decimal(0)
                if stored is not None and hour in stored.hours:
                    kwh = stored.hour_kwh(hour)
                    status = REJECTED if hour in stored.rejected else CONSISTENT
                tally[status] += 1
                if status == REJECTED:
                    rejected += kwh
                    kwh = Decimal(0)
                counted += kwh
                hours.append({"dia": day.isoformat(), "hora": hour, "kwh": str(kwh), "situacao": status})
            day += timedelta(days=1)
        return {
            "codigoUnidadeConsumidora": uc,
            "mes": f"{month:%Y-%m}",
            "totalKwh": str(counted),
            "rejeitadoKwh": str(rejected),
            "horasConsistidas": tally[CONSISTENT],
            "horasRejeitadas": tally[REJECTED],
            "horasAusentes": tally[ABSENT],
            "diasRecebidos": sum(1 for code, day in self.days if code == uc and day.replace(day=1) == month),
            "horas": hours,
        }

    def register(self) -> list[dict[str, Any]]:
        """The units as the migrations call lists them."""
        today = self.today()
        return [
            {
                "codigoUnidadeConsumidora": unit.code,
                "codigoAgenteConcessionaria": unit.agent,
                "valorMusd": float(unit.musd_kw(today, self.profile.musd.default_kw)),
                "statusMigracao": "CONCLUIDA" if unit.ends > today else "ENCERRADA",
            }
            for unit in sorted(self.units.values(), key=lambda unit: unit.code)
        ]

    # --- control ---------------------------------------------------------------------------------------

    def control(self, change: dict[str, Any]) -> None:
        """Change rules, clock, failures, register or closing days, or nothing. Raises: RefusedReply."""
        steps = [self._control_step(key, value) for key, value in change.items()]
        for step in steps:
            step()
        self._write(op="control", change={key: value for key, value in change.items() if key != "failures"})

    def _control_step(self, key: str, value: Any) -> Callable[[], None]:
        try:
            if key == "clock":
                fixed = None if value is None else _aware(value)
                return lambda: setattr(self, "_fixed_now", fixed)
            if key == "failures":
                plan = [failure_from_json(item) for item in value]
                return lambda: setattr(self, "failures", plan)
            if key == "units":
                units = [unit_from_json(item) for item in value]
                return lambda: self.units.update({unit.code: unit for unit in units})
            if key == "musd":
                return self._musd_step(value)
            if key == "closings":
                days = {parse_month(month): date.fromisoformat(day) for month, day in value.items()}
                return lambda: self.closings.update(days)
            current = getattr(self.rules, key)
            if type(value) is not type(current) or value not in _CHOICES.get(key, (value,)):
                raise ValueError(f"{value!r}")
            if type(value) is int and value < (1 if key == "page_size" else 0):
                raise ValueError(f"{value!r}")
            return lambda: setattr(self.rules, key, value)
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, OperatorFault) as error:
            raise RefusedReply(400, "ERR_CONTROL", f"{key}: {error}") from error

    def _musd_step(self, value: Any) -> Callable[[], None]:
        """{"uc": code, "month": "YYYY-MM", "kw": number or null}: refused after MS+3du of that month."""
        unit = self.units[value["uc"]]
        month = parse_month(value["month"])
        kw = None if value["kw"] is None else Decimal(str(value["kw"]))
        if kw is not None and not (kw.is_finite() and kw > 0):
            raise ValueError(f"{value['kw']!r} kW")
        closing = closing_of(self.calendars, month).register
        if self.today() > closing:
            raise RefusedReply(400, "ERR_PERIODO_INVALIDO_MUSD", f"MUSD de {month:%Y-%m} só até {closing}")

        def apply() -> None:
            unit.musd[month] = kw
            if self.rules.judge_again:
                for stored in self.days.values():
                    if stored.uc == unit.code and stored.day >= month:
                        stored.rejected = self._judged(stored)

        return apply

    def next_failure(self, uc: str) -> Failure | None:
        """Take the next planned failure that concerns this unit."""
        for failure in self.failures:
            if failure.uc in ("", uc) and failure.count > 0:
                failure.count -= 1
                return failure
        return None

    # --- journal ---------------------------------------------------------------------------------------

    def _write(self, **line: Any) -> None:
        if self._journal is None or self._replaying:
            return
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _replay(self, journal: Path) -> None:
        self._replaying = True
        content = journal.read_bytes()
        # A line torn by a kill in mid-write had no reply yet; it must not spoil the next one.
        whole = content[: content.rfind(b"\n") + 1]
        with journal.open("r+b") as file:
            file.truncate(len(whole))
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                line = json.loads(text)
            except ValueError as error:
                raise OperatorFault(
                    f"not a line of this journal: {error}",
                    where=f"{journal} line {number}",
                    remedy="give the file that a stand-in wrote, or begin with a new one",
                ) from error
            if line.get("op") == "control":
                # A clock or a closed register must not refuse what was granted at the time.
                self._apply_again(line["change"])
            elif line.get("op") == "day":
                self._restore(line)
        self._replaying = False

    def _apply_again(self, change: dict[str, Any]) -> None:
        fixed, self._fixed_now = self._fixed_now, datetime(2000, 1, 1, tzinfo=UTC)
        try:
            steps = [self._control_step(key, value) for key, value in change.items()]
        finally:
            self._fixed_now = fixed
        for step in steps:
            step()

    def _restore(self, line: dict[str, Any]) -> None:
        document = _parsed(line["body"].encode())
        names = self.profile.send.names
        day = date.fromisoformat(document[names.day])
        hours = {
            block[names.hour]: [
                (Decimal(entry[names.consumption]), entry[names.kind]) for entry in block[names.values]
            ]
            for block in document[names.hours]
        }
        uc = document[names.uc]
        previous = self.days.get((uc, day))
        stored = StoredDay(
            uc,
            line["agent"],
            day,
            line["entity"],
            datetime.fromisoformat(line["at"]),
            hours,
            frozenset(line["rejected"]),
            1 + (previous.writes if previous else 0),
        )
        self.days[uc, day] = stored
        self.by_entity[stored.entity] = stored


_CHOICES: dict[str, tuple[Any, ...]] = {
    "reply_mode": REPLY_MODES,
    "musd_mode": ("mark", "refuse"),
    "after_closing": ("refuse", "accept"),
}


def _parsed(content: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        # Decimals are kept as written: their number is checked.
        return json.loads(content, parse_float=Decimal, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RefusedReply(400, "ERR_VALIDACAO_CAMPOS", [f"JSON inválido: {error}"]) from error


def _iso_date(text: Any) -> date | None:
    try:
        return date.fromisoformat(text) if isinstance(text, str) and len(text) == 10 else None
    except ValueError:
        return None


def _aware(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return instant


@lru_cache(maxsize=64)
def _stamps_by_hour(send: Send, day: date) -> dict[int, list[Stamp]]:
    by_hour: dict[int, list[Stamp]] = {}
    for stamp in day_stamps(day, send):
        by_hour.setdefault(stamp.hour, []).append(stamp)
    return by_hour
