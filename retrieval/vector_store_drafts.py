"""New vector stores and vector store files before they are committed. Pure.

Invariant: the transaction that adds a new object checks what it refers to (`RequireRow`, `Insert`).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from store.ports import Change, Insert, Patch, RequireRow, Row, StoreFileRow, StoreRow, store_file_id
from wire.errors import InvalidRequest
from wire.ids import new_id
from wire.resources import Resources
from wire.validation import parse
from wire.vector_stores import NewStoreFile, StoreChanges, VectorStoreCreate, expiry, new_store_file, new_vector_store

__all__ = ["add_store_files", "create_inline_stores", "draft_store", "refuse_expired", "renew_expiry", "store_file_row"]

_STALE_S: Final = 60
"""Seconds by which `last_active_at` can lag."""


def store_file_row(
    owner: str, vector_store_id: str, request: NewStoreFile, *, now: int, batch_id: str | None = None
) -> StoreFileRow:
    """Return the row of a vector store file."""
    body = new_store_file(request, vector_store_id=vector_store_id, now=now)
    return Row(
        "vector_store_file",
        store_file_id(vector_store_id, request.file_id),
        owner,
        body,
        vector_store_id=vector_store_id,
        batch_id=batch_id,
        file_id=request.file_id,
    )


def add_store_files(
    owner: str, vector_store_id: str, requests: Iterable[NewStoreFile], *, now: int, batch_id: str | None = None
) -> list[StoreFileRow]:
    """Return the rows of several vector store files; if a file occurs twice, the last one applies."""
    rows = [store_file_row(owner, vector_store_id, request, now=now, batch_id=batch_id) for request in requests]
    return list({row.id: row for row in rows}.values())


def draft_store(
    owner: str, request: VectorStoreCreate, *, now: int, id: str | None = None
) -> tuple[StoreRow, list[StoreFileRow]]:
    """Return the rows of a new vector store and of its files."""
    body = new_vector_store(request, id=id or new_id("vs"), now=now)
    given = [
        NewStoreFile(file_id=file_id, chunking_strategy=request.chunking_strategy) for file_id in request.file_ids or ()
    ]
    return Row("vector_store", body["id"], owner, body), add_store_files(owner, body["id"], given, now=now)


def create_inline_stores(owner: str, resources: Resources, *, now: int) -> tuple[Resources, list[Change]]:
    """Return `tool_resources` with the ids of new stores instead of `vector_stores`, and the changes to commit.

    The commit checks objects that are named by id. Raises InvalidRequest if both an existing store and a new one are
    given.
    """
    changes: list[Change] = [
        RequireRow("file", file_id, owner) for file_id in resources.get("code_interpreter", {}).get("file_ids", ())
    ]
    search = resources.get("file_search", {})
    ids: Sequence[str] = search.get("vector_store_ids", ())
    changes += [RequireRow("vector_store", id, owner) for id in ids]
    if "vector_stores" not in search:
        return resources, changes
    if ids and search["vector_stores"]:
        raise InvalidRequest(
            "`file_search` takes a vector store in `vector_store_ids` or one to create in `vector_stores`, not both.",
            param="tool_resources.file_search",
        )
    made = []
    for wanted in search["vector_stores"]:
        store, _ = draft_store(owner, VectorStoreCreate(metadata=wanted.get("metadata")), now=now)
        strategy = wanted.get("chunking_strategy")
        ids_given = list(dict.fromkeys(wanted.get("file_ids", ())))
        first = [parse(NewStoreFile, {"file_id": id, "chunking_strategy": strategy}) for id in ids_given[:1]]
        given = [first[0].model_copy(update={"file_id": id}) for id in ids_given]  # there can be thousands
        changes += [Insert(store), *(Insert(row) for row in add_store_files(owner, store.id, given, now=now))]
        made.append(store.id)
    return {**resources, "file_search": {"vector_store_ids": [*ids, *made]}}, changes


def renew_expiry(store: StoreRow, *, now: int, at_once: bool = False) -> list[Change]:
    """Return the change that renews the expiry of a store that is used; empty if that happened in the last minute."""
    if not at_once and now - (store.body["last_active_at"] or 0) < _STALE_S:
        return []
    body: StoreChanges = {"last_active_at": now, "expires_at": expiry(store.body["expires_after"], now)}
    return [Patch("vector_store", store.id, store.owner, body, if_exists=True)]


def refuse_expired(store: StoreRow) -> None:
    """Raise InvalidRequest if the store has expired."""
    if store.body["status"] == "expired":
        raise InvalidRequest(
            f"The vector store '{store.id}' has expired. Create a new one; the files of this one are still listed."
        )
