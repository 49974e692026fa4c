"""Checks of what clients saw: exactly the log's text, exactly once, to its end, and afterwards in the history. Pure."""

from collections import defaultdict
from collections.abc import Iterator

from tests.faults.evidence import Check, Evidence, Request, Violation, accepted
from tests.faults.fold import LoggedTurn
from tests.faults.operations import Action, Event, Operation
from tests.faults.texts import difference


def streams(evidence: Evidence) -> Iterator[Violation]:
    """Every connection gave the pieces after its cursor, in order and without exception, and the log's ending."""
    for request in evidence.requests.values():
        turn = evidence.turns.get(request.turn_id or "")
        if not request.is_answer or turn is None:
            continue
        yield from _pieces(request, turn)
        yield from _ending(request, turn)


def _pieces(request: Request, turn: LoggedTurn) -> Iterator[Violation]:
    due = 0 if request.opened.seq is None else request.opened.seq + 1
    for piece in request.events:
        if piece.event is Event.PIECE and piece.seq is not None:
            if piece.seq != due:
                check = Check.TOKEN_GAP if piece.seq > due else Check.TOKEN_REPEAT
                yield Violation(check, turn.turn_id, f"{request.opened.request}: piece {piece.seq} instead of {due}")
                return
            if piece.seq >= len(turn.pieces) or piece.text != turn.pieces[piece.seq][0]:
                yield Violation(Check.FOREIGN_TEXT, turn.turn_id, f"{request.opened.request}: piece {piece.seq}")
                return
            due += 1
        elif piece.event is Event.FINISH and due < len(turn.pieces):
            missing = len(turn.pieces) - due
            yield Violation(Check.TOKEN_GAP, turn.turn_id, f"{request.opened.request}: {missing} pieces before the end")
        elif piece.event is Event.WHOLE:
            check_or_none = difference(piece.text or "", turn.text)
            if check_or_none is not None:
                yield Violation(check_or_none, turn.turn_id, f"{request.opened.request}: the whole answer")


def _ending(request: Request, turn: LoggedTurn) -> Iterator[Violation]:
    where = request.opened.request
    for event in request.events:
        if event.event in {Event.DONE, Event.WHOLE} and turn.terminal is None:
            yield Violation(Check.UNENDED_STREAM, turn.turn_id, f"{where}: [DONE] without a terminal on the log")
        elif event.event is Event.ENDED and not event.told:
            yield Violation(Check.UNENDED_STREAM, turn.turn_id, f"{where}: a clean end without [DONE] or error")
        elif event.event in {Event.FINISH, Event.WHOLE} and turn.terminal is not None:
            told = (event.finish_reason, event.cancelled)
            wanted = ("stop", turn.terminal["reason"]) if turn.ended == "cancelled" else (turn.finish_reason, None)
            if told != wanted:
                yield Violation(Check.WRONG_ENDING, turn.turn_id, f"{where}: {told[0]}, {told[1]}")


def outcomes(evidence: Evidence) -> Iterator[Violation]:
    """Nobody gave up waiting, and nobody was told of a failure that the log does not know."""
    heads: dict[str, Operation] = {}
    for request in evidence.requests.values():
        head = request.head
        if request.is_answer and head is not None and accepted(head) and request.opened.reader:
            heads[request.opened.reader] = head
    for outcome in evidence.operations:
        head = heads.get(outcome.reader or "")
        if outcome.event is Event.UNKNOWN:
            check = Check.UNANSWERED if head is None else Check.UNENDED_STREAM
            yield Violation(check, head.turn_id if head else None, f"{outcome.reader} of {outcome.key} gave up")
        elif outcome.event is Event.FAIL and head is not None and head.turn_id is not None:
            turn = evidence.turns.get(head.turn_id)
            if turn is not None and turn.ended == "finished":
                yield Violation(Check.FALSE_FAILURE, turn.turn_id, f"{outcome.reader}: {outcome.code}")


def frames(evidence: Evidence) -> Iterator[Violation]:
    """Whoever reads a place of a turn gets the same bytes."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for request in evidence.requests.values():
        for event in request.events:
            if event.event in {Event.PIECE, Event.FINISH} and event.cursor and event.digest and request.turn_id:
                seen[request.turn_id, event.cursor].add(event.digest)
    for (turn_id, cursor), digests in seen.items():
        if len(digests) > 1:
            yield Violation(Check.UNLIKE_FRAMES, turn_id, f"{len(digests)} forms of the frame at {cursor[:12]}")


def keys(evidence: Evidence) -> Iterator[Violation]:
    """A key means the same turn, until that turn ended without anything."""
    heads: dict[str, list[Operation]] = defaultdict(list)
    for request in evidence.requests.values():
        if request.opened.action is Action.POST and request.turn_id and request.opened.key and request.head:
            heads[request.opened.key].append(request.head)
    for key, found in heads.items():
        earlier: set[str] = set()
        for head in sorted(found, key=lambda one: one.mono_s):
            kept = [
                one for one in earlier - {head.turn_id or ""} if one in evidence.turns and not evidence.turns[one].empty
            ]
            if kept and head.turn_id not in earlier:
                yield Violation(Check.KEY_CHANGED, head.turn_id, f"{key} was {kept[0]}")
            earlier.add(head.turn_id or "")


def conflicts(evidence: Evidence) -> Iterator[Violation]:
    """A 409 names a turn of the same conversation, and none of which a client had read the [DONE] before."""
    done_s: dict[str, float] = {}
    for request in evidence.requests.values():
        for event in request.events:
            if event.event in {Event.DONE, Event.WHOLE} and request.turn_id is not None:
                done_s[request.turn_id] = min(event.mono_s, done_s.get(request.turn_id, event.mono_s))
    for request in evidence.requests.values():
        head = request.head
        if head is None or head.status != 409:
            continue
        active = evidence.turns.get(head.active_turn_id or "")
        conversation = request.opened.conversation_id
        if active is None or (conversation is not None and active.conversation_id != conversation):
            yield Violation(Check.WRONG_BUSY, head.active_turn_id, f"{request.opened.request}: no turn of it")
        elif done_s.get(active.turn_id, request.opened.mono_s) < request.opened.mono_s:
            yield Violation(Check.WRONG_BUSY, active.turn_id, f"{request.opened.request}: had [DONE] before")


def histories(evidence: Evidence) -> Iterator[Violation]:
    """The first history that a client reads after [DONE] of a stored turn has its answer."""
    due: dict[tuple[int | None, str], list[LoggedTurn]] = defaultdict(list)
    for operation in evidence.operations:
        request = evidence.requests.get(operation.request or "")
        if operation.event in {Event.DONE, Event.WHOLE} and request is not None:
            turn = evidence.turns.get(request.turn_id or "")
            if turn is not None and turn.stored and turn.conversation_id and turn.answered and turn.terminal:
                due[operation.client, turn.conversation_id].append(turn)
        elif operation.event is Event.HISTORY:
            for turn in due.pop((operation.client, operation.conversation_id or ""), []):
                yield from _in_history(operation, turn)


def _in_history(history: Operation, turn: LoggedTurn) -> Iterator[Violation]:
    status = "completed" if turn.ended == "finished" else "incomplete"
    found = [item for item in history.items or () if item.turn_id == turn.turn_id and item.role == "assistant"]
    if not found:
        yield Violation(Check.MISSING_HISTORY, turn.turn_id, "read after [DONE]")
    elif (found[0].text, found[0].status) != (turn.text, status):
        detail = f"{found[0].status}, {len(found[0].text)} of {len(turn.text)} characters"
        yield Violation(Check.MISSING_HISTORY, turn.turn_id, detail)


def healing(evidence: Evidence) -> Iterator[Violation]:
    """Whatever was hit serves again by itself."""
    for operation in evidence.operations:
        if operation.event is Event.HEALED and operation.status == 0:
            yield Violation(Check.NOT_HEALED, None, f"{operation.target} after {operation.fault}")
