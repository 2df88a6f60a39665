-- An INTERVAL zone, since a text like '-03:00' would be read with POSIX's inverted sign.
SELECT
    s.uc_id,
    s.day,
    v.slot::int AS slot,
    (s.day + v.slot * s.interval_s * INTERVAL '1 second')
        AT TIME ZONE INTERVAL '{{ var("market_offset") }}' AS interval_end,
    ((v.slot - 1) * s.interval_s / 3600 + 1)::int AS hour,
    v.numerator::numeric / s.denominator AS energy_kwh,
    get_byte(s.origin, v.slot::int - 1) AS origin,
    get_byte(s.reason, v.slot::int - 1) AS reason
FROM {{ ref("stg_series_ccee") }} AS s
CROSS JOIN LATERAL unnest(s.numerators) WITH ORDINALITY AS v (numerator, slot)
