"""A run without a fault, made up: what two clients saw of a few turns, and what the stores hold afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.ids import new_conversation_id, new_turn_id
from schemas.topics import TOKENS, TURNS_SUBMITTED, USAGE_EVENTS
from tests.faults.dump import ConversationDump, Dump, LogEntry, MessageDump, TurnDump
from tests.faults.operations import Action, Event, Item, Operation
from tests.faults.turn_plans import expected

START_MS = 1_763_700_000_000
OWNER = "inference-1"
LIMITS = {
    "limit_requests": 1,
    "remaining_requests": 1,
    "reset_requests_ms": 1,
    "limit_tokens": 1,
    "remaining_tokens": 1,
    "reset_tokens_ms": 1,
}


def turn_id(number: int) -> str:
    return new_turn_id(START_MS, 0, number.to_bytes(8))


CONVERSATION = new_conversation_id(START_MS, bytes(10))


@dataclass
class FaultRun:
    """Operations and entries in order; every addition takes the next millisecond."""

    operations: list[Operation] = field(default_factory=list)
    entries: list[LogEntry] = field(default_factory=list)
    messages: list[MessageDump] = field(default_factory=list)
    turns: list[TurnDump] = field(default_factory=list)
    conversations: dict[str, ConversationDump] = field(default_factory=dict)
    now_ms: int = START_MS

    @property
    def dump(self) -> Dump:
        return Dump(tuple(self.entries), tuple(self.messages), tuple(self.turns), tuple(self.conversations.values()))

    def note(self, event: Event, **what: Any) -> None:
        self.now_ms += 1
        self.operations.append(Operation(event=event, mono_s=self.now_ms / 1000, wall_ms=self.now_ms, **what))

    def append(self, topic: str, value: Mapping[str, Any]) -> None:
        self.now_ms += 1
        self.entries.append(LogEntry(topic, 0, len(self.entries), self.now_ms, value))

    def replace_operation(self, which: Callable[[Operation], bool], **changes: Any) -> None:
        """Change the first operation that fits."""
        place = next(place for place, one in enumerate(self.operations) if which(one))
        self.operations[place] = self.operations[place].model_copy(update=changes)

    def replace_entry(self, which: Callable[[LogEntry], bool], **changes: Any) -> None:
        """Change fields of the first record's value that fits."""
        place = next(place for place, one in enumerate(self.entries) if which(one))
        self.entries[place] = replace(self.entries[place], value={**self.entries[place].value, **changes})

    def drop_operations(self, which: Callable[[Operation], bool]) -> None:
        self.operations = [one for one in self.operations if not which(one)]

    def drop_entries(self, which: Callable[[LogEntry], bool]) -> None:
        self.entries = [one for one in self.entries if not which(one)]


def kind_of(kind: str, number: int) -> Callable[[LogEntry], bool]:
    """Whether a record is an event of this kind of this turn."""
    return lambda one: (one.value.get("type"), one.value.get("turn_id")) == (kind, turn_id(number))


def add_turn(run: FaultRun, number: int, *, cut_after: int | None = None) -> None:
    """A stored turn of client 1, answered in order; ``cut_after`` pieces its connection breaks, and it resumes."""
    prompt = f"[[demo tokens=18]] tag:key-{number} hello"
    pieces = [expected(prompt)[place : place + 12] for place in range(0, len(expected(prompt)), 12)]
    reader = {"client": 1, "reader": f"t{number}.a"}
    first = {**reader, "request": f"r{number}.1"}
    run.note(Event.INVOKE, **reader, key=f"key-{number}", prompt=prompt, stream=True, stored=True)
    asked = {"edge": "edge", "action": Action.POST, "key": f"key-{number}", "conversation_id": CONVERSATION}
    run.note(Event.REQUEST, **first, **asked)
    _submit(run, number, prompt)
    known = {"turn_id": turn_id(number), "conversation_id": CONVERSATION}
    run.note(Event.HEAD, **first, status=200, **known)
    request = first
    for seq, text in enumerate(pieces):
        if seq == cut_after:
            run.note(Event.LOST, **request, code="ReadError")
            request = {**reader, "request": f"r{number}.2"}
            run.note(Event.REQUEST, **request, edge="edge-2", action=Action.RESUME, cursor=_cursor(seq - 1))
            run.note(Event.HEAD, **request, status=200, **known)
        delta = {"type": "delta", "attempt": 1, "owner": OWNER, "seq": seq, "content": text, "tokens": 2}
        run.append(TOKENS.name, {**delta, "turn_id": turn_id(number)})
        run.note(Event.PIECE, **request, text=text, cursor=_cursor(seq), digest=f"{number}-{seq}")
    _finish(run, number, prompt, pieces)
    told = {"finish_reason": "stop", "cursor": _cursor(len(pieces)), "digest": f"{number}-end"}
    run.note(Event.FINISH, **request, **told)
    run.note(Event.DONE, **request)
    run.note(Event.OK, **reader, key=f"key-{number}", turn_id=turn_id(number))
    _read_history(run, number)


def _cursor(seq: int) -> str:
    return f"{seq}.{seq + 10}.AAAAAAAAAAAAAAAA"


def _submit(run: FaultRun, number: int, prompt: str) -> None:
    turn = {"turn_id": turn_id(number), "conversation_id": CONVERSATION}
    own = [{"role": "user", "content": prompt}]
    run.append(TURNS_SUBMITTED.name, {"turn": turn, "input": own})
    cleared = {
        "type": "cleared",
        **turn,
        "tenant_id": "acme",
        "user_id": "ann",
        "model": "turnstream-fast",
        "stored": True,
        "message_seq": number * 256,
        "submitted_at_ms": run.now_ms,
        "limits": LIMITS,
        "input": own,
    }
    run.append(TOKENS.name, cleared)
    fence = {"type": "attempt_started", "turn_id": turn_id(number), "attempt": 1, "owner": OWNER}
    run.append(TOKENS.name, fence)


def _finish(run: FaultRun, number: int, prompt: str, pieces: list[str]) -> None:
    this = turn_id(number)
    usage = {"prompt_tokens": 3, "completion_tokens": 2 * len(pieces), "cached_tokens": 0}
    end = {"type": "finished", "attempt": 1, "owner": OWNER, "seq": len(pieces), "finish_reason": "stop"}
    run.append(TOKENS.name, {**end, "turn_id": this, "usage": usage})
    run.append(TOKENS.name, {"type": "persisted", "turn_id": this, "message_seq": number * 256 + 1})
    run.append(USAGE_EVENTS.name, {"turn_id": this, "usage": usage, "finish_reason": "stop"})
    question = MessageDump(CONVERSATION, number * 256, this, "user", prompt, "complete")
    answer = MessageDump(CONVERSATION, number * 256 + 1, this, "assistant", "".join(pieces), "complete")
    run.messages += [question, answer]
    run.turns.append(TurnDump(this, CONVERSATION, number * 256 + 1, "stop"))
    run.conversations[CONVERSATION] = ConversationDump(CONVERSATION, this)


def _read_history(run: FaultRun, number: int) -> None:
    request = {"client": 1, "reader": f"t{number}.a", "request": f"r{number}.history"}
    run.note(Event.REQUEST, **request, action=Action.HISTORY, edge="edge-2", conversation_id=CONVERSATION)
    items = tuple(
        Item(seq=row.message_seq, role=row.role, status="completed", turn_id=row.turn_id, text=row.content)
        for row in run.messages
    )
    run.note(Event.HISTORY, **request, conversation_id=CONVERSATION, items=items)


def clean_run() -> FaultRun:
    """Three turns of one conversation, the second over two connections."""
    run = FaultRun()
    add_turn(run, 1)
    add_turn(run, 2, cut_after=3)
    add_turn(run, 3)
    return run
