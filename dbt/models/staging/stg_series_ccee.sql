SELECT DISTINCT ON (uc_id, day)
    uc_id, day, version, interval_s, denominator, numerators, origin, reason, run_id
FROM {{ source("metering", "series_day") }}
WHERE layer = 5 AND quantity = 1
ORDER BY uc_id, day, version DESC
