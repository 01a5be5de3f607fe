"""Chat completions, passed through to the upstream that the model means: streams and tools too, unread."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.depends import Parts
from api.sse import ByteStream, unless_left
from wire.errors import InvalidRequest

__all__ = ["router"]

router = APIRouter(tags=["chat"])

_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}


@router.post("/chat/completions", openapi_extra=_BODY)
async def complete_chat(request: Request, house: Parts) -> Response:
    """Pass a chat completion through. The client's key stays here; a client that leaves closes the upstream."""
    body = await request.json()
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid type: expected an object.", code="invalid_type")
    passage = await unless_left(request.receive, house.upstream.pass_through(body))
    if passage is None:
        return Response(status_code=499)  # nobody reads it
    if passage.body is None:
        return ByteStream(passage.blocks(), passage.close, passage.content_type, passage.status, passage.headers)
    return Response(passage.body, passage.status, passage.headers, passage.content_type)
