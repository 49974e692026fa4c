"""Drives dead letters back to their topics, each at most one turn, whatever crashes and however often it is asked.

In this order: the audit topic has that it was begun and under which new turn id; the topic gets the record; the audit
topic has that it was done. A run that finds an earlier one that got no further than its beginning goes on with that
one's turn id, and appends nothing if the log shows that turn already. What two appends would do is the same as one:
stages, bills and history know a turn by its id.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from producers.redrive import core
from producers.redrive.core import Candidate, CannotRedriveError
from producers.redrive.letters import Letter, Place
from producers.redrive.ports import RedrivePorts
from producers.redrive.states import NEW_TURN, ORIGIN, REDRIVE, TOKENS_FROM, TURN, Fates, LetterState, Rebirth, fold
from producers.redrive.summary import (
    DELETED,
    UNFINISHED,
    Redriven,
    RedriveRequest,
    RedriveSettings,
    RedriveSummary,
    passed_over,
)
from producers.replay.pace import Pace
from schemas.errors import Retryable
from schemas.ids import turn_partition, turn_time_ms
from schemas.operations import OperatorActed
from schemas.ports import Outgoing, TopicPartition
from schemas.stream_state import INITIAL
from schemas.tokens import Cleared
from schemas.topics import TOKENS, TURNS_SUBMITTED


@dataclass(frozen=True, slots=True, repr=False)
class _Begun:
    """A redrive that the audit topic has. ``resumed``: it goes on with the turn of an earlier one."""

    candidate: Candidate
    action: OperatorActed
    rebirth: Rebirth | None
    resumed: bool


class Redrive:
    """One run over letters in the order of their burial."""

    def __init__(self, ports: RedrivePorts, settings: RedriveSettings, request: RedriveRequest, pace: Pace) -> None:
        self._ports = ports
        self._pace = pace
        self._settings = settings
        self._request = request
        self._summary = RedriveSummary()
        self._origins: set[Place] = set()
        self._running: dict[str, str] = {}

    async def plan(self, letters: Iterable[Letter]) -> RedriveSummary:
        """What ``run`` would do; ``redriven`` are those that it would append. Raises Retryable."""
        fates = fold(await self._ports.actions())
        candidates = await self._owned(self._candidates(letters, fates))
        self._summary.redriven += [
            Redriven(each.letter.place, each.old_turn_id, None, appended=False) for each in candidates
        ]
        return self._summary

    async def run(self, letters: Sequence[Letter], on_progress: Callable[[int], None]) -> RedriveSummary:
        """Redrive ``letters``; ``on_progress`` hears how many more are done with. Raises Retryable, OutcomeUnknown.

        After an error it can be run again: what was begun goes on as it was begun.
        """
        size = self._pace.batch_max(self._settings.batch_letters_max)
        for start in range(0, len(letters), size):
            batch = letters[start : start + size]
            await self._pace.take(len(batch))
            fates = fold(await self._ports.actions())
            begun = await self._begin(await self._owned(self._candidates(batch, fates)), fates)
            on_progress(len(batch) - len(begun))
            await self._finish(begun, on_progress)
        return self._summary

    def _candidates(self, letters: Iterable[Letter], fates: Fates) -> list[Candidate]:
        found: list[Candidate] = []
        for letter in letters:
            self._summary.letters += 1
            if letter.origin in self._origins:
                # Another letter of the same record.
                continue
            state = fates.of(letter.origin).state
            if state is not LetterState.OPEN and not self._request.again:
                self._summary.closed[passed_over(state)] += 1
                continue
            try:
                found.append(self._candidate(letter))
            except CannotRedriveError as obstacle:
                self._summary.stays(letter, str(obstacle))
                continue
            self._origins.add(letter.origin)
        return found

    def _candidate(self, letter: Letter) -> Candidate:
        candidate = core.examine(letter, self._request.mending)
        turn_id = candidate.old_turn_id
        if turn_id is not None and turn_partition(turn_id) >= self._ports.tokens_partitions:
            raise CannotRedriveError("its turn id names a partition that does not exist")
        return candidate

    async def _owned(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those whose conversation still is their user's: auth asks for itself, the stages after it do not."""
        asking = [each for each in candidates if _past_auth(each) and each.turn is not None and each.turn.stored]
        ids = list(dict.fromkeys(each.turn.conversation_id for each in asking if each.turn is not None))
        owners = await self._ports.conversations.owners(ids) if ids else {}
        lost = {
            each.letter.place
            for each in asking
            if each.turn is not None and owners.get(each.turn.conversation_id) != each.owner
        }
        for each in candidates:
            if each.letter.place in lost:
                self._summary.stays(each.letter, DELETED)
        return [each for each in candidates if each.letter.place not in lost]

    async def _begin(self, candidates: Sequence[Candidate], before: Fates) -> list[_Begun]:
        """Audit that ``candidates`` are redriven. The first to begin a letter, in the log's order, names its turn."""
        if not candidates:
            return []
        ports = self._ports
        homes = {turn_partition(each.old_turn_id) for each in candidates if each.old_turn_id is not None}
        ends = await ports.reader.end_offsets([TopicPartition(TOKENS.name, home) for home in sorted(homes)])
        now_ms = ports.now_ms()
        actions = [self._action(each, now_ms, {one.partition: end for one, end in ends.items()}) for each in candidates]
        await ports.trail.write(actions, [each.old_turn_id for each in candidates])
        fates = fold(await ports.actions())
        return [
            _Begun(each, action, fates.of(each.letter.origin).rebirth, _is_known(before, each))
            for each, action in zip(candidates, actions, strict=True)
        ]

    def _action(self, candidate: Candidate, now_ms: int, ends: dict[int, int]) -> OperatorActed:
        details = {ORIGIN: str(candidate.letter.origin)}
        if candidate.mended:
            details["mended"] = "yes"
        old = candidate.old_turn_id
        if old is not None and (born := core.rebirth(candidate, now_ms, ends[turn_partition(old)])) is not None:
            details |= {TURN: old, NEW_TURN: born.turn_id, TOKENS_FROM: str(born.tokens_from)}
        return self._ports.trail.begun(REDRIVE, str(candidate.letter.place), self._request.reason, details)

    async def _finish(self, begun: Sequence[_Begun], on_progress: Callable[[int], None]) -> None:
        waiting = list(begun)
        while waiting:
            wave, later = _first_of_each_lane(waiting)
            ready = [each for each in wave if await self._may_start(each)]
            await self._append(ready)
            on_progress(len(wave))
            waiting = later

    async def _may_start(self, begun: _Begun) -> bool:
        """Wait until nothing runs in its conversation: auth would refuse a turn that comes beside another."""
        lane, settings = begun.candidate.lane, self._settings
        if lane is None:
            return True
        for _ in range(max(1, round(settings.settle_seconds_max / settings.settle_poll_seconds))):
            if not await self._is_busy(lane, begun):
                return True
            await self._ports.wait(settings.settle_poll_seconds)
        self._summary.stays(begun.candidate.letter, UNFINISHED)
        return False

    async def _is_busy(self, lane: str, begun: _Begun) -> bool:
        noted = () if begun.candidate.turn is None else (await self._ports.active.active([lane])).get(lane, ())
        own = {begun.candidate.old_turn_id, None if begun.rebirth is None else begun.rebirth.turn_id}
        others = {*noted, *filter(None, (self._running.get(lane),))} - own
        return any([await self._is_running(turn_id) for turn_id in sorted(others)])

    async def _is_running(self, turn_id: str) -> bool:
        """In doubt, and beyond the time that a turn may take, it is not."""
        age_ms = self._ports.now_ms() - turn_time_ms(turn_id)
        if age_ms > self._settings.allowance_seconds_max * 1000:
            return False
        try:
            state = await self._ports.turns.find(turn_id)
        except Retryable:
            return False
        if state is INITIAL:
            return age_ms < self._settings.unseen_seconds_max * 1000
        return not state.settled

    async def _append(self, wave: Sequence[_Begun]) -> None:
        known = [each for each in wave if await self._is_on_the_log(each)]
        fresh = [each for each in wave if each not in known]
        records = {each.action.action_id: await self._records(each) for each in fresh}
        fresh = [each for each in fresh if records[each.action.action_id]]
        noted = {
            each.rebirth.turn_id: each.candidate.lane
            for each in fresh
            if each.rebirth is not None and each.candidate.lane is not None and _past_auth(each.candidate)
        }
        if noted:
            await self._ports.active.begin(noted)
        # A clearance lies on the log before the request for which it is: two appends, not one.
        for place in (0, 1):
            rows = [each[place] for each in records.values() if len(each) > place]
            if rows:
                await self._ports.producer.append(rows)
        await self._audit_done([*known, *fresh], appended=frozenset(each.action.action_id for each in fresh))
        for each in fresh:
            if each.candidate.lane is not None and each.rebirth is not None:
                self._running[each.candidate.lane] = each.rebirth.turn_id

    async def _is_on_the_log(self, begun: _Begun) -> bool:
        """Whether an earlier run got further than its beginning; in doubt it did not."""
        if not begun.resumed or begun.rebirth is None:
            return False
        try:
            return await self._ports.turns.find(begun.rebirth.turn_id) is not INITIAL
        except Retryable:
            return False

    async def _records(self, begun: _Begun) -> list[Outgoing]:
        """What goes to the log; nothing when it turns out that it cannot."""
        candidate, born = begun.candidate, begun.rebirth
        if candidate.turn is None or born is None:
            return [core.unchanged(candidate)]
        allowance_ms_max = self._settings.allowance_seconds_max * 1000
        try:
            record = core.asked_again(candidate, born, self._ports.now_ms(), allowance_ms_max)
        except CannotRedriveError as obstacle:
            self._summary.stays(candidate.letter, str(obstacle))
            return []
        cleared = core.cleared_again(candidate, born, await self._original(candidate))
        return [record] if cleared is None else [cleared, record]

    async def _original(self, candidate: Candidate) -> Cleared | None:
        """The clearance of the old turn, while the log has it."""
        if candidate.old_turn_id is None or not core.is_cleared(candidate):
            return None
        try:
            return await self._ports.turns.clearance(candidate.old_turn_id)
        except Retryable:
            return None

    async def _audit_done(self, wave: Sequence[_Begun], appended: frozenset[str]) -> None:
        if not wave:
            return
        trail = self._ports.trail
        told = [_told(each) for each in wave]
        new_ids = [None if each.rebirth is None else each.rebirth.turn_id for each in wave]
        await trail.write([trail.ended(action) for action in told], new_ids)
        self._summary.redriven += [
            Redriven(each.candidate.letter.place, each.candidate.old_turn_id, new_id, each.action.action_id in appended)
            for each, new_id in zip(wave, new_ids, strict=True)
        ]


def _told(begun: _Begun) -> OperatorActed:
    """Its action with the turn under which it really was asked again."""
    if begun.rebirth is None:
        return begun.action
    fixed = {NEW_TURN: begun.rebirth.turn_id, TOKENS_FROM: str(begun.rebirth.tokens_from)}
    return begun.action.model_copy(update={"details": {**begun.action.details, **fixed}})


def _past_auth(candidate: Candidate) -> bool:
    return candidate.turn is not None and candidate.letter.topic is not TURNS_SUBMITTED


def _is_known(fates: Fates, candidate: Candidate) -> bool:
    return fates.of(candidate.letter.origin).rebirth is not None


def _first_of_each_lane(begun: Sequence[_Begun]) -> tuple[list[_Begun], list[_Begun]]:
    """Those that may go now, and those that come after one of them in its conversation."""
    wave: list[_Begun] = []
    later: list[_Begun] = []
    taken: set[str] = set()
    for each in begun:
        lane = each.candidate.lane
        if lane is not None and lane in taken:
            later.append(each)
            continue
        wave.append(each)
        if lane is not None:
            taken.add(lane)
    return wave, later
