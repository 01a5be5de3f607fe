"""An assistant's files as v1 knows them: `file_ids`. They are kept beside the assistant, and search reads them from a
vector store that is the assistant's own. Pure.

Law: `file_ids` count as long as the assistant's `tool_resources` have that store (or, without `retrieval`, the same
files for the code interpreter); a v2 client that puts another store there ends them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from store.ports import Change, Insert, Row

__all__ = ["FILES", "STORE", "files_of", "remember", "store_of"]

FILES: Final = "v1_files"
"""Key in the private part: file id → when it came (Unix s)."""
STORE: Final = "v1_store"
"""Key in the private part: the vector store that was made for them."""


def store_of(assistant: Row) -> str | None:
    """Return the vector store that was made for `file_ids`, while the assistant has it."""
    made: str | None = assistant.private.get(STORE)
    search = assistant.body["tool_resources"].get("file_search", {})
    return made if made in search.get("vector_store_ids", ()) else None


def files_of(assistant: Row) -> dict[str, int]:
    """Return the files as v1 shows them, file id → when it came (Unix s)."""
    code: Sequence[str] = assistant.body["tool_resources"].get("code_interpreter", {}).get("file_ids", ())
    known: Mapping[str, int] = assistant.private.get(FILES) or {}
    if store_of(assistant) is not None:
        return {**known, **{id: known.get(id, assistant.body["created_at"]) for id in code}}
    return {id: known.get(id, assistant.body["created_at"]) for id in code}


def remember(file_ids: Sequence[str], changes: Sequence[Change], *, now: int) -> dict[str, Any]:
    """Return what the private part keeps of `file_ids` that were just given; `changes` may make their store."""
    made = [each.row.id for each in changes if isinstance(each, Insert) and each.row.kind == "vector_store"]
    return {FILES: dict.fromkeys(file_ids, now), STORE: made[0] if made else None}
