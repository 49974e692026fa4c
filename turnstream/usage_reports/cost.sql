-- What the turns cost, by {by}. `cost_nano_usd` is exact: billionths of a dollar.
SELECT
    {by},
    count(*) AS turns,
    sum(input_tokens) AS input_tokens,
    sum(cached_tokens) AS cached_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cost_nano_usd) AS cost_nano_usd,
    sum(cost_nano_usd)::DECIMAL(28, 0) * 0.000000001::DECIMAL(10, 9) AS cost_usd
FROM usage
WHERE {within}
GROUP BY {by}
ORDER BY {order}
