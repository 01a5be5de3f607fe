"""What clients of the Assistants API v1 still send and expect: `retrieval`, and `file_ids` on objects. Pure."""

from typing import Any, Final, Literal

from pydantic import BaseModel

from wire.validation import Id, Request

__all__ = ["AssistantFile", "AssistantFileCreate", "MessageFile", "file_object", "rename_retrieval", "with_file_ids"]

_OBJECTS: Final = frozenset({"assistant", "thread.message", "thread.run"})


class AssistantFileCreate(Request):
    """POST /assistants/{assistant_id}/files."""

    file_id: Id


class AssistantFile(BaseModel):
    """The object `assistant.file`; its id is the file's."""

    id: str
    object: Literal["assistant.file"]
    created_at: int
    assistant_id: str


class MessageFile(BaseModel):
    """The object `thread.message.file`; its id is the file's."""

    id: str
    object: Literal["thread.message.file"]
    created_at: int
    message_id: str


def file_object(file_id: str, created_at: int, **holder: str) -> dict[str, Any]:
    """Make one of the two objects above; `holder` is its `assistant_id` or its `message_id`."""
    kind = "assistant.file" if "assistant_id" in holder else "thread.message.file"
    return {"id": file_id, "object": kind, "created_at": created_at, **holder}


def rename_retrieval(data: Any) -> Any:
    """Return a request whose tools of type `retrieval` are called `file_search`, as v2 does."""
    if not isinstance(data, dict) or not isinstance(data.get("tools"), list):
        return data
    return {**data, "tools": [_renamed(tool) for tool in data["tools"]]}


def with_file_ids(obj: dict[str, Any]) -> dict[str, Any]:
    """Return an answer or event data with `file_ids` on assistants, messages and runs, in lists too."""
    if obj.get("object") == "list":
        return {**obj, "data": [with_file_ids(each) for each in obj["data"]]}
    if obj.get("object") not in _OBJECTS or "file_ids" in obj:
        return obj
    found = [file["file_id"] for file in obj.get("attachments") or ()] + _resource_files(obj.get("tool_resources"))
    return {**obj, "file_ids": list(dict.fromkeys(found))}


def _renamed(tool: Any) -> Any:
    if isinstance(tool, dict) and tool.get("type") == "retrieval":
        return {**tool, "type": "file_search"}
    return tool


def _resource_files(resources: dict[str, Any] | None) -> list[str]:
    given = resources or {}
    found = list(given.get("code_interpreter", {}).get("file_ids", ()))
    for vector_store in given.get("file_search", {}).get("vector_stores", ()):  # of a request, not made yet
        found += vector_store.get("file_ids", ())
    return found
