"""Batches of a vector store's files: create, read, cancel, list."""

import time

from fastapi import Response

from api.body_route import BodyRoute
from api.depends import BatchId, Deps, InjectedDeps, Listing, Owner, VectorStoreId, get_or_404
from api.json_response import json_response
from api.routers import api_router
from api.store_files import POLL_AFTER, StatusFilter, page_of_store_files
from retrieval.vector_store_drafts import add_store_files, refuse_expired, renew_expiry
from store.ports import BatchRow, FileTotals, Insert, Patch, Row
from wire.errors import InvalidRequest, NotFound
from wire.ids import new_id
from wire.pages import Listing as ListOf
from wire.vector_stores import FileBatch, FileBatchCreate, VectorStoreFile, new_batch, show_batch

__all__ = ["router"]

router = api_router("vector stores", BodyRoute)


@router.post("/vector_stores/{vector_store_id}/file_batches", response_model=FileBatch)
async def create_batch(
    vector_store_id: VectorStoreId, body: FileBatchCreate, deps: InjectedDeps, owner: Owner
) -> Response:
    """Add files to the store; they are indexed in the background."""
    now = int(time.time())
    store = await get_or_404(deps, "vector_store", vector_store_id, owner)
    refuse_expired(store)
    made = new_batch(id=new_id("vsfb"), vector_store_id=vector_store_id, now=now)
    batch = Row("file_batch", made["id"], owner, made, vector_store_id=vector_store_id)
    given = body.store_files()
    await deps.attachments.require(owner, [each.file_id for each in given])
    files = add_store_files(owner, vector_store_id, given, now=now, batch_id=batch.id)
    await deps.ingestion.add(owner, files, Insert(batch), *renew_expiry(store, now=now, at_once=True))
    return _answer(batch, FileTotals({"in_progress": len(files)}))


@router.get("/vector_stores/{vector_store_id}/file_batches/{batch_id}", response_model=FileBatch)
async def get_batch(vector_store_id: VectorStoreId, batch_id: BatchId, deps: InjectedDeps, owner: Owner) -> Response:
    """Read a batch's status."""
    return await _read_answer(deps, await _get_batch_or_404(deps, vector_store_id, batch_id, owner))


@router.post("/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", response_model=FileBatch)
async def cancel_batch(vector_store_id: VectorStoreId, batch_id: BatchId, deps: InjectedDeps, owner: Owner) -> Response:
    """Cancel the files that are not indexed yet."""
    batch = await _get_batch_or_404(deps, vector_store_id, batch_id, owner)
    totals = (await deps.file_queries.file_totals("batch_id", [batch_id]))[batch_id]
    status = show_batch(batch.body, totals.counts)["status"]
    if status != "in_progress":
        raise InvalidRequest(f"Cannot cancel file batch with status '{status}'.")
    await deps.ingestion.cancel(owner, vector_store_id, batch_id, Patch("file_batch", batch_id, owner, _CANCELLED))
    return await _read_answer(deps, await _get_batch_or_404(deps, vector_store_id, batch_id, owner))


@router.get("/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", response_model=ListOf[VectorStoreFile])
async def list_batch_files(
    vector_store_id: VectorStoreId,
    batch_id: BatchId,
    query: Listing,
    deps: InjectedDeps,
    owner: Owner,
    status: StatusFilter = None,
) -> Response:
    """List the batch's files, newest first; `filter` is a status."""
    await _get_batch_or_404(deps, vector_store_id, batch_id, owner)
    return json_response(
        await page_of_store_files(deps, owner, vector_store_id, query, status=status, batch_id=batch_id)
    )


_CANCELLED = {"status": "cancelled"}


async def _get_batch_or_404(deps: Deps, vector_store_id: str, batch_id: str, owner: str) -> BatchRow:
    row = await deps.store.get("file_batch", batch_id, owner)
    if row is None or row.vector_store_id != vector_store_id:
        await get_or_404(deps, "vector_store", vector_store_id, owner)
        raise NotFound(f"No file batch found with id '{batch_id}'.")
    return row


async def _read_answer(deps: Deps, batch: BatchRow) -> Response:
    return _answer(batch, (await deps.file_queries.file_totals("batch_id", [batch.id]))[batch.id])


def _answer(batch: BatchRow, totals: FileTotals) -> Response:
    shown = show_batch(batch.body, totals.counts)
    return json_response(shown, headers=POLL_AFTER if shown["status"] == "in_progress" else None)
