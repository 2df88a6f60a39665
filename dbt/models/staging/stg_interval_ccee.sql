SELECT
    uc_id,
    day,
    slot,
    interval_end,
    -- Hour 1 is 00:00 to 01:00, counted along the day by the interval's start.
    (extract(epoch FROM interval_start - market_day_start(day))::int / 3600 + 1) AS hour,
    energy_kwh,
    origin,
    reason
FROM {{ source("metering", "series_interval") }}
WHERE layer = 5 AND quantity = 1
