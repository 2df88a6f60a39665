{{ config(materialized="view") }}

SELECT
    agent_code,
    day,
    count(*) FILTER (WHERE state <> 'not_expected') AS ucs_expected,
    count(*) FILTER (WHERE state = 'ready') AS ucs_ready,
    count(*) FILTER (WHERE submission_state IN ('aceito', 'definitivo')) AS ucs_delivered,
    sum(energy_kwh) AS energy_kwh,
    sum(missing) AS missing,
    1 - sum(missing)::numeric / nullif(sum(intervals), 0) AS completeness,
    sum(estimated)::numeric / nullif(sum(intervals), 0) AS estimated_share
FROM {{ ref("uc_day") }}
GROUP BY agent_code, day
