"""Names of hosts in requests: what `Host` says, and which names mean this machine."""

from ipaddress import ip_address
from typing import Final

__all__ = ["LOOPBACK", "host_name", "is_loopback"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
"""Only this machine reaches what listens there."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at an address or name of HOST."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in LOOPBACK


def host_name(host: str) -> str:
    """Return the name in a `Host` header, without its port; addresses of IPv6 keep their brackets."""
    return host.rsplit(":", 1)[0].lower() if not host.endswith("]") else host.lower()
