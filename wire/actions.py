"""Masks the secrets of action tools in answers, and restores them when a client posts masked values back.

A secret is restored only if the action still calls the same origins and sends the secret in the same place. Otherwise
a client that can edit an assistant could read its keys by having them sent to another host.

Invariant: `body["tools"]` of an assistant or run is the result of `mask_tools`. `private["tools"]` has the true values,
never a mask.
"""

from collections.abc import Callable, Iterator, Sequence

from wire.errors import InvalidRequest
from wire.json import Json, JsonObject

__all__ = ["MASK", "drop_masked", "mask_tools", "restore_secrets"]

MASK = "********"
_SECRET_FIELDS = ("token", "password", "value")

Origins = Callable[[JsonObject], frozenset[str]]
"""Returns the origins that an action's `data` calls, as `https://api.example:8443`."""


def mask_tools(tools: Sequence[JsonObject]) -> list[JsonObject]:
    """Return a copy of `tools` with the values of `data.headers` and the secrets of `data.auth` masked."""
    return [_mask(tool) if _is_action(tool) else tool for tool in tools]


def drop_masked(tools: list[JsonObject]) -> tuple[list[JsonObject], dict[int, list[str]]]:
    """Return a copy of `tools` without masked values, and the names of the removed values by the index of the tool.

    A masked header is removed alone; `auth` is removed as a whole, because it is useless without its secret.
    """
    bare, lacking = list(tools), dict[int, list[str]]()
    for index, tool in enumerate(tools):
        if _is_action(tool) and (masked := _masked(tool["data"])):
            bare[index] = {**tool, "data": _without(masked, tool["data"])}
            lacking[index] = masked
    return bare, lacking


def restore_secrets(
    tools: list[JsonObject], earlier_private_tools: list[JsonObject], *, origins: Origins | None = None
) -> list[JsonObject]:
    """Return `tools` with each masked value replaced by the stored one.

    An action is matched with the stored action that has the same document, else with the one at the same position. If
    the document or `base_url` has changed, `origins` decides whether the action now calls other origins; without
    `origins`, it is assumed to.

    Raises:
        InvalidRequest: A value is masked, but none is stored, or the stored one belongs to another origin or place.
    """
    earlier = [tool["data"] for tool in earlier_private_tools if tool.get("type") == "action"]
    matches = iter(_match([tool["data"] for tool in tools if tool.get("type") == "action"], earlier))
    restored: list[JsonObject] = []
    for index, tool in enumerate(tools):
        if tool.get("type") == "action":
            stored = next(matches)
            moved = bool(_masked(tool["data"])) and _has_moved(tool["data"], stored, origins)
            tool = {**tool, "data": _restore(tool["data"], stored, f"tools[{index}].data", moved=moved)}
        restored.append(tool)
    return restored


def _has_moved(data: JsonObject, stored: JsonObject, origins: Origins | None) -> bool:
    if all(data.get(name) == stored.get(name) for name in ("openapi_spec", "base_url")):
        return False
    return origins is None or not origins(data) <= origins(stored)


def _is_action(tool: JsonObject) -> bool:
    """Return whether the tool is an action. The tools of a run from a dump can be anything."""
    return tool.get("type") == "action" and isinstance(tool.get("data"), dict)


def _masked(data: JsonObject) -> list[str]:
    """Return the names of the masked values in an action's `data`: `headers.X-Key`, `auth.token`."""
    parts = {name: data[name] for name in ("headers", "auth") if isinstance(data.get(name), dict)}
    return [
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part.items()
        if value == MASK and (name == "headers" or key in _SECRET_FIELDS)
    ]


def _without(masked: list[str], data: JsonObject) -> JsonObject:
    left = dict(data)
    if isinstance(data.get("headers"), dict):
        left["headers"] = {name: value for name, value in data["headers"].items() if f"headers.{name}" not in masked}
    if any(name.startswith("auth.") for name in masked):
        del left["auth"]
    return left


def _mask(tool: JsonObject) -> JsonObject:
    data = dict(tool["data"])
    if isinstance(data.get("headers"), dict):
        data["headers"] = dict.fromkeys(data["headers"], MASK)
    if isinstance(data.get("auth"), dict):
        data["auth"] = {key: MASK if key in _SECRET_FIELDS else value for key, value in data["auth"].items()}
    return {**tool, "data": data}


def _match(actions: list[JsonObject], earlier: list[JsonObject]) -> Iterator[JsonObject]:
    left = list(range(len(earlier)))
    found: dict[int, int] = {}
    for place, data in enumerate(actions):
        same = [each for each in left if earlier[each].get("openapi_spec") == data.get("openapi_spec")]
        if same:
            found[place] = place if place in same else same[0]
            left.remove(found[place])
    for place in range(len(actions)):
        if place not in found and place in left:
            found[place] = place
    return (earlier[found[place]] if place in found else {} for place in range(len(actions)))


def _restore(data: JsonObject, stored: JsonObject, param: str, *, moved: bool) -> JsonObject:
    result = dict(data)
    if isinstance(data.get("headers"), dict):
        known = {name.lower(): value for name, value in (stored.get("headers") or {}).items()}
        result["headers"] = {
            name: _keep(value, known.get(name.lower()), f"{param}.headers.{name}", moved=moved)
            for name, value in data["headers"].items()
        }
    auth, stored_auth = data.get("auth"), stored.get("auth") or {}
    if isinstance(auth, dict):
        same_place = all(stored_auth.get(name) == auth.get(name) for name in ("type", "in", "name"))
        known = stored_auth if same_place else {}
        result["auth"] = {
            key: _keep(value, known.get(key), f"{param}.auth.{key}", moved=moved) if key in _SECRET_FIELDS else value
            for key, value in auth.items()
        }
    return result


def _keep(value: Json, stored: Json, param: str, *, moved: bool) -> Json:
    if value != MASK:
        return value
    if stored is None or moved:
        why = "the action calls another address now" if stored is not None else "there is no stored value to keep"
        message = f"Invalid value for '{param}': it is masked, and {why}. Send the value itself."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return stored
