-- Commands that change meters, and meters' clocks. What is about to be written to a meter is known here before
-- it is sent, so that nobody sends it twice.

-- A command waits here for its second person; it is queued by the approval.
ALTER TABLE job_request DROP CONSTRAINT job_request_state_check;
ALTER TABLE job_request ADD CONSTRAINT job_request_state_check
    CHECK (state IN ('awaiting_approval', 'queued', 'running', 'done', 'failed', 'cancelled'));
-- An open request with a key keeps others out while it waits, too.
DROP INDEX job_request_open_dedup;
CREATE UNIQUE INDEX job_request_open_dedup ON job_request (dedup_key)
    WHERE state IN ('queued', 'running', 'awaiting_approval');

-- What was asked for, as the person saw it. One row per job_request of kind 'command'.
CREATE TABLE command_request (
    request_id    bigint PRIMARY KEY REFERENCES job_request,
    command       text NOT NULL,                      -- 20, 98/32, clock
    reason        text NOT NULL CHECK (reason <> ''),
    role          text NOT NULL,                      -- the role that allowed it
    preview       jsonb NOT NULL,                     -- {"en": ..., "pt": ..., "hex": [...], "notes": [...]}
    policy        jsonb NOT NULL,                     -- the decision and what it rests on
    requested_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE command_approval (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id   bigint NOT NULL REFERENCES command_request,
    person       text NOT NULL,
    role         text NOT NULL,
    is_approved  boolean NOT NULL,
    note         text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL DEFAULT now(),
    UNIQUE (request_id, person)
);

-- A word of a second person queues the request or cancels it, whoever inserts the row; the first person's own
-- word is refused here, so that no program can forget to.
CREATE FUNCTION apply_approval() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public AS $$
DECLARE
    asked_by text;
BEGIN
    SELECT requested_by INTO asked_by FROM public.job_request
    WHERE id = NEW.request_id AND kind = 'command' AND state = 'awaiting_approval' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'request % waits for no approval', NEW.request_id USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF lower(btrim(NEW.person)) = lower(btrim(asked_by)) THEN
        RAISE EXCEPTION 'request % was made by %: a second person must approve', NEW.request_id, asked_by
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NEW.is_approved THEN
        UPDATE public.job_request SET state = 'queued', approved_by = NEW.person WHERE id = NEW.request_id;
        PERFORM pg_notify('smf_job_request', '');
    ELSE
        UPDATE public.job_request SET state = 'cancelled', finished_at = clock_timestamp() WHERE id = NEW.request_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER apply_approval BEFORE INSERT ON command_approval FOR EACH ROW EXECUTE FUNCTION apply_approval();

-- Append only. 'writing' is committed before the first octet of the write leaves; 'verdict' ends the command.
-- A 'writing' without a verdict: the outcome is not known yet, and only reading the meter may tell it.
CREATE TABLE command_execution (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id  bigint NOT NULL REFERENCES command_request,
    session_id  bigint REFERENCES session,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    step        text NOT NULL CHECK (step IN ('writing', 'verdict')),
    before      jsonb,                                -- fields read before
    frames      bytea[] NOT NULL DEFAULT '{}',        -- the plain command frames written
    after       jsonb,                                -- fields read after
    verdict     text CHECK (verdict IN ('confirmed', 'refused', 'mismatch', 'unknown')),
    detail      jsonb NOT NULL DEFAULT '{}',
    CHECK ((step = 'verdict') = (verdict IS NOT NULL))
);
CREATE INDEX command_execution_request ON command_execution (request_id, id);
CREATE UNIQUE INDEX command_execution_verdict ON command_execution (request_id) WHERE step = 'verdict';

CREATE VIEW command_status AS
SELECT
    c.request_id, c.command, j.meter_id, m.serial AS meter_serial, j.requested_by, c.role, c.reason,
    c.requested_at, j.approved_by, j.state, j.attempts, j.not_before, j.finished_at, c.preview, c.policy,
    j.error,
    v.verdict, v.after, v.detail, v.session_id,
    w.id IS NOT NULL AND v.id IS NULL AS is_outcome_open
FROM command_request c
JOIN job_request j ON j.id = c.request_id
LEFT JOIN meter m ON m.id = j.meter_id
LEFT JOIN command_execution v ON v.request_id = c.request_id AND v.step = 'verdict'
LEFT JOIN LATERAL (
    SELECT id FROM command_execution WHERE request_id = c.request_id AND step = 'writing' ORDER BY id DESC LIMIT 1
) w ON true;

-- Every session that read a clock.
CREATE VIEW clock_observation AS
SELECT s.id AS session_id, s.meter_id, s.started_at AS at, s.meter_time, s.drift_s, s.round_trip_s
FROM session s
WHERE s.drift_s IS NOT NULL AND s.meter_id IS NOT NULL;

-- Append only: what was done to a clock, and with what success.
CREATE TABLE clock_correction (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id        bigint NOT NULL REFERENCES meter,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    drift_s         numeric NOT NULL,                 -- observed before, meter minus reference
    method          text NOT NULL CHECK (method IN ('micro_adjust', 'set', 'none')),
    step_s          numeric NOT NULL DEFAULT 0,       -- what the clock was moved by
    drift_after_s   numeric,                          -- read again after
    reason          text NOT NULL,
    decided_by      text NOT NULL,                    -- person, or the rule's name
    request_id      bigint REFERENCES job_request,
    session_id      bigint REFERENCES session
);
CREATE INDEX clock_correction_meter ON clock_correction (meter_id, at);

-- Intervals of a meter whose length or count somebody must know about; the label's slot is the meter's.
CREATE TABLE interval_flag (
    meter_id       bigint NOT NULL REFERENCES meter,
    day            date NOT NULL,
    first_slot     smallint NOT NULL,                 -- 0-based, inclusive
    last_slot      smallint NOT NULL CHECK (last_slot >= first_slot),
    flag           text NOT NULL CHECK (flag IN ('clock_set', 'clock_micro_adjust', 'clock_change_requested')),
    correction_id  bigint REFERENCES clock_correction,
    request_id     bigint REFERENCES job_request,
    session_id     bigint REFERENCES session,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, day, first_slot, last_slot, flag)
);
CREATE INDEX interval_flag_day ON interval_flag (day);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON command_request
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON command_approval
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON command_execution
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON clock_correction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON interval_flag
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    GRANT ALL ON command_request, command_approval, command_execution, clock_correction, interval_flag TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON command_request, command_approval, command_execution, clock_correction, interval_flag,
        command_status, clock_observation TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT ON command_request, command_execution, clock_correction, interval_flag TO smf_collector;
    GRANT INSERT ON command_request, command_approval TO smf_portal;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0007_commands.sql''s last part as an administrator';
END $$;
