-- A UC keeps its history while what it is called and whom it is connected to change: the connected agent by day,
-- and the codes it had before. A submission keeps the code it was sealed under, as it keeps its agent.

CREATE FUNCTION market_day_of(at timestamptz) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (SELECT max(d) FROM unnest(ARRAY[-1, 0, 1]) AS k (n)
            CROSS JOIN LATERAL (SELECT ((at AT TIME ZONE 'UTC')::date + k.n) AS d) AS days
            WHERE market_day_start(d) <= at);

CREATE TABLE uc_agent (
    uc_id     bigint NOT NULL REFERENCES uc,
    agent_id  bigint NOT NULL REFERENCES agent,
    valid     daterange NOT NULL CHECK (NOT isempty(valid)),
    PRIMARY KEY (uc_id, valid),
    EXCLUDE USING gist (int8range(uc_id, uc_id, '[]') WITH &&, valid WITH &&)
);
INSERT INTO uc_agent (uc_id, agent_id, valid) SELECT id, agent_id, daterange(NULL, NULL) FROM uc;

-- uc.agent_id is the agent now. Whoever sets it, by a file or by hand, the days before keep the one they had.
CREATE FUNCTION keep_agents_of_uc() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    today date := market_day_of(now());
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO uc_agent (uc_id, agent_id, valid) VALUES (NEW.id, NEW.agent_id, daterange(NULL, NULL));
    ELSIF NEW.agent_id IS DISTINCT FROM (
        SELECT agent_id FROM uc_agent WHERE uc_id = NEW.id ORDER BY lower(valid) DESC NULLS LAST LIMIT 1)
    THEN
        DELETE FROM uc_agent WHERE uc_id = NEW.id AND lower(valid) >= today;
        UPDATE uc_agent SET valid = daterange(lower(valid), today) WHERE uc_id = NEW.id AND valid @> today;
        INSERT INTO uc_agent (uc_id, agent_id, valid) VALUES (NEW.id, NEW.agent_id, daterange(today, NULL));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_agents AFTER INSERT OR UPDATE OF agent_id ON uc
    FOR EACH ROW EXECUTE FUNCTION keep_agents_of_uc();

CREATE TABLE uc_former_code (
    code   text PRIMARY KEY,
    uc_id  bigint NOT NULL REFERENCES uc,
    until  date,                                      -- first day it held no more; NULL: nobody said
    UNIQUE (uc_id, until)
);

-- The code by which a UC is known on a day.
CREATE FUNCTION uc_code_on(uc_id bigint, code text, day date) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(
        (SELECT f.code FROM uc_former_code f WHERE f.uc_id = uc_code_on.uc_id AND f.until > uc_code_on.day
         ORDER BY f.until LIMIT 1),
        uc_code_on.code);

ALTER TABLE submission ADD COLUMN uc_code text;
ALTER TABLE submission DISABLE TRIGGER append_only;
UPDATE submission s SET uc_code = u.code FROM uc u WHERE u.id = s.uc_id;
ALTER TABLE submission ENABLE TRIGGER append_only;
CREATE OR REPLACE VIEW submission_state AS
SELECT s.id, s.agent_id, s.uc_id, s.day, s.version, s.series_version, s.profile, s.body_sha256, s.body_bytes,
       s.cause, s.run_id, s.created_at, e.state, e.at AS state_at, e.detail AS state_detail, s.uc_code
FROM submission s
CROSS JOIN LATERAL (
    SELECT state, at, detail FROM submission_event WHERE submission_id = s.id ORDER BY id DESC LIMIT 1
) e;

-- Supply suspended while the contract with the connected agent is open, or suspended late by the distributor's
-- own fault: measured and sent (PdC 1.8, 3.62). `suspended` is a suspension with the contract closed (3.68).
ALTER TABLE uc_status DROP CONSTRAINT uc_status_status_check;
ALTER TABLE uc_status ADD CONSTRAINT uc_status_status_check
    CHECK (status IN ('active', 'suspended_open', 'suspended', 'inactive', 'captive'));
CREATE FUNCTION is_submitted(status text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN status IN ('active', 'suspended_open');

DO $$
BEGIN
    GRANT ALL ON uc_agent, uc_former_code TO smf_owner;
    GRANT SELECT ON uc_agent, uc_former_code TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: run 0017_dated_agents.sql''s last part as an administrator';
END $$;
