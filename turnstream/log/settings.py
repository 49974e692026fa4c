"""How this process talks to Kafka."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.topics import MAX_RECORD_BYTES


class KafkaSettings(BaseModel):
    """Address and limits of every Kafka client of the process. aiokafka's own defaults are not relied on."""

    model_config = ConfigDict(frozen=True)

    bootstrap_servers: str = Field(default="127.0.0.1:19092", description="host:port, comma separated.")
    client_id: str = "turnstream"
    instance_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,128}$",
        description="Names this replica across restarts, which then get their partitions back at once. Never for two.",
    )
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = None

    linger_ms: float = Field(default=0, ge=0, le=2, description="Wait for more records before a batch is sent.")
    start_seconds_max: float = Field(default=30, gt=0, description="To connect, and for a group member to join.")
    close_seconds_max: float = Field(default=5, gt=0, description="To flush, leave the group and disconnect.")
    append_seconds_max: float = Field(default=10, gt=0, description="Afterwards an append's outcome is unknown.")
    commit_seconds_max: float = Field(default=5, gt=0)
    read_seconds_max: float = Field(default=5, gt=0, description="For a range of a partition, or for offsets.")
    admin_seconds_max: float = Field(default=20, gt=0, description="For one request about topics.")
    session_ms_max: int = Field(default=6_000, gt=0, description="Silence after which a member is dead.")
    heartbeat_ms: int = Field(default=1_000, gt=0, description="A member learns of a rebalance by its heartbeat.")
    expulsions_max: int = Field(
        default=5, ge=2, description="Of a member within `expulsions_seconds`; then its process ends."
    )
    expulsions_seconds: float = Field(default=60, gt=0)
    poll_interval_ms_max: int = Field(default=300_000, gt=0, description="Between two polls of a living member.")
    fetch_wait_ms_max: int = Field(default=500, ge=0, description="Of one long poll; delays a resumed partition.")
    gathered_fetch_wait_ms_max: int = Field(
        default=50, ge=0, description="Of one long poll of the sink while records come, so that they come together."
    )
    lazy_fetch_bytes_min: int = Field(
        default=262_144, ge=1, description="What a member waits for that would rather take many records at once."
    )
    fetch_partition_bytes_max: int = Field(default=1_048_576, gt=MAX_RECORD_BYTES)
    fetch_bytes_max: int = Field(default=16_777_216, gt=MAX_RECORD_BYTES)
    batch_bytes_max: int = Field(default=262_144, gt=0, le=MAX_RECORD_BYTES, description="Of one partition's batch.")
    records_pending_max: int = Field(default=100_000, gt=0, description="Handed to the producer, not acknowledged.")
    records_per_producer_max: int = Field(
        default=1_000_000_000,
        gt=0,
        lt=2**31,
        description="Per partition; then the producer is replaced, because its sequence numbers wrap at 2^31.",
    )
    ranges_pending_max: int = Field(default=10_000, gt=0, description="Reads waiting for their records.")
    range_gap_records_max: int = Field(default=2_000, ge=0, description="Read over rather than sought across.")
    offsets_known_max: int = Field(
        default=16_384, ge=2, description="Of each partition's newest records, so that they are not read again."
    )
    recent_bytes_max: int = Field(
        default=262_144, ge=0, description="Of each partition's newest records themselves, likewise."
    )
