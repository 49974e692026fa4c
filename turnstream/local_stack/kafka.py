"""One Kafka node in KRaft mode, set up so that a test meets the broker it will meet in production.

Two differences on purpose: one replica of everything, and groups that do not wait for members that never come.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from turnstream.local_stack.jvm import Jvm
from turnstream.local_stack.parts import OneShot, Part
from turnstream.local_stack.ports import LOOPBACK
from turnstream.local_stack.readiness import kafka_group_coordinator

MESSAGE_BYTES_MAX: Final = 1024 * 1024
_NODE_ID: Final = 1
_MAIN_CLASS: Final = "kafka.Kafka"
_FORMATTER_CLASS: Final = "kafka.tools.StorageTool"
_HEAP: Final = ("-Xms64m", "-Xmx512m")

_LOG4J2: Final = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


def properties(data: Path, port: int, controller_port: int) -> Mapping[str, str]:
    """Return the broker's configuration, with Kafka's own names; sizes in bytes and times in the unit of the name."""
    return {
        "process.roles": "broker,controller",
        "node.id": str(_NODE_ID),
        "controller.quorum.voters": f"{_NODE_ID}@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        # Topics are created by us alone: a stale client would re-create a deleted one with other partitions.
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "message.max.bytes": str(MESSAGE_BYTES_MAX),
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": "1",
        # Every partition of an internal topic costs files and start time; one node needs few.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "log.segment.bytes": str(64 * 1024 * 1024),
        "num.recovery.threads.per.data.dir": "2",
        # Compaction would take 128 MiB of the heap for data that a development machine does not have.
        "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
        # A broker that was killed may register again only when its old session has expired.
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "3000",
    }


def cluster_id() -> str:
    """Return a new Kafka cluster id: 16 random bytes in URL-safe base64 without padding.

    Like Kafka's own it never starts with a dash, which its command line would take for an option (1 id in 64).
    """
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")).startswith("-"):
        pass
    return text


def kafka_part(jvm: Jvm, class_path: str, port: int, controller_port: int) -> Part:
    """Write the configuration below the run's folder and return the broker; a new data folder is formatted first."""
    layout = jvm.layout
    data = layout.data / "kafka"
    config = layout.run / "kafka.properties"
    logging = layout.run / "kafka.log4j2.properties"
    settings = properties(data, port, controller_port)
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    logging.write_text(_LOG4J2, encoding="utf-8")
    flags = (*_HEAP, f"-Dlog4j2.configurationFile={logging}")
    broker = jvm.archived("kafka", class_path, flags)
    format_data = (_FORMATTER_CLASS, "format", "--config", str(config), "--cluster-id", cluster_id())
    formatter = OneShot("kafka-format", (*jvm.plain("kafka-format", class_path, flags), *format_data))
    return Part(
        name="kafka",
        argv=(*broker.argv, _MAIN_CLASS, str(config)),
        probe=kafka_group_coordinator(port),
        port=port,
        prepare=None if (data / "meta.properties").is_file() else formatter,
        after_clean_exit=broker.after_clean_exit,
    )
