"""The secrets of actions: the values of `data.headers`, and the keys and passwords of `data.auth`."""

from collections.abc import Iterator
from typing import Final

from wire.json import JsonObject
from wire.secrets import Secret, ToolSecrets

__all__ = ["ACTION_SECRETS"]

_SECRET_FIELDS: Final = ("token", "password", "value")


def _find(tool: JsonObject) -> Iterator[Secret]:
    data = tool.get("data")
    if not isinstance(data, dict):
        return
    headers, auth = data.get("headers"), data.get("auth")
    if isinstance(headers, dict):
        for name in headers:
            path = ("data", "headers", name)
            yield Secret(f"headers.{name}", path, use=f"header {name.lower()}", part=path)
    if isinstance(auth, dict):
        place = [auth.get(name) for name in ("type", "in", "name")]
        for key in (key for key in auth if key in _SECRET_FIELDS):
            yield Secret(f"auth.{key}", ("data", "auth", key), use=f"{key} {place}", part=("data", "auth"))


def _document(tool: JsonObject) -> object:
    return tool["data"].get("openapi_spec")


def _address(tool: JsonObject) -> object:
    return _document(tool), tool["data"].get("base_url")


ACTION_SECRETS: Final = ToolSecrets(_find, identity=_document, address=_address)
"""A header is left out alone. `auth` is left out as a whole, because it is useless without its secret."""
