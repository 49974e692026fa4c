-- Who costs most.
SELECT
    tenant_id,
    user_id,
    count(*) AS turns,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cost_nano_usd) AS cost_nano_usd,
    sum(cost_nano_usd)::DECIMAL(28, 0) * 0.000000001::DECIMAL(10, 9) AS cost_usd
FROM usage
WHERE {within}
GROUP BY tenant_id, user_id
ORDER BY cost_nano_usd DESC, turns DESC, tenant_id, user_id
LIMIT {limit}
