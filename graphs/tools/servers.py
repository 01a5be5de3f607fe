"""Where an operation lives: the first server that is absolute, its variables at their defaults.

A relative server needs `data.base_url`, since a document that was posted has no address of its own.
"""

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from graphs.tools.document import Refusal
from graphs.tools.pointers import Pointer, spell

__all__ = ["check_url", "server_url"]


def server_url(servers: list[dict[str, Any]], *, base_url: str | None, place: Pointer, refuse: Refusal) -> str:
    """Return an absolute http(s) URL without a trailing slash."""
    urls = [_substitute(each) for each in servers] or ["/"]
    if base_url is not None:
        urls = [urljoin(base_url, url) for url in urls]
    url = next((each for each in urls if urlsplit_scheme(each)), None)
    if url is None:
        raise refuse(
            f"the server of `{spell(place)}` is `{urls[0][:200]}`: give an absolute URL, or set `data.base_url`"
        )
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


def _substitute(server: dict[str, Any]) -> str:
    variables = server.get("variables") or {}
    return re.sub(
        r"\{([^{}]+)\}", lambda found: str((variables.get(found[1]) or {}).get("default", found[0])), server["url"]
    )
