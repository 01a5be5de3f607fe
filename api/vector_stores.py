"""Vector stores: create, list, read, change, delete and search."""

import logging
import time
from collections.abc import Sequence
from typing import cast

from fastapi import Request, Response

from api.body_route import BodyRoute
from api.depends import Deps, InjectedDeps, Listing, Owner, VectorStoreId, get_or_404
from api.json_response import json_response
from api.routers import api_router
from api.sse import while_connected
from retrieval.vector_store_drafts import draft_store, refuse_expired, renew_expiry
from store.ports import FileTotals, Hit, Insert, PageQuery, Patch, Query, StoreRow
from wire.errors import EmbeddingFailed
from wire.pages import Deletion, deletion, list_envelope
from wire.pages import Listing as ListOf
from wire.search import ResultsPage, VectorStoreSearch, results_page
from wire.vector_stores import (
    VectorStore,
    VectorStoreCreate,
    VectorStoreModify,
    show_vector_store,
    vector_store_changes,
)

__all__ = ["router"]

logger = logging.getLogger("threadhold.api")

_SHORT_CHARS = 4096
"""Maximum characters of a search's queries to be embedded before files."""

router = api_router("vector stores", BodyRoute)


@router.post("/vector_stores", response_model=VectorStore)
async def create_vector_store(body: VectorStoreCreate, deps: InjectedDeps, owner: Owner) -> Response:
    """Create a vector store; its files are indexed in the background."""
    store, files = draft_store(owner, body, now=int(time.time()))
    await deps.ingestion.add(owner, files, Insert(store))
    return json_response(show_vector_store(store.body, FileTotals({"in_progress": len(files)}).counts, 0))


@router.get("/vector_stores", response_model=ListOf[VectorStore])
async def list_vector_stores(query: Listing, deps: InjectedDeps, owner: Owner) -> Response:
    """List vector stores, newest first."""
    page_query = PageQuery(limit=query.limit, order=query.order, after=query.after or None, before=query.before or None)
    page = await deps.store.page("vector_store", owner, page_query)
    return json_response(list_envelope(await _with_totals(deps, page.rows), page.has_more))


@router.get("/vector_stores/{vector_store_id}", response_model=VectorStore)
async def get_vector_store(vector_store_id: VectorStoreId, deps: InjectedDeps, owner: Owner) -> Response:
    """Read a vector store."""
    return json_response(
        (await _with_totals(deps, [await get_or_404(deps, "vector_store", vector_store_id, owner)]))[0]
    )


@router.post("/vector_stores/{vector_store_id}", response_model=VectorStore)
async def modify_vector_store(
    vector_store_id: VectorStoreId, body: VectorStoreModify, deps: InjectedDeps, owner: Owner
) -> Response:
    """Change the given fields only."""
    row = await get_or_404(deps, "vector_store", vector_store_id, owner)
    changed = vector_store_changes(body, row.body, now=int(time.time()))
    rows = await deps.store.commit([Patch("vector_store", vector_store_id, owner, changed)], durable=True)
    changed_row = cast("StoreRow", rows[0])  # the row after the Patch of a vector store
    return json_response((await _with_totals(deps, [changed_row]))[0])


@router.delete("/vector_stores/{vector_store_id}", response_model=Deletion)
async def delete_vector_store(vector_store_id: VectorStoreId, deps: InjectedDeps, owner: Owner) -> Response:
    """Delete a vector store; the files themselves are kept."""
    await deps.ingestion.delete_store(owner, vector_store_id)
    return json_response(deletion(vector_store_id, "vector_store"))


@router.post("/vector_stores/{vector_store_id}/search", response_model=ResultsPage)
async def search_vector_store(
    vector_store_id: VectorStoreId, body: VectorStoreSearch, request: Request, deps: InjectedDeps, owner: Owner
) -> Response:
    """Find the passages that match best, across all queries. Stops if the client disconnects."""
    found = await while_connected(request.receive, _search(deps, owner, vector_store_id, body))
    if found is None:
        return Response(status_code=499)  # the client has left
    return json_response(found)


async def _search(deps: Deps, owner: str, vector_store_id: str, body: VectorStoreSearch) -> dict[str, object]:
    store = await get_or_404(deps, "vector_store", vector_store_id, owner)
    refuse_expired(store)
    if renewed := renew_expiry(store, now=int(time.time())):
        await deps.store.commit(renewed, durable=False)
    embedder = deps.embedder
    chars = sum(map(len, body.queries))
    vectors: Sequence[list[float] | None] = [None] * len(body.queries)
    if embedder is not None:
        try:
            vectors = await embedder.embed(body.queries, owner=owner, urgent=chars <= _SHORT_CHARS)
        except EmbeddingFailed as error:
            logger.warning("a search uses words only: %s", error.message)
    threshold = body.ranking_options.score_threshold if body.ranking_options is not None else None
    best: dict[tuple[str, int], Hit] = {}
    for text, vector in zip(body.queries, vectors, strict=True):
        query = Query(
            text=text,
            vector=vector,
            model=None if embedder is None else embedder.name,
            filters=body.filters,
            limit=body.max_num_results,
            threshold=threshold or 0.0,
            weight=None if embedder is None else embedder.weight(text),
        )
        found = await deps.vectors.search(owner, [vector_store_id], query)
        for hit in found.hits:
            known = best.get((hit.file_id, hit.chunk.index))
            if known is None or known.score < hit.score:
                best[hit.file_id, hit.chunk.index] = hit
    hits = sorted(best.values(), key=lambda hit: -hit.score)[: body.max_num_results]
    names = await _names(deps, owner, {hit.file_id for hit in hits})
    results = [
        {
            "file_id": hit.file_id,
            "filename": names[hit.file_id],
            "score": hit.score,
            "attributes": dict(hit.attributes),
            "content": [{"type": "text", "text": hit.chunk.text}],
        }
        for hit in hits
        if hit.file_id in names
    ]
    return results_page(body.queries, results)


async def _names(deps: Deps, owner: str, file_ids: set[str]) -> dict[str, str]:
    rows = [await deps.store.get("file", file_id, owner) for file_id in file_ids]
    return {row.id: row.body["filename"] for row in rows if row is not None}


async def _with_totals(deps: Deps, rows: Sequence[StoreRow]) -> list[VectorStore]:
    file_totals = await deps.file_queries.file_totals("vector_store_id", [row.id for row in rows])
    return [show_vector_store(row.body, file_totals[row.id].counts, file_totals[row.id].usage_bytes) for row in rows]
