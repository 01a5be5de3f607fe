"""Where an operation lives: the first server that is absolute, its variables at their defaults.

A relative server needs `data.base_url`, since a document that was posted has no address of its own.
"""

import re
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from graphs.tools.document import Refusal
from graphs.tools.pointers import Pointer, spell

__all__ = ["MAX_SERVER_CHARS", "check_url", "server_url"]

MAX_SERVER_CHARS: Final = 65_536
"""Maximum characters of a server's URL. It can contain a variable many times, so a short document can mean a long
URL."""


def server_url(servers: list[dict[str, Any]], *, base_url: str | None, place: Pointer, refuse: Refusal) -> str:
    """Return an absolute http(s) URL without a trailing slash."""
    first = ""
    for server in servers or [{"url": "/"}]:
        url = _substitute(server)
        if url is None:
            raise refuse(f"the server of `{spell(place)}` has more than {MAX_SERVER_CHARS} characters")
        url = url if base_url is None else urljoin(base_url, url)
        if urlsplit_scheme(url):
            break
        first = first or url
    else:
        raise refuse(f"the server of `{spell(place)}` is `{first[:200]}`: give an absolute URL, or set `data.base_url`")
    if "{" in url:
        raise refuse(f"the server of `{spell(place)}` is `{url[:200]}`, with a variable that is not defined")
    if problem := check_url(url):
        raise refuse(f"the server of `{spell(place)}` {problem}")
    return url.partition("#")[0].partition("?")[0].rstrip("/")


def urlsplit_scheme(url: str) -> str:
    """Return the scheme of `url`, empty when it is relative or no URL at all."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def check_url(url: str) -> str | None:
    """Say what makes `url` one that is never called, None when nothing does."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in ("http", "https"):
        return f"has the scheme `{parts.scheme[:40]}`; only http and https are called"
    if not parts.hostname or port == 0:
        return "names no host"
    if "@" in parts.netloc:
        return "carries credentials, which belong into `data.auth`"
    if re.search(r"[\x00-\x20\x7f\\]", url):
        return "has a space, a control character or a backslash in it"
    return None


def _substitute(server: dict[str, Any]) -> str | None:
    """Return the URL with its variables at their defaults, None if it is too long."""
    variables = server.get("variables") or {}
    pieces = re.split(r"\{([^{}]+)\}", server["url"])  # texts and names in turn
    for place in range(1, len(pieces), 2):
        name = pieces[place]
        pieces[place] = str((variables.get(name) or {}).get("default", "{" + name + "}"))
    return "".join(pieces) if sum(map(len, pieces)) <= MAX_SERVER_CHARS else None
