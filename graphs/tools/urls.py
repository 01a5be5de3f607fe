"""URLs from OpenAPI documents and from redirects: split, joined and checked at a cost that is linear in their length.

Python's `urlsplit` normalizes a non-ASCII host in time that grows with the square of its length, and caches the URLs
that it split last. Every URL from outside is therefore split here.
"""

import re
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

__all__ = ["MAX_URL_CHARS", "check_url", "join_url", "split_url"]

MAX_URL_CHARS: Final = 65_536
"""Maximum characters of a URL. A server's URL can contain a variable many times, so a short document can define a long
one."""

_MAX_HOST_CHARS: Final = 512
"""Maximum characters of the host with user information and port; a name has at most 253."""

_HOST: Final = re.compile("//([^/?#]*)")

_IGNORED: Final = str.maketrans("", "", "\t\r\n")
"""Characters that `urlsplit` removes first."""


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raises ValueError if it is not a URL, or too long."""
    _check_length(url)
    return urlsplit(url)


def join_url(base: str, url: str) -> str:
    """Return the absolute form of `url`, which can be relative to `base`. Raises ValueError as `split_url` does."""
    _check_length(base)
    _check_length(url)
    return urljoin(base, url)


def check_url(url: str) -> str | None:
    """Return why `url` is never called; None if it can be called."""
    try:
        parts = split_url(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in ("http", "https"):
        return f"has the scheme `{parts.scheme[:40]}`; only http and https are called"
    if not parts.hostname or port == 0:
        return "names no host"
    if "@" in parts.netloc:
        return "contains credentials, which belong in `data.auth`"
    if re.search(r"[\x00-\x20\x7f\\]", url):
        return "contains a space, a control character or a backslash"
    return None


def _check_length(url: str) -> None:
    if len(url) > MAX_URL_CHARS:
        raise ValueError(f"it has {len(url)} characters, more than {MAX_URL_CHARS}")
    host = _HOST.search(url.translate(_IGNORED))
    if host is not None and len(host[1]) > _MAX_HOST_CHARS:
        raise ValueError(f"its host has {len(host[1])} characters, more than {_MAX_HOST_CHARS}")
