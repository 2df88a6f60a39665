-- What validation holds back, until somebody decides; rule parameters of a UC or a group, dated; verdicts of
-- days joined into periods; and the shape of each day, which later days are compared with.

-- One row: one run of slots that a rule does not let pass as measured. The key holds the values themselves, so
-- a decision is about what was read then: other values in the same slots are another suspect.
CREATE TABLE suspect (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uc_id        bigint NOT NULL REFERENCES uc,
    day          date NOT NULL,
    rule         text NOT NULL,                       -- V05 ...
    first_slot   smallint NOT NULL,                   -- 0-based, inclusive
    last_slot    smallint NOT NULL,
    severity     text NOT NULL CHECK (severity IN ('suspect', 'hold')),
    values_hash  bytea NOT NULL,                      -- SHA-256 of the exact values judged
    energy_kwh   numeric NOT NULL,                    -- at stake: by how much the day may be wrong
    evidence     jsonb NOT NULL,                      -- what the rule compared, with the parameters in force
    state        text NOT NULL DEFAULT 'open'
                 CHECK (state IN ('open', 'accepted', 'rejected', 'withdrawn')),
    opened_at    timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,                -- of the state
    run_id       text NOT NULL,                       -- of the derivation that said so last
    UNIQUE (uc_id, day, rule, first_slot, last_slot, values_hash)
);
CREATE INDEX suspect_open ON suspect (day, uc_id) WHERE state = 'open';

-- A rule's parameter for one UC, one tariff subgroup or one agent, in place of the file's. The narrowest
-- scope that is valid on the day counts: UC, then subgroup, then agent.
CREATE TABLE rule_override (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule             text NOT NULL,
    parameter        text NOT NULL,                   -- 'severity', 'enabled', or a parameter of the rule
    value            text NOT NULL,                   -- as in the file: number, fraction, true/false, word
    uc_id            bigint REFERENCES uc,
    tariff_subgroup  text,
    agent_code       integer,
    valid            daterange NOT NULL CHECK (NOT isempty(valid)),
    reason           text NOT NULL CHECK (reason <> ''),
    set_by           text NOT NULL,
    set_at           timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(uc_id, tariff_subgroup, agent_code) = 1)
);
CREATE INDEX rule_override_uc ON rule_override (uc_id);

-- Verdicts of one rule on consecutive days, joined: what an operator works from instead of days.
CREATE TABLE verdict_period (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uc_id       bigint NOT NULL,
    rule        text NOT NULL,
    result      text NOT NULL,                        -- as in verdict: missing, refused, held, suspect
    cause       text NOT NULL DEFAULT '',             -- of a missing period: vee.missing.MissingCause
    first_day   date NOT NULL,
    first_slot  smallint NOT NULL,
    last_day    date NOT NULL,
    last_slot   smallint NOT NULL,                    -- inclusive
    days        integer NOT NULL,
    slots       integer NOT NULL,                     -- that the rule named, of all days together
    evidence    jsonb NOT NULL,                       -- of the last day
    state       text NOT NULL CHECK (state IN ('open', 'closed')),  -- open: the last judged day belongs to it
    opened_at   timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    UNIQUE (uc_id, rule, cause, first_day)
);
CREATE INDEX verdict_period_open ON verdict_period (rule, uc_id) WHERE state = 'open';

-- What a day looked like before anybody judged it: later days of the UC are compared with it.
CREATE TABLE uc_day_shape (
    uc_id     bigint NOT NULL,
    day       date NOT NULL,
    hours_wh  bigint[] NOT NULL,                      -- energy of each clock hour; NULL where not whole
    peak_wh   bigint NOT NULL,                        -- largest interval
    PRIMARY KEY (uc_id, day)
);

DO $$
BEGIN
    GRANT ALL ON suspect, rule_override, verdict_period, uc_day_shape TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON suspect, rule_override, verdict_period, uc_day_shape
        TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT, UPDATE ON suspect TO smf_pipeline;
    GRANT INSERT, UPDATE, DELETE ON verdict_period, uc_day_shape TO smf_pipeline;
    GRANT UPDATE ON suspect TO smf_portal;
    GRANT INSERT, UPDATE ON rule_override TO smf_portal;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0015_suspects.sql''s last part as an administrator';
END $$;
