-- What people decide about values. Rows are never deleted; only the state changes, and the audit tells by whom.

CREATE TABLE decision (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind               text NOT NULL,                 -- storage.decisions.DecisionKind
    state              text NOT NULL CHECK (state IN ('waiting', 'in_force', 'refused', 'undone')),
    uc_id              bigint REFERENCES uc,          -- NULL for held readings, which may be of many days
    day                date,
    first_slot         smallint,                      -- 0-based, inclusive
    last_slot          smallint,
    suspect_ids        bigint[] NOT NULL DEFAULT '{}',
    hold_ids           bigint[] NOT NULL DEFAULT '{}',
    quarantine_id      bigint,                        -- of the contradiction between two readings
    payload            jsonb NOT NULL DEFAULT '{}',   -- what the kind needs: values, factor, strategy ...
    preview            jsonb NOT NULL DEFAULT '{}',   -- what the person was shown
    reason             text NOT NULL CHECK (reason <> ''),
    asked_by           text NOT NULL,
    asked_at           timestamptz NOT NULL,
    second_why         text NOT NULL DEFAULT '',      -- why a second person must agree
    answered_by        text,
    answered_at        timestamptz,
    answer             text,
    undone_by          text,
    undone_at          timestamptz,
    undo_reason        text,
    energy_before_kwh  numeric,
    energy_after_kwh   numeric,
    CHECK (answered_by IS NULL OR answered_by <> asked_by),
    CHECK (state <> 'waiting' OR second_why <> '')
);
CREATE INDEX decision_in_force ON decision (uc_id, day) WHERE state = 'in_force';
CREATE INDEX decision_waiting ON decision (asked_at) WHERE state = 'waiting';

DO $$
BEGIN
    GRANT ALL ON decision TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON decision TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT, UPDATE ON decision TO smf_pipeline, smf_portal;
    GRANT INSERT, DELETE ON estimate_approval TO smf_pipeline, smf_portal;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0018_decisions.sql''s last part as an administrator';
END $$;
