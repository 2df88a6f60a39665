SELECT uc_id, day, version, interval_s, denominator, numerators, origin, reason, run_id
FROM {{ source("metering", "series_latest") }}
WHERE layer = 5 AND quantity = 1
