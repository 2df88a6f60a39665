SELECT DISTINCT ON (s.uc_id, s.day)
    s.uc_id,
    s.day,
    s.version AS submission_version,
    s.series_version,
    s.state,
    s.state_at,
    a.receipt,
    a.http_status
FROM {{ source("metering", "submission_state") }} AS s
LEFT JOIN LATERAL (
    SELECT receipt, http_status
    FROM {{ source("metering", "submission_attempt") }} AS t
    WHERE t.submission_id = s.id
    ORDER BY t.attempt DESC
    LIMIT 1
) AS a ON true
ORDER BY s.uc_id, s.day, s.version DESC
