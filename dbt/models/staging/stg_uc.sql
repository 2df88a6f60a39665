SELECT
    uc.id AS uc_id,
    uc.code AS uc_code,
    uc.name AS uc_name,
    agent.id AS agent_id,
    agent.code AS agent_code
FROM {{ source("metering", "uc") }} AS uc
JOIN {{ source("metering", "agent") }} AS agent ON agent.id = uc.agent_id
