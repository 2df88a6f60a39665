-- Readings that nobody may use until somebody decides. They keep their evidence, and the day meanwhile lacks them.

CREATE TABLE reading_hold (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id         bigint NOT NULL REFERENCES meter,
    channel          smallint NOT NULL,
    day              date NOT NULL,                   -- that they would have filled, by the meter's own clock
    quantity_code    smallint NOT NULL,
    interval_s       integer NOT NULL CHECK (interval_s > 0),
    pulses           integer[] NOT NULL,              -- one slot per interval as in reading_day; NULL: not held
    source_starts    smallint[] NOT NULL,             -- runs as in reading_day
    source_sessions  bigint[] NOT NULL,
    reason           text NOT NULL,                   -- storage.holds.HoldReason
    rule             text NOT NULL DEFAULT '',        -- V09, V10, V11 ... where one has a number
    evidence         jsonb NOT NULL DEFAULT '{}',     -- what a person needs to decide, in plain values
    likely_shift_s   integer,                         -- added to its times, it would be right; NULL: not known
    held_at          timestamptz NOT NULL,
    state            text NOT NULL DEFAULT 'held'
                     CHECK (state IN ('held', 'released', 'shifted', 'rejected')),
    decided_at       timestamptz,
    decided_by       text,
    decision_reason  text,
    shift_s          integer,                         -- what was added to the times, where shifted
    filled           jsonb NOT NULL DEFAULT '{}',     -- day -> slots of reading_day that the decision filled
    CHECK ((state = 'held') = (decided_at IS NULL)),
    CHECK ((state = 'shifted') = (shift_s IS NOT NULL))
);
CREATE INDEX reading_hold_open ON reading_hold (meter_id, day) WHERE state = 'held';
CREATE INDEX reading_hold_day ON reading_hold (meter_id, channel, day);

DO $$
BEGIN
    GRANT ALL ON reading_hold TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON reading_hold TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT, UPDATE ON reading_hold TO smf_collector, smf_pipeline;
    -- Who decides merges what is released, as a session does.
    GRANT INSERT, DELETE ON reading_day TO smf_pipeline;
    GRANT INSERT ON touched_day TO smf_pipeline;
    -- An open outage is closed by a later reading.
    GRANT UPDATE ON outage TO smf_collector;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0016_reading_hold.sql''s last part as an administrator';
END $$;

-- A failure whose return the meter has not recorded yet is open: nothing is known of its end.
ALTER TABLE outage ALTER COLUMN ended_at DROP NOT NULL;
