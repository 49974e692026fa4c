"""Usage files as they lie in a folder, and in a store that fsspec knows."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from consumers.usage_sink import fsspec_lake
from consumers.usage_sink.core import Line, UsageSinkSettings
from consumers.usage_sink.fsspec_lake import FsspecLake
from consumers.usage_sink.parquet_rows import SCHEMA, SCHEMA_VERSION
from consumers.usage_sink.stage import open_lake
from schemas.errors import Fatal, Retryable
from schemas.events import UsageRecorded
from schemas.ports import TopicPartition
from schemas.topics import USAGE_EVENTS
from tests.support.usage_events import file_names, rows_in, usage_event

PARTITION = TopicPartition(USAGE_EVENTS.name, 0)
FOLDER = "date=2025-11-21/region=local"


def lines(*offsets: int) -> list[Line]:
    return [Line(offset, usage_event(offset)) for offset in offsets]


def test_the_columns_of_version_1() -> None:
    """A change of this list is a new version: whoever reads the files relies on names, types and meanings."""
    required = ", ".join(f"{field.name} {field.type}" for field in SCHEMA if not field.nullable)
    assert required == (
        "turn_id string, tenant_id string, user_id string, key_id string, plan string, conversation_id string, "
        "model string, pool string, input_tokens int64, cached_tokens int64, output_tokens int64, "
        "cost_nano_usd int64, finish_reason string, decision string, attempt int32, duration_ms int64, "
        "submitted_at timestamp[ms, tz=UTC], recorded_at timestamp[ms, tz=UTC], log_partition int32, log_offset int64"
    )
    assert [(field.name, str(field.type)) for field in SCHEMA if field.nullable] == [
        ("ttft_ms", "int64"),
        ("origin", "string"),
    ]
    assert SCHEMA_VERSION == "usage/1"


async def test_a_row_says_all_that_the_bill_says(tmp_path: Path) -> None:
    event = usage_event(7, region="north", origin="0123456789abcdef")
    lake = FsspecLake(tmp_path.as_uri(), {})
    await lake.prepare()
    assert await lake.publish(PARTITION, [Line(70, event)]) == 1
    (name,) = file_names(tmp_path)
    assert name == "date=2025-11-21/region=north/usage.events.v1-0-70-70.parquet"
    (row,) = rows_in(tmp_path)
    assert row["submitted_at"].timestamp() * 1000 == event.submitted_at_ms
    assert row["recorded_at"].timestamp() * 1000 == event.recorded_at_ms
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (7, 14, 0)
    assert (row["log_partition"], row["log_offset"]) == (0, 70)
    # Every other field under its own name, but the region, which is in the path.
    rest = set(UsageRecorded.model_fields) - {"usage", "region", "submitted_at_ms", "recorded_at_ms"}
    assert {name: row[name] for name in rest} == {name: getattr(event, name) for name in rest}
    file = parquet.ParquetFile(tmp_path / name)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.schema_arrow.metadata == {
        b"turnstream.schema": b"usage/1",
        b"turnstream.source": b"usage.events.v1/0/70-70",
    }


async def test_what_is_published_is_never_published_again(tmp_path: Path) -> None:
    first, second = FsspecLake(str(tmp_path), {}), FsspecLake(str(tmp_path), {})
    assert await first.publish(PARTITION, lines(1, 2, 3)) == 3
    assert await second.publish(PARTITION, lines(1, 2, 3, 4, 5)) == 2
    assert await first.publish(PARTITION, lines(2, 5)) == 0
    assert [row["log_offset"] for row in rows_in(tmp_path)] == [1, 2, 3, 4, 5]
    assert file_names(tmp_path) == [f"{FOLDER}/usage.events.v1-0-{span}.parquet" for span in ("1-3", "4-5")]


async def test_the_same_offsets_of_another_partition_are_other_rows(tmp_path: Path) -> None:
    lake = FsspecLake(str(tmp_path), {})
    assert await lake.publish(PARTITION, lines(1, 2)) == 2
    assert await lake.publish(PARTITION._replace(partition=10), lines(1, 2)) == 2


async def test_an_object_store_gets_the_file_at_once_under_its_name() -> None:
    store = fsspec.filesystem("memory")
    lake = FsspecLake("memory://usage-of-a-test", {})
    await lake.prepare()
    assert await lake.publish(PARTITION, lines(1, 2)) == 2
    assert await lake.publish(PARTITION, lines(1, 2, 3)) == 1
    assert sorted(store.find("/usage-of-a-test")) == [
        f"/usage-of-a-test/{FOLDER}/usage.events.v1-0-{span}.parquet" for span in ("1-2", "3-3")
    ]


async def test_another_file_system_gets_it_by_a_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over SFTP or on HDFS, where a file that is being written can be seen."""
    renamed: list[tuple[str, str]] = []
    move = MemoryFileSystem.mv

    def mv(store: MemoryFileSystem, source: str, target: str, **options: Any) -> None:
        renamed.append((source.rpartition("/")[2], target.rpartition("/")[2]))
        move(store, source, target, **options)

    monkeypatch.setattr(fsspec_lake, "OBJECT_STORES", frozenset())
    monkeypatch.setattr(MemoryFileSystem, "mv", mv)
    lake = FsspecLake("memory://folders-of-a-test", {})
    await lake.prepare()
    assert await lake.publish(PARTITION, lines(1)) == 1
    ((source, target),) = renamed
    assert source.startswith(".usage.events.v1-0-1-1.parquet.")
    assert target == "usage.events.v1-0-1-1.parquet"
    assert fsspec.filesystem("memory").find("/folders-of-a-test") == [f"/folders-of-a-test/{FOLDER}/{target}"]


async def test_a_file_that_could_not_be_renamed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: Any) -> None:
        raise OSError("no space left on device")

    lake = FsspecLake(str(tmp_path), {})
    monkeypatch.setattr("consumers.usage_sink.fsspec_lake.os.replace", full)
    with pytest.raises(Retryable, match="OSError"):
        await lake.publish(PARTITION, lines(1))
    assert file_names(tmp_path) == []
    monkeypatch.undo()
    assert await lake.publish(PARTITION, lines(1)) == 1


async def test_a_place_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(Fatal, match=r"usage_sink\.url cannot be used"):
        await FsspecLake(str(taken), {}).prepare()
    with pytest.raises(Fatal, match=r"usage_sink\.url cannot be opened"):
        FsspecLake("nosuch://bucket", {})
    with pytest.raises(Fatal, match="TURNSTREAM_USAGE_SINK__URL is not set"):
        open_lake(UsageSinkSettings())
