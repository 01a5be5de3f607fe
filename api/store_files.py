"""The files of a vector store: add, list, read, change attributes, remove, and read the text."""

import time
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator
from typing import Annotated, Literal

import orjson
from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.body_route import BodyRoute
from api.depends import Deps, FileId, InjectedDeps, Listing, Owner, VectorStoreId, get_or_404
from api.json_response import json_response
from api.routers import api_router
from retrieval.vector_store_drafts import refuse_expired, renew_expiry, store_file_row
from store.ports import PageQuery, Row, store_file_id
from wire.errors import InvalidRequest, NotFound
from wire.pages import Deletion, ListBody, ListQuery, deletion, list_envelope
from wire.pages import Listing as ListOf
from wire.vector_stores import NewStoreFile, StoreFileModify, VectorStoreFile

__all__ = ["POLL_AFTER", "StatusFilter", "page_of_store_files", "router"]

router = api_router("vector stores", BodyRoute)

POLL_AFTER = {"openai-poll-after-ms": "250"}
"""How soon a client should poll again."""

StatusFilter = Annotated[Literal["in_progress", "completed", "failed", "cancelled"] | None, Query(alias="filter")]


class Content(BaseModel):
    """The object `vector_store.file_content.page`."""

    object: Literal["vector_store.file_content.page"]
    data: list[dict[str, str]]
    has_more: bool
    next_page: str | None


@router.post("/vector_stores/{vector_store_id}/files", response_model=VectorStoreFile)
async def add_store_file(
    vector_store_id: VectorStoreId, body: NewStoreFile, deps: InjectedDeps, owner: Owner
) -> Response:
    """Add a file to the store, or index it again; the work is done in the background."""
    now = int(time.time())
    store = await get_or_404(deps, "vector_store", vector_store_id, owner)
    refuse_expired(store)
    file = store_file_row(owner, vector_store_id, body, now=now)
    await deps.ingestion.add(owner, [file], *renew_expiry(store, now=now, at_once=True))
    return _answer(file)


@router.get("/vector_stores/{vector_store_id}/files", response_model=ListOf[VectorStoreFile])
async def list_store_files(
    vector_store_id: VectorStoreId, query: Listing, deps: InjectedDeps, owner: Owner, status: StatusFilter = None
) -> Response:
    """List the store's files, newest first; `filter` is a status."""
    await get_or_404(deps, "vector_store", vector_store_id, owner)
    return json_response(await page_of_store_files(deps, owner, vector_store_id, query, status=status))


@router.get("/vector_stores/{vector_store_id}/files/{file_id}", response_model=VectorStoreFile)
async def get_store_file(vector_store_id: VectorStoreId, file_id: FileId, deps: InjectedDeps, owner: Owner) -> Response:
    """Read a file's status in the store."""
    return _answer(await _get_store_file_or_404(deps, vector_store_id, file_id, owner))


@router.post("/vector_stores/{vector_store_id}/files/{file_id}", response_model=VectorStoreFile)
async def modify_store_file(
    vector_store_id: VectorStoreId, file_id: FileId, body: StoreFileModify, deps: InjectedDeps, owner: Owner
) -> Response:
    """Replace a file's attributes."""
    await _get_store_file_or_404(deps, vector_store_id, file_id, owner)
    return _answer(await deps.ingestion.set_attributes(owner, vector_store_id, file_id, body.attributes or {}))


@router.delete("/vector_stores/{vector_store_id}/files/{file_id}", response_model=Deletion)
async def remove_store_file(
    vector_store_id: VectorStoreId, file_id: FileId, deps: InjectedDeps, owner: Owner
) -> Response:
    """Remove a file from the store; the file itself is kept."""
    await _get_store_file_or_404(deps, vector_store_id, file_id, owner)
    await deps.ingestion.delete_store_file(owner, vector_store_id, file_id)
    return json_response(deletion(file_id, "vector_store.file"))


@router.get("/vector_stores/{vector_store_id}/files/{file_id}/content", response_model=Content)
async def get_store_content(
    vector_store_id: VectorStoreId, file_id: FileId, deps: InjectedDeps, owner: Owner
) -> Response:
    """Return the file's text as it was indexed. The positions of citations and chunks are characters of this text."""
    file = await _get_store_file_or_404(deps, vector_store_id, file_id, owner)
    if file.body["status"] != "completed":
        raise InvalidRequest(f"The file '{file_id}' is {file.body['status']}; only completed files have content.")
    if await deps.blobs.size(f"{file_id}.text") is None:
        raise NotFound(f"The text of the file '{file_id}' is no longer in this server's folder. Add the file again.")
    return StreamingResponse(_content(deps, f"{file_id}.text"), media_type="application/json")


async def _content(deps: Deps, name: str) -> AsyncIterator[bytes]:
    """Yield the page of a text in blocks. As one object, a text of 80 MB would take seconds and 300 MB of memory."""
    yield b'{"object":"vector_store.file_content.page","data":[{"type":"text","text":"'
    decoder = getincrementaldecoder("utf-8")()
    async for block in deps.blobs.read(name):
        yield orjson.dumps(decoder.decode(block))[1:-1]
    yield b'"}],"has_more":false,"next_page":null}'


async def page_of_store_files(
    deps: Deps,
    owner: str,
    vector_store_id: str,
    query: ListQuery,
    *,
    status: str | None = None,
    batch_id: str | None = None,
) -> ListBody:
    """Return one page of a store's, or a batch's, files in the list envelope."""
    page_query = PageQuery(
        limit=query.limit,
        order=query.order,
        after=store_file_id(vector_store_id, query.after) if query.after else None,
        before=store_file_id(vector_store_id, query.before) if query.before else None,
    )
    page = await deps.file_queries.store_files(
        owner, page_query, vector_store_id=vector_store_id, batch_id=batch_id, status=status
    )
    return list_envelope([row.body for row in page.rows], page.has_more)


async def _get_store_file_or_404(deps: Deps, vector_store_id: str, file_id: str, owner: str) -> Row:
    row = await deps.store.get("vector_store_file", store_file_id(vector_store_id, file_id), owner)
    if row is None:
        await get_or_404(deps, "vector_store", vector_store_id, owner)
        raise NotFound(f"No file found with id '{file_id}' in vector store '{vector_store_id}'.")
    return row


def _answer(file: Row) -> Response:
    return json_response(file.body, headers=POLL_AFTER if file.body["status"] == "in_progress" else None)
