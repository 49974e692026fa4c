-- How turns ended, by {by}; `unused` are those that no model was asked for.
SELECT
    {by},
    count(*) AS turns,
    count(*) FILTER (attempt = 0 AND input_tokens = 0 AND output_tokens = 0) AS unused,
    sum(output_tokens) AS output_tokens
FROM usage
WHERE {within}
GROUP BY {by}
ORDER BY turns DESC, {by}
