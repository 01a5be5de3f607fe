"""Masks the secrets of tools in answers, and restores them when a client posts masked values back.

A secret is restored only if the tool calls no new origin and sends the secret in the same way. Otherwise, a client that
can edit an assistant could read its keys by having them sent to another host.

Invariant: `body["tools"]` of an assistant or run is the result of `mask_tools`. `private["tools"]` has the true values,
never a mask.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Final

from wire.errors import InvalidRequest
from wire.json import Json, JsonObject
from wire.secrets import Secret, ToolSecrets
from wire.tools import TOOL_TYPES

__all__ = ["MASK", "Origins", "drop_masked", "mask_tools", "restore_secrets"]

MASK: Final = "********"

Origins = Callable[[JsonObject], frozenset[str] | None]
"""Returns the origins that a tool calls, as `https://api.example:8443`; None if they cannot be determined."""

_Path = tuple[str, ...]


def mask_tools(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Return a copy of `tools` with their secrets masked."""
    return [_with(tool, dict.fromkeys((secret.path for secret in _find(tool)), MASK)) for tool in tools]


def drop_masked(tools: list[JsonObject]) -> tuple[list[JsonObject], dict[int, list[str]]]:
    """Return a copy of `tools` without the parts with masked values, and the names of these values by the index of the
    tool."""
    bare, lacking = list(tools), dict[int, list[str]]()
    for index, tool in enumerate(tools):
        if masked := _masked(tool):
            bare[index] = _without(tool, [secret.part for secret in masked])
            lacking[index] = [secret.name for secret in masked]
    return bare, lacking


def restore_secrets(
    tools: list[JsonObject], earlier_private_tools: list[JsonObject], *, origins: Origins | None = None
) -> list[JsonObject]:
    """Return `tools` with each masked value replaced by the stored one.

    A tool is matched with the stored tool of its type that has the same identity, else with the one at the same
    position among those of its type. If its address has changed, `origins` decides whether the tool now calls other
    origins; without `origins`, it is assumed to.

    Raises:
        InvalidRequest: A value is masked, but none is stored for the same use, or the tool now calls another origin.
    """
    restored, stored = list(tools), _matches(tools, earlier_private_tools)
    for index, tool in enumerate(tools):
        if masked := _masked(tool):
            restored[index] = _restore(tool, masked, stored.get(index), f"tools[{index}]", origins)
    return restored


def _restore(
    tool: JsonObject, masked: Sequence[Secret], stored: JsonObject | None, param: str, origins: Origins | None
) -> JsonObject:
    known = {} if stored is None else {secret.use: _value(stored, secret.path) for secret in _find(stored)}
    moved = stored is not None and _has_moved(tool, stored, origins)
    values: dict[_Path, Json] = {}
    for secret in masked:
        value = known.get(secret.use)
        if value is None or moved:
            where = ".".join((param, *secret.path))
            moved_away = f"the {tool['type']} calls another address now"
            why = "there is no stored value to keep" if value is None else moved_away
            message = f"Invalid value for '{where}': it is masked, and {why}. Send the value itself."
            raise InvalidRequest(message, param=where, code="invalid_value")
        values[secret.path] = value
    return _with(tool, values)


def _has_moved(tool: JsonObject, stored: JsonObject, origins: Origins | None) -> bool:
    secrets = TOOL_TYPES[tool["type"]].secrets
    if secrets is not None and secrets.address(tool) == secrets.address(stored):
        return False
    new = None if origins is None else origins(tool)
    old = None if origins is None else origins(stored)
    return new is None or old is None or not new <= old


def _matches(tools: list[JsonObject], earlier: list[JsonObject]) -> dict[int, JsonObject]:
    """Return the stored tools that correspond to `tools`, by index."""
    found: dict[int, JsonObject] = {}
    for type in dict.fromkeys(tool["type"] for tool in tools):
        secrets = _secrets(type)
        if secrets is not None:
            indexes = [index for index, tool in enumerate(tools) if tool["type"] == type]
            stored = [tool for tool in earlier if tool["type"] == type]
            matched = _match([tools[index] for index in indexes], stored, secrets)
            found |= {indexes[place]: stored[at] for place, at in matched.items()}
    return found


def _match(tools: list[JsonObject], stored: list[JsonObject], secrets: ToolSecrets) -> dict[int, int]:
    left = list(range(len(stored)))
    found: dict[int, int] = {}
    for place, tool in enumerate(tools):
        same = [each for each in left if secrets.identity(stored[each]) == secrets.identity(tool)]
        if same:
            found[place] = place if place in same else same[0]
            left.remove(found[place])
    return {place: place for place in range(len(tools)) if place in left} | found


def _secrets(type: object) -> ToolSecrets | None:
    """Return where tools of a type have secrets; None for unknown types, which tools from a dump can have."""
    return TOOL_TYPES[type].secrets if isinstance(type, str) and type in TOOL_TYPES else None


def _find(tool: JsonObject) -> Iterator[Secret]:
    secrets = _secrets(tool.get("type"))
    return iter(()) if secrets is None else secrets.find(tool)


def _masked(tool: JsonObject) -> list[Secret]:
    return [secret for secret in _find(tool) if _value(tool, secret.path) == MASK]


def _value(tool: JsonObject, path: _Path) -> Json:
    return reduce(lambda value, key: value[key], path, tool)


class _Copy:
    """A copy of an object that shares everything with the original except the objects that are changed."""

    def __init__(self, original: JsonObject) -> None:
        self.root = dict(original)
        self._copied: dict[_Path, JsonObject] = {(): self.root}

    def at(self, path: _Path) -> JsonObject:
        """Return the object at a path, which can be changed."""
        if path not in self._copied:
            above = self.at(path[:-1])
            above[path[-1]] = self._copied[path] = dict(above[path[-1]])
        return self._copied[path]


def _with(tool: JsonObject, values: Mapping[_Path, Json]) -> JsonObject:
    copy = _Copy(tool)
    for path, value in values.items():
        copy.at(path[:-1])[path[-1]] = value
    return copy.root if values else tool


def _without(tool: JsonObject, paths: Sequence[_Path]) -> JsonObject:
    copy = _Copy(tool)
    for path in paths:
        copy.at(path[:-1]).pop(path[-1], None)
    return copy.root
