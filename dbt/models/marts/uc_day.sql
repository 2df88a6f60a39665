{{ config(
    materialized="incremental", incremental_strategy="append",
    pre_hook="{{ clear_window() }}",
    indexes=[{"columns": ["day", "uc_id"], "unique": true}],
) }}

SELECT
    o.uc_id,
    u.uc_code,
    u.agent_code,
    o.day,
    o.state,
    o.cause,
    o.measured + o.backup + o.estimated + o.edited + o.missing AS intervals,
    o.measured,
    o.backup,
    o.estimated,
    o.edited,
    o.missing,
    o.energy_kwh,
    -- State 'ready' with no submission is work still to be done; it shows as NULL, not as a failure.
    s.state AS submission_state,
    s.submission_version,
    s.receipt
FROM {{ source("metering", "uc_day_outcome") }} AS o
JOIN {{ ref("stg_uc") }} AS u ON u.uc_id = o.uc_id
LEFT JOIN {{ ref("stg_submission") }} AS s ON s.uc_id = o.uc_id AND s.day = o.day
WHERE {{ in_window("o.day", "o.uc_id") }}
