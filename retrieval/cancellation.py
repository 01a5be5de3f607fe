"""Cancels the vector store files that are in progress, in groups.

Invariant: a file that has ended or was removed is not changed, and does not prevent the others from being cancelled.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from store.ports import FileQueries, PageQuery, Patch, Row, Store
from wire.errors import MissingRow, StatusConflict

__all__ = ["MAX_CHANGED", "cancel_files"]

MAX_CHANGED: Final = 100
"""Maximum vector store files that are removed or cancelled in one commit: larger commits would delay other writes."""

_PAGE: Final = 500
_OPEN: Final = frozenset({"in_progress"})


async def cancel_files(
    store: Store, file_queries: FileQueries, owner: str, vector_store_id: str, batch_id: str | None
) -> set[str]:
    """Cancel the files in progress of a batch or a whole vector store, and return their vector store file ids."""
    store_files = await _in_progress(file_queries, owner, vector_store_id, batch_id)
    for start in range(0, len(store_files), MAX_CHANGED):
        await _cancel_group(store, store_files[start:][:MAX_CHANGED])
    await store.commit([], durable=True)  # one sync to disk for all groups
    return {store_file.id for store_file in store_files}


async def _cancel_group(store: Store, store_files: Sequence[Row]) -> None:
    changes = [
        Patch("vector_store_file", each.id, each.owner, {"status": "cancelled"}, only_if=_OPEN) for each in store_files
    ]
    with suppress(MissingRow, StatusConflict):
        await store.commit(changes, durable=False)
        return
    for change in changes:  # one change was refused, and the whole group with it
        with suppress(MissingRow, StatusConflict):
            await store.commit([change], durable=False)


async def _in_progress(file_queries: FileQueries, owner: str, vector_store_id: str, batch_id: str | None) -> list[Row]:
    at = {"vector_store_id": vector_store_id, "batch_id": batch_id, "status": "in_progress"}
    found: list[Row] = []
    query = PageQuery(limit=_PAGE, order="asc")
    while True:
        page = await file_queries.store_files(owner, query, **at)  # type: ignore[arg-type]
        found += page.rows
        if not page.has_more:
            return found
        query = replace(query, after=page.rows[-1].id)
