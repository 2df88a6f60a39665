-- The ledger of what was told to CCEE. Append only: facts are added, never changed.

CREATE TABLE submission (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id        bigint NOT NULL REFERENCES agent,
    uc_id           bigint NOT NULL REFERENCES uc,
    day             date NOT NULL,
    version         integer NOT NULL,                 -- 1, 2 ... of what CCEE is told about this UC-day
    series_version  integer NOT NULL,                 -- series_day version of layer 5 that the body renders
    profile         text NOT NULL,                    -- contract profile name @ digest of its body format
    body_sha256     bytea NOT NULL,
    body_bytes      integer NOT NULL,
    cause           text NOT NULL CHECK (cause IN ('first', 'content_changed', 'musd_changed')),
    run_id          text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (uc_id, day, version)
);
CREATE INDEX submission_day ON submission (day);

-- State changes in order; the last one is the state (view submission_state).
CREATE TABLE submission_event (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submission_id  bigint NOT NULL REFERENCES submission,
    at             timestamptz NOT NULL DEFAULT now(),
    state          text NOT NULL CHECK (state IN (
        'pendente', 'validado', 'enviando', 'aceito', 'em_processamento', 'rejeitado_musd', 'rejeitado_dado',
        'falha_transitoria', 'resultado_desconhecido', 'definitivo', 'perdido')),
    detail         jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX submission_event_last ON submission_event (submission_id, id DESC);

CREATE TABLE submission_attempt (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    submission_id  bigint NOT NULL REFERENCES submission,
    attempt        integer NOT NULL,
    started_at     timestamptz NOT NULL,
    ended_at       timestamptz NOT NULL,
    http_status    integer,                           -- NULL: no reply was seen
    reply_headers  jsonb,
    reply_body     bytea,
    receipt        text,                              -- protocol or entity id, where the reply carries one
    error          text,
    outcome        text NOT NULL CHECK (outcome IN ('accepted', 'processing', 'rejected', 'transient', 'unknown')),
    UNIQUE (submission_id, attempt)
);

CREATE VIEW submission_state AS
SELECT s.*, e.state, e.at AS state_at, e.detail AS state_detail
FROM submission s
CROSS JOIN LATERAL (
    SELECT state, at, detail FROM submission_event WHERE submission_id = s.id ORDER BY id DESC LIMIT 1
) e;

-- Messages to the connected agent and to analysts, in Portuguese; delivery channels read from here.
CREATE TABLE notification (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id    bigint REFERENCES agent,
    uc_id       bigint REFERENCES uc,
    day         date,
    kind        text NOT NULL,
    subject     text NOT NULL,
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    dedup_key   text UNIQUE
);

CREATE TABLE audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text NOT NULL,
    action     text NOT NULL,
    object     text NOT NULL,
    before     jsonb,
    after      jsonb,
    prev_hash  bytea NOT NULL,
    hash       bytea NOT NULL UNIQUE                  -- SHA-256 over prev_hash and the row: a chain
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON submission
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON submission_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON submission_attempt
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON frame
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
