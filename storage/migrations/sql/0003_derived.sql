-- What Dagster derives: series by layer, verdicts, estimates, and what became of each UC-day.

-- Parameters and code that made a batch of rows; rows refer to it, so a value can be recomputed.
CREATE TABLE derivation (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    layer         text NOT NULL,
    code_version  text NOT NULL,
    parameters    jsonb NOT NULL,
    hash          bytea NOT NULL UNIQUE               -- SHA-256 of layer, code_version, parameters
);

-- One row: one UC series, one layer, one day. Value of slot i = numerators[i] / denominator, in kWh, exact.
CREATE TABLE series_day (
    uc_id          bigint NOT NULL,
    layer          smallint NOT NULL CHECK (layer BETWEEN 1 AND 5),  -- 1 primary 2 validated 3 estimated 4 adjusted 5 ccee
    day            date NOT NULL,
    version        integer NOT NULL DEFAULT 1,
    quantity       smallint NOT NULL DEFAULT 1,       -- 1 active energy, direct, kWh
    interval_s     integer NOT NULL,
    denominator    bigint NOT NULL CHECK (denominator > 0),
    numerators     bigint[] NOT NULL,                 -- NULL = missing
    origin         bytea NOT NULL,                    -- one octet per slot: vee.quality.Origin
    reason         bytea NOT NULL,                    -- one octet per slot: vee.quality.Reason
    input_version  integer NOT NULL,                  -- version of the layer below (of reading_day for primary)
    derivation_id  bigint NOT NULL,
    run_id         text NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    content_hash   bytea NOT NULL,                    -- of denominator, numerators, origin, reason, input_version, derivation
    PRIMARY KEY (uc_id, quantity, layer, day, version)
);

-- Why each estimated run of slots has the values it has: method and everything that went in.
CREATE TABLE estimate (
    uc_id        bigint NOT NULL,
    day          date NOT NULL,
    version      integer NOT NULL,                    -- of the estimated layer
    first_slot   smallint NOT NULL,                   -- 0-based, inclusive
    last_slot    smallint NOT NULL,
    strategy     text NOT NULL,
    method       text NOT NULL,                       -- A, B, C, inside_hour, backup, no_history ...
    detail       jsonb NOT NULL,                      -- dates, neighbours, factor, history window
    approved_by  text,
    PRIMARY KEY (uc_id, day, version, first_slot)
);

CREATE TABLE estimate_approval (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uc_id        bigint NOT NULL REFERENCES uc,
    day          date NOT NULL,
    method       text NOT NULL,
    approved_by  text NOT NULL,
    approved_at  timestamptz NOT NULL DEFAULT now(),
    note         text NOT NULL DEFAULT '',
    UNIQUE (uc_id, day, method)
);

CREATE TABLE verdict (
    uc_id       bigint NOT NULL,
    day         date NOT NULL,
    rule        text NOT NULL,                        -- V01 ...
    first_slot  smallint NOT NULL,
    last_slot   smallint NOT NULL,
    result      text NOT NULL,                        -- missing, refused, held, suspect, blocked, alert
    detail      jsonb NOT NULL DEFAULT '{}',
    run_id      text NOT NULL,
    PRIMARY KEY (uc_id, day, rule, first_slot)
);

-- Hours above a fraction of the MUSD, after losses and rounding.
CREATE TABLE musd_hour (
    uc_id        bigint NOT NULL,
    day          date NOT NULL,
    hour         smallint NOT NULL CHECK (hour BETWEEN 1 AND 24),
    energy_kwh   numeric NOT NULL,
    musd_kw      numeric NOT NULL,
    limit_kwh    numeric NOT NULL,
    is_rejected  boolean NOT NULL,                    -- strictly above the limit: CCEE counts the hour as zero
    run_id       text NOT NULL,
    PRIMARY KEY (uc_id, day, hour)
);

-- The latest word on each expected UC-day: what the summary table, the closing list and the portal show.
CREATE TABLE uc_day_outcome (
    uc_id       bigint NOT NULL,
    day         date NOT NULL,
    state       text NOT NULL CHECK (state IN ('ready', 'incomplete', 'held', 'not_expected')),
    cause       text NOT NULL DEFAULT '',             -- vee.quality.Cause when not ready
    measured    smallint NOT NULL,
    backup      smallint NOT NULL,
    estimated   smallint NOT NULL,
    edited      smallint NOT NULL,
    missing     smallint NOT NULL,
    energy_kwh  numeric NOT NULL,
    detail      jsonb NOT NULL DEFAULT '{}',
    run_id      text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (uc_id, day)
);
CREATE INDEX uc_day_outcome_day ON uc_day_outcome (day);
