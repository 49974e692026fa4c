"""Whose turn it is when tenants share a capacity. Pure.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) with items of one size: each tenant has a virtual time, the
smallest goes next and advances by 1 / weight.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(slots=True, eq=False)
class _Tenant(Generic[ItemT]):
    name: str
    step: float
    time: float
    items: deque[ItemT] = field(default_factory=deque)
    running: int = 0
    queued: bool = False


class FairQueue(Generic[ItemT]):
    """Items of many tenants, each tenant's in their order, tenants by weighted turns: O(log tenants) per item.

    While tenants have items all the time, each gets its share by weight, to within one item. Whoever comes back starts
    at the present virtual time: idling saves nothing up, and costs nothing. A tenant waits, between two of its own
    items, for at most ``weight / its weight`` + 1 items of every other. With ``running_max`` items taken and not
    finished a tenant is passed over. Memory is that of the tenants that had items since there were last none at all.
    """

    def __init__(self, weights: Mapping[str, float], running_max: int) -> None:
        """``weights`` are positive; a tenant that is not among them has weight 1."""
        self._weights = weights
        self._running_max = running_max
        self._tenants: dict[str, _Tenant[ItemT]] = {}
        # (virtual time, order of arrival, tenant): of tenants that may be next, and of idle ones to be forgotten.
        self._heap: list[tuple[float, int, _Tenant[ItemT]]] = []
        self._arrivals = 0
        self._unfinished = 0
        self._now = 0.0

    def put(self, tenant: str, item: ItemT) -> None:
        """Add ``item`` behind the others of ``tenant``."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(tenant, 1 / self._weights.get(tenant, 1.0), self._now)
        found.items.append(item)
        self._unfinished += 1
        self._queue(found)

    def take(self) -> tuple[str, ItemT] | None:
        """The next item and its tenant; None when no tenant may have one now."""
        while self._heap:
            _, _, tenant = heapq.heappop(self._heap)
            tenant.queued = False
            if not self._may_run(tenant):
                self._forget_if_idle(tenant)
                continue
            self._now = tenant.time
            tenant.time += tenant.step
            tenant.running += 1
            item = tenant.items.popleft()
            # Also without items: forgotten at once, it could come back at an earlier time than it has reached.
            self._queue(tenant)
            return tenant.name, item
        return None

    def finish(self, tenant: str) -> None:
        """An item of ``tenant`` that was taken is done with."""
        found = self._tenants[tenant]
        found.running -= 1
        self._queue(found)
        self._leave(1)

    def drop(self, unwanted: Callable[[ItemT], bool]) -> None:
        """Remove the waiting items that are ``unwanted``."""
        dropped = 0
        for tenant in self._tenants.values():
            kept = deque(item for item in tenant.items if not unwanted(item))
            dropped += len(tenant.items) - len(kept)
            tenant.items = kept
        self._leave(dropped)

    def _may_run(self, tenant: _Tenant[ItemT]) -> bool:
        return bool(tenant.items) and tenant.running < self._running_max

    def _queue(self, tenant: _Tenant[ItemT]) -> None:
        if tenant.queued:
            return
        tenant.time = max(tenant.time, self._now)
        tenant.queued = True
        self._arrivals += 1
        heapq.heappush(self._heap, (tenant.time, self._arrivals, tenant))

    def _leave(self, items: int) -> None:
        self._unfinished -= items
        if not self._unfinished:
            # Nobody competes, so nobody is owed anything; and tenants that come once are not kept for ever.
            self._tenants.clear()
            self._heap.clear()

    def _forget_if_idle(self, tenant: _Tenant[ItemT]) -> None:
        if not tenant.items and not tenant.running:
            del self._tenants[tenant.name]
