"""Origins: one per client, whoever it claims to be, and never its address."""

from ipaddress import ip_address, ip_network

import pytest

from producers.http.origins import HOPS_MAX, Origins, client_address, origin_key

KEY = origin_key(b"pepper")
PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
CLIENT = "93.184.216.34"
OTHER = "8.8.8.8"


def origin(peer: str | None, *forwarded: str, key: bytes = KEY) -> str | None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    client = None if peer is None else (peer, 4711)
    return Origins(key, PROXIES).origin({"type": "http", "client": client, "headers": headers})


def test_an_origin_is_a_keyed_hash_that_does_not_show_the_address() -> None:
    found = origin(CLIENT)
    assert found is not None
    assert len(found) == 16
    assert int(found, 16) >= 0
    assert found == origin(CLIENT)
    assert found != origin(OTHER)
    assert found != origin(CLIENT, key=origin_key(b"other pepper"))


def test_nobody_chooses_an_origin_by_a_header() -> None:
    assert origin(CLIENT, OTHER) == origin(CLIENT)


def test_a_trusted_proxy_names_its_client() -> None:
    assert origin("10.0.0.1", CLIENT) == origin(CLIENT)
    assert origin("10.0.0.1", f"{CLIENT}, 10.0.0.2") == origin(CLIENT)
    assert origin("10.0.0.1", CLIENT, "10.0.0.2") == origin(CLIENT)
    # What the client wrote itself stands left of what the proxy saw.
    assert origin("10.0.0.1", f"{OTHER}, {CLIENT}") == origin(CLIENT)


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.168.1.5", "::1", "fe80::1", "not an address", None])
def test_without_a_public_address_there_is_none(peer: str | None) -> None:
    assert origin(peer) is None


@pytest.mark.parametrize("forwarded", ["", "unknown", "10.0.0.9", "127.0.0.1", "<script>"])
def test_a_proxy_that_names_nobody_is_no_client(forwarded: str) -> None:
    assert origin("10.0.0.1", forwarded) is None


def test_one_ipv6_customer_is_one_origin() -> None:
    assert origin("2606:4700::1") == origin("2606:4700:0:0:ffff::2")
    assert origin("2606:4700::1") != origin("2606:4700:0:1::1")
    assert origin(f"::ffff:{CLIENT}") == origin(CLIENT)


def test_only_so_many_hops_are_read() -> None:
    hops = ", ".join([CLIENT, *["10.0.0.1"] * HOPS_MAX])
    assert client_address("10.0.0.1", [hops], PROXIES) is None
    assert client_address("10.0.0.1", [hops.replace(", 10.0.0.1", "", 1)], PROXIES) == ip_address(CLIENT)


def test_a_client_that_comes_again_has_the_same_origin_and_nobody_elses() -> None:
    origins = Origins(KEY, PROXIES)
    seen: dict[tuple[str, ...], list[str | None]] = {}
    for _ in range(2):
        for peer, forwarded in ((CLIENT, ()), (OTHER, ()), (CLIENT, (OTHER,)), ("10.0.0.1", (OTHER,)), ("::1", ())):
            headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
            found = origins.origin({"type": "http", "client": (peer, 4711), "headers": headers})
            seen.setdefault((peer, *forwarded), []).append(found)
    assert seen == {
        (CLIENT,): [origin(CLIENT)] * 2,
        (OTHER,): [origin(OTHER)] * 2,
        (CLIENT, OTHER): [origin(CLIENT)] * 2,
        ("10.0.0.1", OTHER): [origin(OTHER)] * 2,
        ("::1",): [None] * 2,
    }
