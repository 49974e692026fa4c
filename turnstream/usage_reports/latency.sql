-- Milliseconds from submission to the first token and to the end, of the turns that got a first token, by {by}.
SELECT
    {by},
    count(*) AS turns,
    quantile_disc(ttft_ms, 0.5) AS ttft_ms_p50,
    quantile_disc(ttft_ms, 0.95) AS ttft_ms_p95,
    quantile_disc(ttft_ms, 0.99) AS ttft_ms_p99,
    quantile_disc(duration_ms, 0.5) AS duration_ms_p50,
    quantile_disc(duration_ms, 0.95) AS duration_ms_p95,
    quantile_disc(duration_ms, 0.99) AS duration_ms_p99
FROM usage
WHERE {within} AND ttft_ms IS NOT NULL
GROUP BY {by}
ORDER BY {by}
