"""Determines an operation's server: the first one with an absolute URL, with its variables at their defaults.

A relative server URL needs `data.base_url`, since an uploaded document has no URL of its own.
"""

import re

from graphs.tools.document import ErrorFactory
from graphs.tools.pointers import Pointer, format_pointer
from graphs.tools.urls import MAX_URL_CHARS, check_url, join_url, split_url
from wire.json import JsonObject

__all__ = ["server_url"]


def server_url(servers: list[JsonObject], *, base_url: str | None, pointer: Pointer, refuse: ErrorFactory) -> str:
    """Return an absolute http(s) URL without a trailing slash."""
    first = ""
    for server in servers or [{"url": "/"}]:
        url = _substitute(server)
        if url is None:
            raise refuse(f"the server of `{format_pointer(pointer)}` has more than {MAX_URL_CHARS} characters")
        try:
            url = url if base_url is None else join_url(base_url, url)
        except ValueError as error:
            raise refuse(f"the server of `{format_pointer(pointer)}` is not a URL: {error}") from None
        if _scheme(url):
            break
        first = first or url
    else:
        raise refuse(
            f"the server of `{format_pointer(pointer)}` is `{first[:200]}`: "
            "give an absolute URL, or set `data.base_url`"
        )
    if "{" in url:
        raise refuse(f"the server of `{format_pointer(pointer)}` is `{url[:200]}`, with a variable that is not defined")
    if problem := check_url(url):
        raise refuse(f"the server of `{format_pointer(pointer)}` {problem}")
    return url.partition("#")[0].partition("?")[0].rstrip("/")


def _scheme(url: str) -> str:
    """Return the scheme of a URL; empty if it is relative or not a URL."""
    try:
        return split_url(url).scheme
    except ValueError:
        return ""


def _substitute(server: JsonObject) -> str | None:
    """Return the URL with its variables at their defaults, None if it is too long."""
    variables = server.get("variables") or {}
    pieces = re.split(r"\{([^{}]+)\}", server["url"])  # texts and names alternate
    for index in range(1, len(pieces), 2):
        name = pieces[index]
        pieces[index] = str((variables.get(name) or {}).get("default", "{" + name + "}"))
    return "".join(pieces) if sum(map(len, pieces)) <= MAX_URL_CHARS else None
