"""The only network access of actions: connections to public addresses, and to those that the operator allows.

Invariant: the address that is checked is the address that is connected to. A name is looked up once for each
connection, each of its addresses is checked, and the socket connects to the address, never to the name: a name that
changes its address gains nothing. TLS is verified for the name. No proxy is used, whatever the environment contains: a
proxy would do the look-up itself, so the address could not be checked.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import httpcore2

from fairness.fair_limits import FairLimit, FairThreads
from graphs.tools.streams import FairStream
from telemetry.context import current_owner
from wire.errors import ThreadholdError
from wire.json import UncheckedJson

__all__ = ["Address", "AddressRefused", "AllowList", "GuardedNetwork", "Resolve", "is_public", "look_up"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Maps a name (or literal) and a port to addresses as text; raises OSError if there are none."""

_RESOLVING: Final = FairThreads(16, "resolver", portion=1)
"""The system's resolver cannot be interrupted: a name server that does not answer occupies a thread for seconds. An
owner gets half of the free threads, and nothing else waits for these threads."""

_log = logging.getLogger("threadhold.actions")

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# In addition to `is_global`, which differs among Python's patch releases. 168.63.129.16 is Azure's host agent.
_CLOSED = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            *("5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)


class AddressRefused(ThreadholdError):
    """No address of the host is allowed; the message is for the operator, not for the model."""


def _plain(address: Address) -> Address:
    """Return the IPv4 address inside a mapped or NAT64 one, as the packets go there."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether `address` is on the public Internet: not private, loopback, link-local, shared, multicast,
    reserved, or a tunnel (6to4, Teredo) that could lead to such an address."""
    address = _plain(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _CLOSED if network.version == address.version)


class AllowList:
    """`ACTIONS_ALLOW_HOSTS`: names (with all their addresses), addresses and CIDRs that are allowed if not public."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in filter(None, (entry.strip().strip("[]") for entry in entries)):
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(_fold(entry))

    def permits(self, host: str, address: Address) -> bool:
        """Return whether a connection to `address` for a URL of `host` is allowed."""
        if is_public(address) or _fold(host) in self._names:
            return True
        plain = _plain(address)
        return any(plain in network for network in self._networks if network.version == plain.version)


def _fold(name: str) -> str:
    return name.lower().rstrip(".")


async def look_up(host: str, port: int) -> list[str]:
    """Ask the system's resolver, in a thread. It also accepts `2130706433`, `0x7f.1` and the like."""
    found = await _RESOLVING.run(current_owner(), socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """The network under the connection pool: looks up a name, checks its addresses, and connects to one of them."""

    def __init__(self, allowed: AllowList, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._network = httpcore2.AnyIOBackend()
        self._blocks = FairLimit(1)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[UncheckedJson] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers.

        Raises:
            AddressRefused: the host has addresses, but none that is allowed.
            httpcore2.ConnectError: it has none, or none answers.
        """
        try:
            texts = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"`{host}` could not be looked up: {error}") from error
        addresses = [ipaddress.ip_address(text) for text in texts]
        permitted = [address for address in addresses if self._allowed.permits(host, address)]
        if not permitted:
            found = ", ".join(map(str, addresses)) or "no address"
            _log.warning("action refused: %r is %s, which is not public; ACTIONS_ALLOW_HOSTS can allow it", host, found)
            raise AddressRefused(f"`{host}` is {found}")
        stream = await self._connect(permitted, port, timeout, local_address, socket_options)
        return FairStream(stream, self._blocks)

    async def _connect(
        self,
        addresses: list[Address],
        port: int,
        timeout: float | None,  # noqa: ASYNC109
        local_address: str | None,
        socket_options: Iterable[UncheckedJson] | None,
    ) -> httpcore2.AsyncNetworkStream:
        each_s = None if timeout is None else timeout / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(str(address), port, each_s, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, each_s, local_address, socket_options)

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore2.AsyncNetworkStream:
        """Refuse: actions use TCP."""
        raise AddressRefused("unix sockets are not called")

    async def sleep(self, seconds: float) -> None:
        """Wait between the pool's own connection attempts."""
        await asyncio.sleep(seconds)
