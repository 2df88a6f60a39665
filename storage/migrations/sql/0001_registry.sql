-- The registry: who is metered, by what, since when. Everything that changes is dated; overlaps are
-- refused by exclusion constraints. The range trick int8range(id, id, '[]') gives equality on a plain
-- GiST index, since the embedded PostgreSQL ships without btree_gist.

CREATE TABLE distributor (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code    text NOT NULL UNIQUE,
    name    text NOT NULL,
    tax_id  text
);

CREATE TABLE agent (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code            integer NOT NULL UNIQUE,         -- CCEE's agent code
    name            text NOT NULL,
    distributor_id  bigint NOT NULL REFERENCES distributor
);

CREATE TABLE customer (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code    text NOT NULL UNIQUE,
    name    text NOT NULL,
    tax_id  text
);

CREATE TABLE uc (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code         text NOT NULL UNIQUE,               -- text: leading zeros belong to the code
    aliases      text[] NOT NULL DEFAULT '{}',       -- codes it had before (REN 1.000 art. 659-A)
    name         text NOT NULL,
    agent_id     bigint NOT NULL REFERENCES agent,
    customer_id  bigint REFERENCES customer,
    cea_date     date,                               -- call-up; inclusion is due within 10 days (TR 8.1)
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE uc_status (
    uc_id   bigint NOT NULL REFERENCES uc,
    valid   daterange NOT NULL CHECK (NOT isempty(valid)),
    status  text NOT NULL CHECK (status IN ('active', 'suspended', 'inactive', 'captive')),
    note    text NOT NULL DEFAULT '',
    PRIMARY KEY (uc_id, valid),
    EXCLUDE USING gist (int8range(uc_id, uc_id, '[]') WITH &&, valid WITH &&)
);

CREATE TABLE uc_contract (
    uc_id                  bigint NOT NULL REFERENCES uc,
    valid                  daterange NOT NULL CHECK (NOT isempty(valid)),
    tariff_subgroup        text NOT NULL,             -- A4, A3a, B3 ...: no rule assumes group A
    tariff_modality        text NOT NULL DEFAULT '',
    contracted_demand_kw   numeric CHECK (contracted_demand_kw >= 0),
    supply_voltage_kv      numeric CHECK (supply_voltage_kv > 0),
    PRIMARY KEY (uc_id, valid),
    EXCLUDE USING gist (int8range(uc_id, uc_id, '[]') WITH &&, valid WITH &&)
);

CREATE TABLE uc_musd (
    uc_id         bigint NOT NULL REFERENCES uc,
    valid         daterange NOT NULL CHECK (NOT isempty(valid)),
    musd_kw       numeric CHECK (musd_kw > 0),        -- NULL: not declared, CCEE then assumes its default
    confirmed_on  date,                               -- last time somebody compared it with CCEE's register
    PRIMARY KEY (uc_id, valid),
    EXCLUDE USING gist (int8range(uc_id, uc_id, '[]') WITH &&, valid WITH &&)
);

CREATE TABLE uc_estimation (
    uc_id     bigint NOT NULL REFERENCES uc,
    valid     daterange NOT NULL CHECK (NOT isempty(valid)),
    strategy  text NOT NULL,                          -- a name known to vee.estimation
    PRIMARY KEY (uc_id, valid),
    EXCLUDE USING gist (int8range(uc_id, uc_id, '[]') WITH &&, valid WITH &&)
);

-- One metering point per UC (a UC metered at several points is not carried yet).
CREATE TABLE point (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code   text NOT NULL UNIQUE,
    uc_id  bigint NOT NULL UNIQUE REFERENCES uc,
    name   text NOT NULL DEFAULT ''
);

CREATE TABLE point_loss (
    point_id        bigint NOT NULL REFERENCES point,
    kind            text NOT NULL CHECK (kind IN ('transformation', 'line')),
    valid           daterange NOT NULL CHECK (NOT isempty(valid)),
    percent         numeric NOT NULL CHECK (percent >= 0 AND percent < 100),
    compensated_at  text NOT NULL DEFAULT 'platform' CHECK (compensated_at IN ('meter', 'platform', 'none')),
    PRIMARY KEY (point_id, kind, valid),
    EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&) WHERE (kind = 'transformation'),
    EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&) WHERE (kind = 'line')
);

CREATE TABLE point_schedule (
    point_id  bigint NOT NULL REFERENCES point,
    valid     daterange NOT NULL CHECK (NOT isempty(valid)),
    kind      text NOT NULL CHECK (kind IN ('daily', 'hourly', 'quarter_hourly')),
    PRIMARY KEY (point_id, valid),
    EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&)
);

CREATE TABLE meter_model (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code     text NOT NULL UNIQUE,
    maker    text NOT NULL DEFAULT '',
    profile  text NOT NULL                            -- name of a protocol profile (protocols/)
);

CREATE TABLE meter (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    serial    text NOT NULL UNIQUE,                   -- as the meter says it on the wire, 8 digits for NBR 14522
    model_id  bigint NOT NULL REFERENCES meter_model
);

CREATE TABLE unit (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code                text NOT NULL UNIQUE,
    url                 text NOT NULL,                -- tcp://host:port, serial:///dev/tty...
    cell                text NOT NULL DEFAULT '',     -- radio cell; sessions per cell are limited
    monthly_plan_bytes  bigint NOT NULL DEFAULT 20971520
);

CREATE TABLE installation (
    id                         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id                   bigint NOT NULL REFERENCES meter,
    point_id                   bigint NOT NULL REFERENCES point,
    unit_id                    bigint REFERENCES unit,
    role                       text NOT NULL CHECK (role IN ('main', 'backup')),
    valid                      tstzrange NOT NULL CHECK (NOT isempty(valid)),
    active_channel             smallint NOT NULL DEFAULT 1,   -- channel that carries active energy, direct
    pulse_energy_num           bigint NOT NULL CHECK (pulse_energy_num > 0),  -- kWh per pulse, as a fraction
    pulse_energy_den           bigint NOT NULL CHECK (pulse_energy_den > 0),
    tp_ratio                   numeric NOT NULL DEFAULT 1 CHECK (tp_ratio > 0),
    tc_ratio                   numeric NOT NULL DEFAULT 1 CHECK (tc_ratio > 0),
    constant_includes_ratios   boolean NOT NULL DEFAULT true,
    element_count              smallint NOT NULL DEFAULT 3 CHECK (element_count IN (1, 2, 3)),
    interval_s                 integer NOT NULL DEFAULT 300 CHECK (interval_s > 0 AND 86400 % interval_s = 0),
    EXCLUDE USING gist (int8range(meter_id, meter_id, '[]') WITH &&, valid WITH &&),
    EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&) WHERE (role = 'main'),
    EXCLUDE USING gist (int8range(point_id, point_id, '[]') WITH &&, valid WITH &&) WHERE (role = 'backup')
);
