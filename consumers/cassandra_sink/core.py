"""Decides what a batch of ``chat.tokens.v1`` means for the stores. Pure: no I/O, no clock.

A batch is first *planned*; after the plan's effects it is *kept*. A batch that failed half-way is planned again from
the same state, so nothing is lost and everything done twice is the same twice.

Time is log time: the highest record timestamp that the partition has shown. A turn without a terminal must not keep
the partition's position back for ever, so after ``turn_held_seconds_max`` of it the turn is *released*: written as
incomplete and no longer waited for; if its terminal comes after all (before a restart), it is written as if in time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from consumers.cassandra_sink.turns import HeldTurn, fold, opened_by
from schemas.headers import REPLAY, header
from schemas.ports import Received
from schemas.stream_state import StreamState
from schemas.tokens import AttemptStarted, Cancelled, Cleared, Failed, Probed, Refused, TokenEvent


class CassandraSinkSettings(BaseModel):
    """How much the sink holds and how often it shows it. Bounds are per partition."""

    model_config = ConfigDict(frozen=True)

    draft_interval_ms: int = Field(default=2_000, ge=0, description="Log time between two drafts of a turn.")
    text_bytes_max: int = Field(
        default=1_000_000, ge=1, description="UTF-8 bytes kept of one answer; the rest is lost to history."
    )
    turns_held_max: int = Field(
        default=2_000, ge=1, description="Beyond it the oldest turn is written as incomplete and forgotten."
    )
    held_bytes_max: int = Field(default=64_000_000, ge=1, description="Text of all held turns; beyond it likewise.")
    turn_held_seconds_max: int = Field(
        default=900, ge=1, description="Log time until a turn without a terminal is released; above any deadline."
    )
    uncleared_seconds_max: int = Field(
        default=30, ge=1, description="Log time until a turn whose clearance never came is forgotten."
    )
    turns_skipped_max: int = Field(
        default=20_000, ge=1, description="Ids of finished and stateless turns whose further records are ignored."
    )
    contexts_owed_max: int = Field(
        default=20_000, ge=1, description="Hot contexts still to be dropped after the cache failed."
    )
    context_retry_ms: int = Field(default=250, ge=1, description="Between two attempts to drop owed contexts.")
    context_messages_max: int = Field(
        default=64, ge=2, description="Messages kept in a hot context: as many as the prompt stage rebuilds."
    )
    context_ttl_s: int = Field(default=3_600, ge=1)
    context_seconds_max: float = Field(default=1.0, gt=0, description="For one refresh of contexts in the cache.")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one batch of one partition asks for, and what the partition's turns look like afterwards.

    ``ended``: cleared, stored turns with a terminal; write, refresh the context, say persisted. ``drafts``: as they
    were before this draft. ``given_up``: write as incomplete. ``replayed``: an earlier life of the sink persisted
    these, perhaps without their hot context: drop it. ``dropped`` counts turns lost to a bound.
    """

    log_time_ms: int
    turns: Mapping[str, HeldTurn]
    skipped: tuple[str, ...]
    ended: tuple[HeldTurn, ...]
    drafts: tuple[HeldTurn, ...]
    given_up: tuple[HeldTurn, ...]
    replayed: tuple[HeldTurn, ...]
    dropped: int


class PartitionTurns:
    """The turns of one partition of the tokens topic that are not yet stored for good."""

    def __init__(self, settings: CassandraSinkSettings) -> None:
        self._settings = settings
        self._turns: Mapping[str, HeldTurn] = {}
        # Insertion order is age.
        self._skipped: dict[str, None] = {}
        self._owed: dict[str, int] = {}
        self._log_time_ms = 0

    def plan(self, batch: Sequence[Received[TokenEvent]]) -> Plan:
        """What ``batch``, the partition's next records in log order, asks for. Changes nothing."""
        log_time_ms = max((received.record.timestamp_ms for received in batch), default=0)
        log_time_ms = max(log_time_ms, self._log_time_ms)
        turns = dict(self._turns)
        skipped = self._fold_into(turns, batch)
        gone = [turn_id for turn_id, turn in turns.items() if turn.ended]
        gone_turns = [turns.pop(turn_id) for turn_id in gone]
        overdue = self._release(turns, log_time_ms)
        uncleared = [turn_id for turn_id, turn in turns.items() if self._waits_in_vain(turn, log_time_ms)]
        for turn_id in uncleared:
            del turns[turn_id]
        dropped = self._drop_beyond_bounds(turns)
        drafts = self._draft(turns, log_time_ms)
        return Plan(
            log_time_ms=log_time_ms,
            turns=turns,
            skipped=(*skipped, *gone, *uncleared, *(turn_id for turn_id, _ in dropped)),
            ended=tuple(turn for turn in gone_turns if turn.state.persisted is None),
            drafts=drafts,
            given_up=(*overdue, *(turn for _, turn in dropped if turn.state.cleared is not None and not turn.released)),
            replayed=tuple(turn for turn in gone_turns if turn.state.persisted is not None),
            dropped=len(dropped),
        )

    def keep(self, plan: Plan, *, contexts_refreshed: bool) -> int:
        """Take over what ``plan`` decided, after its effects; how many owed contexts were forgotten at the bound.

        Without ``contexts_refreshed`` the contexts of the plan's turns are owed: they keep the position back.
        """
        self._turns = plan.turns
        self._log_time_ms = plan.log_time_ms
        self._skipped.update(dict.fromkeys(plan.skipped))
        _drop_oldest(self._skipped, self._settings.turns_skipped_max)
        if contexts_refreshed:
            return 0
        for turn in (*plan.ended, *plan.replayed):
            if turn.state.cleared is not None:
                self._owed.setdefault(turn.state.cleared.conversation_id, turn.first_offset)
        return _drop_oldest(self._owed, self._settings.contexts_owed_max)

    def owed(self) -> tuple[str, ...]:
        """Conversations whose hot context may lack a message, oldest debt first."""
        return tuple(self._owed)

    def repaid(self, conversation_ids: Iterable[str]) -> None:
        """The hot contexts of these are gone or whole."""
        for conversation_id in conversation_ids:
            self._owed.pop(conversation_id, None)

    def safe_position(self, position: int) -> int:
        """From where a restart must read so that it sees every turn that still needs work; at most ``position``."""
        held = (turn.first_offset for turn in self._turns.values() if not turn.released)
        return min((position, *held, *self._owed.values()))

    def _fold_into(self, turns: dict[str, HeldTurn], batch: Sequence[Received[TokenEvent]]) -> list[str]:
        skipped: dict[str, None] = {}
        for turn_id, records in _by_turn(batch).items():
            if turn_id in self._skipped:
                continue
            turn = turns.get(turn_id)
            if turn is None:
                first = _opening(records)
                if first is None:
                    continue
                turn = opened_by(records[first])
            turn = fold(turn, records, self._settings.text_bytes_max)
            if _is_nobodys(turn.state) or _is_replay(records):
                skipped[turn_id] = None
                turns.pop(turn_id, None)
            else:
                turns[turn_id] = turn
        return list(skipped)

    def _release(self, turns: dict[str, HeldTurn], log_time_ms: int) -> tuple[HeldTurn, ...]:
        limit_ms = log_time_ms - self._settings.turn_held_seconds_max * 1000
        overdue = [
            (turn_id, turn)
            for turn_id, turn in turns.items()
            if turn.state.cleared is not None and not turn.released and turn.opened_ms < limit_ms
        ]
        turns.update((turn_id, replace(turn, released=True)) for turn_id, turn in overdue)
        return tuple(turn for _, turn in overdue)

    def _waits_in_vain(self, turn: HeldTurn, log_time_ms: int) -> bool:
        waited_ms = log_time_ms - turn.opened_ms
        return turn.state.cleared is None and waited_ms > self._settings.uncleared_seconds_max * 1000

    def _drop_beyond_bounds(self, turns: dict[str, HeldTurn]) -> list[tuple[str, HeldTurn]]:
        turns_max, bytes_max = self._settings.turns_held_max, self._settings.held_bytes_max
        held_bytes = sum(turn.text_bytes for turn in turns.values())
        dropped: list[tuple[str, HeldTurn]] = []
        if len(turns) <= turns_max and held_bytes <= bytes_max:
            return dropped
        # Released turns have had their chance; among equals the oldest goes first.
        by_worth = sorted(turns, key=lambda turn_id: (not turns[turn_id].released, turns[turn_id].first_offset))
        for turn_id in by_worth:
            if len(turns) <= turns_max and held_bytes <= bytes_max:
                break
            turn = turns.pop(turn_id)
            held_bytes -= turn.text_bytes
            dropped.append((turn_id, turn))
        return dropped

    def _draft(self, turns: dict[str, HeldTurn], log_time_ms: int) -> tuple[HeldTurn, ...]:
        due = [(turn_id, turn) for turn_id, turn in turns.items() if self._draft_is_due(turn, log_time_ms)]
        for turn_id, turn in due:
            turns[turn_id] = replace(turn, drafted_ms=log_time_ms, drafted_seq=turn.state.next_seq)
        return tuple(turn for _, turn in due)

    def _draft_is_due(self, turn: HeldTurn, log_time_ms: int) -> bool:
        # A draft after the release would show as streaming what nobody may ever finish.
        if turn.state.cleared is None or turn.released or not turn.undrafted:
            return False
        return turn.drafted_ms is None or log_time_ms - turn.drafted_ms >= self._settings.draft_interval_ms


def _by_turn(batch: Sequence[Received[TokenEvent]]) -> dict[str, list[Received[TokenEvent]]]:
    turns: dict[str, list[Received[TokenEvent]]] = {}
    for received in batch:
        event = received.event
        if not isinstance(event, Probed):
            turns.setdefault(event.turn_id, []).append(received)
    return turns


def _opening(records: Sequence[Received[TokenEvent]]) -> int | None:
    """Where a turn that is not held begins: its clearance as a rule, or what overtook or replaced it.

    What else comes first belongs to a turn that is over.
    """
    for index, received in enumerate(records):
        if isinstance(received.event, Cleared | AttemptStarted | Refused | Cancelled | Failed):
            return index
    return None


def _is_nobodys(state: StreamState) -> bool:
    """Whether nothing of the turn is stored: it was refused, or its client keeps the history itself."""
    if state.cleared is None:
        return isinstance(state.terminal, Refused)
    return not state.cleared.stored


def _is_replay(records: Sequence[Received[TokenEvent]]) -> bool:
    return any(isinstance(r.event, Cleared) and header(r.record.headers, REPLAY) is not None for r in records)


def _drop_oldest(entries: dict[str, None] | dict[str, int], entries_max: int) -> int:
    excess = max(0, len(entries) - entries_max)
    for key in list(entries)[:excess]:
        del entries[key]
    return excess
