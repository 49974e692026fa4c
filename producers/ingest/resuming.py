"""Picking an answer up again: on any edge, during the turn and after it."""

import re
from dataclasses import dataclass
from typing import Final

from producers.http.refused import RequestRefused
from producers.ingest.ports import IngestPorts
from producers.ingest.turn_finder import TurnFinder, not_found
from schemas.accounts import Account
from schemas.cursors import Cursor, CursorSigner
from schemas.events import CHAT, Api
from schemas.ports import ClientChannel, RestForm
from schemas.tokens import Cleared

_RESUMED: Final = "turnstream_streams_resumed_total"
_SEQ: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a client asks for: the rest of a turn after a place, as text; ``last_event_id`` is an EventSource's."""

    public_id: str
    starting_after: str | None
    last_event_id: str | None = None
    include_usage: bool = False
    with_ids: bool = False
    api: Api = CHAT


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A resumption whose turn id and place may be this user's. ``reconnecting``: by an EventSource, by itself."""

    account: Account
    turn_id: str
    form: RestForm
    cursor: Cursor | None = None
    reconnecting: bool = False


class Resumer:
    """Streams of turns that were begun before."""

    def __init__(self, ports: IngestPorts, finder: TurnFinder, *, cursor_key: bytes) -> None:
        self._ports = ports
        self._finder = finder
        self._cursor_key = cursor_key

    async def resume(self, account: Account, asked: Resumption, channel: ClientChannel) -> None:
        """Write the stream. Nothing is read for a turn id or a place that this user cannot have been given.

        Raises RequestRefused (404), Retryable.
        """
        wanted = self._wanted(account, asked)
        cleared = await self._finder.running(account, asked.api, wanted.turn_id)
        if cleared is None:
            await self._replay(wanted, channel)
        elif await self._nothing_follows(wanted):
            await _stop_reconnecting(channel)
        else:
            await self._follow(wanted, cleared, channel)

    def _wanted(self, account: Account, asked: Resumption) -> _Wanted:
        turn_id = self._finder.turn_id(asked.api, asked.public_id)
        text = asked.starting_after if asked.starting_after is not None else asked.last_event_id
        after: int | None = None
        cursor: Cursor | None = None
        if asked.starting_after is not None and _SEQ.fullmatch(asked.starting_after):
            after = int(asked.starting_after)
        elif text:
            cursor = CursorSigner(self._cursor_key, turn_id, account.tenant_id, account.user_id).verify(text)
            if cursor is None or asked.api != CHAT:
                raise RequestRefused(not_found(asked.api))
            after = cursor.seq
        return _Wanted(
            account=account,
            turn_id=turn_id,
            form=RestForm(asked.api, after, asked.include_usage, asked.with_ids),
            cursor=cursor,
            reconnecting=asked.starting_after is None and after is not None,
        )

    async def _follow(self, wanted: _Wanted, cleared: Cleared, channel: ClientChannel) -> None:
        reader = await self._ports.readers.follow(wanted.turn_id, cleared=cleared, cursor=wanted.cursor)
        self._ports.metrics.count(_RESUMED, source="log")
        await self._ports.answerer.resume(cleared, reader, channel, wanted.form)

    async def _nothing_follows(self, wanted: _Wanted) -> bool:
        after = wanted.form.after
        if not wanted.reconnecting or after is None:
            return False
        state = self._ports.states.state(wanted.turn_id) or await self._ports.lookup.find(wanted.turn_id)
        return state.settled and after >= state.next_seq

    async def _replay(self, wanted: _Wanted, channel: ClientChannel) -> None:
        stored = await self._finder.stored(wanted.account, wanted.form.api, wanted.turn_id)
        after = wanted.form.after
        if wanted.reconnecting and after is not None and after >= len(stored.pieces):
            await _stop_reconnecting(channel)
            return
        self._ports.metrics.count(_RESUMED, source="store")
        await self._ports.answerer.replay(stored, channel, wanted.form)


async def _stop_reconnecting(channel: ClientChannel) -> None:
    """204 tells an EventSource that has everything not to come again (HTML, section 9.2.2)."""
    await channel.send({"type": "http.response.start", "status": 204, "headers": []})
    await channel.send({"type": "http.response.body", "body": b""})
