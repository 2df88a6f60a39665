"""The registry as tables: which sheets there are, what each column may hold, and the SQL behind each.

One sheet is one workbook sheet, or one CSV file of the same name. Everything is named by its own code,
never by our numbers. Dated facts have `valid_from` (empty: since ever) and `valid_to` (the first moment it
holds no more; empty: open). Canonical text, in which file and database are compared, is what `cells.parse`
returns.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.registry.cells import Column


@dataclass(frozen=True)
class Sheet:
    """A sheet and its table.

    Attributes:
        table: where its rows are kept.
        key: columns that name a row.
        owner: for dated facts, the columns that name whose timeline it is; a file gives whole timelines.
        select: SQL of all its rows as canonical text, columns in order.
        insert: SQL that takes rows of temporary table `pending` (all text) into the table.
        delete: for dated facts, SQL that removes the timelines named in `pending`.
        no_overlap: columns within which periods may not overlap.
        unique: columns besides the key whose values may come once.
    """

    name: str
    table: str
    help_line: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    select: str
    insert: str
    owner: tuple[str, ...] = ()
    delete: str = ""
    no_overlap: tuple[tuple[str, ...], ...] = ()
    unique: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


_DATES = (
    Column("valid_from", "first day it holds; empty: since ever", "date"),
    Column("valid_to", "first day it holds no more; empty: open", "date", is_end=True),
)
_FROM_TO = "lower({0}.valid)::text, upper({0}.valid)::text"
_RANGE = "daterange(p.valid_from::date, p.valid_to::date)"
_TIMES = (
    Column("valid_from", "moment from which it holds, market time; empty: since ever", "time"),
    Column("valid_to", "moment from which it holds no more; empty: open", "time", is_end=True),
)
_FROM_TO_TIME = (
    "to_char(lower({0}.valid) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"'), "
    "to_char(upper({0}.valid) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"')"
)
_SPAN = "tstzrange(p.valid_from::timestamptz, p.valid_to::timestamptz)"


def _uc() -> Column:
    return Column("uc_code", "code of the UC, with leading zeros", required=True, refers=("ucs", "code"))


def _point() -> Column:
    return Column("point_code", "code of the metering point", required=True, refers=("points", "code"))


def _uc_facts(
    name: str,
    table: str,
    help_line: str,
    columns: tuple[Column, ...],
    shown: str,
    taken: str,
    table_columns: str = "",
) -> Sheet:
    """A timeline of a UC; `shown` and `taken` are the SQL of its own columns out of and into the table."""
    names = table_columns or ", ".join(column.name for column in columns)
    return Sheet(
        name=name,
        table=table,
        help_line=help_line,
        columns=(_uc(), *columns, *_DATES),
        key=("uc_code", "valid_from"),
        owner=("uc_code",),
        no_overlap=(("uc_code",),),
        select=f"SELECT u.code, {shown}, {_FROM_TO.format('t')} FROM {table} t JOIN uc u ON u.id = t.uc_id",
        insert=f"INSERT INTO {table} (uc_id, {names}, valid) SELECT u.id, {taken}, {_RANGE} "
        "FROM pending p JOIN uc u ON u.code = p.uc_code",
        delete=f"DELETE FROM {table} t USING uc u, pending p WHERE u.code = p.uc_code AND t.uc_id = u.id",
    )


def _point_facts(
    name: str,
    table: str,
    help_line: str,
    columns: tuple[Column, ...],
    shown: str,
    taken: str,
    separate: tuple[str, ...] = (),
    is_by_instant: bool = False,
) -> Sheet:
    dates, from_to, span = (_TIMES, _FROM_TO_TIME, _SPAN) if is_by_instant else (_DATES, _FROM_TO, _RANGE)
    names = ", ".join(column.name for column in columns)
    return Sheet(
        name=name,
        table=table,
        help_line=help_line,
        columns=(_point(), *columns, *dates),
        key=("point_code", *separate, "valid_from"),
        owner=("point_code",),
        no_overlap=(("point_code", *separate),),
        select=f"SELECT o.code, {shown}, {from_to.format('t')} "
        f"FROM {table} t JOIN point o ON o.id = t.point_id",
        insert=f"INSERT INTO {table} (point_id, {names}, valid) SELECT o.id, {taken}, {span} "
        "FROM pending p JOIN point o ON o.code = p.point_code",
        delete=f"DELETE FROM {table} t USING point o, pending p "
        "WHERE o.code = p.point_code AND t.point_id = o.id",
    )


# Statuses of a UC whose days are sent to CCEE; `is_submitted` says the same in SQL.
SUBMITTED = ("active", "suspended_open")

# Parents before children: the order of loading.
SHEETS: tuple[Sheet, ...] = (
    Sheet(
        name="distributors",
        table="distributor",
        help_line="Distributors",
        columns=(
            Column("code", "our code of the distributor", required=True),
            Column("name", "name", required=True),
            Column("tax_id", "CNPJ, digits only", pattern=r"\d{14}|[0-9A-Z]{12}\d{2}"),
        ),
        key=("code",),
        select="SELECT code, name, tax_id FROM distributor",
        insert="INSERT INTO distributor (code, name, tax_id) SELECT code, name, tax_id FROM pending "
        "ON CONFLICT (code) DO UPDATE SET name = excluded.name, tax_id = excluded.tax_id",
    ),
    Sheet(
        name="agents",
        table="agent",
        help_line="Agents at CCEE (connected agent)",
        columns=(
            Column("code", "CCEE's code of the agent", "integer", required=True, minimum=1),
            Column("name", "name", required=True),
            Column("distributor_code", "its distributor", required=True, refers=("distributors", "code")),
        ),
        key=("code",),
        select="SELECT a.code::text, a.name, d.code "
        "FROM agent a JOIN distributor d ON d.id = a.distributor_id",
        insert="INSERT INTO agent (code, name, distributor_id) SELECT p.code::int, p.name, d.id "
        "FROM pending p JOIN distributor d ON d.code = p.distributor_code "
        "ON CONFLICT (code) DO UPDATE SET name = excluded.name, distributor_id = excluded.distributor_id",
    ),
    Sheet(
        name="customers",
        table="customer",
        help_line="Customers",
        columns=(
            Column("code", "our code of the customer", required=True),
            Column("name", "name", required=True),
            Column("tax_id", "CNPJ or CPF", pattern=r"[0-9A-Z]{11,14}"),
        ),
        key=("code",),
        select="SELECT code, name, tax_id FROM customer",
        insert="INSERT INTO customer (code, name, tax_id) SELECT code, name, tax_id FROM pending "
        "ON CONFLICT (code) DO UPDATE SET name = excluded.name, tax_id = excluded.tax_id",
    ),
    Sheet(
        name="ucs",
        table="uc",
        help_line="Consumer units",
        columns=(
            Column(
                "code", "code with leading zeros, digits only", required=True, pattern=r"\d{1,15}", digits=15
            ),
            Column("name", "name", required=True),
            Column(
                "agent_code", "CCEE's code of its agent", "integer", required=True, refers=("agents", "code")
            ),
            Column("customer_code", "its customer", refers=("customers", "code")),
            Column("cea_date", "day of the call-up by CCEE", "date"),
            Column("aliases", "codes it had before, separated by spaces", "codes"),
        ),
        key=("code",),
        select="SELECT u.code, u.name, a.code::text, c.code, u.cea_date::text, "
        "nullif(array_to_string(u.aliases, ' '), '') "
        "FROM uc u JOIN agent a ON a.id = u.agent_id LEFT JOIN customer c ON c.id = u.customer_id",
        insert="INSERT INTO uc (code, name, agent_id, customer_id, cea_date, aliases) "
        "SELECT p.code, p.name, a.id, c.id, p.cea_date::date, string_to_array(coalesce(p.aliases, ''), ' ') "
        "FROM pending p JOIN agent a ON a.code = p.agent_code::int "
        "LEFT JOIN customer c ON c.code = p.customer_code "
        "ON CONFLICT (code) DO UPDATE SET name = excluded.name, agent_id = excluded.agent_id, "
        "customer_id = excluded.customer_id, cea_date = excluded.cea_date, aliases = excluded.aliases",
    ),
    Sheet(
        name="former_codes",
        table="uc_former_code",
        help_line="Codes that UCs had before, and until when",
        columns=(
            Column(
                "code", "the former code, with leading zeros", required=True, pattern=r"\d{1,15}", digits=15
            ),
            _uc(),
            Column("valid_to", "first day it held no more; empty: not known", "date"),
        ),
        key=("code",),
        select="SELECT f.code, u.code, f.until::text FROM uc_former_code f JOIN uc u ON u.id = f.uc_id",
        insert="INSERT INTO uc_former_code (code, uc_id, until) SELECT p.code, u.id, p.valid_to::date "
        "FROM pending p JOIN uc u ON u.code = p.uc_code "
        "ON CONFLICT (code) DO UPDATE SET uc_id = excluded.uc_id, until = excluded.until",
    ),
    _uc_facts(
        "uc_agents",
        "uc_agent",
        "Connected agent of a UC by day; without rows: the one in ucs",
        (
            Column(
                "agent_code", "CCEE's code of the agent", "integer", required=True, refers=("agents", "code")
            ),
        ),
        "(SELECT a.code::text FROM agent a WHERE a.id = t.agent_id)",
        "(SELECT a.id FROM agent a WHERE a.code = p.agent_code::int)",
        table_columns="agent_id",
    ),
    _uc_facts(
        "status",
        "uc_status",
        "Whether a UC is expected to be delivered",
        (
            Column(
                "status",
                "state at CCEE",
                "choice",
                True,
                None,
                ("active", "suspended_open", "suspended", "inactive", "captive"),
            ),
            Column("note", "remark", default=""),
        ),
        "t.status, t.note",
        "p.status, coalesce(p.note, '')",
    ),
    _uc_facts(
        "contracts",
        "uc_contract",
        "Tariff and contracted demand",
        (
            Column("tariff_subgroup", "A1, A2, A3, A3a, A4, AS, B1 ...", required=True),
            Column("tariff_modality", "verde, azul, branca ...", default=""),
            Column("contracted_demand_kw", "kW", "decimal", minimum=0),
            Column("supply_voltage_kv", "kV", "decimal", above=0),
        ),
        "t.tariff_subgroup, t.tariff_modality, trim_scale(t.contracted_demand_kw)::text, "
        "trim_scale(t.supply_voltage_kv)::text",
        "p.tariff_subgroup, coalesce(p.tariff_modality, ''), p.contracted_demand_kw::numeric, "
        "p.supply_voltage_kv::numeric",
    ),
    _uc_facts(
        "musd",
        "uc_musd",
        "MUSD as declared to CCEE",
        (
            Column("musd_kw", "kW; empty: not declared", "decimal", above=0),
            Column("confirmed_on", "day it was last compared with CCEE's register", "date"),
        ),
        "trim_scale(t.musd_kw)::text, t.confirmed_on::text",
        "p.musd_kw::numeric, p.confirmed_on::date",
    ),
    _uc_facts(
        "estimation",
        "uc_estimation",
        "Strategy that fills gaps",
        (Column("strategy", "name of an estimation strategy (ccee-pdc-1.8-r1, chain-e)", required=True),),
        "t.strategy",
        "p.strategy",
    ),
    Sheet(
        name="points",
        table="point",
        help_line="Metering points: a UC's energy is the sum of its points' by sign and share",
        columns=(
            Column("code", "code of the point", required=True),
            _uc(),
            Column("name", "name", default=""),
            Column("sign", "what its energy does to the UC's", "choice", False, "add", ("add", "subtract")),
            Column("share", "the part of it that counts: 1, 0.25, 1/3", "share", default="1", above=0),
        ),
        key=("code",),
        select="SELECT o.code, u.code, o.name, CASE o.sign WHEN 1 THEN 'add' ELSE 'subtract' END, "
        "concat_ws('/', o.share_num, nullif(o.share_den, 1)) FROM point o JOIN uc u ON u.id = o.uc_id",
        insert="INSERT INTO point (code, uc_id, name, sign, share_num, share_den) "
        "SELECT p.code, u.id, coalesce(p.name, ''), CASE p.sign WHEN 'subtract' THEN -1 ELSE 1 END, "
        "split_part(p.share, '/', 1)::bigint, coalesce(nullif(split_part(p.share, '/', 2), ''), '1')::bigint "
        "FROM pending p JOIN uc u ON u.code = p.uc_code "
        "ON CONFLICT (code) DO UPDATE SET uc_id = excluded.uc_id, name = excluded.name, "
        "sign = excluded.sign, share_num = excluded.share_num, share_den = excluded.share_den",
    ),
    _point_facts(
        "losses",
        "point_loss",
        "Losses between meter and supply point",
        (
            Column("kind", "which loss", "choice", True, None, ("transformation", "line")),
            Column(
                "percent", "percent, exact", "decimal", required=True, minimum=0, below=100, is_percent=True
            ),
            Column(
                "compensated_at", "who applies it", "choice", False, "platform", ("platform", "meter", "none")
            ),
        ),
        "t.kind, trim_scale(t.percent)::text, t.compensated_at",
        "p.kind, p.percent::numeric, p.compensated_at",
        ("kind",),
        is_by_instant=True,
    ),
    _point_facts(
        "schedules",
        "point_schedule",
        "How often a point is read",
        (Column("kind", "interval of reading", "choice", True, None, ("daily", "hourly", "quarter_hourly")),),
        "t.kind",
        "p.kind",
    ),
    Sheet(
        name="meter_models",
        table="meter_model",
        help_line="Meter models",
        columns=(
            Column("code", "code of the model", required=True),
            Column("maker", "maker", default=""),
            Column("profile", "name of a protocol profile", required=True),
        ),
        key=("code",),
        select="SELECT code, maker, profile FROM meter_model",
        insert="INSERT INTO meter_model (code, maker, profile) "
        "SELECT code, coalesce(maker, ''), profile FROM pending "
        "ON CONFLICT (code) DO UPDATE SET maker = excluded.maker, profile = excluded.profile",
    ),
    Sheet(
        name="meters",
        table="meter",
        help_line="Meters",
        columns=(
            Column("serial", "serial as the meter says it, 8 digits for NBR 14522", required=True, digits=8),
            Column("model_code", "its model", required=True, refers=("meter_models", "code")),
        ),
        key=("serial",),
        select="SELECT m.serial, k.code FROM meter m JOIN meter_model k ON k.id = m.model_id",
        insert="INSERT INTO meter (serial, model_id) SELECT p.serial, k.id "
        "FROM pending p JOIN meter_model k ON k.code = p.model_code "
        "ON CONFLICT (serial) DO UPDATE SET model_id = excluded.model_id",
    ),
    Sheet(
        name="units",
        table="unit",
        help_line="Telemetry units",
        columns=(
            Column("code", "code of the unit", required=True),
            Column("url", "tcp://host:port or serial:///dev/...", required=True, pattern=r"[a-z0-9+]+://.+"),
            Column("cell", "radio cell; sessions per cell are limited", default=""),
            Column(
                "monthly_plan_bytes", "traffic plan, bytes a month", "integer", default="20971520", minimum=0
            ),
        ),
        key=("code",),
        select="SELECT code, url, cell, monthly_plan_bytes::text FROM unit",
        insert="INSERT INTO unit (code, url, cell, monthly_plan_bytes) "
        "SELECT code, url, coalesce(cell, ''), monthly_plan_bytes::bigint FROM pending "
        "ON CONFLICT (code) DO UPDATE SET url = excluded.url, cell = excluded.cell, "
        "monthly_plan_bytes = excluded.monthly_plan_bytes",
    ),
    Sheet(
        name="installations",
        table="installation",
        help_line="Which meter is at which point, with its constants",
        columns=(
            Column("meter_serial", "serial of the meter", required=True, refers=("meters", "serial")),
            _point(),
            Column("unit_code", "telemetry unit that reaches it", refers=("units", "code")),
            Column("role", "main or backup", "choice", True, None, ("main", "backup")),
            Column("active_channel", "channel of active energy, direct", "integer", default="1", minimum=1),
            Column("pulse_energy_num", "kWh per pulse, numerator", "integer", required=True, minimum=1),
            Column("pulse_energy_den", "kWh per pulse, denominator", "integer", required=True, minimum=1),
            Column("tp_ratio", "ratio of the voltage transformer", "decimal", default="1", above=0),
            Column("tc_ratio", "ratio of the current transformer", "decimal", default="1", above=0),
            Column(
                "constant_includes_ratios", "true: kWh per pulse is at primary", "boolean", default="true"
            ),
            Column("element_count", "elements of the meter", "choice", False, "3", ("1", "2", "3")),
            Column(
                "interval_s", "interval of its memory, s; divides a day", "interval", default="300", minimum=1
            ),
            Column("valid_from", "moment of installation, market time; empty: since ever", "time"),
            Column("valid_to", "moment of removal, market time; empty: open", "time", is_end=True),
        ),
        key=("meter_serial", "valid_from"),
        owner=("meter_serial",),
        no_overlap=(("meter_serial",), ("point_code", "role")),
        select="SELECT m.serial, o.code, n.code, i.role, i.active_channel::text, i.pulse_energy_num::text, "
        "i.pulse_energy_den::text, trim_scale(i.tp_ratio)::text, trim_scale(i.tc_ratio)::text, "
        "i.constant_includes_ratios::text, i.element_count::text, i.interval_s::text, "
        "to_char(lower(i.valid) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"'), "
        "to_char(upper(i.valid) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"') "
        "FROM installation i JOIN meter m ON m.id = i.meter_id JOIN point o ON o.id = i.point_id "
        "LEFT JOIN unit n ON n.id = i.unit_id",
        insert="INSERT INTO installation (meter_id, point_id, unit_id, role, active_channel, "
        "pulse_energy_num, pulse_energy_den, tp_ratio, tc_ratio, constant_includes_ratios, element_count, "
        "interval_s, valid) "
        "SELECT m.id, o.id, n.id, p.role, p.active_channel::smallint, p.pulse_energy_num::bigint, "
        "p.pulse_energy_den::bigint, p.tp_ratio::numeric, p.tc_ratio::numeric, "
        "p.constant_includes_ratios::boolean, p.element_count::smallint, p.interval_s::int, "
        "tstzrange(p.valid_from::timestamptz, p.valid_to::timestamptz) "
        "FROM pending p JOIN meter m ON m.serial = p.meter_serial JOIN point o ON o.code = p.point_code "
        "LEFT JOIN unit n ON n.code = p.unit_code",
        delete="DELETE FROM installation i USING meter m, pending p "
        "WHERE m.serial = p.meter_serial AND i.meter_id = m.id",
    ),
)
BY_NAME = {sheet.name: sheet for sheet in SHEETS}
