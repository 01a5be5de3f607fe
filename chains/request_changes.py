"""The changes that adapt a request to an upstream that refuses some of its fields, as values. Pure.

Invariant: a change applies only to requests that have its field; all others stay unchanged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import orjson

__all__ = ["LIMITS", "NAMED_CHILDREN", "RequestChange", "apply_changes", "without"]

LIMITS: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the reply's limit, each mapped to the other."""

NAMED_CHILDREN: Final = ("properties", "$defs", "definitions", "patternProperties")
"""Members of a schema whose keys are names, not keywords."""

FieldLocation = Literal["request", "pair", "limit", "choice", "content", "message", "function", "schema"]


@dataclass(frozen=True, slots=True)
class RequestChange:
    """One field that is left out, or sent differently.

    `place`: `request` is a field of the body; `pair` is `top_p` sent with `temperature`; `limit` swaps the names of the
    reply's limit; `choice` is a `tool_choice`, `name` its value; `content` is an assistant's content next to calls;
    `message`, `function` and `schema` are fields of every message, function and parameter schema.
    `value` is the field's JSON if only this value was refused; empty for any value.
    """

    place: FieldLocation
    name: str
    value: str = ""

    @property
    def label(self) -> str:
        """The field's name in the log."""
        match self.place:
            case "content":
                return "an empty `content` next to calls"
            case "choice":
                return f"`tool_choice` {self.name}"
            case "pair":
                return "`top_p` together with `temperature`"
            case _:
                return f"`{self.name[:80]}`" + (f" of {self.value[:20]}" if self.value else "")


def apply_changes(body: dict[str, object], changes: Sequence[RequestChange]) -> dict[str, object]:
    """Return the changed body; the same object if nothing changes."""
    for change in changes:
        body = _APPLY[change.place](body, change)
    return body


# --- the request without one field ------------------------------------------------------------------------------------


def _without_request(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    name = change.name
    if name not in body or (change.value and orjson.dumps(body[name]).decode() != change.value):
        return body
    if name == "stream":
        return without(body, ("stream", "stream_options"))
    return without(body, (name,))


def _without_pair(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    return without(body, (change.name,)) if {"temperature", "top_p"} <= body.keys() else body


def _other_limit(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    if change.name not in body:
        return body
    return {**without(body, (change.name,)), LIMITS[change.name]: body[change.name]}


def _other_choice(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    """Replace a `tool_choice`: `auto` is the default without the field; `none` is a request without functions."""
    if body.get("tool_choice") != change.name:
        return body
    if change.name == "none":
        return without(body, ("tool_choice", "tools", "parallel_tool_calls"))
    return without(body, ("tool_choice",)) if change.name == "auto" else {**body, "tool_choice": "auto"}


def _other_content(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    def changed(message: dict[str, object]) -> dict[str, object]:
        if not message.get("tool_calls") or message.get("content", "…") not in (None, ""):
            return message
        return {**message, "content": ""} if change.name == "empty" else without(message, ("content",))

    messages = body.get("messages")
    return {**body, "messages": [changed(message) for message in messages]} if isinstance(messages, list) else body


def _without_message(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    def changed(value: object, depth: int) -> object:
        if isinstance(value, list):
            return [changed(one, depth) for one in value]
        if not isinstance(value, dict) or depth > 3:
            return value
        gone = change.name in value and (depth == 0 or change.name != "name")
        kept = without(value, (change.name,)) if gone else value
        return {key: changed(one, depth + 1) for key, one in kept.items()}

    return {**body, "messages": changed(body.get("messages", []), 0)}


def _without_function(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    return _with_functions(body, lambda function: without(function, (change.name,)))


def _without_schema(body: dict[str, object], change: RequestChange) -> dict[str, object]:
    def changed(function: dict[str, object]) -> dict[str, object]:
        if "parameters" not in function:
            return function
        return {**function, "parameters": _without_keyword(function["parameters"], change.name)}

    return _with_functions(body, changed)


def _without_keyword(schema: object, keyword: str) -> object:
    """Return a schema without a keyword; properties of that name stay."""
    if isinstance(schema, list):
        return [_without_keyword(one, keyword) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_keyword(one, keyword) for name, one in value.items()}
        if key in NAMED_CHILDREN and isinstance(value, dict)
        else _without_keyword(value, keyword)
        for key, value in schema.items()
        if key != keyword
    }


def _with_functions(
    body: dict[str, object], changed: Callable[[dict[str, object]], dict[str, object]]
) -> dict[str, object]:
    tools = body.get("tools")
    if not isinstance(tools, list) or not tools:
        return body
    tools = [
        {**tool, "function": changed(tool["function"])} if isinstance(tool.get("function"), dict) else tool
        for tool in tools
    ]
    return {**body, "tools": tools}


_APPLY: Final[dict[FieldLocation, Callable[[dict[str, object], RequestChange], dict[str, object]]]] = {
    "request": _without_request,
    "pair": _without_pair,
    "limit": _other_limit,
    "choice": _other_choice,
    "content": _other_content,
    "message": _without_message,
    "function": _without_function,
    "schema": _without_schema,
}


def without(value: dict[str, object], names: Sequence[str]) -> dict[str, object]:
    """Return a dict without these keys."""
    return {key: one for key, one in value.items() if key not in names}
