"""Which earlier messages a turn continues: its branch of the conversation's tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.branches import walk
from schemas.errors import Refusal, Retryable, conversation_item_not_found, storage_unavailable
from schemas.events import NO_PARENT, Turn, TurnAdmitted
from schemas.ports import History, StoredMessage

Window = Sequence[StoredMessage]


@dataclass(frozen=True, slots=True)
class Branch:
    """What a turn continues: ``messages``, oldest first, and the ``message_seq`` after which it comes.

    ``rest`` is where older messages of the branch lie (``schemas.branches.Walk``), None when they are not needed.
    """

    messages: tuple[StoredMessage, ...]
    parent_seq: int
    rest: int | None = None


BEGINNING = Branch((), NO_PARENT)
Found = Branch | Refusal


def needs_history(turn: Turn) -> bool:
    """Whether earlier messages of the turn's conversation are stored and may be continued."""
    return not turn.starts_conversation and turn.parent_seq != NO_PARENT


def begin(event: TurnAdmitted, window: Window, messages_max: int) -> Branch:
    """The turn's branch as far as ``window`` shows it: the newest messages of the conversation, oldest first.

    A turn that names no parent comes after the newest message. What is stored of the turn itself, or after it, is no
    history: its record may come again. A window that is not full shows the whole conversation.
    """
    earlier = [stored for stored in window if stored.message_seq < event.message_seq]
    start = event.turn.parent_seq
    if start is None:
        start = earlier[-1].message_seq if earlier else NO_PARENT
    found = walk(earlier, start, messages_max)
    whole = len(window) < messages_max
    return Branch(found.path, start, None if whole else needed(found.path, found.rest, messages_max))


def go_on(branch: Branch, older: Window, messages_max: int) -> Branch:
    """``branch`` with what ``older`` (the messages at or before its ``rest``) shows of it."""
    if branch.rest is None:
        return branch
    found = walk(older, branch.rest, messages_max - len(branch.messages))
    messages = (*found.path, *branch.messages)
    rest = needed(messages, found.rest, messages_max) if older else None
    return replace(branch, messages=messages, rest=rest)


def needed(path: Window, rest: int | None, messages_max: int) -> int | None:
    """``rest``, unless ``path`` is long enough: half of what is considered at most is worth no further read."""
    return None if len(path) >= max(1, messages_max // 2) else rest


def judge(branch: Branch) -> Found:
    """``branch``, or the refusal of a turn whose parent does not exist."""
    if branch.parent_seq == NO_PARENT:
        return branch
    if not branch.messages or branch.messages[-1].message_seq != branch.parent_seq:
        return conversation_item_not_found()
    return branch


class Branches:
    """Finds the branches of a batch of turns; reads on where a branch leaves the newest messages."""

    def __init__(self, history: History, messages_max: int, windows_max: int) -> None:
        self._history = history
        self._messages_max = messages_max
        self._windows_max = windows_max

    async def find(self, events: Sequence[TurnAdmitted], windows: Mapping[str, Window]) -> Mapping[str, Found]:
        """By turn id. A turn whose conversation has no window (the store did not answer) is to be refused."""
        found: dict[str, Found] = {}
        for event in events:
            turn = event.turn
            if not needs_history(turn):
                found[turn.turn_id] = BEGINNING
            elif turn.conversation_id not in windows:
                found[turn.turn_id] = storage_unavailable()
            else:
                found[turn.turn_id] = begin(event, windows[turn.conversation_id], self._messages_max)
        conversations = {event.turn.turn_id: event.turn.conversation_id for event in events}
        await self._complete(found, conversations)
        return {turn_id: judge(branch) if isinstance(branch, Branch) else branch for turn_id, branch in found.items()}

    async def _complete(self, found: dict[str, Found], conversations: Mapping[str, str]) -> None:
        for _ in range(self._windows_max):
            unfinished = {
                turn_id: (conversations[turn_id], branch.rest)
                for turn_id, branch in found.items()
                if isinstance(branch, Branch) and branch.rest is not None
            }
            if not unfinished:
                return
            try:
                windows = await self._history.older(list(unfinished.values()), self._messages_max)
            except Retryable:
                found.update(dict.fromkeys(unfinished, storage_unavailable()))
                return
            for turn_id, older in zip(unfinished, windows, strict=True):
                branch = found[turn_id]
                if isinstance(branch, Branch):
                    found[turn_id] = go_on(branch, older, self._messages_max)
