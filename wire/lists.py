"""Parses settings that are lists, separated by commas. Pure; errors are ValueErrors with a sentence for the user."""

import re
from ipaddress import ip_network
from typing import Final

from wire.ids import DEFAULT_OWNER
from wire.paths import truncated

__all__ = ["split_aliases", "split_hosts", "split_keys", "split_names", "split_networks", "split_origins"]

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s*@]+/?", re.IGNORECASE)
_HOST: Final = re.compile(r"\[[0-9a-f:.%]+\]|[^\[\]:@/\\?#,\s*]+", re.IGNORECASE)


def split_names(text: str) -> tuple[str, ...]:
    """Return the entries, without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_aliases(text: str) -> dict[str, str]:
    """Parse entries `name=target`; return the targets by name."""
    aliases: dict[str, str] = {}
    for part in split_names(text):
        name, equals, target = (piece.strip() for piece in part.partition("="))
        if not (name and equals and target):
            raise ValueError(f"`{truncated(part)}` is not an alias. Write name=target, and commas between several.")
        aliases[name] = target
    return aliases


def split_keys(text: str) -> dict[str, str]:
    """Parse entries `owner=key`, or `key` for the default owner; return the owners by key.

    Errors name an entry by its number, because the whole entry can be a secret.
    """
    keys: dict[str, str] = {}
    for number, part in enumerate(split_names(text), 1):
        owner, equals, key = (piece.strip() for piece in part.partition("="))
        if equals and not (owner and key.strip("=")):
            raise ValueError(f"entry {number} has no {'key' if owner else 'owner'}. Write key or owner=key.")
        key, owner = (key, owner) if equals else (owner, DEFAULT_OWNER)
        if not is_sendable(key):
            raise ValueError(
                f"the key of entry {number} has spaces or characters that HTTP headers cannot carry. Use ASCII "
                "letters, digits and punctuation, and commas between several keys."
            )
        if keys.setdefault(key, owner) != owner:
            raise ValueError(
                f"`{truncated(owner)}` and `{truncated(keys[key])}` have the same key. Give each owner a different key."
            )
    if text.strip() and not keys:
        raise ValueError(
            "it has commas but no key, which would give everyone access to the server. Write key or owner=key."
        )
    return keys


def is_sendable(key: str) -> bool:
    """Return whether clients can send a key in an HTTP header."""
    return key.isascii() and key.isprintable() and " " not in key


def split_origins(text: str) -> tuple[str, ...]:
    """Parse origins as browsers send them, `null` and `*`."""
    origins = split_names(text)
    for origin in origins:
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"`{truncated(origin)}` is not an origin. Write scheme://host or scheme://host:port, such as "
                "https://app.example.com, or `null` or `*`."
            )
    return origins


def split_hosts(text: str) -> tuple[str, ...]:
    """Parse names and addresses as in the `Host` header, without ports."""
    hosts = split_names(text)
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(
                f"`{truncated(host)}` is not a host. Write a name or an address without scheme, port and path, and "
                "IPv6 addresses in brackets."
            )
    return hosts


def split_networks(text: str) -> tuple[str, ...]:
    """Parse host names, addresses and CIDRs."""
    entries = split_names(text)
    for entry in entries:
        try:
            ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            if not _HOST.fullmatch(entry) or entry.startswith("["):
                raise ValueError(
                    f"`{truncated(entry)}` is not a host or network. Write a name, an address or a CIDR such as "
                    "10.0.0.0/8, without scheme and port."
                ) from None
    return entries
