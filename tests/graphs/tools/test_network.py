from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore2
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.tools.network import AddressRefused, AllowList, GuardedNetwork, is_public, look_up


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_called(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv6_address_is_checked_by_its_embedded_address(address: object) -> None:
    plain = ip_address(str(address))
    assert is_public(ip_address(f"::ffff:{plain}")) == is_public(plain)
    assert is_public(ip_address(f"64:ff9b::{plain}")) == is_public(plain)
    assert not is_public(ip_address(f"::{plain}"))


def test_the_allow_list_has_names_addresses_and_networks() -> None:
    allowed = AllowList([" Intern.Test. ", "10.1.0.0/16", "[::1]", "", "192.168.7.9/24"])
    assert allowed.permits("intern.test", ip_address("10.9.9.9"))
    assert allowed.permits("x.test", ip_address("10.1.2.3"))
    assert allowed.permits("x.test", ip_address("::ffff:10.1.2.3"))
    assert allowed.permits("x.test", ip_address("::1"))
    assert allowed.permits("x.test", ip_address("192.168.7.1"))
    assert not allowed.permits("x.test", ip_address("10.2.0.1"))
    assert not allowed.permits("sub.intern.test", ip_address("10.9.9.9"))


def spellings(address: IPv4Address) -> list[str]:
    """Return the spellings of an IPv4 address in a URL that resolvers accept."""
    number = int(address)
    a, b, c, d = address.packed
    mapped = IPv6Address(f"::ffff:{address}")
    return [
        str(address),
        f"{number}",
        f"{number:#x}",
        f"0{number:o}",
        f"{a:#x}.{b:#o}.{c}.{d:#X}".replace("0o", "0"),
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{address}.",
        f"[::ffff:{address}]",
        f"[{mapped.exploded}]",
        f"[64:ff9b::{address}]",
        f"[::{address}]",
        "".join(chr(0xFF10 + int(each)) if each.isdigit() else "\u3002" for each in str(address)),
    ]


CLOSED = ("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "172.31.255.255", "100.64.0.1", "0.0.0.0")


@pytest.mark.parametrize("address", CLOSED)
async def test_no_spelling_of_a_private_address_gets_a_connection(address: str) -> None:
    """Through the URL parser and the system's resolver, without making a connection."""
    dialled: list[str] = []

    class Network(httpcore2.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
            dialled.append(host)
            raise httpcore2.ConnectError("not in a test")

    guard = GuardedNetwork(AllowList(()), look_up)
    guard._network = Network()  # type: ignore[assignment]
    refused = 0
    for host in spellings(IPv4Address(address)):
        try:
            await guard.connect_tcp(httpx2.URL(f"http://{host}/").raw_host.decode().strip("[]"), 80)
        except (AddressRefused, httpcore2.ConnectError, httpx2.InvalidURL) as error:
            refused += isinstance(error, AddressRefused)
    assert dialled == []
    assert refused >= 9, "most spellings were rejected as unknown"


@given(st.ip_addresses(v=6))
def test_only_global_unicast_ipv6_addresses_are_public(address: IPv6Address) -> None:
    if is_public(address) and address not in ip_network("64:ff9b::/96") and address.ipv4_mapped is None:
        assert address in ip_network("2000::/3")
