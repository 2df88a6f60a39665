-- What stays of a month once its deadline is past: each UC-day's fate and the certificates, never changed.

CREATE TABLE closed_day (
    uc_id          bigint NOT NULL REFERENCES uc,
    day            date NOT NULL,
    agent_id       bigint REFERENCES agent,           -- connected agent of the day by the registry; NULL: none
    fate           text NOT NULL CHECK (fate IN ('final', 'lost')),
    cause          text NOT NULL DEFAULT '',          -- of a lost one: vee.quality.Cause, not_derived or not_delivered
    submission_id  bigint REFERENCES submission,      -- of a final one: what CCEE accepted
    musd_kw        numeric,                           -- registered when the month was frozen; NULL: CCEE's default
    sent_kwh       numeric NOT NULL,                  -- of the body
    zeroed_kwh     numeric NOT NULL,                  -- of it, in hours above the limit, which count as zero
    PRIMARY KEY (uc_id, day),
    CHECK ((fate = 'final') = (submission_id IS NOT NULL))
);
CREATE INDEX closed_day_day ON closed_day (day);

CREATE TABLE month_certificate (
    month           date NOT NULL CHECK (extract(day FROM month) = 1),
    version         integer NOT NULL CHECK (version > 0),  -- 1: as frozen; later ones: what would be recounted
    content         bytea NOT NULL,                   -- canonical JSON
    content_sha256  bytea NOT NULL,
    made_at         timestamptz NOT NULL,
    run_id          text NOT NULL,
    PRIMARY KEY (month, version),
    CHECK (content_sha256 = sha256(content))
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_day
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON month_certificate
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    GRANT ALL ON closed_day, month_certificate TO smf_owner;
    GRANT SELECT ON closed_day, month_certificate TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT ON closed_day, month_certificate TO smf_pipeline;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0023_closed_months.sql''s last part as an administrator';
END $$;
