-- What the collector writes: the queue it works from, its conversations, their bytes, what they meant.

CREATE TABLE job_request (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('read', 'command', 'export')),
    priority      smallint NOT NULL DEFAULT 100,      -- lower first: 10 on demand, 50 recovery, 100 routine
    meter_id      bigint REFERENCES meter,
    parameters    jsonb NOT NULL DEFAULT '{}',        -- read: {"sequence": ..., "days": [...]}
    dedup_key     text,                               -- one open request per key
    requested_by  text NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT now(),
    approved_by   text,
    not_before    timestamptz NOT NULL DEFAULT now(),
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts      integer NOT NULL DEFAULT 0,
    max_attempts  integer NOT NULL DEFAULT 5,
    claimed_by    text,
    lease_until   timestamptz,                        -- a dead worker's claim is free again after this
    finished_at   timestamptz,
    result        jsonb,
    error         jsonb                               -- {"actor", "stage", "message", "where", "remedy"}
);
CREATE UNIQUE INDEX job_request_open_dedup ON job_request (dedup_key) WHERE state IN ('queued', 'running');
CREATE INDEX job_request_ready ON job_request (priority, not_before, id) WHERE state = 'queued';
-- Days that a meter was asked for and does not hold: not to be asked for again.
CREATE INDEX job_request_exhausted ON job_request (meter_id) WHERE result ? 'exhausted_days';

CREATE TABLE session (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id      bigint REFERENCES job_request,
    meter_id        bigint REFERENCES meter,
    unit_id         bigint REFERENCES unit,
    collector       text NOT NULL,
    purpose         text NOT NULL,
    protocol        text NOT NULL,
    url             text NOT NULL,
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    outcome         text CHECK (outcome IN ('complete', 'partial', 'failed', 'aborted')),
    failed_stage    text,                             -- connect, synchronise, command 26 block 3, decode ...
    error           jsonb,
    bytes_sent      bigint NOT NULL DEFAULT 0,
    bytes_received  bigint NOT NULL DEFAULT 0,
    retries         integer NOT NULL DEFAULT 0,
    meter_serial    text,                             -- as answered, may differ from the registered one
    meter_time      timestamptz,
    drift_s         numeric,                          -- meter minus reference, round trip taken out
    round_trip_s    numeric
);
CREATE INDEX session_meter ON session (meter_id, started_at);
-- A meter is in one session at a time, whichever collector asks; one whose collector died is closed first.
CREATE UNIQUE INDEX session_open ON session (meter_id) WHERE outcome IS NULL;
-- So is a line: several meters of one address differ in the options of their URL at most.
CREATE UNIQUE INDEX session_line ON session (split_part(url, '?', 1)) WHERE outcome IS NULL;

CREATE TABLE frame (
    session_id  bigint NOT NULL REFERENCES session,
    seq         integer NOT NULL,
    at          timestamptz NOT NULL,
    direction   "char" NOT NULL CHECK (direction IN ('>', '<')),   -- '>' sent to the meter
    command     smallint,                             -- first octet of a command or block, as on the wire
    crc_ok      boolean,
    payload     bytea NOT NULL,
    PRIMARY KEY (session_id, seq)
);

-- One row: one meter channel, one day, one slot per interval, missing as NULL.
CREATE TABLE reading_day (
    meter_id         bigint NOT NULL,
    channel          smallint NOT NULL,
    day              date NOT NULL,
    version          integer NOT NULL DEFAULT 1,
    quantity_code    smallint NOT NULL,               -- NBR 14522 channel quantity: 1 = kWh direct ...
    interval_s       integer NOT NULL,
    pulses           integer[] NOT NULL,
    source_starts    smallint[] NOT NULL,             -- run i covers slots source_starts[i] .. next start - 1 (0-based)
    source_sessions  bigint[] NOT NULL,               -- and came from this session; 0 = no source (missing)
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, channel, day, version)
);

-- Each change of a meter's day: what the daily run and the late-data sensor follow, by seq.
CREATE TABLE touched_day (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id    bigint NOT NULL,
    day         date NOT NULL,
    touched_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX touched_day_day ON touched_day (day);

CREATE TABLE register_reading (
    session_id  bigint NOT NULL REFERENCES session,
    meter_id    bigint NOT NULL REFERENCES meter,
    command     smallint NOT NULL,                    -- 0x23 or 0x24
    channel     smallint NOT NULL,
    at          timestamptz NOT NULL,                 -- meter clock
    values      jsonb NOT NULL,                       -- register name -> pulses
    PRIMARY KEY (session_id, command, channel)
);
CREATE INDEX register_reading_meter ON register_reading (meter_id, channel, at);

CREATE TABLE outage (
    meter_id    bigint NOT NULL REFERENCES meter,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    session_id  bigint NOT NULL REFERENCES session,   -- first session that reported it
    PRIMARY KEY (meter_id, started_at)
);

CREATE TABLE meter_change (
    meter_id       bigint NOT NULL REFERENCES meter,
    at             timestamptz NOT NULL,
    code           smallint NOT NULL,
    reader_serial  text NOT NULL,
    session_id     bigint NOT NULL REFERENCES session,
    PRIMARY KEY (meter_id, at, code, reader_serial)
);

CREATE TABLE meter_parameters (
    session_id  bigint NOT NULL REFERENCES session,
    meter_id    bigint NOT NULL REFERENCES meter,
    command     smallint NOT NULL,                    -- 0x14, 0x20, 0x21, 0x22, 0x51, 0x80; 0x39: what the meter lacks
    at          timestamptz NOT NULL,                 -- meter clock
    values      jsonb NOT NULL,
    PRIMARY KEY (session_id, command)
);
CREATE INDEX meter_parameters_meter ON meter_parameters (meter_id, command, at);

-- Bad input keeps its place: nothing that came in is lost, nothing bad flows on.
CREATE TABLE quarantine (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    stage       text NOT NULL,                        -- frame, decode, merge, registry, arithmetic
    reason      text NOT NULL,
    meter_id    bigint,
    uc_id       bigint,
    day         date,
    session_id  bigint,
    detail      jsonb NOT NULL DEFAULT '{}',
    dedup_key   text UNIQUE                           -- the same bad thing seen again is one row
);
