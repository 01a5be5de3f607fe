"""Files: upload, list, read, download, delete."""

import time
from typing import Annotated, get_args
from urllib.parse import quote

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from api.body_route import parse_leniently
from api.depends import Deps, FileId, InjectedDeps, Owner
from api.json_response import json_response
from api.routers import api_router
from api.uploads import announced_bytes, file_limit, read_form
from store.ports import Insert, PageQuery, Row
from wire.errors import InvalidRequest, StoreError
from wire.files import File, FileCreate, FileQuery, UploadPurpose, new_file, no_such_file
from wire.ids import new_id
from wire.pages import Deletion, list_envelope
from wire.pages import Listing as ListOf

__all__ = ["get_file_or_404", "router"]

router = api_router("files")

_FORM: dict[str, object] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(get_args(UploadPurpose))},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
    },
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post("/files", response_model=File, openapi_extra=_BODY)
async def create_file(request: Request, deps: InjectedDeps, owner: Owner) -> Response:
    """Upload a file. The file and its row are on disk before the response is sent."""
    limit = file_limit(deps.max_file_bytes)
    announced = announced_bytes(request, limit.maximum)
    async with deps.blobs.create(limit.maximum, limit.message(), announced=announced) as writer:
        upload = await read_form(request, writer, limit)
        asked, headers = parse_leniently(FileCreate, upload.fields, request)
        id = new_id("file")
        size = await writer.commit(id)
    body = new_file(asked, id=id, filename=upload.filename or "file", size=size.bytes, now=int(time.time()))
    try:
        row = Row("file", id, owner, body, private={"sha256": size.sha256})
        await deps.store.commit([Insert(row)], durable=True)
    except StoreError:
        await deps.blobs.remove(id)
        raise
    return json_response(body, headers=headers)


@router.get("/files", response_model=ListOf[File])
async def list_files(query: Annotated[FileQuery, Query()], deps: InjectedDeps, owner: Owner) -> Response:
    """List files, newest first."""
    page_query = PageQuery(limit=query.limit, order=query.order, after=query.after or None)
    page = await deps.file_queries.files(owner, page_query, purpose=query.purpose)
    return json_response(list_envelope([row.body for row in page.rows], page.has_more))


@router.get("/files/{file_id}", response_model=File)
async def get_file(file_id: FileId, deps: InjectedDeps, owner: Owner) -> Response:
    """Read a file's object."""
    return json_response((await get_file_or_404(deps, file_id, owner)).body)


@router.get("/files/{file_id}/content", response_class=Response)
async def get_content(file_id: FileId, deps: InjectedDeps, owner: Owner) -> Response:
    """Download a file. Files of purpose `assistants` are read through their vector stores instead."""
    row = await get_file_or_404(deps, file_id, owner)
    if row.body["purpose"] == "assistants":
        raise InvalidRequest("Not allowed to download files of purpose: assistants")
    if await deps.blobs.size(file_id) is None:
        raise no_such_file(file_id)
    name = quote(row.body["filename"], safe="")
    return StreamingResponse(
        deps.blobs.read(file_id),
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(row.body["bytes"]),
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.delete("/files/{file_id}", response_model=Deletion)
async def delete_file(file_id: FileId, deps: InjectedDeps, owner: Owner) -> Response:
    """Delete a file, and remove it from every vector store."""
    await get_file_or_404(deps, file_id, owner)
    await deps.ingestion.delete_file(owner, file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


async def get_file_or_404(deps: Deps, file_id: str, owner: str) -> Row:
    """Return a file's row. Raises NotFound in OpenAI's wording for files."""
    row = await deps.store.get("file", file_id, owner)
    if row is None:
        raise no_such_file(file_id)
    return row
