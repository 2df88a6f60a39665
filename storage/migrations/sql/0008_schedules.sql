-- Reading plans and what became of them: monitoring for a limited time, traffic, connectivity, depth of memories.

-- A point read every 15 minutes while `valid` holds; its schedule then is again what it was.
CREATE TABLE point_monitoring (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id      bigint NOT NULL REFERENCES point,
    valid         tstzrange NOT NULL CHECK (NOT isempty(valid) AND NOT upper_inf(valid)),
    requested_by  text NOT NULL,
    reason        text NOT NULL DEFAULT '',
    requested_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX point_monitoring_until ON point_monitoring (upper(valid));

-- The market day of an instant; the inverse of market_day_start.
CREATE FUNCTION market_day(at timestamptz) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ((at AT TIME ZONE 'UTC') - (market_day_start('2000-01-01') - timestamptz '2000-01-01 00:00:00+00'))::date;

-- Octets of the sessions of each telemetry unit, by the market day on which they began.
CREATE VIEW unit_traffic_day AS
SELECT unit_id, market_day(started_at) AS day, count(*) AS sessions, sum(bytes_sent + bytes_received) AS bytes
FROM session
WHERE unit_id IS NOT NULL
GROUP BY unit_id, market_day(started_at);

-- Of the reads that the schedule asked of a point on a day and that are over, how many brought what they were for.
CREATE VIEW point_connectivity_day AS
SELECT
    i.point_id, market_day(j.requested_at) AS day, count(*) AS scheduled,
    count(*) FILTER (WHERE j.state = 'done') AS succeeded,
    count(*) FILTER (WHERE j.state = 'done')::numeric / count(*) AS share
FROM job_request j
JOIN installation i ON i.meter_id = j.meter_id AND i.valid @> j.requested_at
WHERE j.kind = 'read' AND j.requested_by = 'schedule' AND j.state IN ('done', 'failed')
GROUP BY i.point_id, market_day(j.requested_at);

-- What is known of the depth of a meter's memory, and how far it was read. Words announced are a lower bound of the
-- capacity: 51 counts the whole memory unless it was limited, 21 its two periods (three channels each). The newest
-- answers are looked at, so that the cost for a meter does not grow with its years.
CREATE VIEW meter_memory AS
SELECT
    i.meter_id, i.point_id, i.interval_s, last.last_end,
    greatest(whole.words, periods.words) AS capacity_words
FROM installation i
LEFT JOIN LATERAL (
    SELECT max((newest.values ->> 'words_current')::bigint) AS words
    FROM (
        SELECT p.values FROM meter_parameters p
        WHERE p.meter_id = i.meter_id AND p.command = x'51'::int
        ORDER BY p.at DESC
        LIMIT 40
    ) newest
) whole ON true
LEFT JOIN LATERAL (
    SELECT (p.values ->> 'words_current')::bigint + (p.values ->> 'words_previous')::bigint AS words
    FROM meter_parameters p
    WHERE p.meter_id = i.meter_id AND p.command = x'21'::int
    ORDER BY p.at DESC
    LIMIT 1
) periods ON true
LEFT JOIN LATERAL (
    SELECT market_day_start(r.day) + make_interval(secs => r.interval_s * (
        SELECT max(v.slot) FROM unnest(r.pulses) WITH ORDINALITY AS v (pulses, slot) WHERE v.pulses IS NOT NULL
    )) AS last_end
    FROM reading_day r
    WHERE r.meter_id = i.meter_id AND r.channel = i.active_channel
    ORDER BY r.day DESC, r.version DESC
    LIMIT 1
) last ON true
WHERE upper_inf(i.valid);

DO $$
BEGIN
    GRANT ALL ON point_monitoring TO smf_owner;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO smf_owner;
    GRANT SELECT ON point_monitoring, unit_traffic_day, point_connectivity_day, meter_memory
        TO smf_pipeline, smf_collector, smf_portal, smf_auditor;
    -- UPDATE ends a monitoring before its time.
    GRANT INSERT, UPDATE ON point_monitoring TO smf_collector, smf_portal;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE NOTICE 'grants skipped: the login may not give them; run 0008_schedules.sql''s last part as an administrator';
END $$;
