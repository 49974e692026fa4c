"""Where requests come from, told apart without keeping anybody's address."""

from collections.abc import Sequence
from hashlib import blake2b
from hmac import digest as hmac_digest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from producers.http.bounded import Findings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Proxies that an address can have passed; what stands further left was written by whoever wanted to.
HOPS_MAX: Final = 16

_FORWARDED_FOR: Final = "x-forwarded-for"
_KEY_BYTES: Final = 32
_PERSON: Final = b"ts-origin-v1"
_ORIGIN_BYTES: Final = 8
_KNOWN_MAX: Final = 4_096
_UNKNOWN: Final = ""
# One customer of a network provider has at least so much of IPv6: an address in it says no more.
_IPV6_PREFIX_BITS: Final = 64


def origin_key(pepper: bytes) -> bytes:
    """The key of all origins, from the secret that the edges share."""
    return blake2b(pepper, digest_size=_KEY_BYTES, person=_PERSON).digest()


class Origins:
    """Origins of requests: 16 hex digits, the same for the same client address under the same key.

    HMAC-SHA-256 (RFC 2104), cut to 64 bits. The address space of IPv4 is small, so it is the key that protects it.
    """

    def __init__(self, key: bytes, trusted: Sequence[Network]) -> None:
        """``key`` is ``origin_key``'s; ``trusted`` are the networks of our own proxies."""
        self._key = key
        self._trusted = tuple(trusted)
        # By what clients come with; ``_UNKNOWN`` for those that show no public address.
        self._known: Findings[str] = Findings(_KNOWN_MAX)

    def origin(self, scope: Scope) -> str | None:
        """The origin of an HTTP request; None for one of which no public address is known."""
        peer = scope.get("client")
        if not peer:
            return None
        forwarded = Headers(scope=scope).getlist(_FORWARDED_FOR)
        shown = ",".join((*forwarded, peer[0]))
        known = self._known.get(shown)
        if known is None:
            address = client_address(peer[0], forwarded, self._trusted)
            known = _UNKNOWN if address is None else self.of_address(address)
            self._known.keep(shown, known)
        return known or None

    def of_address(self, address: Address) -> str:
        """The origin of an address; all of one IPv6 /64 share it."""
        if isinstance(address, IPv6Address):
            text = str(ip_network((address, _IPV6_PREFIX_BITS), strict=False))
        else:
            text = str(address)
        return hmac_digest(self._key, text.encode(), "sha256")[:_ORIGIN_BYTES].hex()


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """Who sent the request: the peer, or, where that is a trusted proxy, whom the ``X-Forwarded-For`` headers name.

    They are read from the right: each trusted proxy vouches for the address before its own. Pure. None where no public
    address is left: private and loopback ones are those of proxies that nobody named, and would make one client of all.
    """
    address = _parsed(peer)
    hops = [hop.strip() for header in forwarded for hop in header.split(",")][-HOPS_MAX:]
    while address is not None and _is_trusted(address, trusted):
        if not hops:
            return None
        address = _parsed(hops.pop())
    return address if address is not None and address.is_global else None


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    # A listener on IPv6 shows IPv4 clients so.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
