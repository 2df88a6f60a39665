-- The hours of a day add up to what the outcome says of it, exactly: both are sums of the same milli-kWh.
SELECT d.uc_id, d.day, d.energy_kwh, h.energy_kwh AS hours_kwh
FROM {{ ref("uc_day") }} AS d
JOIN (
    SELECT uc_id, day, sum(energy_kwh) AS energy_kwh FROM {{ ref("uc_hour") }} GROUP BY uc_id, day
) AS h ON h.uc_id = d.uc_id AND h.day = d.day
WHERE {{ in_window("d.day", "d.uc_id") }} AND d.energy_kwh IS DISTINCT FROM coalesce(h.energy_kwh, 0)
