-- Invocation counters of DLMS keys: a value is stored as used before it is used, and never used again. No key is here,
-- only what tells one from another. One key may serve many meters, and no pair of title and counter may come twice.

CREATE TABLE dlms_counter (
    key_id     text NOT NULL,                         -- first octets of SHA-256 of the encryption key
    title      text NOT NULL,                         -- our system title, hexadecimal
    last_used  bigint NOT NULL CHECK (last_used >= 0),
    PRIMARY KEY (key_id, title)
);

-- A counter that went back would be the end of the key's secrecy.
CREATE FUNCTION refuse_counter_going_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.last_used <= OLD.last_used THEN
        RAISE EXCEPTION 'invocation counters only grow';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON dlms_counter
    FOR EACH ROW EXECUTE FUNCTION refuse_counter_going_back();

DO $$
BEGIN
    GRANT ALL ON dlms_counter TO smf_owner;
    GRANT SELECT ON dlms_counter TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT, UPDATE ON dlms_counter TO smf_collector;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0012_dlms_counter.sql''s last part as an administrator';
END $$;
