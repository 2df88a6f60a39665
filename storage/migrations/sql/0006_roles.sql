-- Group roles, without login: an administrator makes logins members of them. Roles belong to the whole server,
-- so their names carry a prefix. A login that may not create roles skips this with a notice; the tables then
-- belong to that login alone, and an administrator can run this file later.
--
-- owner: the schema. pipeline: derives and delivers. collector: reads meters. portal: shows, and asks for work.
-- auditor: reads everything, changes nothing.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['smf_owner', 'smf_pipeline', 'smf_collector', 'smf_portal', 'smf_auditor']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another database of this server is being migrated at the same time
            END;
        END IF;
    END LOOP;

    GRANT ALL ON ALL TABLES IN SCHEMA public TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT CREATE, USAGE ON SCHEMA public TO smf_owner;
    GRANT USAGE ON SCHEMA public TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO smf_pipeline, smf_collector, smf_portal, smf_auditor;

    -- DELETE only where a day still open is replaced in place.
    GRANT INSERT, UPDATE, DELETE ON series_day, estimate, verdict, musd_hour, uc_day_outcome TO smf_pipeline;
    GRANT INSERT ON derivation, submission, submission_event, submission_attempt, notification, quarantine, audit,
        job_request TO smf_pipeline;
    GRANT UPDATE ON job_request TO smf_pipeline;

    GRANT INSERT, UPDATE ON job_request, session TO smf_collector;
    GRANT INSERT, DELETE ON reading_day TO smf_collector;
    GRANT INSERT ON frame, touched_day, register_reading, outage, meter_change, meter_parameters, quarantine, audit,
        notification TO smf_collector;

    GRANT INSERT ON job_request, audit, estimate_approval TO smf_portal;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'roles skipped: the login may not create them; run 0006_roles.sql as an administrator';
END $$;
