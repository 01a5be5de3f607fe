"""Host names: parses the `Host` header, and recognizes names of this machine."""

import re
from ipaddress import ip_address
from typing import Final

__all__ = ["LOOPBACK", "host_name", "is_loopback"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
"""Names that only this machine can reach."""


_HOST: Final = re.compile(r"(\[[^\[\]@/\\?#\s]*\]|[^\[\]:@/\\?#,\s]*)(?::[0-9]*)?")
"""A name or an address, and a port (RFC 9112, section 3.2). `a:1@b` is neither: URL parsers read `b` as the host."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address or name in HOST."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in LOOPBACK


def host_name(host: str) -> str | None:
    """Return the name in a `Host` header, without its port; IPv6 addresses keep their brackets.

    None: it is something else, such as a name after a user name.
    """
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else None
