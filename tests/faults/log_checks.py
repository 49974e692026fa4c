"""Checks of the log and of the tables: every turn ends once, is billed once, in order, and is stored. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import Delta, TokenEvent
from schemas.topics import TOKENS
from tests.faults.evidence import Check, Evidence, Violation
from tests.faults.fold import LoggedTurn
from tests.faults.texts import difference
from tests.faults.turn_plans import expected

_EVENT: TypeAdapter[TokenEvent] = TypeAdapter(TokenEvent)
_ROW_REASONS = {"cancelled": "cancelled", "failed": "failed"}


def lost_turns(evidence: Evidence) -> Iterator[Violation]:
    """Every turn that was accepted, or only submitted, has a terminal that counts."""
    for turn_id in sorted({*evidence.heads, *evidence.submitted, *evidence.turns}):
        turn = evidence.turns.get(turn_id)
        if turn is None or turn.terminal is None:
            told = "accepted" if turn_id in evidence.heads else "submitted"
            yield Violation(Check.LOST_TURN, turn_id, f"{told}, without a terminal on the log")


def unlike_folds(evidence: Evidence) -> Iterator[Violation]:
    """The reducer of the contract and the checker's own reading of the rules say the same."""
    states: dict[str, StreamState] = defaultdict(lambda: INITIAL)
    texts: dict[str, list[str]] = defaultdict(list)
    for entry in evidence.dump.entries:
        turn_id = entry.value.get("turn_id")
        if entry.topic != TOKENS.name or turn_id is None:
            continue
        event = _EVENT.validate_python(entry.value)
        after = advance(states[turn_id], event)
        if after is not states[turn_id] and isinstance(event, Delta):
            texts[turn_id].append(event.content.text)
        states[turn_id] = after
    for turn_id, turn in evidence.turns.items():
        terminal = states[turn_id].terminal
        theirs = ("".join(texts[turn_id]), None if terminal is None else terminal.type)
        if theirs != (turn.text, turn.ended):
            yield Violation(Check.FOLD_DISAGREES, turn_id, f"{theirs[1]} against {turn.ended}")


def wrong_texts(evidence: Evidence) -> Iterator[Violation]:
    """The text of the log is the model's: all of it if the turn finished, else its beginning."""
    for turn in evidence.turns.values():
        prompt = evidence.prompts.get(evidence.key_of.get(turn.turn_id, ""))
        if prompt is None:
            continue
        whole = expected(prompt)
        if turn.ended == "finished":
            check = difference(turn.text, whole)
        else:
            check = difference(turn.text, whole[: len(turn.text)])
        if check is not None:
            yield Violation(check, turn.turn_id, f"on the log: {len(turn.text)} of {len(whole)} characters")


def bills(evidence: Evidence) -> Iterator[Violation]:
    """One bill of what the log says for every answered turn, for a refused one none or one of nothing."""
    for turn in evidence.turns.values():
        found = {bill for bill in evidence.bills.get(turn.turn_id, set()) if not _is_of_nothing(json.loads(bill))}
        if len(found) > 1:
            yield Violation(Check.DOUBLE_BILL, turn.turn_id, f"{len(found)} different bills")
        elif found and turn.ended == "refused":
            yield Violation(Check.WRONG_BILL, turn.turn_id, "a refused turn has a bill")
        elif found:
            yield from _wrong_bill(turn, json.loads(next(iter(found))))
        elif turn.answered and turn.terminal is not None:
            yield Violation(Check.WRONG_BILL, turn.turn_id, f"no bill of a turn that {turn.ended}")
    for turn_id in evidence.bills.keys() - evidence.turns.keys():
        yield Violation(Check.WRONG_BILL, turn_id, "a bill of a turn that is not on the log")


def _is_of_nothing(bill: dict[str, Any]) -> bool:
    # It gives back what a turn held that was refused after its admission.
    return bill.get("attempt") == 0 and not bill["usage"]["prompt_tokens"] + bill["usage"]["completion_tokens"]


def _wrong_bill(turn: LoggedTurn, bill: dict[str, dict[str, int]]) -> Iterator[Violation]:
    billed = bill["usage"]["completion_tokens"]
    told = turn.terminal["usage"]["completion_tokens"] if turn.terminal and turn.ended == "finished" else turn.tokens
    if not billed == told == turn.tokens:
        detail = f"{billed} tokens billed, {told} told, {turn.tokens} on the log"
        yield Violation(Check.WRONG_BILL, turn.turn_id, detail)


def double_answers(evidence: Evidence) -> Iterator[Violation]:
    """One key, one answered turn; one turn, one answer in its conversation."""
    answered: dict[str, list[str]] = defaultdict(list)
    for turn_id, key in evidence.key_of.items():
        turn = evidence.turns.get(turn_id)
        if turn is not None and turn.answered:
            answered[key].append(turn_id)
    for key, turn_ids in answered.items():
        if len(turn_ids) > 1:
            yield Violation(Check.DOUBLE_ANSWER, turn_ids[-1], f"{len(turn_ids)} answered turns of {key}")
    rows: dict[str, int] = defaultdict(int)
    for message in evidence.dump.messages:
        rows[message.turn_id] += message.role == "assistant"
    for turn_id, count in rows.items():
        if count > 1:
            yield Violation(Check.DOUBLE_ANSWER, turn_id, f"{count} answers in the conversation")


def order(evidence: Evidence) -> Iterator[Violation]:
    """In a conversation, sequences grow as turns were accepted, and a turn is worked on after the one before ended."""
    conversations: dict[str, list[LoggedTurn]] = defaultdict(list)
    for turn in evidence.turns.values():
        if turn.stored and turn.conversation_id is not None:
            conversations[turn.conversation_id].append(turn)
    for turns in conversations.values():
        yield from _sequence(evidence, turns)
        # By their ends, so that neighbours overlap if any two do, whatever their sequences say.
        yield from _overlaps(evidence, sorted(turns, key=lambda turn: (turn.terminal is None, turn.ended_at_ms)))


def _sequence(evidence: Evidence, turns: list[LoggedTurn]) -> Iterator[Violation]:
    begun = [turn for turn in turns if turn.turn_id in evidence.heads]
    begun.sort(key=lambda turn: min(head.mono_s for head in evidence.heads[turn.turn_id]))
    for before, after in pairwise(begun):
        if after.message_seq <= before.message_seq:
            detail = f"sequence {after.message_seq} after {before.message_seq}"
            yield Violation(Check.WRONG_ORDER, after.turn_id, detail)


def _overlaps(evidence: Evidence, turns: list[LoggedTurn]) -> Iterator[Violation]:
    for before, after in pairwise(turns):
        if before.terminal is None:
            continue
        if after.worked_at_ms and min(after.worked_at_ms) < before.ended_at_ms:
            early_ms = before.ended_at_ms - min(after.worked_at_ms)
            yield Violation(Check.OVERLAP, after.turn_id, f"begun {early_ms} ms before {before.turn_id} ended")
        heads = evidence.heads.get(after.turn_id, [])
        if heads and min(head.wall_ms for head in heads) < before.ended_at_ms:
            yield Violation(Check.BUSY_IGNORED, after.turn_id, f"accepted before {before.turn_id} ended")


def missing_rows(evidence: Evidence) -> Iterator[Violation]:
    """The tables hold every stored turn as it ended."""
    messages = {(row.conversation_id, row.message_seq): row for row in evidence.dump.messages}
    rows = {row.turn_id: row for row in evidence.dump.turns}
    for turn in evidence.turns.values():
        if not turn.stored or turn.cleared is None or not turn.answered or turn.terminal is None:
            continue
        own = len(turn.cleared.get("input", ()))
        questions = [messages.get((turn.conversation_id or "", turn.message_seq + index)) for index in range(own)]
        answer = messages.get((turn.conversation_id or "", turn.message_seq + own))
        if any(row is None or row.turn_id != turn.turn_id for row in questions):
            yield Violation(Check.MISSING_ROW, turn.turn_id, "a message of the client")
        if answer is None or (answer.turn_id, answer.role) != (turn.turn_id, "assistant"):
            yield Violation(Check.MISSING_ROW, turn.turn_id, "the answer")
        elif answer.content != turn.text:
            detail = f"the answer has {len(answer.content)} of {len(turn.text)} characters"
            yield Violation(Check.MISSING_ROW, turn.turn_id, detail)
        elif (answer.status == "complete") != (turn.ended == "finished"):
            yield Violation(Check.MISSING_ROW, turn.turn_id, f"{answer.status}, but the turn {turn.ended}")
        row = rows.get(turn.turn_id)
        if row is None or row.finish_reason != (turn.finish_reason or _ROW_REASONS[turn.ended or ""]):
            yield Violation(Check.MISSING_ROW, turn.turn_id, "how it ended")
    yield from _last_turns(evidence)


def _last_turns(evidence: Evidence) -> Iterator[Violation]:
    newest: dict[str, LoggedTurn] = {}
    for turn in evidence.turns.values():
        if turn.stored and turn.answered and turn.conversation_id is not None:
            known = newest.setdefault(turn.conversation_id, turn)
            newest[turn.conversation_id] = max(known, turn, key=lambda one: one.message_seq)
    last = {row.conversation_id: row.last_turn_id for row in evidence.dump.conversations}
    for conversation_id, turn in newest.items():
        named = evidence.turns.get(last.get(conversation_id, ""))
        # A later turn without an answer may be named, an earlier one may not.
        if named is None or named.message_seq < turn.message_seq:
            yield Violation(Check.MISSING_ROW, turn.turn_id, "its conversation, or the conversation's last turn")
