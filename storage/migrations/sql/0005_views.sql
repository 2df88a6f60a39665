-- A row per interval, for dbt, analysts and dashboards. Queries that name days or UCs are pushed down to the
-- vectors. An interval is (interval_start, interval_end]: it is named by its end, as CCEE names it.

-- Where a market day begins; `migrate` sets it again from the setting market.zone.
CREATE FUNCTION market_day_start(day date) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (day::timestamp AT TIME ZONE 'UTC') + make_interval(secs => 10800);

CREATE FUNCTION layer_name(layer smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['primary', 'validated', 'estimated', 'adjusted', 'ccee'])[layer];

CREATE FUNCTION origin_name(origin integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['missing', 'measured', 'backup', 'estimated', 'edited'])[origin + 1];

CREATE VIEW reading_latest AS
SELECT DISTINCT ON (meter_id, channel, day) *
FROM reading_day
ORDER BY meter_id, channel, day, version DESC;

CREATE VIEW series_latest AS
SELECT DISTINCT ON (uc_id, quantity, layer, day) *
FROM series_day
ORDER BY uc_id, quantity, layer, day, version DESC;

CREATE VIEW reading_interval AS
SELECT
    m.serial AS meter_serial, r.meter_id, r.channel, r.quantity_code, r.day, r.version,
    (p.slot - 1)::integer AS slot,
    market_day_start(r.day) + make_interval(secs => (p.slot - 1) * r.interval_s) AS interval_start,
    market_day_start(r.day) + make_interval(secs => p.slot * r.interval_s) AS interval_end,
    p.pulses
FROM reading_latest r
JOIN meter m ON m.id = r.meter_id
CROSS JOIN LATERAL unnest(r.pulses) WITH ORDINALITY AS p (pulses, slot);

CREATE VIEW series_interval_all_versions AS
SELECT
    u.code AS uc_code, s.uc_id, s.quantity, s.layer, layer_name(s.layer) AS layer_name, s.day, s.version,
    (n.slot - 1)::integer AS slot,
    market_day_start(s.day) + make_interval(secs => (n.slot - 1) * s.interval_s) AS interval_start,
    market_day_start(s.day) + make_interval(secs => n.slot * s.interval_s) AS interval_end,
    n.numerator, s.denominator,
    n.numerator::numeric / s.denominator AS energy_kwh,
    get_byte(s.origin, (n.slot - 1)::integer) AS origin,
    origin_name(get_byte(s.origin, (n.slot - 1)::integer)) AS origin_name,
    get_byte(s.reason, (n.slot - 1)::integer) AS reason,
    s.run_id, s.recorded_at
FROM series_day s
JOIN uc u ON u.id = s.uc_id
CROSS JOIN LATERAL unnest(s.numerators) WITH ORDINALITY AS n (numerator, slot);

CREATE VIEW series_interval AS
SELECT
    u.code AS uc_code, s.uc_id, s.quantity, s.layer, layer_name(s.layer) AS layer_name, s.day, s.version,
    (n.slot - 1)::integer AS slot,
    market_day_start(s.day) + make_interval(secs => (n.slot - 1) * s.interval_s) AS interval_start,
    market_day_start(s.day) + make_interval(secs => n.slot * s.interval_s) AS interval_end,
    n.numerator, s.denominator,
    n.numerator::numeric / s.denominator AS energy_kwh,
    get_byte(s.origin, (n.slot - 1)::integer) AS origin,
    origin_name(get_byte(s.origin, (n.slot - 1)::integer)) AS origin_name,
    get_byte(s.reason, (n.slot - 1)::integer) AS reason,
    s.run_id, s.recorded_at
FROM series_latest s
JOIN uc u ON u.id = s.uc_id
CROSS JOIN LATERAL unnest(s.numerators) WITH ORDINALITY AS n (numerator, slot);
