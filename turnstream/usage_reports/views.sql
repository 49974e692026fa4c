-- Every row of every file, repeats included. Times are UTC; `date` and `region` come from the path.
CREATE OR REPLACE VIEW usage_rows AS
SELECT * REPLACE (submitted_at AT TIME ZONE 'UTC' AS submitted_at, recorded_at AT TIME ZONE 'UTC' AS recorded_at)
FROM read_parquet(
    '{files}',
    hive_partitioning = true,
    hive_types = {'date': DATE, 'region': VARCHAR},
    union_by_name = true
);

-- One row per turn. Of several bills one that used tokens counts, and else the one that is first on the log.
-- All bills of a turn name the same day, so a condition on `date` reads the files of these days alone.
CREATE OR REPLACE VIEW usage AS
SELECT *
FROM usage_rows
QUALIFY row_number() OVER (
    PARTITION BY date, turn_id
    ORDER BY (attempt = 0 AND input_tokens = 0 AND output_tokens = 0), log_partition, log_offset
) = 1;
