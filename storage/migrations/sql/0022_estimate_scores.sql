-- How far estimates lie from what was measured: runs of the score, what they found, and estimates that gave way.

-- One run: good days masked with gaps, estimated, compared. Never changed afterwards.
CREATE TABLE score_run (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made_at       timestamptz NOT NULL,
    first_day     date NOT NULL,                      -- of the window that good days and shapes come from
    last_day      date NOT NULL,
    code_version  text NOT NULL,
    parameters    jsonb NOT NULL,                     -- of the draw and of the estimation
    hash          bytea NOT NULL,                     -- SHA-256 of code_version and parameters
    shapes_from   text NOT NULL CHECK (shapes_from IN ('stored', 'setting')),
    shapes        integer NOT NULL,
    uc_days       integer NOT NULL,                   -- that got a gap
    gaps          integer NOT NULL,
    not_filled    integer NOT NULL,                   -- gaps of a day that no method filled, of all strategies
    replaced      integer NOT NULL,                   -- estimates that gave way in the window
    run_id        text NOT NULL
);

CREATE TABLE estimate_score (
    score_run_id        bigint NOT NULL REFERENCES score_run,
    source              text NOT NULL CHECK (source IN ('masked', 'replaced')),
    strategy            text NOT NULL,
    method              text NOT NULL,                -- as in estimate; "+E0" where a register bound it
    gap_length          text NOT NULL,                -- vee.scores.classes.LENGTHS, or all
    uc_class            text NOT NULL,                -- vee.scores.classes.uc_classes, or all
    gaps                bigint NOT NULL,
    intervals           bigint NOT NULL,
    measured_kwh        double precision NOT NULL,
    bias_share          double precision,             -- NULL where nothing was used
    mae_share           double precision,
    interval_mae_share  double precision,
    p90_share           double precision,
    PRIMARY KEY (score_run_id, source, strategy, method, gap_length, uc_class)
);

-- One row: slots in a row of one UC-day whose estimate gave way to what the meter had.
CREATE TABLE estimate_replaced (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uc_id               bigint NOT NULL REFERENCES uc,
    day                 date NOT NULL,
    first_slot          smallint NOT NULL,            -- 0-based, inclusive
    last_slot           smallint NOT NULL,
    strategy            text NOT NULL,
    method              text NOT NULL,
    gap_slots           smallint NOT NULL,            -- of the gap that was filled, of which this may be a part
    estimated_kwh       numeric NOT NULL,             -- primary side, nine decimals
    measured_kwh        numeric NOT NULL,
    interval_error_kwh  numeric NOT NULL,             -- sum of what each interval differs by
    replaced_at         timestamptz NOT NULL,
    run_id              text NOT NULL,
    -- The same estimate gives way to the same values once, however often the day is derived.
    UNIQUE (uc_id, day, first_slot, last_slot, strategy, method, estimated_kwh, measured_kwh)
);
CREATE INDEX estimate_replaced_at ON estimate_replaced (replaced_at);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON score_run
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON estimate_score
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON estimate_replaced
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    GRANT ALL ON score_run, estimate_score, estimate_replaced TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON score_run, estimate_score, estimate_replaced
        TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT ON score_run, estimate_score, estimate_replaced TO smf_pipeline;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0022_estimate_scores.sql''s last part as an administrator';
END $$;
