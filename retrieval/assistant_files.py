"""The `file_ids` of an assistant, as in v1. The assistant's row keeps them, and searches use a vector store that is
made for them. Pure.

Invariant: `file_ids` are valid while the assistant's `tool_resources` contain that store (or, without `retrieval`, the
same files for the code interpreter). A v2 client that sets another store ends them.
"""

from collections.abc import Sequence

from typing_extensions import TypedDict

from store.ports import AssistantRow, Change, Insert

__all__ = ["RememberedFiles", "files_of", "remember", "store_of"]


class RememberedFiles(TypedDict):
    """The keys of `AssistantPrivate` for `file_ids`."""

    v1_files: dict[str, int]
    v1_store: str | None


def store_of(assistant: AssistantRow) -> str | None:
    """Return the vector store that was made for `file_ids`, if the assistant still has it."""
    made = assistant.private.get("v1_store")
    search = assistant.body["tool_resources"].get("file_search", {})
    return made if made in search.get("vector_store_ids", ()) else None


def files_of(assistant: AssistantRow) -> dict[str, int]:
    """Return the files as v1 shows them: file id → when the file was added (Unix s)."""
    code: Sequence[str] = assistant.body["tool_resources"].get("code_interpreter", {}).get("file_ids", ())
    known = assistant.private.get("v1_files") or {}
    if store_of(assistant) is not None:
        return {**known, **{id: known.get(id, assistant.body["created_at"]) for id in code}}
    return {id: known.get(id, assistant.body["created_at"]) for id in code}


def remember(file_ids: Sequence[str], changes: Sequence[Change], *, now: int) -> RememberedFiles:
    """Return the private part for `file_ids` that were just given; `changes` can insert their store."""
    made = [each.row.id for each in changes if isinstance(each, Insert) and each.row.kind == "vector_store"]
    return {"v1_files": dict.fromkeys(file_ids, now), "v1_store": made[0] if made else None}
