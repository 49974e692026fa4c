"""Decides what a batch of ``chat.tokens.v1`` means for the stores. Pure: no I/O, no clock.

A batch is first *planned*; after the plan's effects it is *kept*. A batch that failed half-way is planned again from
the same state, so nothing is lost and everything done twice is the same twice.

Time is log time: the highest record timestamp that the partition has shown. What is held is bounded in number, in
bytes and in time. A turn beyond a bound is *given up*: written as incomplete and forgotten. So is what a restart did
not see begin. Nothing is lost by that: a record that may end a turn which is not held whole makes the turn
*unexplained*, and the batch is planned again with what the log says about it (``recovery``), from its first record.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from consumers.cassandra_sink.turns import HeldTurn, TextBounds, claims_end, fold, opened_by
from schemas.ports import Received
from schemas.tokens import AttemptStarted, Cancelled, Cleared, Failed, Probed, Refused, TokenEvent


class CassandraSinkSettings(BaseModel):
    """How much the sink holds and how often it shows it. Bounds are per partition."""

    model_config = ConfigDict(frozen=True)

    draft_interval_ms: int = Field(default=2_000, ge=0, description="Log time between two drafts of a turn.")
    text_bytes_max: int = Field(
        default=1_000_000, ge=1, description="UTF-8 bytes kept of one answer; the rest is lost to history."
    )
    pieces_max: int = Field(
        default=100_000, ge=1, description="Deltas kept of one answer; the rest is lost to history likewise."
    )
    turns_held_max: int = Field(
        default=2_000,
        ge=1,
        description="Beyond it the oldest turn is written as incomplete and read again from the log when it ends.",
    )
    held_bytes_max: int = Field(
        default=64_000_000, ge=1, description="Questions and answers of all held turns; beyond it likewise."
    )
    turn_held_seconds_max: int = Field(
        default=900, ge=1, description="Log time until a turn without a terminal is given up likewise."
    )
    uncleared_seconds_max: int = Field(
        default=30, ge=1, description="Log time until a turn whose clearance never came is forgotten."
    )
    turns_passed_max: int = Field(
        default=20_000, ge=1, description="Ids of turns that are over, stateless, refused or given up."
    )
    recovery_records_max: int = Field(
        default=1_000_000, ge=1, description="How far back a turn that ends is looked for; beyond it is not stored."
    )
    recovery_batch_records_max: int = Field(default=5_000, ge=1, description="Of one read of the log.")
    recovery_skew_seconds_max: float = Field(
        default=10.0, ge=0, description="How much a clock may lag behind that of the edge which made a turn's id."
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


class Plan(NamedTuple):
    """What one batch of one partition asks for, and what the partition's turns look like afterwards.

    ``ended``: cleared, stored turns with a terminal; write, refresh the context, say persisted. ``drafts``: as they
    were before this draft. ``given_up``: write as incomplete. ``replayed``: an earlier life of the sink persisted
    these, perhaps without their hot context: drop it. ``dropped`` counts turns beyond the bounds on what is held,
    ``overdue`` cleared ones whose terminal did not come in time.
    With ``unexplained`` turns the plan must not be followed: plan again with what the log has of them.
    ``passed``: turns that are not held; True for those of which no further record counts.
    """

    log_time_ms: int
    turns: Mapping[str, HeldTurn]
    passed: Mapping[str, bool]
    unexplained: tuple[str, ...] = ()
    ended: tuple[HeldTurn, ...] = ()
    drafts: tuple[HeldTurn, ...] = ()
    given_up: tuple[HeldTurn, ...] = ()
    replayed: tuple[HeldTurn, ...] = ()
    dropped: int = 0
    overdue: int = 0

    @property
    def has_effects(self) -> bool:
        """Whether there is anything to write, to refresh or to say."""
        return bool(self.ended or self.drafts or self.given_up or self.replayed)


Found = Mapping[str, HeldTurn | None]
Records = Mapping[str, Sequence[Received[TokenEvent]]]
NOTHING_FOUND: Final[Found] = {}


class PartitionTurns:
    """The turns of one partition of the tokens topic that are not yet stored for good."""

    def __init__(self, settings: CassandraSinkSettings) -> None:
        self._settings = settings
        self._bounds = TextBounds(settings.text_bytes_max, settings.pieces_max)
        self._turns: Mapping[str, HeldTurn] = {}
        # Insertion order is age.
        self._passed: dict[str, bool] = {}
        self._owed: dict[str, int] = {}
        self._log_time_ms = 0

    def plan(self, batch: Sequence[Received[TokenEvent]], found: Found = NOTHING_FOUND) -> Plan:
        """What ``batch``, the partition's next records in log order, asks for. Changes nothing.

        ``found``: for turns that an earlier plan of the same batch left unexplained what the log has of them up to the
        end of the batch, None where it has nothing.
        """
        log_time_ms = max([self._log_time_ms, *(received.record.timestamp_ms for received in batch)])
        turns, passed, records_of = dict(self._turns), dict[str, bool](), self._by_turn(batch)
        if not turns and not records_of:
            return Plan(log_time_ms, turns, passed)
        unexplained = self._fold_into(turns, passed, records_of, found)
        # Only what this batch speaks of can have ended in it.
        gone = [turns.pop(turn_id) for turn_id in records_of if turn_id in turns and turns[turn_id].ended]
        passed.update((turn.state.cleared.turn_id, True) for turn in gone if turn.state.cleared is not None)
        overdue = self._overdue(turns, log_time_ms)
        dropped = self._beyond_bounds({each: turn for each, turn in turns.items() if each not in overdue})
        forgotten = {each: turns.pop(each) for each in (*overdue, *dropped)}
        passed.update(dict.fromkeys(forgotten, False))
        return Plan(
            log_time_ms=log_time_ms,
            drafts=self._draft(turns, log_time_ms),
            turns=turns,
            passed=passed,
            unexplained=unexplained,
            ended=tuple(turn for turn in gone if turn.state.persisted is None),
            given_up=tuple(turn for turn in forgotten.values() if turn.state.cleared is not None),
            replayed=tuple(turn for turn in gone if turn.state.persisted is not None),
            dropped=len(dropped),
            overdue=sum(forgotten[each].state.cleared is not None for each in overdue),
        )

    def keep(self, plan: Plan, *, contexts_refreshed: bool) -> int:
        """Take over what ``plan`` decided, after its effects; how many owed contexts were forgotten at the bound.

        Without ``contexts_refreshed`` the contexts of the plan's turns are owed: they keep the position back.
        """
        self._turns = plan.turns
        self._log_time_ms = plan.log_time_ms
        self._passed.update(plan.passed)
        _drop_oldest(self._passed, self._settings.turns_passed_max)
        if contexts_refreshed:
            return 0
        for turn in (*plan.ended, *plan.replayed):
            if turn.state.cleared is not None:
                self._owed.setdefault(turn.state.cleared.conversation_id, turn.first_offset)
        return _drop_oldest(self._owed, self._settings.contexts_owed_max)

    def owed(self) -> tuple[str, ...]:
        """Conversations whose hot context may lack a message, oldest debt first."""
        return tuple(self._owed)

    @property
    def held(self) -> int:
        """How many cleared turns have not ended yet."""
        return sum(turn.state.cleared is not None for turn in self._turns.values())

    def repaid(self, conversation_ids: Iterable[str]) -> None:
        """The hot contexts of these are gone or whole."""
        for conversation_id in conversation_ids:
            self._owed.pop(conversation_id, None)

    def safe_position(self, position: int) -> int:
        """From where a restart must read so that it sees every turn that is held; at most ``position``."""
        held = (turn.first_offset for turn in self._turns.values())
        return min((position, *held, *self._owed.values()))

    def _by_turn(self, batch: Sequence[Received[TokenEvent]]) -> Records:
        """The records that may count, by their turn."""
        records_of: dict[str, list[Received[TokenEvent]]] = {}
        for received in batch:
            event = received.event
            if not isinstance(event, Probed) and not self._is_over(event.turn_id):
                records_of.setdefault(event.turn_id, []).append(received)
        return records_of

    def _fold_into(
        self, turns: dict[str, HeldTurn], passed: dict[str, bool], records_of: Records, found: Found
    ) -> tuple[str, ...]:
        """Fold the batch into ``turns`` and ``passed``; the turns of which too little is known for that."""
        unexplained: list[str] = []
        for turn_id, records in records_of.items():
            known = turn_id in found
            turn = found[turn_id] if known else self._folded(turn_id, records)
            explained = known or (turn is not None and turn.explained)
            if claims_end(records) and not explained:
                unexplained.append(turn_id)
            elif turn is not None and not turn.nobodys:
                turns[turn_id] = turn
            elif turn is not None or known:
                turns.pop(turn_id, None)
                # A refusal alone may be that of a repetition, after a clearance that was not seen here.
                passed[turn_id] = known or (turn is not None and turn.state.cleared is not None)
        return tuple(unexplained)

    def _folded(self, turn_id: str, records: Sequence[Received[TokenEvent]]) -> HeldTurn | None:
        turn = self._turns.get(turn_id)
        if turn is not None:
            return fold(turn, records, self._bounds)
        first = _opening(records)
        if turn_id in self._passed or first is None:
            return None
        # What comes before the opening may show that there was more.
        return fold(opened_by(records[first]), records, self._bounds)

    def _is_over(self, turn_id: str) -> bool:
        return self._passed.get(turn_id, False) and turn_id not in self._turns

    def _overdue(self, turns: Mapping[str, HeldTurn], log_time_ms: int) -> tuple[str, ...]:
        cleared_ms = log_time_ms - self._settings.turn_held_seconds_max * 1000
        uncleared_ms = log_time_ms - self._settings.uncleared_seconds_max * 1000
        return tuple(
            turn_id
            for turn_id, turn in turns.items()
            if turn.opened_ms < (uncleared_ms if turn.state.cleared is None else cleared_ms)
        )

    def _beyond_bounds(self, turns: Mapping[str, HeldTurn]) -> tuple[str, ...]:
        """The oldest of ``turns``, as many as must go."""
        excess = len(turns) - self._settings.turns_held_max
        excess_bytes = sum(turn.held_bytes for turn in turns.values()) - self._settings.held_bytes_max
        if excess <= 0 and excess_bytes <= 0:
            return ()
        dropped: list[str] = []
        for turn_id in sorted(turns, key=lambda each: turns[each].first_offset):
            if len(dropped) >= excess and excess_bytes <= 0:
                break
            dropped.append(turn_id)
            excess_bytes -= turns[turn_id].held_bytes
        return tuple(dropped)

    def _draft(self, turns: dict[str, HeldTurn], log_time_ms: int) -> tuple[HeldTurn, ...]:
        drafted_ms = log_time_ms - self._settings.draft_interval_ms
        due = [
            turn_id
            for turn_id, turn in turns.items()
            if (turn.drafted_ms is None or turn.drafted_ms <= drafted_ms) and turn.whole and turn.undrafted
        ]
        shown = tuple(turns[turn_id] for turn_id in due)
        for turn_id, turn in zip(due, shown, strict=True):
            turns[turn_id] = turn._replace(drafted_ms=log_time_ms, drafted_seq=turn.state.next_seq)
        return shown


def _opening(records: Sequence[Received[TokenEvent]]) -> int | None:
    """Where a turn that is not held begins: its clearance as a rule, or what overtook or replaced it.

    What else comes first belongs to a turn that is over.
    """
    for index, received in enumerate(records):
        if isinstance(received.event, Cleared | AttemptStarted | Refused | Cancelled | Failed):
            return index
    return None


def _drop_oldest(entries: dict[str, bool] | dict[str, int], entries_max: int) -> int:
    excess = max(0, len(entries) - entries_max)
    for key in list(islice(entries, excess)):
        del entries[key]
    return excess
