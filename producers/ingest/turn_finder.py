"""Turns that were begun before, by the ids under which clients know them."""

import asyncio
from collections.abc import Callable

from producers.http.refused import RequestRefused
from producers.ingest.core import IngestSettings
from producers.ingest.ports import IngestPorts
from schemas import ids
from schemas.accounts import Account
from schemas.errors import Refusal, Retryable, invalid_request
from schemas.events import CHAT, Api
from schemas.ports import StoredAnswer
from schemas.tokens import Cleared


class TurnFinder:
    """Finds turns on the log and in the store. ``tokens_partitions``: the partition count of ``chat.tokens.v1``."""

    def __init__(self, ports: IngestPorts, settings: IngestSettings, tokens_partitions: int) -> None:
        self._ports = ports
        self._settings = settings
        self._tokens_partitions = tokens_partitions

    def turn_id(self, api: Api, public_id: str) -> str:
        """The turn id in ``public_id``, of a partition that is there and not of the future. Raises RequestRefused."""
        parse: Callable[[str], str] = ids.parse_turn_id if api == CHAT else ids.parse_response_id
        try:
            turn_id = parse(public_id)
        except ValueError:
            raise RequestRefused(not_found(api)) from None
        if ids.turn_partition(turn_id) >= self._tokens_partitions:
            raise RequestRefused(not_found(api))
        if ids.turn_time_ms(turn_id) > self._ports.now_ms() + self._settings.clock_skew_ms_max:
            raise RequestRefused(not_found(api))
        return turn_id

    async def running(self, account: Account, api: Api, turn_id: str) -> Cleared | None:
        """The clearance of a turn that the log still has; one that is only just submitted is waited for.

        Raises RequestRefused (404) when it is not this user's, or it was deleted, or its conversation; Retryable.
        """
        cleared = await self._clearance(turn_id)
        if cleared is None:
            return None
        if not owns(account, cleared) or (cleared.stored and await self._deleted(turn_id, cleared.conversation_id)):
            raise RequestRefused(not_found(api))
        return cleared

    async def stored(self, account: Account, api: Api, turn_id: str) -> StoredAnswer:
        """The ended turn in the store. Raises RequestRefused (404), Retryable."""
        stored = await self.find_stored(account, api, turn_id)
        if stored is None:
            raise RequestRefused(not_found(api))
        return stored

    async def find_stored(self, account: Account, api: Api, turn_id: str) -> StoredAnswer | None:
        """The same; None when the store does not have it, and perhaps the log does.

        Raises RequestRefused (404) when it is not this user's, or its conversation was deleted; Retryable.
        """
        stored = await self._ports.stored.find(turn_id)
        if stored is None:
            return None
        if not owns(account, stored) or await self._deleted(turn_id, stored.conversation_id):
            raise RequestRefused(not_found(api))
        return stored

    async def _clearance(self, turn_id: str) -> Cleared | None:
        settings = self._settings
        grace_s = settings.clearance_seconds_max - (self._ports.now_ms() - ids.turn_time_ms(turn_id)) / 1000
        until_s = asyncio.get_running_loop().time() + min(grace_s, settings.clearance_seconds_max)
        while True:
            cleared = await self._ports.lookup.clearance(turn_id)
            if cleared is not None or asyncio.get_running_loop().time() >= until_s:
                return cleared
            await asyncio.sleep(settings.clearance_poll_seconds)

    async def _deleted(self, turn_id: str, conversation_id: str) -> bool:
        try:
            owners = await self._ports.conversations.owners((conversation_id,))
            return conversation_id not in owners or await self._ports.stored.deleted(turn_id)
        except Retryable:
            # Its owner asks: an answer under way is worth more than a tombstone that cannot be read just now.
            return False


def owns(account: Account, turn: Cleared | StoredAnswer) -> bool:
    """Whether the turn is one of this user's."""
    return (turn.tenant_id, turn.user_id) == (account.tenant_id, account.user_id)


def not_found(api: Api) -> Refusal:
    """404, the same for an unknown turn, somebody else's, and a place in it that was never given out."""
    if api == CHAT:
        return invalid_request("No such completion.", "id", "completion_not_found", status=404)
    return invalid_request("No such response.", "id", "response_not_found", status=404)
