"""Leaves out what this server adds to OpenAI's API, for clients that do not ask for it. Pure.

Invariant: a client that does not ask gets only the events and fields that OpenAI defines. Strict clients (openai-php,
async-openai) lose the whole stream at the first event they do not know. Events keep their numbers, so a stream without
extensions skips some, and can be resumed from any number that it had.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from wire.events import EVENT_NAMES, Event, encode
from wire.json import JsonView

__all__ = ["EXTENSION_EVENTS", "events_without_extensions", "without_extensions"]

EXTENSION_EVENTS: Final = frozenset(name for name in EVENT_NAMES if name.startswith("threadhold."))
"""Names of events that OpenAI's API does not have."""

_RUN_EVENTS: Final = frozenset(
    name for name in EVENT_NAMES if name.startswith("thread.run.") and not name.startswith("thread.run.step.")
)

_ADDED: Final[Mapping[str, frozenset[str]]] = {"thread.run": frozenset({"threadhold", "file_ids"})}
"""Fields that OpenAI's v2 objects do not have, by the value of `object`. The stored run of a v1 assistant has v1's
`file_ids`."""
_V1: Final = frozenset({"file_ids"})
"""Those of them that v1's objects have."""
_RUN_KEYS: Final = tuple(f'"{name}":'.encode() for name in sorted(_ADDED["thread.run"]))

_MODEL: Final = frozenset({"id", "object", "created", "owned_by", "shutdown_date"})
"""All fields of OpenAI's `model`. Each engine adds its own."""


def without_extensions(body: JsonView, *, v1: bool = False) -> JsonView:
    """Return an object or a list with only OpenAI's fields, including v1's if `v1`. The argument is not changed."""
    kind = body.get("object")
    if kind == "list":
        return {**body, "data": [without_extensions(each, v1=v1) for each in body["data"]]}
    if kind == "model":
        return {name: value for name, value in body.items() if name in _MODEL}
    if (added := _ADDED.get(kind or "")) is None:
        return body
    return {name: value for name, value in body.items() if name not in added or (v1 and name in _V1)}


def events_without_extensions(events: Iterable[Event], *, v1: bool = False) -> list[Event]:
    """Return the events that OpenAI's API has, in their order and with their numbers."""
    # This runs for every token, so the event's name decides, and only the few events of runs are inspected.
    return [
        _run_without_extensions(event, v1) if event.name in _RUN_EVENTS else event
        for event in events
        if event.name not in EXTENSION_EVENTS
    ]


def _run_without_extensions(event: Event, v1: bool) -> Event:
    if not any(key in event.json for key in _RUN_KEYS):
        return event
    return Event(event.number, event.name, encode(without_extensions(event.data(), v1=v1)))
