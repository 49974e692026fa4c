"""One Cassandra node with everything that only a cluster needs switched off or made small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from turnstream.local_stack.jvm import Jvm
from turnstream.local_stack.parts import Part
from turnstream.local_stack.ports import LOOPBACK
from turnstream.local_stack.readiness import cql_result

_MAIN_CLASS: Final = "org.apache.cassandra.service.CassandraDaemon"
_HEAP: Final = ("-Xms128m", "-Xmx1g", "-XX:MaxDirectMemorySize=512m")

# conf/jvm17-server.options of Cassandra 5.0, without the two lines about jdk.compiler, which a slim runtime lacks.
_EXPORTS: Final = (
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.unsupported/sun.misc",
)
_OPENS: Final = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)
_SERVER_OPTIONS: Final = (
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.useCacheForAllThreads=true",
    "-Dio.netty.allocator.maxOrder=11",
    # How often a thread wakes to note the time, which only slow queries are measured by: 2 ms is 500 wake-ups a second.
    "-Dcassandra.approximate_time_precision_ms=20",
)
# One node has nobody to gossip with, no ring to settle and no superuser to wait for.
_ALONE: Final = (
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.shutdown_announce_in_ms=0",
    "-Dcassandra.initial_token=0",
)

_LOGBACK: Final = """\
<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %level %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
  <logger name="org.apache.cassandra.service.CassandraDaemon" level="INFO"/>
</configuration>
"""


def settings(data: Path, port: int, storage_port: int) -> Mapping[str, object]:
    """Return `cassandra.yaml` with Cassandra's own names and units."""
    seeds = {"class_name": "org.apache.cassandra.locator.SimpleSeedProvider"}
    return {
        "cluster_name": "turnstream-local",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "seed_provider": [{**seeds, "parameters": [{"seeds": f"{LOOPBACK}:{storage_port}"}]}],
        "listen_address": LOOPBACK,
        "rpc_address": LOOPBACK,
        "native_transport_port": port,
        "storage_port": storage_port,
        "endpoint_snitch": "SimpleSnitch",
        "storage_compatibility_mode": "NONE",
        "data_file_directories": [str(data / "data")],
        "commitlog_directory": str(data / "commitlog"),
        "saved_caches_directory": str(data / "saved_caches"),
        "hints_directory": str(data / "hints"),
        "cdc_raw_directory": str(data / "cdc_raw"),
        # There is no second replica: what is acknowledged must survive a kill of this one.
        "commitlog_sync": "batch",
        "commitlog_segment_size": "16MiB",
        "commitlog_total_space": "256MiB",
        "memtable_heap_space": "128MiB",
        "memtable_offheap_space": "128MiB",
        "key_cache_size": "16MiB",
        "file_cache_size": "64MiB",
        "networking_cache_size": "32MiB",
        "concurrent_reads": 16,
        "concurrent_writes": 16,
        "concurrent_counter_writes": 2,
        "concurrent_compactors": 1,
        "auto_snapshot": False,
        "hinted_handoff_enabled": False,
        "auto_optimise_full_repair_streams": False,
        "start_native_transport": True,
    }


def cassandra_part(jvm: Jvm, class_path: str, agent: Path, port: int, storage_port: int) -> Part:
    """Write the configuration below the run's folder and return the node.

    `agent` is the jamm jar, which Cassandra measures its memory with.
    """
    layout = jvm.layout
    data = layout.data / "cassandra"
    config = layout.run / "cassandra.yaml"
    logging = layout.run / "cassandra.logback.xml"
    # JSON is YAML, and needs no library.
    config.write_text(json.dumps(settings(data, port, storage_port), indent=2), encoding="utf-8")
    logging.write_text(_LOGBACK, encoding="utf-8")
    modules = (f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS)
    opened = (f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS)
    files = (
        f"-javaagent:{agent}",
        f"-Dcassandra.config={config.as_uri()}",
        f"-Dcassandra.storagedir={data}",
        f"-Dcassandra.logdir={layout.logs}",
        f"-Dlogback.configurationFile={logging}",
        "-Dcassandra-foreground=yes",
    )
    flags = (*_HEAP, *modules, *opened, *_SERVER_OPTIONS, *_ALONE, *files)
    node = jvm.archived("cassandra", class_path, flags)
    return Part(
        name="cassandra",
        argv=(*node.argv, _MAIN_CLASS),
        probe=cql_result(port),
        port=port,
        ready_s_max=120.0,
        stop_s_max=20.0,
        after_clean_exit=node.after_clean_exit,
    )
