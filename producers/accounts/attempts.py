"""How often one address, or one account, may try. In process: each edge counts for itself. Pure."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv6Address, ip_address
from typing import Final

from producers.http.bounded import forget_oldest

_MINUTE_S: Final = 60.0
_IPV6_NETWORK_BITS: Final = 64


class AttemptLimit:
    """The generic cell rate algorithm (ITU-T I.371) for each of up to ``entries_max`` names.

    ``per_minute`` attempts may come at once, and then one each time that its share of a minute has passed. Of too many
    names the one that tried longest ago is forgotten.
    """

    def __init__(self, per_minute: int, entries_max: int) -> None:
        self._interval_s = _MINUTE_S / per_minute
        self._entries_max = entries_max
        # By name the time at which its allowance is whole again.
        self._whole_s: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_s)

    def attempt(self, name: Hashable, now_s: float) -> int | None:
        """None for an attempt that is within the limit and is counted; else the seconds until one would be."""
        whole_s = max(self._whole_s.get(name, now_s), now_s) + self._interval_s
        excess_s = whole_s - now_s - _MINUTE_S
        if excess_s > self._interval_s / 1000:
            return max(1, math.ceil(excess_s))
        self._whole_s[name] = whole_s
        self._whole_s.move_to_end(name)
        forget_oldest(self._whole_s, self._entries_max)
        return None


def network_of(host: str | None) -> str:
    """The part of a client's address that one client cannot change at will: all of IPv4, the first half of IPv6."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return "unknown"
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> _IPV6_NETWORK_BITS:x}/64"
