"""Chat completions, passed through to the upstream of the model, including streams and tools."""

from fastapi import Request, Response

from api.depends import InjectedDeps
from api.forwarding import forward_json
from api.routers import api_router
from chains.forwarding import CHAT

__all__ = ["router"]

router = api_router("chat")

_BODY: dict[str, object] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}


@router.post("/chat/completions", openapi_extra=_BODY)
async def complete_chat(request: Request, deps: InjectedDeps) -> Response:
    """Pass a request for a chat completion through. If the client disconnects, the upstream request ends."""
    return await forward_json(request, deps, CHAT)
