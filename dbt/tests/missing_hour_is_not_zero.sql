-- Missing is never zero: an hour without one value has no energy, not an energy of zero.
SELECT uc_id, day, hour
FROM {{ ref("uc_hour") }}
WHERE missing = intervals AND energy_kwh IS NOT NULL AND {{ in_window("day", "uc_id") }}
