"""The plan itself: one row per figure, in the order in which they are computed. docs/capacity.md explains them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """``name`` is computed by ``formula`` (turnstream.capacity.formula) and has ``unit``; ``says`` is for people."""

    name: str
    unit: str
    formula: str
    says: str


# A region carries what is left over when `regions_lost` of them failed at peak; all are built alike.
DEMAND: Final = (
    Row("mean_turns", "turns/s", "prompts_per_day / 86400", "mean over the day"),
    Row("peak_turns", "turns/s", "mean_turns * peak_factor", "at peak"),
    Row("open_streams", "streams", "daily_users * connected_share", "streams open at once"),
    Row("stream_seconds", "s", "open_streams / peak_turns", "a stream is open, per turn (Little's law)"),
    Row("prefill_seconds", "s", "prompt_tokens / gpu_prefill_rate", "prefill of a mean prompt"),
    Row("answer_seconds", "s", "prefill_seconds + answer_tokens / gpu_decode_rate", "a mean turn holds a GPU slot"),
    Row("generating_turns", "turns", "peak_turns * answer_seconds", "generating at once at peak (Little's law)"),
    Row("peak_tokens", "tokens/s", "peak_turns * answer_tokens", "generated at peak"),
    Row("regions_left", "regions", "max(1, regions - regions_lost)", "that carry the peak"),
    Row("region_turns", "turns/s", "peak_turns / regions_left", "that a region must carry"),
    Row("region_tokens", "tokens/s", "region_turns * answer_tokens", "the same in tokens"),
    Row("region_streams", "streams", "open_streams / regions_left", "the same in open streams"),
)
TRAFFIC: Final = (
    Row("turn_frames", "frames/turn", "answer_tokens / frame_tokens", "SSE frames of an answer"),
    Row("answer_bytes", "B/turn", "turn_frames * frame_bytes + answer_tokens * token_bytes", "an answer on the wire"),
    Row("client_bits", "bit/s", "peak_turns * answer_bytes * 8", "to all clients at peak"),
    Row(
        "client_bits_unmerged",
        "bit/s",
        "peak_tokens * (frame_bytes + token_bytes) * 8",
        "the same if every token had its own frame",
    ),
)
LOG: Final = (
    Row("question_bytes", "B/turn", "question_tokens * token_bytes", "what the user typed"),
    Row("prompt_bytes", "B/turn", "prompt_tokens * token_bytes", "the whole prompt"),
    Row("submitted_bytes", "B/turn", "stage_bytes + question_bytes", "on chat.turns.submitted.v1"),
    Row(
        "stage_log_bytes",
        "B/turn",
        "3 * (stage_bytes + question_bytes) + 2 * (stage_bytes + prompt_bytes)",
        "on the five hops before the GPU; the last two carry the prompt",
    ),
    Row("token_log_bytes", "B/turn", "turn_frames * delta_bytes + answer_tokens * token_bytes", "deltas of an answer"),
    Row("small_log_bytes", "B/turn", "small_records * small_bytes", "everything else"),
    Row("turn_records", "records/turn", "5 + turn_frames + small_records", "that a turn puts on the log"),
    Row(
        "turn_log_bytes",
        "B/turn",
        "(stage_log_bytes + token_log_bytes + small_log_bytes) / log_compression",
        "that a turn puts on the log, one copy",
    ),
    Row("region_log_writes", "B/s", "region_turns * turn_log_bytes * replication", "a region's disks write"),
    Row(
        "region_log_reads",
        "B/s",
        "region_turns * (turn_log_bytes * (replication - 1)"
        " + (stage_log_bytes + 2 * token_log_bytes + 2 * small_log_bytes) / log_compression)",
        "a region's brokers send: to followers, once to a stage, twice of answers and the rest (edge and sink)",
    ),
    Row(
        "region_log_stored",
        "B",
        "prompts_per_day / 24 / regions_left * replication / log_compression"
        " * (submitted_bytes * retention_submitted + (stage_log_bytes - submitted_bytes) * retention_stages"
        " + (token_log_bytes + (small_records - kept_records) * small_bytes) * retention_tokens"
        " + kept_records * small_bytes * retention_usage)",
        "a region keeps for replay",
    ),
)
PROCESSES: Final = (
    Row(
        "region_edges",
        "cores",
        "max(ceil(region_tokens * edge_token / 1e6 / cpu_utilisation), ceil(region_streams / edge_streams))",
        "edges of a region: by tokens or by open streams",
    ),
    Row("edges", "cores", "regions * region_edges", "edges, one process each"),
    Row("edge_memory", "B", "region_streams * edge_stream_bytes / region_edges", "of streams, per edge"),
    Row(
        "region_processors",
        "cores",
        "ceil(region_turns * stages_turn / 1e6 / cpu_utilisation)",
        "auth, rate_limit, prompt and moderation of a region",
    ),
    Row("processors", "cores", "regions * region_processors", "processors"),
    Row(
        "region_consumers",
        "cores",
        "ceil(region_tokens * inference_token / 1e6 / cpu_utilisation)",
        "inference consumers of a region",
    ),
    Row("consumers", "cores", "regions * region_consumers", "inference consumers"),
    Row("region_sinks", "cores", "ceil(region_tokens * sink_token / 1e6 / cpu_utilisation)", "sinks of a region"),
    Row("sinks", "cores", "regions * region_sinks", "Cassandra sinks"),
    Row("region_windows", "cores", "ceil(region_turns * windows_turn / 1e6 / cpu_utilisation)", "windows of a region"),
    Row("windows", "cores", "regions * region_windows", "windows (Faust)"),
    Row(
        "usage_sinks",
        "cores",
        "regions * ceil(region_turns * usage_sink_turn / 1e6 / cpu_utilisation)",
        "usage sinks",
    ),
    Row("cores", "cores", "edges + processors + consumers + sinks + windows + usage_sinks", "all our processes"),
)
GPUS: Final = (
    Row("gpu_turns", "turns/s", "gpu_slots / answer_seconds", "a GPU with all slots busy"),
    Row("gpus_floor", "GPUs", "ceil(peak_turns / gpu_turns)", "if every slot were always busy: the least there is"),
    Row("region_gpus", "GPUs", "ceil(region_turns / gpu_turns / gpu_utilisation)", "GPUs of a region"),
    Row("gpus", "GPUs", "regions * region_gpus", "GPUs"),
    Row("gpu_load", "", "peak_turns / gpu_turns / gpus", "their load at peak, all regions up"),
    Row("gpu_load_lost", "", "peak_turns / gpu_turns / (regions_left * region_gpus)", "and without the lost regions"),
    Row("gpus_known_load", "", "peak_turns / gpu_turns / gpus_known", "load of the quoted fleet, all regions up"),
    Row("gpus_known_load_lost", "", "gpus_known_load * regions / regions_left", "and without the lost regions"),
    Row(
        "queue_gpus",
        "GPUs",
        "min(region_gpus, max(1, floor(1e6 / inference_token * cpu_utilisation / (gpu_turns * answer_tokens))))",
        "that one inference consumer keeps busy: they share one queue",
    ),
    Row("queue_slots", "turns", "queue_gpus * gpu_slots", "slots behind one queue"),
)
PARTITIONS: Final = (
    Row(
        "stage_partitions",
        "partitions",
        "max(region_processors, ceil(region_turns * (stage_bytes + prompt_bytes) / log_compression / partition_rate))",
        "of each chat.turns topic, per region",
    ),
    Row(
        "inference_partitions",
        "partitions",
        "max(region_consumers, stage_partitions)",
        "of inference.requests over all pools, per region",
    ),
    Row(
        "token_partitions",
        "partitions",
        "max(region_edges, region_sinks,"
        " ceil(region_turns * (token_log_bytes + small_log_bytes) / log_compression / partition_rate))",
        "of chat.tokens, per region: a home for each edge",
    ),
    Row("usage_partitions", "partitions", "max(16, region_windows)", "of usage, decisions and ledger, per region"),
    Row(
        "region_partitions",
        "partitions",
        "4 * stage_partitions + inference_partitions + token_partitions + 6 * usage_partitions",
        "in a region, one copy",
    ),
)
BROKERS: Final = (
    Row(
        "region_brokers",
        "brokers",
        "max(replication,"
        " ceil(region_log_writes / (broker_write_rate * server_utilisation)),"
        " ceil(region_log_reads / (broker_read_rate * server_utilisation)),"
        " ceil(region_log_stored / (broker_disk * server_utilisation)),"
        " ceil(region_partitions * replication / broker_partitions))",
        "brokers of a region: by writes, reads, disk or partitions",
    ),
    Row("brokers", "brokers", "regions * region_brokers", "brokers"),
)
STORES: Final = (
    Row(
        "stored_bytes",
        "B/turn",
        "((question_tokens + answer_tokens) * token_bytes + row_bytes) / store_compression",
        "a stored turn, one copy",
    ),
    Row("stored_year", "B/year", "prompts_per_day * 365 * stored_bytes", "of history, one copy"),
    Row(
        "store_nodes",
        "nodes",
        "regions * max(replication,"
        " ceil(stored_year * store_years * store_copies / regions / (store_node_disk * store_disk_fill)),"
        " ceil(region_turns * (store_writes * store_copies + store_reads * store_quorum)"
        " / (store_node_rate * server_utilisation)))",
        "Cassandra nodes: by disk or by operations",
    ),
    Row(
        "hot_bytes",
        "B",
        "region_turns * context_seconds / turns_per_visit * prompt_bytes",
        "of hot contexts in a region",
    ),
    Row(
        "cache_nodes",
        "nodes",
        "regions * cache_copies * max(ceil(hot_bytes / (cache_node_bytes * server_utilisation)),"
        " ceil(region_turns * cache_ops / (cache_node_rate * server_utilisation)))",
        "Redis nodes: by memory or by operations",
    ),
)
COST: Final = (
    Row("gpu_cost", "USD/h", "gpus * gpu_price", "GPUs"),
    Row("core_cost", "USD/h", "cores * core_price", "our processes"),
    Row(
        "server_cost",
        "USD/h",
        "brokers * broker_price + store_nodes * store_node_price + cache_nodes * cache_node_price",
        "brokers and stores",
    ),
    Row("traffic_cost", "USD/h", "prompts_per_day / 24 * answer_bytes / 1e9 * traffic_price", "to clients, mean"),
    Row(
        "cost_1000_turns",
        "USD",
        "(gpu_cost + core_cost + server_cost + traffic_cost) * 24 / prompts_per_day * 1000",
        "1,000 turns, the fleet standing all day",
    ),
    Row(
        "cost_1000_turns_without_gpus",
        "USD",
        "(core_cost + server_cost + traffic_cost) * 24 / prompts_per_day * 1000",
        "1,000 turns without the GPUs: what the pipeline costs",
    ),
)

SECTIONS: Final = {
    "Demand": DEMAND,
    "Traffic to clients": TRAFFIC,
    "The log": LOG,
    "Processes": PROCESSES,
    "GPUs": GPUS,
    "Partitions": PARTITIONS,
    "Brokers": BROKERS,
    "Stores": STORES,
    "Cost": COST,
}
