"""One question per server that only a working one can answer; an open port proves nothing.

The probes speak the few bytes they need themselves: the clients' imports alone cost the supervisor more time than
Redis and Triton take to start, and a half-open server leaves a pooled client in a state of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Final

from turnstream.local_stack.parts import Probe
from turnstream.local_stack.ports import LOOPBACK

PROBE_S_MAX: Final = 5.0
PROBED_GROUP: Final = "turnstream-readiness"
_REPLY_BYTES_MAX: Final = 64 * 1024


class NotReadyError(Exception):
    """The part does not serve yet; the text says what it answered."""


@contextlib.asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        async with asyncio.timeout(PROBE_S_MAX):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                yield reader, writer
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError) as error:
        message = f"port {port}: {error or type(error).__name__}"
        raise NotReadyError(message) from error


def http_ok(port: int, path: str) -> Probe:
    """Ready when `GET path` answers 200."""

    async def probe() -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n"
        async with _connection(port) as (reader, writer):
            writer.write(request.encode("ascii"))
            status_line = (await reader.readline()).decode("latin-1").strip()
        if status_line.split(" ")[1:2] != ["200"]:
            message = f"GET {path} on port {port}: {status_line or 'no answer'}"
            raise NotReadyError(message)

    return probe


def redis_pong(port: int) -> Probe:
    """Ready when Redis answers PING (it answers LOADING until its data is in memory)."""

    async def probe() -> None:
        async with _connection(port) as (reader, writer):
            writer.write(b"PING\r\n")
            reply = await reader.readline()
        if reply != b"+PONG\r\n":
            message = f"redis answered {reply!r}"
            raise NotReadyError(message)

    return probe


# CQL binary protocol v4: section 2 (frame header), 4.1.1 STARTUP, 4.1.4 QUERY, 4.2 responses.
_CQL_HEADER: Final = struct.Struct(">BBhBI")
_CQL_STARTUP, _CQL_READY, _CQL_QUERY, _CQL_RESULT = 0x01, 0x02, 0x07, 0x08
_CQL_CONSISTENCY_ONE, _CQL_NO_FLAGS = 1, 0


def _cql_frame(opcode: int, body: bytes) -> bytes:
    return _CQL_HEADER.pack(4, 0, 0, opcode, len(body)) + body


def _cql_startup() -> bytes:
    pair = b"".join(struct.pack(">H", len(text)) + text for text in (b"CQL_VERSION", b"3.0.0"))
    return _cql_frame(_CQL_STARTUP, struct.pack(">H", 1) + pair)


def _cql_query(query: bytes) -> bytes:
    options = struct.pack(">HB", _CQL_CONSISTENCY_ONE, _CQL_NO_FLAGS)
    return _cql_frame(_CQL_QUERY, struct.pack(">I", len(query)) + query + options)


def cql_result(port: int, query: str = "SELECT release_version FROM system.local") -> Probe:
    """Ready when Cassandra answers a CQL query with a result."""

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frame: bytes, wanted: int) -> None:
        writer.write(frame)
        *_, opcode, length = _CQL_HEADER.unpack(await reader.readexactly(_CQL_HEADER.size))
        await reader.readexactly(min(length, _REPLY_BYTES_MAX))
        if opcode != wanted:
            message = f"cassandra answered opcode {opcode:#04x}, not {wanted:#04x}"
            raise NotReadyError(message)

    async def probe() -> None:
        async with _connection(port) as (reader, writer):
            await exchange(reader, writer, _cql_startup(), _CQL_READY)
            await exchange(reader, writer, _cql_query(query.encode()), _CQL_RESULT)

    return probe


def kafka_group_coordinator(port: int) -> Probe:
    """Ready when the broker knows its controller and its group coordinator describes a group.

    A fresh broker accepts connections seconds before: it answers GroupCoordinatorNotAvailable until
    `__consumer_offsets` exists and CoordinatorLoadInProgress until that is read.
    """

    async def probe() -> None:
        # Imported here: `status` and `down` need this module's neighbours, and should not wait for a Kafka client.
        from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415
        from aiokafka.errors import KafkaError  # noqa: PLC0415

        async with _connection(port):  # aiokafka logs every refused connection at error level, so ask first
            pass
        admin = AIOKafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{port}", request_timeout_ms=int(PROBE_S_MAX * 1000))
        try:
            async with asyncio.timeout(PROBE_S_MAX):
                await admin.start()
                (answer,) = await admin.describe_consumer_groups([PROBED_GROUP])
        except (KafkaError, OSError) as error:
            message = f"kafka answered {type(error).__name__}"
            raise NotReadyError(message) from error
        finally:
            await admin.close()
        error_code = answer.groups[0][0]
        if error_code:
            message = f"kafka's group coordinator answered error {error_code}"
            raise NotReadyError(message)

    return probe
