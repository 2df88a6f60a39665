-- Files that were handed to other systems: who asked, when, what is in them, and their octets' hashes.

CREATE TABLE public_export (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by  text NOT NULL,
    formats       text[] NOT NULL,                    -- fk7, text, or csv:NAME of the profile
    first_day     date NOT NULL,
    last_day      date NOT NULL CHECK (last_day >= first_day),
    target        text NOT NULL,                      -- archive or folder, as it was named
    sha256        bytea,                              -- of the archive; NULL for a folder
    left_out      jsonb NOT NULL DEFAULT '[]'         -- what a format cannot say, by UC and reason
);

CREATE TABLE public_export_file (
    export_id    bigint NOT NULL REFERENCES public_export,
    path         text NOT NULL,                       -- within the archive or folder
    uc_ids       bigint[] NOT NULL,
    meter_ids    bigint[] NOT NULL,
    first_start  timestamptz NOT NULL,                -- of the first interval
    last_end     timestamptz NOT NULL,                -- of the last interval
    intervals    bigint NOT NULL,
    octets       bigint NOT NULL,
    sha256       bytea NOT NULL,
    PRIMARY KEY (export_id, path)
);
CREATE INDEX public_export_file_uc ON public_export_file USING gin (uc_ids);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public_export
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public_export_file
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    GRANT ALL ON public_export, public_export_file TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON public_export, public_export_file TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT ON public_export, public_export_file TO smf_pipeline, smf_portal;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0011_public_export.sql''s last part as an administrator';
END $$;
