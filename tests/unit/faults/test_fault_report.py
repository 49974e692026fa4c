import asyncio
from pathlib import Path

import pytest

from tests.faults.dump import Dump, read_dump, write_dump
from tests.faults.evidence import Check
from tests.faults.frames import FrameReader
from tests.faults.operations import Event, Operation, OperationLog, read_operations
from tests.faults.pace import AHEAD_TURNS_MAX, Pace
from tests.faults.report import Pauses, summarize
from tests.faults.texts import difference
from tests.unit.faults.fault_run import clean_run

STREAM = (
    ": ping\n\n"
    'data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    'id: 0.5.m\ndata: {"choices":[{"delta":{"content":"größer 🙂"},"finish_reason":null}],"cursor":"0.5.m"}\n\n'
    'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"cursor":"1.6.m"}\n\n'
    "data: [DONE]\n\n"
).encode()


def operation(event: Event, mono_s: float, **what: object) -> Operation:
    return Operation.model_validate({"event": event, "mono_s": mono_s, **what})


def silence(*events: Operation) -> tuple[Pauses, ...]:
    return summarize(events, Dump(), ()).pauses


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_frames_are_read_however_their_bytes_arrive(size: int) -> None:
    reader = FrameReader()
    found = [one for start in range(0, len(STREAM), size) for one in reader.feed(STREAM[start : start + size])]
    assert [event for event, _ in found] == [Event.PIECE, Event.FINISH, Event.DONE]
    assert [what.get("cursor") for _, what in found] == ["0.5.m", "1.6.m", None]
    assert found[0][1]["text"] == "größer 🙂"


def test_the_id_line_is_no_part_of_a_frames_form() -> None:
    with_id, without = STREAM.split(b"\n\n")[2] + b"\n\n", STREAM.split(b"\n\n")[2].split(b"\n")[1] + b"\n\n"
    assert list(FrameReader().feed(with_id)) == list(FrameReader().feed(without))


def test_a_stream_may_ask_to_come_back() -> None:
    reader = FrameReader()
    assert list(reader.feed(b"retry: 50\n\n")) == []
    assert reader.told
    assert [event for event, _ in reader.feed(b'data: {"error":{"code":"x"}}\n\n')] == [Event.ERROR]
    assert not reader.told


def test_texts_differ_by_a_gap_a_repeat_or_otherwise() -> None:
    assert difference("abc", "abc") is None
    assert difference("ac", "abc") is Check.TOKEN_GAP
    assert difference("abbc", "abc") is Check.TOKEN_REPEAT
    assert difference("axc", "abc") is Check.FOREIGN_TEXT


def test_a_silence_is_due_to_the_nearest_fault() -> None:
    (found,) = silence(
        operation(Event.FAULT, 1.0, fault="kill -9", target="sink"),
        operation(Event.PIECE, 9.9, reader="a", request="r"),
        operation(Event.FAULT, 10.0, fault="kill -9", target="inference-2"),
        operation(Event.FAULT, 11.5, fault="pause", target="sink"),
        operation(Event.PIECE, 12.0, reader="a", request="r"),
    )
    assert found == Pauses("kill -9 inference", 1, 2.1, 2.1)


def test_the_silence_after_a_dead_edge_begins_with_the_lost_connection() -> None:
    (found,) = silence(
        operation(Event.REQUEST, 9.0, reader="a", request="r", edge="edge-2"),
        operation(Event.PIECE, 9.9, reader="a", request="r"),
        operation(Event.FAULT, 10.3, fault="kill -9", target="edge-2"),
        operation(Event.LOST, 10.4, reader="a", request="r"),
        operation(Event.PIECE, 10.5, reader="a", request="r2"),
    )
    assert found == Pauses("kill -9 edge", 1, 0.1, 0.1)


def test_what_was_kept_can_be_read_again(tmp_path: Path) -> None:
    run = clean_run()
    write_dump(tmp_path / "dump", run.dump)
    with (tmp_path / "dump").open(encoding="utf-8") as lines:
        assert read_dump(lines) == run.dump
    with OperationLog(tmp_path / "log") as log:
        log.note(Event.PIECE, reader="a", text="line end \u2028 inside", cursor="3.4.m")
    (read,) = read_operations((tmp_path / "log").read_text("utf-8").split("\n"))
    assert (read, read.seq) == (log.operations[0], 3)


async def test_turns_do_not_run_away_from_a_late_fault() -> None:
    pace = Pace(100)
    await pace.hold_at(5)
    begun = [await pace.begin() for _ in range(5 + AHEAD_TURNS_MAX)]
    assert begun == list(range(5 + AHEAD_TURNS_MAX))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(pace.begin())
        await asyncio.sleep(0)
        assert not waiting.done()
        await pace.hold_at(None)
    assert waiting.result() == 5 + AHEAD_TURNS_MAX


async def test_the_last_turn_ends_the_run() -> None:
    pace = Pace(1)
    await pace.hold_at(None)
    assert (await pace.begin(), await pace.begin()) == (0, None)
    await pace.reached(1)
