{{ config(materialized="view") }}

-- A view: it is always as right as uc_day, whichever days were made again.
SELECT
    uc_id,
    uc_code,
    agent_code,
    date_trunc('month', day)::date AS month,
    count(*) FILTER (WHERE state <> 'not_expected') AS days_expected,
    count(*) FILTER (WHERE state = 'ready') AS days_ready,
    count(*) FILTER (WHERE submission_state IN ('aceito', 'definitivo')) AS days_delivered,
    sum(energy_kwh) AS energy_kwh,
    sum(missing) AS missing,
    sum(backup + estimated + edited)::numeric / nullif(sum(intervals), 0) AS adjusted_share
FROM {{ ref("uc_day") }}
GROUP BY uc_id, uc_code, agent_code, date_trunc('month', day)
