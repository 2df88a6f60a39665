{{ config(
    materialized="incremental", incremental_strategy="append",
    pre_hook="{{ clear_window() }}",
    indexes=[{"columns": ["day", "uc_id", "hour"], "unique": true}],
) }}

WITH hours AS (
    SELECT
        uc_id,
        day,
        hour,
        count(*) AS intervals,
        count(*) - count(energy_kwh) AS missing,
        count(*) FILTER (WHERE origin > 1) AS adjusted,
        sum(energy_kwh) AS energy_kwh
    FROM {{ ref("stg_interval_ccee") }}
    WHERE {{ in_window("day", "uc_id") }}
    GROUP BY uc_id, day, hour
)

SELECT
    h.uc_id,
    u.uc_code,
    h.day,
    h.hour,
    h.intervals,
    h.missing,
    h.adjusted,
    h.energy_kwh,
    m.limit_kwh AS musd_limit_kwh,
    coalesce(m.is_rejected, false) AS is_rejected
FROM hours AS h
JOIN {{ ref("stg_uc") }} AS u ON u.uc_id = h.uc_id
LEFT JOIN {{ source("metering", "musd_hour") }} AS m ON m.uc_id = h.uc_id AND m.day = h.day AND m.hour = h.hour
