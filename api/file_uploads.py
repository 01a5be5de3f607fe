"""Uploads: files that are sent in parts, each streamed to disk. A completed upload becomes an ordinary file."""

from fastapi import Request, Response

from api.body_route import BodyRoute, parse_leniently
from api.depends import InjectedDeps, Owner, UploadId
from api.json_response import json_response
from api.routers import api_router
from api.uploads import announced_bytes, read_form
from store.ports import BlobWriter
from wire.uploads import (
    MAX_PART_BYTES,
    PART_LIMIT,
    Upload,
    UploadComplete,
    UploadCreate,
    UploadPart,
    UploadPartCreate,
)

__all__ = ["router"]

router = api_router("uploads", BodyRoute)

_FORM: dict[str, object] = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "format": "binary"}},
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post("/uploads", response_model=Upload)
async def create_upload(body: UploadCreate, deps: InjectedDeps, owner: Owner) -> Response:
    """Start the upload of a file in parts. The upload expires after an hour."""
    return json_response(await deps.uploads.create(owner, body))


@router.post("/uploads/{upload_id}/parts", response_model=UploadPart, openapi_extra=_BODY)
async def add_upload_part(upload_id: UploadId, request: Request, deps: InjectedDeps, owner: Owner) -> Response:
    """Add a part. It is on disk before the response is sent. Parts can be sent concurrently."""
    headers: dict[str, str] = {}
    announced = announced_bytes(request, MAX_PART_BYTES)

    async def receive(writer: BlobWriter) -> None:
        form = await read_form(request, writer, PART_LIMIT, file="data")
        headers.update(parse_leniently(UploadPartCreate, form.fields, request)[1])

    return json_response(await deps.uploads.add_part(owner, upload_id, receive, announced=announced), headers=headers)


@router.post("/uploads/{upload_id}/complete", response_model=Upload)
async def complete_upload(upload_id: UploadId, body: UploadComplete, deps: InjectedDeps, owner: Owner) -> Response:
    """Create a file from the parts, in the order of `part_ids`."""
    return json_response(await deps.uploads.complete(owner, upload_id, body))


@router.post("/uploads/{upload_id}/cancel", response_model=Upload)
async def cancel_upload(upload_id: UploadId, deps: InjectedDeps, owner: Owner) -> Response:
    """Cancel an upload and remove its parts."""
    return json_response(await deps.uploads.cancel(owner, upload_id))
