"""Clients that want their answers: they retry, resume, hang up, double their requests and get in each other's way."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.edge_client import EdgeClient, Outcome, Result, View, request_body
from tests.faults.operations import Event, OperationLog
from tests.faults.turn_plans import Manner, TurnPlan

TURN_SECONDS_MAX: Final = 120.0
HISTORY_TRIES_MAX: Final = 8
CANCEL_TRIES_MAX: Final = 8
BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 1.0
# A failure that the log knows is told again whoever asks; once may be the view of one edge.
SAME_FAILURES_MAX: Final = 3
_AGAIN: Final = frozenset({408, 409, 425, 429})
_FINAL: Final = frozenset(
    {
        "upstream_unavailable",
        "deadline_exceeded",
        "upstream_rejected",
        "continuation_unsupported",
        "generation_failed",
        "turn_failed",
    }
)


@dataclass(frozen=True, slots=True)
class Ask:
    """How a view is asked for: with ``body`` by POST, or only ever by the resume route."""

    edge: int
    body: dict[str, Any] | None = None
    attach_when_busy: bool = False


class Client:
    """One user at one device after the other. ``turn`` never raises for what a server does."""

    def __init__(self, number: int, edges: EdgeClient, log: OperationLog) -> None:
        self._number = number
        self._edges = edges
        self._log = log
        self._conversation_id: str | None = None

    async def turn(self, plan: TurnPlan) -> None:
        """One turn in the manner of its plan, to its end or ``TURN_SECONDS_MAX``; then the history, if it is kept."""
        if plan.starts_new:
            self._conversation_id = None
        body = request_body(plan, plan.prompt, self._conversation_id if plan.stored else None)
        view = self._view(plan, "a")
        view.cuts, view.slow = list(plan.cuts), plan.manner is Manner.SLOW
        async with asyncio.TaskGroup() as acts:
            main = acts.create_task(self._follow(view, Ask(plan.edge, body), plan.prompt))
            if plan.manner is Manner.TWINS:
                acts.create_task(self._follow(self._view(plan, "b"), Ask(1 - plan.edge, body), plan.prompt))
            elif plan.manner in {Manner.BUSY, Manner.CANCEL, Manner.ATTACH}:
                acts.create_task(self._second_act(plan, view))
        if plan.stored and main.result():
            self._conversation_id = view.conversation_id
            await self._read_history(view, 1 - plan.edge)

    def _view(self, plan: TurnPlan, name: str, key: str | None = None) -> View:
        view = View(self._number, f"t{plan.number}.{name}", key or plan.key, plan.pieces_before)
        view.conversation_id = self._conversation_id if plan.stored else None
        return view

    async def _second_act(self, plan: TurnPlan, first: View) -> None:
        await first.begun.wait()
        if first.turn_id is None:
            return
        if plan.manner is Manner.CANCEL:
            await self._cancel(first, 1 - plan.edge)
        elif plan.manner is Manner.ATTACH:
            second = self._view(plan, "b")
            second.turn_id, second.conversation_id = first.turn_id, first.conversation_id
            await self._follow(second, Ask(1 - plan.edge), None)
        elif first.conversation_id is not None:
            second = self._view(plan, "b", plan.key + "-busy")
            second.conversation_id = first.conversation_id
            body = request_body(plan, plan.second_prompt, first.conversation_id)
            await self._follow(second, Ask(1 - plan.edge, body, attach_when_busy=True), plan.second_prompt)

    async def _cancel(self, view: View, edge: int) -> None:
        for attempt in range(CANCEL_TRIES_MAX):
            if await self._edges.cancel(view, (edge + attempt) % 2):
                return
            await asyncio.sleep(BACKOFF_SECONDS_MAX / 4)

    async def _read_history(self, view: View, edge: int) -> None:
        for attempt in range(HISTORY_TRIES_MAX):
            if await self._edges.history(view, (edge + attempt) % 2):
                return
            await asyncio.sleep(BACKOFF_SECONDS_MAX / 2)

    async def _follow(self, view: View, ask: Ask, prompt: str | None) -> bool:
        """See a turn to its end; whether it came in order."""
        said = {"client": view.client, "reader": view.reader, "key": view.key}
        stream = ask.body is None or ask.body["stream"]
        self._log.note(Event.INVOKE, **said, prompt=prompt, stream=stream, stored=view.conversation_id is not None)
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                code = await self._insist(view, ask)
        except TimeoutError:
            self._log.note(Event.UNKNOWN, **said)
            return False
        finally:
            view.begun.set()
        self._log.note(Event.FAIL if code else Event.OK, **said, code=code, turn_id=view.turn_id)
        return code is None

    async def _insist(self, view: View, ask: Ask) -> str | None:
        """None when the answer came to its end, else the code of the failure that stays."""
        edge, backoff_s = ask.edge, 0.0
        attached, failures = ask.body is None, 0
        while True:
            pieces_before = view.pieces
            if ask.body is not None and not attached and view.cursor is None:
                outcome = await self._edges.post(view, edge, ask.body)
            else:
                outcome = await self._edges.resume(view, edge)
            if outcome.result is Result.OVER:
                return None
            if outcome.status == 409 and ask.attach_when_busy and outcome.turn_id is not None:
                attached, view.turn_id, view.cursor = True, outcome.turn_id, None
                continue
            if _is_final(outcome):
                failures += 1
                if failures >= SAME_FAILURES_MAX or _is_ours(outcome, attached=attached or view.cursor is not None):
                    return outcome.code
            if outcome.status == 404 and not attached:
                # The cursor's turn is not known there: the key says which one it was.
                view.cursor = None
            backoff_s = 0.0 if view.pieces > pieces_before else min(BACKOFF_SECONDS_MAX, backoff_s * 2)
            await asyncio.sleep(backoff_s)
            backoff_s = max(backoff_s, BACKOFF_SECONDS_MIN)
            edge = 1 - edge


def _is_final(outcome: Outcome) -> bool:
    return outcome.code in _FINAL or _is_ours(outcome, attached=False)


def _is_ours(outcome: Outcome, *, attached: bool) -> bool:
    """Whether it is the client's own mistake, so that asking again is no use."""
    if outcome.status == 404 and attached:
        return False
    return 400 <= outcome.status < 500 and outcome.status not in _AGAIN
