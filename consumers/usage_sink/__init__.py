"""Usage events to Parquet files in a folder or an object store."""
