"""Removes secrets from texts that people read: known secrets wherever they occur, and credentials from URLs. Pure.

Invariant: no part of a password is shown; of a malformed URL, too little is shown instead.
"""

import json
import re
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import parse_qsl, unquote

__all__ = ["mask_secrets", "public_url", "url_secrets"]

_MASK: Final = "[secret]"
_MIN_SECRET: Final = 6
"""Characters. A shorter secret would also mask unrelated words."""

_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)?((?P<credentials>[^/?#]*)@)?(?P<address>[^/?#@]*)(?P<path>[^?#]*)"
    r"(\?(?P<query>[^#]*))?(#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_SECRET_NAME: Final = re.compile("key|token|secret|sig|pass|credential", re.IGNORECASE)


def mask_secrets(secrets: Collection[str]) -> Callable[[str], str]:
    """Return a function that replaces these secrets in a text, including their forms in JSON strings."""
    spelled = {form for one in secrets if len(one) >= _MIN_SECRET for form in (one, json.dumps(one)[1:-1])}
    if not spelled:
        return str
    pattern = re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True))))
    return lambda text: pattern.sub(_MASK, text)


def public_url(url: str) -> str:
    """Return a URL, which can lack its scheme, without user, password, query and fragment."""
    parts = _parts(url)
    scheme, address, rest = parts["scheme"] or "", parts["address"], url.strip()[parts.end("address") :]
    # An `@` after the address can end a password that contains `/`, `?` or `#`.
    return f"{scheme}…" if "@" in rest else f"{scheme}{address}{parts['path']}"


def url_secrets(url: str) -> list[str]:
    """Return the secrets in a URL: its password, or its user if it has none, and parameters with names like `key`."""
    parts = _parts(url)
    user, colon, password = (parts["credentials"] or "").partition(":")
    secret = password if colon else user
    values = [value for name, value in parse_qsl(parts["query"] or "") if _SECRET_NAME.search(name)]
    return [each for each in dict.fromkeys((secret, unquote(secret), *values)) if each]


def _parts(url: str) -> re.Match[str]:
    parts = _URL.fullmatch(url.strip())
    assert parts is not None, "the pattern matches every text"
    return parts
