import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from schemas.errors import Malformed, Retryable
from schemas.events import TurnPrompted
from schemas.hot_context import decode_stored, encode_stored, field_of
from schemas.models import DEFAULT_CATALOGUE
from schemas.plans import DEFAULT_PLANS
from schemas.ports import StoredMessage
from schemas.tokens import Refused
from schemas.topics import TURNS_ADMITTED
from stream_processors.prompt.cassandra_history import CassandraHistory
from stream_processors.prompt.core import PromptSettings
from stream_processors.prompt.guarded_contexts import GuardedContexts
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.prompt.tokenizers_counter import load_counter
from stream_processors.token_counts import estimate_tokens
from tests.support.memory_prompting import MemoryHistory, MemoryHotContexts
from tests.support.turn_events import (
    LIMITS,
    CountedMetrics,
    admitted,
    assistant,
    conversation_id,
    received,
    stored,
    turn,
    user,
)

PAST = [stored(10, user("question")), stored(11, assistant("answer"), of_turn=1)]
CONTINUING = turn(stored=True, starts_conversation=False)


@dataclass
class World:
    """A prompt stage over memory."""

    contexts: MemoryHotContexts = field(default_factory=MemoryHotContexts)
    history: MemoryHistory = field(default_factory=lambda: MemoryHistory({conversation_id(1): list(PAST)}))
    metrics: CountedMetrics = field(default_factory=CountedMetrics)

    def stage(self) -> BuildPrompts:
        return BuildPrompts(
            PromptSettings(),
            DEFAULT_CATALOGUE,
            DEFAULT_PLANS,
            contexts=self.contexts,
            history=self.history,
            count=estimate_tokens,
            metrics=self.metrics,
        )

    async def prompt_texts(self) -> list[str]:
        (outcome,) = await self.stage()([received(admitted(CONTINUING, user("next")), TURNS_ADMITTED)])
        assert not isinstance(outcome, Malformed)
        (emit,) = outcome
        assert isinstance(emit.event, TurnPrompted)
        return [message.content.text for message in emit.event.prompt.messages]


async def test_a_miss_reads_the_history_and_the_next_turn_does_not() -> None:
    world = World()
    assert await world.prompt_texts() == ["question", "answer", "next"]
    assert await world.prompt_texts() == ["question", "answer", "next"]
    assert world.history.reads == 1


async def test_the_next_prompt_contains_what_the_sink_added() -> None:
    world = World()
    await world.prompt_texts()
    await world.contexts.extend(conversation_id(1), stored(20, user("seen since")))
    assert await world.prompt_texts() == ["question", "answer", "seen since", "next"]


async def test_without_hot_contexts_every_history_comes_from_the_store() -> None:
    world = World(contexts=MemoryHotContexts(down=True))
    assert await world.prompt_texts() == ["question", "answer", "next"]
    assert await world.prompt_texts() == ["question", "answer", "next"]
    assert world.history.reads == 2


@dataclass
class ForgetfulContexts(MemoryHotContexts):
    """Fails in the middle of a rebuild."""

    fails_at: str = ""

    async def begin_rebuild(self, conversation_ids: Sequence[str]) -> str:
        self.down = self.fails_at == "begin"
        return await super().begin_rebuild(conversation_ids)

    async def finish_rebuild(self, token: str, contexts: Any) -> None:
        self.down = self.fails_at == "finish"
        await super().finish_rebuild(token, contexts)


@pytest.mark.parametrize("fails_at", ["begin", "finish"])
async def test_a_rebuild_that_fails_half_way_still_gives_the_prompt_and_publishes_nothing(fails_at: str) -> None:
    contexts = ForgetfulContexts(fails_at=fails_at)
    assert await World(contexts=contexts).prompt_texts() == ["question", "answer", "next"]
    contexts.down = False
    assert await contexts.read([conversation_id(1)]) == {}


async def test_a_history_that_does_not_answer_refuses_only_whose_context_is_not_hot() -> None:
    world = World()
    await world.prompt_texts()
    world.history.down = True
    hot, cold = admitted(CONTINUING, user("next")), admitted(turn(2, stored=True, starts_conversation=False))
    first, second = await world.stage()([received(hot, TURNS_ADMITTED), received(cold, TURNS_ADMITTED, 1)])
    assert not isinstance(first, Malformed)
    assert not isinstance(second, Malformed)
    assert isinstance(first[0].event, TurnPrompted)
    assert isinstance(second[0].event, Refused)
    assert second[0].event.refusal.error.code == "storage_unavailable"


async def test_hot_contexts_that_failed_are_left_alone_for_a_moment() -> None:
    contexts, now_s = MemoryHotContexts(down=True), [0.0]
    guarded = GuardedContexts(contexts, 2.0, CountedMetrics(), lambda: now_s[0])
    with pytest.raises(Retryable):
        await guarded.read(["c"])
    contexts.down = False
    with pytest.raises(Retryable):
        await guarded.begin_rebuild(["c"])
    now_s[0] = 2.0
    assert await guarded.read(["c"]) == {}


@pytest.mark.parametrize("of", [turn(stored=False), turn(stored=True)], ids=["stateless", "starting"])
async def test_turns_without_a_past_ask_nobody(of: Any) -> None:
    world = World(contexts=MemoryHotContexts(down=True), history=MemoryHistory(down=True))
    (outcome,) = await world.stage()([received(admitted(of, user("hi")), TURNS_ADMITTED)])
    assert not isinstance(outcome, Malformed)
    assert isinstance(outcome[0].event, TurnPrompted)


async def test_a_model_that_left_the_catalogue_is_refused_and_counted() -> None:
    world = World()
    gone = received(admitted(turn(model="gone")), TURNS_ADMITTED)
    (outcome,) = await world.stage()([gone])
    assert not isinstance(outcome, Malformed)
    assert isinstance(outcome[0].event, Refused)
    assert world.metrics.counts == {("turnstream_refusals_total", "code=model_not_found", "stage=prompt"): 1}


async def test_a_refusal_for_length_carries_the_limits() -> None:
    too_long = received(admitted(turn(), user("x" * 100_000)), TURNS_ADMITTED)
    (outcome,) = await World().stage()([too_long])
    assert not isinstance(outcome, Malformed)
    event = outcome[0].event
    assert isinstance(event, Refused)
    assert (event.refusal.error.code, event.limits) == ("context_length_exceeded", LIMITS)


@dataclass
class NewestFirst:
    """A ``Cql`` that answers with rows as the messages table orders them."""

    rows: list[Any]

    async def execute(self, query: str, values: Sequence[object] = ()) -> Sequence[Any]:
        limit = values[1]
        assert isinstance(limit, int)
        assert query.endswith("LIMIT ?")
        return self.rows[:limit]


def row(seq: int, status: str, content: str | None = "text") -> SimpleNamespace:
    created = datetime(2025, 11, 21, 1, 2, 3, 456_000)  # noqa: DTZ001 - as the driver answers
    return SimpleNamespace(
        message_seq=seq,
        turn_id="t",
        role="assistant",
        name=None,
        content=content,
        status=status,
        created_at=created,
        parent_seq=None,
        tool_calls=None,
        tool_call_id=None,
        deleted_at=None,
    )


async def read(rows: list[Any], messages_max: int) -> Sequence[StoredMessage]:
    histories = await CassandraHistory(NewestFirst(rows), 4).recent(["c"], messages_max)
    return histories["c"]


async def test_history_is_oldest_first_without_drafts() -> None:
    rows = [row(4, "streaming"), row(3, "incomplete"), row(2, "complete"), row(1, "complete")]
    found = await read(rows, 2)
    assert [(one.message_seq, one.complete) for one in found] == [(2, True), (3, False)]


async def test_a_row_without_text_is_an_empty_message_with_its_time() -> None:
    (found,) = await read([row(1, "complete", None)], 5)
    assert (found.message.content.text, found.created_at_ms) == ("", 1_763_686_923_456)


def test_a_stored_message_survives_its_encoding() -> None:
    assert decode_stored(encode_stored(PAST[1])) == PAST[1]


def test_a_broken_stored_message_is_malformed_without_its_content() -> None:
    with pytest.raises(Malformed) as failure:
        decode_stored(b'{"message_seq": "secret words"}')
    assert "secret" not in str(failure.value)


def test_fields_of_a_context_sort_like_their_messages() -> None:
    assert sorted([field_of(2**62), field_of(9), field_of(10)]) == [field_of(9), field_of(10), field_of(2**62)]


def test_without_a_tokenizer_tokens_are_estimated() -> None:
    assert load_counter(None)("x" * 8) == 2


def test_a_tokenizer_file_counts_with_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")

    class Tokenizer:
        @classmethod
        def from_str(cls, text: str) -> "Tokenizer":
            assert text == "{}"
            return cls()

        def encode(self, text: str, *, add_special_tokens: bool) -> SimpleNamespace:
            assert not add_special_tokens
            return SimpleNamespace(ids=text.split())

    library = ModuleType("tokenizers")
    library.Tokenizer = Tokenizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tokenizers", library)
    assert load_counter(file)("one two three") == 3


def test_a_tokenizer_file_without_the_library_is_told_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match="not installed"):
        load_counter(tmp_path / "tokenizer.json")
