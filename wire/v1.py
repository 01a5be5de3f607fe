"""Converts objects to what v1 clients of the Assistants API expect: `retrieval`, `file_ids`, quotes. Pure.

Invariant: everything inside the server is v2. Requests are converted when they are read, answers when they are sent.
"""

from typing import Final, Literal

from typing_extensions import TypedDict

from wire.field_markers import FieldMarker, marked_fields
from wire.json import JsonObject, JsonView
from wire.object_types import OBJECT_TYPES
from wire.v1_requests import rename_tool
from wire.validation import Id, Request

__all__ = ["AssistantFile", "AssistantFileCreate", "MessageFile", "as_v1", "file_object"]


_ADDED_IN_V2: Final = {
    name: marked_fields(object_type, FieldMarker.ADDED_IN_V2) for name, object_type in OBJECT_TYPES.items()
}


class AssistantFileCreate(Request):
    """POST /assistants/{assistant_id}/files."""

    file_id: Id


class AssistantFile(TypedDict):
    """The object `assistant.file`; its id is the file's."""

    id: str
    object: Literal["assistant.file"]
    created_at: int
    assistant_id: str


class MessageFile(TypedDict):
    """The object `thread.message.file`; its id is the file's."""

    id: str
    object: Literal["thread.message.file"]
    created_at: int
    message_id: str


def file_object(file_id: str, created_at: int, **holder: str) -> JsonObject:
    """Make one of the two objects above; `holder` is its `assistant_id` or its `message_id`."""
    kind = "assistant.file" if "assistant_id" in holder else "thread.message.file"
    return {"id": file_id, "object": kind, "created_at": created_at, **holder}


def as_v1(obj: JsonView) -> JsonView:
    """Return an answer or an event's data in v1's form, including the objects of a list.

    Assistants, messages and runs have `file_ids`, `file_search` is `retrieval`, each `file_citation` has a `quote`, and
    fields that v2 added are removed.
    """
    match obj.get("object"):
        case "list":
            return {**obj, "data": [as_v1(each) for each in obj["data"]]}
        case "assistant" | "thread.run":
            return {"file_ids": _file_ids(obj), **_without_v2(obj), **_tools(obj)}
        case "thread":
            return _without_v2(obj)
        case "thread.message":
            content = [_quoting(part) for part in obj["content"]]
            return {"file_ids": _file_ids(obj), **_without_v2(obj), "content": content}
        case "thread.message.delta":
            delta = obj["delta"]
            return {**obj, "delta": {**delta, "content": [_quoting(part) for part in delta.get("content") or ()]}}
        case "thread.run.step":
            return {**_without_v2(obj), "step_details": _calls(obj["step_details"])}
        case "thread.run.step.delta":
            return {**obj, "delta": {**obj["delta"], "step_details": _calls(obj["delta"]["step_details"])}}
        case _:
            return obj


def _without_v2(obj: JsonView) -> JsonObject:
    added = _ADDED_IN_V2[obj["object"]]
    return {name: value for name, value in obj.items() if name not in added}


def _tools(obj: JsonView) -> JsonObject:
    shown: JsonObject = {"tools": [_bare(rename_tool(tool, "file_search", "retrieval")) for tool in obj["tools"]]}
    if isinstance(obj.get("tool_choice"), dict):
        shown["tool_choice"] = rename_tool(obj["tool_choice"], "file_search", "retrieval")
    return shown


def _bare(tool: JsonObject) -> JsonObject:
    return {"type": "retrieval"} if tool["type"] == "retrieval" else tool


def _calls(details: JsonObject) -> JsonObject:
    if "tool_calls" not in details:
        return details
    shown = []
    for call in details["tool_calls"]:
        if call["type"] == "file_search":
            call = {key: call[key] for key in ("index", "id") if key in call} | {"type": "retrieval", "retrieval": {}}
        shown.append(call)
    return {**details, "tool_calls": shown}


def _quoting(part: JsonObject) -> JsonObject:
    """Add quotes to the citations of a message's part. They are empty, because passages are not kept with messages.
    openai-python 1.3 and 1.10 cannot parse a citation without a quote."""
    made = part.get("text", {}).get("annotations")
    if not made:
        return part
    shown = [
        {**each, "file_citation": {"quote": "", **each["file_citation"]}} if each["type"] == "file_citation" else each
        for each in made
    ]
    return {**part, "text": {**part["text"], "annotations": shown}}


def _file_ids(obj: JsonView) -> list[str]:
    found = [file["file_id"] for file in obj.get("attachments") or ()] + _resource_files(obj.get("tool_resources"))
    return list(dict.fromkeys(found))


def _resource_files(resources: JsonView | None) -> list[str]:
    given = resources or {}
    found = list(given.get("code_interpreter", {}).get("file_ids", ()))
    # `vector_stores` is in requests only: these stores do not exist yet.
    for vector_store in given.get("file_search", {}).get("vector_stores", ()):
        found += vector_store.get("file_ids", ())
    return found
