"""What no honest history could contain. Pure: reads the operations of the clients and the dumps, and nothing else.

Every check is a generator of violations, and has a planted bug that it must report (``tests/unit/chaos``).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.chaos import operations as op
from tests.chaos.dumped import Dump
from tests.chaos.log_rules import Told, fold_turns
from tests.chaos.operations import Operation

PREFIX: Final = "chatcmpl-"
USAGE: Final = "usage.events.v1"
OK: Final = 200


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: by which check, of which turn, with what evidence (never content)."""

    check: str
    turn: str
    evidence: str


@dataclass
class Asked:
    """All that the clients noted of one turn that they wanted."""

    name: str
    key: str
    prompt: str
    stored: bool
    conversation: str | None
    tokens: int
    operations: list[Operation] = field(default_factory=list)

    @property
    def outcome(self) -> str | None:
        """What its client made of it."""
        return next((one.data["outcome"] for one in self.operations if one.event == op.OUTCOME), None)

    @property
    def ids(self) -> list[str]:
        """The turns that it was told to be, each once, in order."""
        told = [one.data.get("id") for one in self.operations if one.event in {op.HEAD, op.PIECE, op.WHOLE, op.FINISH}]
        return list(dict.fromkeys(str(each).removeprefix(PREFIX) for each in told if each))

    def of(self, event: str) -> Iterator[Operation]:
        """Its operations of one kind."""
        return (one for one in self.operations if one.event == event)

    def readers(self) -> Mapping[str, list[Operation]]:
        """Its operations by connection."""
        found: dict[str, list[Operation]] = defaultdict(list)
        for one in self.operations:
            found[one.reader].append(one)
        return found


@dataclass(frozen=True)
class Run:
    """A run as the checks see it."""

    asked: Mapping[str, Asked]
    log: Mapping[str, Told]
    bills: Mapping[str, set[bytes]]
    dump: Dump

    @classmethod
    def of(cls, operations: Iterable[Operation], dump: Dump) -> "Run":
        """Sort everything by turn."""
        bills: dict[str, set[bytes]] = defaultdict(set)
        for record in dump.records:
            if record.topic == USAGE and record.turn_id is not None:
                bills[record.turn_id].add(record.value)
        return cls(_sorted(operations), fold_turns(dump.records), bills, dump)


def check(run: Run) -> list[Violation]:
    """All violations of all checks."""
    return [Violation(name, turn, evidence) for name, find in CHECKS.items() for turn, evidence in find(run)]


Found = Iterator[tuple[str, str]]


def lost_turns(run: Run) -> Found:
    """A turn that was accepted has no end on the log."""
    for asked in run.asked.values():
        accepted = {
            str(one.data["id"]).removeprefix(PREFIX)
            for one in asked.of(op.HEAD)
            if one.data["status"] == OK and one.data.get("id")
        }
        for turn_id in accepted:
            told = run.log.get(turn_id)
            if told is None or told.terminal is None:
                yield asked.name, f"{turn_id} was accepted and has no terminal"


def unended(run: Run) -> Found:
    """A client was left without any end, or one that the log does not know."""
    for asked in run.asked.values():
        outcome = asked.outcome
        if outcome in {None, "unknown"}:
            yield asked.name, f"its client waits for ever; ids {asked.ids}"
        if outcome is not None and outcome.startswith("failed"):
            told = run.log.get(asked.ids[-1]) if asked.ids else None
            if told is None or told.ending not in {"failed", "refused"}:
                yield asked.name, f"{outcome}, but the log says {told.ending if told else None}"


def false_ends(run: Run) -> Found:
    """A stream said [DONE] although the log has no good end of the turn, or not all of it was sent or stored."""
    for asked in run.asked.values():
        for reader, noted in asked.readers().items():
            if not any(one.event == op.DONE for one in noted):
                continue
            turn_id = next((str(one.data["id"]).removeprefix(PREFIX) for one in noted if one.data.get("id")), "")
            told = run.log.get(turn_id)
            if told is None or told.ending not in {"finished", "cancelled"}:
                yield asked.name, f"{reader}: [DONE] of {turn_id}, which ended as {told.ending if told else None}"
            elif told.stored and not told.persisted:
                yield asked.name, f"{reader}: [DONE] of {turn_id} before it was stored"
            elif _last_piece(noted) != len(told.pieces) - 1:
                yield asked.name, f"{reader}: [DONE] after piece {_last_piece(noted)} of {len(told.pieces)}"


def gaps_and_repeats(run: Run) -> Found:
    """The pieces of a connection are not exactly those that follow what its client had."""
    for asked in run.asked.values():
        for reader, noted in asked.readers().items():
            after = next((one.data["after"] for one in noted if one.event == op.INVOKE), -1)
            seqs = [one.data["seq"] for one in noted if one.event == op.PIECE]
            expected = list(range(after + 1, after + 1 + len(seqs)))
            if seqs != expected:
                wrong = next(seq for seq, right in zip(seqs, expected, strict=True) if seq != right)
                yield asked.name, f"{reader}: piece {wrong} out of place, after {after}"


def wrong_text(run: Run) -> Found:
    """A piece, or a whole answer, is not what the log has; or the log's is not what the model says."""
    for asked in run.asked.values():
        for one in asked.operations:
            told = run.log.get(str(one.data.get("id")).removeprefix(PREFIX))
            if told is None:
                continue
            if one.event == op.PIECE:
                seq = one.data["seq"]
                if seq >= len(told.pieces) or told.pieces[seq] != one.data["text"]:
                    yield asked.name, f"{one.reader}: piece {seq} is not the log's"
            elif one.event == op.WHOLE and told.text != one.data["text"]:
                yield asked.name, f"{one.reader}: the whole text is not the log's"
        for turn_id in asked.ids:
            told = run.log.get(turn_id)
            if told is not None and not _is_answer(told, asked.tokens):
                yield asked.name, f"{turn_id}: {len(told.text)} characters that the model did not say"


def double_answers(run: Run) -> Found:
    """One question was answered twice: by two turns, or twice in a history."""
    for asked in run.asked.values():
        answered = [turn_id for turn_id in asked.ids if (told := run.log.get(turn_id)) and told.pieces]
        if len(answered) > 1:
            yield asked.name, f"key {asked.key} was answered by {answered}"
    prompts = {asked.prompt: asked.name for asked in run.asked.values()}
    rows = Counter(row["content"] for row in run.dump.tables["messages"] if row["role"] == "user")
    for prompt, count in rows.items():
        if count > 1:
            yield prompts.get(prompt, "?"), f"its question stands {count} times in the store"


def double_bills(run: Run) -> Found:
    """A turn has two different bills, none, or one that is not its own."""
    names = {turn_id: asked.name for asked in run.asked.values() for turn_id in asked.ids}
    for turn_id, told in run.log.items():
        bills = run.bills.get(turn_id, set())
        if len(bills) > 1:
            yield names.get(turn_id, "?"), f"{turn_id} has {len(bills)} different bills"
        elif told.pieces and not bills:
            yield names.get(turn_id, "?"), f"{turn_id} was generated and has no bill"
        elif told.ending == "refused" and bills:
            yield names.get(turn_id, "?"), f"{turn_id} was refused and has a bill"
        for bill in bills:
            billed = json.loads(bill)["usage"]["completion_tokens"]
            if billed != told.tokens:
                yield names.get(turn_id, "?"), f"{turn_id} has {told.tokens} tokens, billed {billed}"


def disorder(run: Run) -> Found:
    """Turns of a conversation overlap, or stand in another order than they were asked."""
    for asked_in_order in _conversations(run).values():
        told = [
            (asked.name, turn_id, run.log[turn_id])
            for asked in asked_in_order
            for turn_id in asked.ids
            if turn_id in run.log and run.log[turn_id].message_seq is not None
        ]
        by_seq = sorted(told, key=lambda one: one[2].message_seq or 0)
        for (_, first_id, first), (name, then_id, then) in pairwise(by_seq):
            if first.message_seq == then.message_seq and first_id != then_id:
                yield name, f"{then_id} has the sequence of {first_id}"
            if then.began_ms is not None and (first.ended_ms is None or then.began_ms < first.ended_ms):
                yield name, f"{then_id} began before {first_id} had ended"
        done = [(name, told_of) for name, _, told_of in told if not name.endswith("r") and told_of.ending == "finished"]
        for (_, first), (name, then) in pairwise(done):
            if (first.message_seq or 0) > (then.message_seq or 0):
                yield name, "stands before the turn that was asked before it"


def false_conflicts(run: Run) -> Found:
    """A 409 names a turn that is none of the conversation, or comes although the turn before was done."""
    for asked_in_order in _conversations(run).values():
        ids = {turn_id for asked in asked_in_order for turn_id in asked.ids}
        for asked in asked_in_order:
            for one in asked.of(op.HEAD):
                if one.data.get("code") != "conversation_busy":
                    continue
                active = str(one.data["active"]).removeprefix(PREFIX)
                if active not in ids:
                    yield asked.name, f"409 names {active}, which is no turn of the conversation"
                elif _was_done(asked_in_order, active, one.at_s):
                    yield asked.name, f"409 names {active}, which its client had seen the end of"


def refused_resumes(run: Run) -> Found:
    """A client was not let back to a turn of its own."""
    for asked in run.asked.values():
        for reader, noted in asked.readers().items():
            resuming = any(one.event == op.INVOKE and one.data["what"] in {"resume", "cancel"} for one in noted)
            for one in noted:
                if resuming and one.event == op.HEAD and 400 <= one.data["status"] < 500:
                    yield asked.name, f"{reader}: {one.data['status']} {one.data.get('code')}"


def missing_history(run: Run) -> Found:
    """An answer whose end a client saw is not in the history that it read next, or not in the store."""
    rows = {(row["turn_id"], row["role"]): row for row in run.dump.tables["messages"]}
    for asked in run.asked.values():
        if not asked.stored or asked.outcome != "done" or not asked.ids:
            continue
        turn_id = asked.ids[-1]
        told = run.log.get(turn_id)
        if told is None:
            continue
        for one in asked.of(op.HISTORY):
            texts = [
                item["text"] for item in one.data["items"] if (item["turn"], item["role"]) == (turn_id, "assistant")
            ]
            if told.text and texts != [told.text]:
                yield asked.name, f"{turn_id} is not in the history that was read after its end"
        row = rows.get((turn_id, "assistant"))
        if told.text and (row is None or row["content"] != told.text or row["status"] == "streaming"):
            yield asked.name, f"{turn_id} is not in the store as it was told"
        if (turn_id, "user") not in rows:
            yield asked.name, f"the question of {turn_id} is not in the store"


def scattered_turns(run: Run) -> Found:
    """A question became another turn although the one before had something to show."""
    for asked in run.asked.values():
        shown = [turn_id for turn_id in asked.ids if (told := run.log.get(turn_id)) and _is_worth_joining(told)]
        if len(shown) > 1:
            yield asked.name, f"key {asked.key} stands for {shown}"


CHECKS: Final[Mapping[str, Callable[[Run], Found]]] = {
    "lost turn": lost_turns,
    "no end": unended,
    "false end": false_ends,
    "gap or repeat": gaps_and_repeats,
    "wrong text": wrong_text,
    "double answer": double_answers,
    "double bill": double_bills,
    "order": disorder,
    "false conflict": false_conflicts,
    "resume refused": refused_resumes,
    "history": missing_history,
    "scattered turn": scattered_turns,
}


def _sorted(operations: Iterable[Operation]) -> dict[str, Asked]:
    asked: dict[str, Asked] = {}
    for one in operations:
        if one.event == op.ASK:
            data: dict[str, Any] = one.data
            asked[one.turn] = Asked(
                one.turn, data["key"], data["prompt"], data["stored"], data["conversation"], data["tokens"]
            )
        elif one.turn in asked:
            asked[one.turn].operations.append(one)
    return asked


def _conversations(run: Run) -> Mapping[str, Sequence[Asked]]:
    found: dict[str, list[Asked]] = defaultdict(list)
    for asked in run.asked.values():
        if asked.conversation is not None:
            found[asked.conversation].append(asked)
    return found


def _last_piece(noted: Sequence[Operation]) -> int:
    """The last piece that this connection, or those before it, brought."""
    after = next((one.data["after"] for one in noted if one.event == op.INVOKE), -1)
    return max([int(after), *(int(one.data["seq"]) for one in noted if one.event == op.PIECE)])


def _was_done(conversation: Sequence[Asked], turn_id: str, at_s: float) -> bool:
    return any(
        one.at_s < at_s
        for asked in conversation
        if asked.ids and asked.ids[-1] == turn_id
        for one in asked.operations
        if one.event == op.DONE
    )


def _is_answer(told: Told, tokens: int) -> bool:
    """Whether the text is what the demonstration model says: all of it when it finished, else its beginning."""
    whole = counted_answer(tokens)
    return told.text == whole if told.ending == "finished" else whole.startswith(told.text)


def counted_answer(tokens: int) -> str:
    """The answer of the demonstration model to a directive with ``tokens`` (of at least 13)."""
    introduction = "This is the built-in demonstration model of Turnstream, not an AI."
    return introduction + "".join(f" {number}" for number in range(14, tokens + 1))


def _is_worth_joining(told: Told) -> bool:
    return bool(told.pieces) or told.ending == "finished"
