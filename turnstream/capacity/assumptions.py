"""What the plan takes for granted: the scale that is asked for, and every figure that no benchmark has measured yet.

Each has its unit and its reason. All of them can be replaced on the command line or in a TOML file.
"""

from typing import Final

from schemas import topics
from turnstream.capacity.figures import Basis, Figure


def _assumed(name: str, value: float, unit: str, source: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, basis=Basis.ASSUMED, source=source)


def _retention(name: str, topic: topics.Topic) -> Figure:
    source = f"retention of {topic.name} in schemas/topics.py"
    return Figure(name=name, value=topic.retention_hours, unit="h", basis=Basis.CONTRACT, source=source)


DEMAND: Final = (
    _assumed("daily_users", 200e6, "users/day", "the target scale"),
    _assumed("prompts_per_day", 2.5e9, "turns/day", "the target scale: 12.5 turns a user and day"),
    _assumed("regions", 6, "regions", "the target scale"),
    _assumed("peak_factor", 2.4, "", "a tenth of the day's turns fall into its busiest hour: 0.1 x 24 h"),
    _assumed("connected_share", 0.1, "", "a tenth of the day's users hold a stream open in that hour, one each"),
    _assumed("regions_lost", 1, "regions", "so many may fail at peak without a promise being broken"),
)
TURN: Final = (
    _assumed("question_tokens", 60, "tokens/turn", "what the user types"),
    _assumed("prompt_tokens", 2_000, "tokens/turn", "question, history, policy and retrieved text, as the GPU sees it"),
    _assumed("answer_tokens", 375, "tokens/turn", "about 280 English words"),
    _assumed("token_bytes", 4, "B/token", "English text in UTF-8, tokenizers of 100,000 words and more"),
    _assumed("answer_tokens_cv", 1.0, "", "standard deviation of an answer's length over its mean; lognormal"),
    _assumed("prompt_tokens_cv", 1.0, "", "the same of a prompt's length"),
    _assumed("frame_tokens", 15, "tokens/frame", "merged frames: one per 0.3 s and stream; unmerged it would be 1"),
    _assumed("frame_bytes", 372, "B/frame", "an SSE frame of a stored turn without its text, as ChunkEncoder makes it"),
    _assumed("row_bytes", 660, "B/turn", "keys and columns beside the text, over all tables that keep a turn"),
    _assumed("store_compression", 4, "", "Zstd over text and repeating keys; with LZ4 rather 2.2"),
    _assumed("stage_bytes", 900, "B/record", "a turn's record between two stages without text; header and framing"),
    _assumed("delta_bytes", 300, "B/record", "a delta on chat.tokens.v1 without its text; header and framing"),
    _assumed("small_records", 10, "records/turn", "cleared, fence, terminal, persisted, verdicts, ledger, usage"),
    _assumed("kept_records", 3, "records/turn", "of these: verdict, ledger and bill, which are kept for long"),
    _assumed("small_bytes", 450, "B/record", "their mean size; header and framing"),
)
LOG: Final = (
    _assumed("replication", 3, "copies", "acks=all and min.insync.replicas=2 need three"),
    _assumed("log_compression", 1, "", "the producers compress nothing by default (TURNSTREAM_KAFKA__COMPRESSION)"),
    _assumed("broker_write_rate", 150e6, "B/s", "disk writes of a broker with NVMe, copies included"),
    _assumed("broker_read_rate", 400e6, "B/s", "what a broker sends, copies included, with a 10 Gbit/s network"),
    _assumed("broker_disk", 15e12, "B", "usable disk of a broker"),
    _assumed("broker_partitions", 4_000, "partitions", "copies a broker leads or follows, the usual advice for KRaft"),
    _assumed("partition_rate", 5e6, "B/s", "written to one partition, so that its followers keep up"),
    _assumed("server_utilisation", 0.6, "", "load of brokers and stores with the regions lost that may be lost"),
    _retention("retention_submitted", topics.TURNS_SUBMITTED),
    _retention("retention_stages", topics.TURNS_PROMPTED),
    _retention("retention_tokens", topics.TOKENS),
    _retention("retention_usage", topics.USAGE_EVENTS),
)
FLEET: Final = (
    _assumed("cpu_utilisation", 0.6, "", "load of a core with the regions lost that may be lost"),
    _assumed("gpu_slots", 32, "turns/GPU", "turns that a GPU answers at once (continuous batching)"),
    _assumed("gpu_decode_rate", 50, "tokens/s", "of one answer while all slots are busy"),
    _assumed("gpu_prefill_rate", 4_000, "tokens/s", "of one prompt while all slots are busy; no cached prefix"),
    _assumed("gpu_utilisation", 0.75, "", "slots busy with the regions lost that may be lost; --simulate shows why"),
    _assumed("gpus_known", 17_500, "GPUs", "the fleet that is usually quoted for this scale"),
)
STORES: Final = (
    _assumed("store_copies", 6, "copies", "three in the home region, three in one other: a lost region loses nothing"),
    _assumed("store_quorum", 2, "copies", "that a read asks"),
    _assumed("store_writes", 8, "writes/turn", "messages, turn, its indexes, conversation, claim, draft, usage"),
    _assumed("store_reads", 3, "reads/turn", "owner, history on a miss of the cache, active turns"),
    _assumed("store_node_rate", 40_000, "ops/s", "of a node with 16 cores, each copy of a write counted"),
    _assumed("store_node_disk", 4e12, "B", "data on a node, small enough to replace it in hours"),
    _assumed("store_disk_fill", 0.5, "", "the rest is for compaction"),
    _assumed("store_years", 1, "years", "of history that is kept"),
    _assumed("cache_ops", 6, "ops/turn", "quota reserved and settled, context read and written, key and session"),
    _assumed("cache_node_rate", 80_000, "ops/s", "of one Redis process with scripts"),
    _assumed("cache_copies", 2, "copies", "a primary and a replica"),
    _assumed("cache_node_bytes", 24e9, "B", "used memory of one Redis process"),
    _assumed("context_seconds", 3_600, "s", "for which a conversation's context stays hot after its last turn"),
    _assumed("turns_per_visit", 4, "turns", "of a conversation in that time"),
)
PRICES: Final = (
    _assumed("gpu_price", 2.0, "USD/h", "a reserved GPU of the H100 class"),
    _assumed("core_price", 0.04, "USD/h", "a core with 4 GiB"),
    _assumed("broker_price", 1.2, "USD/h", "16 cores with NVMe"),
    _assumed("store_node_price", 1.2, "USD/h", "16 cores with NVMe"),
    _assumed("cache_node_price", 0.25, "USD/h", "a core with 32 GiB"),
    _assumed("traffic_price", 0.02, "USD/GB", "to clients, at volume"),
)

QUEUEING: Final = (
    _assumed("ttft_target", 2.0, "s", "the 95th percentile of the time to the first token must stay below it"),
    _assumed("queue_seconds_max", 10.0, "s", "a longer wait is refused: TURNSTREAM_INGEST__QUEUE_SECONDS_MAX"),
    _assumed("failover_seconds", 30.0, "s", "in which the clients of a lost region ask again elsewhere"),
    _assumed("burst_cv", 0.1, "", "deviation of the rate of arrivals over its mean, in the bursty scenarios"),
    _assumed("burst_seconds", 30.0, "s", "for which such a rate lasts"),
)

STATED: Final = (*DEMAND, *TURN, *LOG, *FLEET, *STORES, *PRICES, *QUEUEING)
