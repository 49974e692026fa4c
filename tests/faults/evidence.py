"""The operation log and the dump, sorted for the checks: requests by reader, turns by key, bills by turn. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from schemas.topics import TOKENS, TURNS_SUBMITTED, USAGE_EVENTS
from tests.faults.dump import Dump, LogEntry
from tests.faults.fold import LoggedTurn, fold_turns
from tests.faults.operations import Action, Event, Operation
from tests.faults.turn_plans import key_of_prompt


class Check(StrEnum):
    """What may be wrong with a run."""

    LOST_TURN = "lost turn"
    UNANSWERED = "request without answer"
    UNENDED_STREAM = "stream without terminal"
    FALSE_FAILURE = "failure told of a finished turn"
    WRONG_ENDING = "another ending than the log's"
    DOUBLE_ANSWER = "double answer"
    DOUBLE_BILL = "double bill"
    WRONG_BILL = "wrong or missing bill"
    TOKEN_GAP = "token gap"  # noqa: S105 - no password
    TOKEN_REPEAT = "token repeat"  # noqa: S105 - no password
    FOREIGN_TEXT = "foreign text"
    UNLIKE_FRAMES = "unlike frames"
    WRONG_ORDER = "message order"
    OVERLAP = "overlapping turns"
    BUSY_IGNORED = "busy conversation ignored"
    WRONG_BUSY = "wrong active turn"
    KEY_CHANGED = "idempotency key changed its turn"
    MISSING_HISTORY = "message missing in history"
    MISSING_ROW = "row missing in Cassandra"
    FOLD_DISAGREES = "two readings of the log"
    NOT_HEALED = "process did not come back"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, with ids and figures; never more of a text than a few characters."""

    check: Check
    turn_id: str | None
    detail: str


@dataclass
class Request:
    """One connection of a reader, with what came of it in order."""

    opened: Operation
    events: list[Operation] = field(default_factory=list)

    @property
    def head(self) -> Operation | None:
        """The head of the response, if one came."""
        return next((one for one in self.events if one.event is Event.HEAD), None)

    @property
    def turn_id(self) -> str | None:
        """The turn of an accepted request."""
        head = self.head
        return head.turn_id if head is not None and accepted(head) else None

    @property
    def is_answer(self) -> bool:
        """Whether the response is (part of) an answer."""
        return self.opened.action in {Action.POST, Action.RESUME}


@dataclass
class Evidence:
    """All that the checks look at. ``heads`` are those of accepted requests, by turn, in order of time."""

    operations: Sequence[Operation]
    dump: Dump
    turns: dict[str, LoggedTurn]
    requests: dict[str, Request]
    heads: dict[str, list[Operation]]
    prompts: dict[str, str]
    key_of: dict[str, str]
    submitted: dict[str, str]
    bills: dict[str, set[str]]


def accepted(head: Operation) -> bool:
    """Whether a head says that there is a turn."""
    return head.status is not None and head.status < 300


def tokens_of(dump: Dump) -> Iterator[LogEntry]:
    """The records of answers, in the order of their partitions."""
    return (entry for entry in dump.entries if entry.topic == TOKENS.name)


def gather(operations: Sequence[Operation], dump: Dump) -> Evidence:
    """Sort what is known."""
    requests = _requests(operations)
    heads: dict[str, list[Operation]] = defaultdict(list)
    for request in requests.values():
        if request.is_answer and request.turn_id is not None and request.head is not None:
            heads[request.turn_id].append(request.head)
    prompts, key_of, submitted = _prompts(operations, dump)
    for request in requests.values():
        if request.opened.action is Action.POST and request.turn_id and request.opened.key:
            key_of[request.turn_id] = request.opened.key
    return Evidence(
        operations=operations,
        dump=dump,
        turns=fold_turns(tokens_of(dump)),
        requests=requests,
        heads=dict(heads),
        prompts=prompts,
        key_of=key_of,
        submitted=submitted,
        bills=_bills(dump),
    )


def _requests(operations: Sequence[Operation]) -> dict[str, Request]:
    requests: dict[str, Request] = {}
    for operation in operations:
        if operation.request is None:
            continue
        if operation.event is Event.REQUEST:
            requests[operation.request] = Request(operation)
        else:
            requests[operation.request].events.append(operation)
    return requests


def _prompts(operations: Sequence[Operation], dump: Dump) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Prompts by key, keys by turn, and conversations by turn, as clients asked and as the log took them."""
    prompts = {one.key: one.prompt for one in operations if one.event is Event.INVOKE and one.key and one.prompt}
    key_of: dict[str, str] = {}
    submitted: dict[str, str] = {}
    for entry in dump.entries:
        if entry.topic != TURNS_SUBMITTED.name:
            continue
        turn = entry.value["turn"]
        submitted[turn["turn_id"]] = turn["conversation_id"]
        key = key_of_prompt(entry.value["input"][-1]["content"])
        if key is not None:
            key_of[turn["turn_id"]] = key
    return prompts, key_of, submitted


def _bills(dump: Dump) -> dict[str, set[str]]:
    """Distinct bills by turn: the same record twice is one."""
    bills: dict[str, set[str]] = defaultdict(set)
    for entry in dump.entries:
        if entry.topic == USAGE_EVENTS.name:
            bills[entry.value["turn_id"]].add(json.dumps(entry.value, sort_keys=True))
    return dict(bills)
