-- Lots of meters as delivered, and what failed of them: warranty, failure rates, systemic faults.

CREATE TABLE meter_lot (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code          text NOT NULL UNIQUE,
    model         text NOT NULL,                      -- material code, or the name of a model of the registry
    size          integer NOT NULL CHECK (size > 0),
    delivered_on  date NOT NULL,                      -- received at the central store: the warranty begins
    supplier      text NOT NULL DEFAULT '',
    recorded_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE meter_failure (
    lot_id       bigint NOT NULL REFERENCES meter_lot,
    serial       text NOT NULL,
    failed_on    date NOT NULL,
    fault        text NOT NULL,                       -- kind of fault, the utility's own list
    note         text NOT NULL DEFAULT '',
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (lot_id, serial, failed_on, fault)
);

DO $$
BEGIN
    GRANT ALL ON meter_lot, meter_failure TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON meter_lot, meter_failure TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    GRANT INSERT, UPDATE ON meter_lot, meter_failure TO smf_pipeline, smf_portal;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0013_meter_lots.sql''s last part as an administrator';
END $$;
