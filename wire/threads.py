"""Threads: the requests to create and modify them, the object, and how it is made from a request."""

from typing import Annotated, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from wire.closed import CLOSED
from wire.field_markers import FieldMarker
from wire.messages import NewMessages
from wire.metadata import Metadata
from wire.resources import NewToolResources, Resources, ToolResources, resources_body
from wire.validation import Request

__all__ = ["Thread", "ThreadChanges", "ThreadCreate", "ThreadModify", "new_thread", "thread_changes"]


class ThreadCreate(Request):
    """POST /threads."""

    messages: NewMessages | None = None
    tool_resources: NewToolResources | None = None
    metadata: Metadata | None = None


class ThreadModify(Request):
    """POST /threads/{thread_id}: only the given fields change; metadata is replaced as a whole."""

    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None


@with_config(CLOSED)
class Thread(TypedDict):
    """The object `thread`."""

    id: str
    object: Literal["thread"]
    created_at: int
    metadata: dict[str, str]
    tool_resources: Annotated[Resources, FieldMarker.ADDED_IN_V2]


class ThreadChanges(TypedDict, total=False):
    """Keys of a thread that a request changes."""

    metadata: dict[str, str]
    tool_resources: Resources


def new_thread(request: ThreadCreate, *, id: str, now: int) -> Thread:
    """Make the wire object, without its messages; `now` in Unix seconds."""
    return {
        "id": id,
        "object": "thread",
        "created_at": now,
        "metadata": request.metadata or {},
        "tool_resources": resources_body(request.tool_resources),
    }


def thread_changes(request: ThreadModify) -> ThreadChanges:
    """Return the keys that the request changes, with their new values."""
    changes: ThreadChanges = {}
    if "metadata" in request.model_fields_set:
        changes["metadata"] = request.metadata or {}
    if "tool_resources" in request.model_fields_set:
        changes["tool_resources"] = resources_body(request.tool_resources)
    return changes
