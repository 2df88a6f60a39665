"""The registry before a month opens: what would keep its units from being read, sent or counted right.

What belongs here: one look at all units that are submitted in a month, each finding with what CCEE would do
with it and what to do. What does not: what a file may say (`storage.registry` refuses it at the door), days
that are missing (`report`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from ccee.deadlines import closing_of
from storage.database import Database
from storage.registry.constants import STATED
from storage.sessions import fitting_constants
from vee.calendars import Calendars, Period
from vee.layers.validation import check_digits

_NATIONAL_DIGITS = 15
# From the call-up of a unit to its first day (TR 8.1).
INCLUSION_DAYS = 10
# Losses outside of these are rather a fraction in place of a percentage, or of something else [C].
LEAST_LOSS, MOST_LOSS = Decimal("0.1"), Decimal(15)


class Severity(StrEnum):
    """BLOCKS: the unit's days cannot be read, or cannot be sent. ATTENTION: they can, and are likely wrong,
    or count as something else. INFO: as the registry says, and worth knowing.
    """

    BLOCKS = "blocks"
    ATTENTION = "attention"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One thing that a person should look at.

    Attributes:
        code: of the kind of finding, stable.
        where: the place, in the registry's own codes.
        ccee: what CCEE would do with it as it stands.
    """

    severity: Severity
    code: str
    where: str
    what: str
    ccee: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Preflight:
    """All findings of a month, worst first; `ucs` were looked at."""

    month: date
    ucs: int
    register_closes: date
    findings: tuple[Finding, ...]

    @property
    def needs_attention(self) -> bool:
        return any(finding.severity is not Severity.INFO for finding in self.findings)

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)


@dataclass(frozen=True)
class Known:
    """What only other rooms know.

    Attributes:
        profiles: names of meter profiles. strategies: of estimation.
        fault_of_url: why the collector would refuse a unit's URL, or None.
        musd_default_kw: what CCEE assumes where no MUSD is declared.
    """

    profiles: Collection[str]
    strategies: Collection[str]
    fault_of_url: Callable[[str], str | None]
    musd_default_kw: int


def preflight(db: Database, month: date, calendars: Calendars, known: Known) -> Preflight:
    """Look at the registry of all units submitted in a month.

    Args:
        month: any day of it.
    """
    period = Period.month(month)
    closing = closing_of(calendars, period.start).register
    looks = _Looks(known, closing)
    with db.connect() as conn:
        for name, query in _QUERIES.items():
            with conn.cursor() as cursor:
                cursor.execute(query, {"first": period.start, "following": period.following})
                names = [column.name for column in cursor.description or ()]
                rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            getattr(looks, name)(rows)
    order = list(Severity)
    findings = sorted(looks.findings, key=lambda item: (order.index(item.severity), item.code, item.where))
    return Preflight(period.start, looks.ucs, closing, tuple(findings))


# Units that are submitted on a day of the month, from the first such day to the last.
_SUBMITTED = """
submitted AS (
    SELECT u.id, u.code, u.cea_date, greatest(min(lower(s.valid)), %(first)s) AS begins,
           min(lower(s.valid)) AS since,
           least(max(coalesce(upper(s.valid), %(following)s)), %(following)s) AS ends
    FROM uc u JOIN uc_status s ON s.uc_id = u.id AND is_submitted(s.status)
        AND s.valid && daterange(%(first)s, %(following)s)
    GROUP BY u.id
)
"""

_QUERIES: Mapping[str, str] = {
    "units": f"""
        WITH {_SUBMITTED}
        SELECT u.*, m.musd_kw, m.confirmed_on, c.tariff_subgroup, c.contracted_demand_kw, e.strategy,
            (SELECT count(*) FROM generate_series(u.begins, u.ends - 1, INTERVAL '1 day') d
             WHERE NOT EXISTS (SELECT FROM uc_agent a WHERE a.uc_id = u.id AND a.valid @> d::date)
            ) AS no_agent,
            (SELECT count(*) FROM generate_series(u.begins, u.ends - 1, INTERVAL '1 day') d
             WHERE NOT EXISTS (SELECT FROM uc_musd n WHERE n.uc_id = u.id AND n.valid @> d::date
                 AND n.musd_kw IS NOT NULL)) AS no_musd,
            (SELECT count(*) FROM point p WHERE p.uc_id = u.id) AS points,
            (SELECT count(*) FROM point p WHERE p.uc_id = u.id AND p.sign > 0) AS adding
        FROM submitted u
        LEFT JOIN uc_musd m ON m.uc_id = u.id AND m.valid @> u.ends - 1
        LEFT JOIN uc_contract c ON c.uc_id = u.id AND c.valid @> u.ends - 1
        LEFT JOIN uc_estimation e ON e.uc_id = u.id AND e.valid @> u.ends - 1
        ORDER BY u.code
    """,
    "silent": """
        SELECT u.code FROM uc u
        WHERE NOT EXISTS (SELECT FROM uc_status s WHERE s.uc_id = u.id
                          AND s.valid && daterange(%(first)s, %(following)s))
        ORDER BY u.code
    """,
    "ends": """
        SELECT u.code, s.status, lower(s.valid) AS since FROM uc_status s JOIN uc u ON u.id = s.uc_id
        WHERE s.status = 'captive' AND lower(s.valid) > %(first)s AND lower(s.valid) < %(following)s
        ORDER BY u.code
    """,
    "gaps": f"""
        WITH {_SUBMITTED}, spans AS (
            SELECT u.code, p.code AS point,
                tstzmultirange(tstzrange(market_day_start(u.begins), market_day_start(u.ends)))
                - coalesce((SELECT range_agg(i.valid) FROM installation i
                            WHERE i.point_id = p.id AND i.role = 'main'), '{{}}') AS missing
            FROM submitted u JOIN point p ON p.uc_id = u.id
        )
        SELECT code, point, lower(gap) AS begins, upper(gap) AS ends,
               NOT EXISTS (SELECT FROM point p JOIN installation i ON i.point_id = p.id AND i.role = 'main'
                           WHERE p.code = spans.point) AS is_empty
        FROM spans CROSS JOIN LATERAL unnest(missing) AS gap
        ORDER BY code, point, begins
    """,
    "meters": f"""
        WITH {_SUBMITTED}
        SELECT u.code, p.code AS point, m.serial, k.code AS model, k.profile, n.url, n.code AS unit, i.role,
               i.pulse_energy_num, i.pulse_energy_den, i.active_channel, i.interval_s,
               coalesce(ps.kind, '') AS schedule,
               i.tp_ratio * i.tc_ratio AS ratio, i.constant_includes_ratios,
               told.constant_wh, told.started_at, told.ratio AS told_ratio,
               EXISTS (SELECT FROM session x WHERE x.meter_id = m.id AND x.outcome IN ('complete', 'partial')
                       AND x.statement IS NOT NULL AND i.valid @> x.started_at) AS was_read
        FROM submitted u
        JOIN point p ON p.uc_id = u.id
        JOIN installation i ON i.point_id = p.id
            AND i.valid && tstzrange(market_day_start(u.begins), market_day_start(u.ends))
        JOIN meter m ON m.id = i.meter_id
        JOIN meter_model k ON k.id = m.model_id
        LEFT JOIN unit n ON n.id = i.unit_id
        LEFT JOIN point_schedule ps ON ps.point_id = p.id AND ps.valid @> u.begins
        LEFT JOIN ({STATED}) told ON told.installation_id = i.id
        ORDER BY u.code, p.code, m.serial, lower(i.valid) NULLS FIRST
    """,
    "overlaps": """
        SELECT m.serial, p.code AS point, o.code AS other, i.role
        FROM installation i
        JOIN installation j ON j.id > i.id AND j.valid && i.valid
            AND (j.meter_id = i.meter_id OR (j.point_id = i.point_id AND j.role = i.role))
        JOIN meter m ON m.id = i.meter_id JOIN point p ON p.id = i.point_id JOIN point o ON o.id = j.point_id
        WHERE i.valid && tstzrange(market_day_start(%(first)s), market_day_start(%(following)s))
        ORDER BY m.serial
    """,
    "losses": f"""
        WITH {_SUBMITTED}
        SELECT u.code, p.code AS point, l.kind, l.percent, l.compensated_at
        FROM submitted u
        JOIN point p ON p.uc_id = u.id
        LEFT JOIN point_loss l ON l.point_id = p.id
            AND l.valid && tstzrange(market_day_start(u.begins), market_day_start(u.ends))
        ORDER BY u.code, p.code, l.kind
    """,
}

_ZERO = "CCEE does not estimate: what is not sent counts as zero, and the energy stays with the distributor"
_REFUSED = "CCEE refuses the day: it knows no such unit"


class _Looks:
    """One method a query: rows to findings."""

    def __init__(self, known: Known, register_closes: date) -> None:
        self._known, self._closes = known, register_closes
        self.ucs = 0
        self.findings: list[Finding] = []

    def _say(self, severity: Severity, code: str, where: str, what: str, ccee: str, remedy: str) -> None:
        self.findings.append(Finding(severity, code, where, what, ccee, remedy))

    def _blocks(self, *words: str) -> None:
        self._say(Severity.BLOCKS, *words)

    def _attention(self, *words: str) -> None:
        self._say(Severity.ATTENTION, *words)

    def units(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.ucs += 1
            where = f"UC {row['code']}"
            self._code(where, row["code"])
            self._musd(where, row)
            self._contract(where, row)
            if row["no_agent"]:
                self._blocks(
                    "no_agent", where, f"no connected agent on {row['no_agent']} days of the month",
                    f"nobody can send them; {_ZERO}", "add the agent of those days to uc_agents",
                )  # fmt: skip
            if not row["adding"]:
                what = "no metering point" if not row["points"] else "all its points are subtracted"
                self._blocks("no_point", where, what, _ZERO, "add its point and the meter at it")
            elif row["points"] > 1:
                self._say(
                    Severity.INFO, "several_points", where, f"the sum of {row['points']} points",
                    "it sees the sum only", "nothing, where that is meant",
                )  # fmt: skip

    def _code(self, where: str, code: str) -> None:
        if len(code) != _NATIONAL_DIGITS:
            self._attention(
                "code_length", where, f"{len(code)} digits, the national code has {_NATIONAL_DIGITS}",
                f"takes it only where it is registered so; else {_REFUSED}",
                "compare with CCEE's register; leading zeros belong to the code",
            )  # fmt: skip
        elif check_digits(code[:13]) != code[13:]:
            self._attention(
                "check_digits", where, f"the check digits are not {check_digits(code[:13])}",
                _REFUSED, "compare with CCEE's register",
            )  # fmt: skip

    def _musd(self, where: str, row: Mapping[str, Any]) -> None:
        default, musd = self._known.musd_default_kw, row["musd_kw"]
        by = f"correct it at CCEE and here by {self._closes}"
        if row["no_musd"]:
            self._attention(
                "musd_absent", where, f"no MUSD on {row['no_musd']} days of the month",
                f"takes {default} kW: the check of 125 % never acts on a small unit, and zeroes hours of a "
                "large one", by,
            )  # fmt: skip
        elif musd == default and row["confirmed_on"] is None:
            self._attention(
                "musd_default", where, f"MUSD of {default} kW that nobody confirmed",
                "it may be CCEE's own default, taken where nothing was declared", f"confirm it, or {by}",
            )  # fmt: skip
        demand = row["contracted_demand_kw"]
        if musd is not None and demand and musd < demand:
            self._attention(
                "musd_below_demand", where,
                f"MUSD {musd.normalize():f} kW, contracted demand {demand.normalize():f} kW",
                f"counts hours above {(musd * Decimal('1.25')).normalize():f} kWh as zero", by,
            )  # fmt: skip

    def _contract(self, where: str, row: Mapping[str, Any]) -> None:
        if row["tariff_subgroup"] is None:
            self._attention(
                "no_contract", where, "no tariff subgroup", "nothing; limits cannot be judged here",
                "add its row to contracts",
            )  # fmt: skip
        if row["strategy"] is not None and row["strategy"] not in self._known.strategies:
            self._blocks(
                "unknown_strategy", where, f"estimation strategy {row['strategy']!r} is not known",
                f"gaps stay; {_ZERO}", f"use one of {', '.join(sorted(self._known.strategies))}",
            )  # fmt: skip
        if row["cea_date"] is not None and row["since"] is not None:
            late = (row["since"] - row["cea_date"]).days - INCLUSION_DAYS
            if late > 0:
                self._attention(
                    "late_inclusion", where,
                    f"called up on {row['cea_date']}, included {late} days after the {INCLUSION_DAYS} due",
                    "counts the days before as zero", "correct the first day of its status, or explain it",
                )  # fmt: skip

    def silent(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._attention(
                "no_status", f"UC {row['code']}", "no status in this month, so it is not submitted",
                f"{_ZERO}, if the unit is registered there", "add its row to status",
            )  # fmt: skip

    def ends(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._attention(
                "captive_in_mid_month", f"UC {row['code']}", f"captive from {row['since']} on",
                "represents in whole months: it expects the rest of the month too (PdC 1.8, 3.25)",
                "let it be captive from day 1 of a month on",
            )  # fmt: skip

    def gaps(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            where = f"UC {row['code']}, point {row['point']}"
            if row["is_empty"]:
                self._blocks("no_meter", where, "no main meter", _ZERO, "add its row to installations")
            else:
                self._attention(
                    "meter_gap", where, f"no main meter from {row['begins']} to {row['ends']}",
                    "gets estimates between two meters, and nothing before the first or after the last",
                    "correct the dates in installations",
                )  # fmt: skip

    def meters(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            where = f"UC {row['code']}, meter {row['serial']}"
            if row["profile"] not in self._known.profiles:
                self._blocks(
                    "unknown_model", where, f"unknown profile {row['profile']!r} of model {row['model']}",
                    f"the meter cannot be read; {_ZERO}", "name a profile of smf model list",
                )  # fmt: skip
            self._way(where, row)
            self._constant(where, row)

    def _way(self, where: str, row: Mapping[str, Any]) -> None:
        if row["url"] is None:
            self._attention(
                "no_unit", where, "no telemetry unit: nobody reads it by itself",
                f"must have its days by MS+7du; {_ZERO}", "give it a unit, or import its files",
            )  # fmt: skip
        elif reason := self._known.fault_of_url(row["url"]):
            self._blocks("bad_url", where, f"unit {row['unit']}: {reason}", _ZERO, "correct the unit's URL")
        if not row["schedule"]:
            self._say(
                Severity.INFO, "no_schedule", where, "no schedule: read once a day",
                "has the day on the next morning, in time for any deadline", "nothing, where that is enough",
            )  # fmt: skip
        if row["interval_s"] > 300:
            self._attention(
                "long_interval", where, f"keeps intervals of {row['interval_s']} s",
                "wants 5 minutes: they are split and sent as adjusted", "program the meter to 300 s",
            )  # fmt: skip

    def _constant(self, where: str, row: Mapping[str, Any]) -> None:
        if row["constant_wh"] is None:
            if row["was_read"]:
                self._say(
                    Severity.INFO, "constant_unstated", where,
                    "its sessions state no constant: the registered one cannot be checked (V11)",
                    "takes the energy as it is sent", "compare it with the meter's plate",
                )  # fmt: skip
            return
        ours = Fraction(row["pulse_energy_num"], row["pulse_energy_den"])
        told, at = Fraction(row["constant_wh"]) / 1000, f"{row['started_at']:%Y-%m-%d}"
        ratio = Fraction(row["ratio"])
        if told not in fitting_constants(ours, ratio, row["constant_includes_ratios"]):
            self._attention(
                "constant", where,
                f"{ours} kWh a pulse here, the meter said {told} on {at}",
                "takes the energy as it is sent: all of it wrong by that factor",
                f"if the meter is right: smf registry accept-constant {row['serial']}; "
                "else have the meter programmed",
            )  # fmt: skip
        if row["told_ratio"] is not None and Fraction(row["told_ratio"]) not in (1, ratio):
            self._attention(
                "ratio", where, f"TP x TC is {ratio} here, the meter said {row['told_ratio']} on {at}",
                "takes the energy as it is sent: all of it wrong by that factor",
                "correct tp_ratio and tc_ratio, or have the meter programmed",
            )  # fmt: skip

    def overlaps(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._blocks(
                "overlap", f"meter {row['serial']}, point {row['point']}",
                f"another installation at {row['other']} at the same time",
                "would get one meter's energy twice, or another's",
                "end the earlier one where the later begins",
            )  # fmt: skip

    def losses(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            where = f"UC {row['code']}, point {row['point']}"
            if row["kind"] is None:
                self._attention(
                    "no_losses", where, "no losses in the registry, so none are applied",
                    "expects values with losses applied (PdC 1.8, 3.29)",
                    "add them, as 0 where there are none",
                )  # fmt: skip
            elif row["compensated_at"] == "platform" and (
                0 < row["percent"] < LEAST_LOSS or row["percent"] > MOST_LOSS
            ):
                self._attention(
                    "odd_loss", where, f"{row['kind']} loss of {row['percent'].normalize():f} %",
                    "takes the energy as it is sent", "a loss is in percent: 2.5 is 2.5 %",
                )  # fmt: skip
