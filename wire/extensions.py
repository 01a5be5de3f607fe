"""Leaves out what this server adds to OpenAI's API, for clients that do not ask for it. Pure.

Invariant: a client that does not ask gets only the events and fields that OpenAI defines. Strict clients (openai-php,
async-openai) lose the whole stream at the first event they do not know. Events keep their numbers, so a stream without
extensions skips some, and can be resumed from any number that it had.
"""

from collections.abc import Iterable, Mapping
from typing import Final, get_args

from wire.event_names import EVENT_NAMES, CustomEventName
from wire.events import Event, encode
from wire.field_markers import FieldMarker, marked_fields
from wire.json import JsonView
from wire.object_types import OBJECT_TYPES

__all__ = ["EXTENSION_EVENTS", "events_without_extensions", "without_extensions"]

EXTENSION_EVENTS: Final[frozenset[str]] = frozenset(get_args(CustomEventName))
"""Names of events that OpenAI's API does not have."""

_ADDED: Final = {
    name: marked_fields(object_type, FieldMarker.EXTENSION, FieldMarker.V1_ONLY)
    for name, object_type in OBJECT_TYPES.items()
}
"""Fields that OpenAI's v2 objects do not have, by the value of `object`. The stored run of a v1 assistant has v1's
`file_ids`."""

_V1: Final = {name: marked_fields(object_type, FieldMarker.V1_ONLY) for name, object_type in OBJECT_TYPES.items()}
"""Those of them that v1's objects have."""


def _object_of(event: str) -> str:
    """Return the value of `object` in an event's data; empty for deltas and for other data."""
    kinds = [name for name in OBJECT_TYPES if event.startswith(f"{name}.")]
    return "" if event.endswith(".delta") else max(kinds, key=len, default="")


_KEYS: Final[Mapping[str, tuple[bytes, ...]]] = {
    name: tuple(f'"{field}":'.encode() for field in sorted(_ADDED[kind]))
    for name in EVENT_NAMES
    if (kind := _object_of(name)) and _ADDED[kind]
}
"""The JSON keys of the fields in `_ADDED`, by the name of the events whose data can have them."""

_MODEL: Final = frozenset({"id", "object", "created", "owned_by", "shutdown_date"})
"""All fields of OpenAI's `model`. Each engine adds its own."""


def without_extensions(body: JsonView, *, v1: bool = False) -> JsonView:
    """Return an object or a list with only OpenAI's fields, including v1's if `v1`. The argument is not changed."""
    kind = body.get("object") or ""
    if kind == "list":
        return {**body, "data": [without_extensions(each, v1=v1) for each in body["data"]]}
    if kind == "model":
        return {name: value for name, value in body.items() if name in _MODEL}
    if not (added := _ADDED.get(kind)):
        return body
    left_out = added - _V1[kind] if v1 else added
    return {name: value for name, value in body.items() if name not in left_out}


def events_without_extensions(events: Iterable[Event], *, v1: bool = False) -> list[Event]:
    """Return the events that OpenAI's API has, in their order and with their numbers."""
    # This runs for every token, so the event's name decides, and only the few events of objects are inspected.
    return [
        _event_without_extensions(event, v1) if event.name in _KEYS else event
        for event in events
        if event.name not in EXTENSION_EVENTS
    ]


def _event_without_extensions(event: Event, v1: bool) -> Event:
    if not any(key in event.json for key in _KEYS[event.name]):
        return event
    return Event(event.number, event.name, encode(without_extensions(event.data(), v1=v1)))
