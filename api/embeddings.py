"""Embeddings: vectors of texts, from an upstream's model or the built-in one."""

from fastapi import Request, Response

from api.body_route import BodyRoute
from api.depends import InjectedDeps, Owner
from api.routers import api_router
from api.sse import while_connected
from wire.embeddings import EmbeddingCreate, EmbeddingList

__all__ = ["router"]

router = api_router("embeddings", BodyRoute)


@router.post("/embeddings", response_model=EmbeddingList)
async def create_embeddings(body: EmbeddingCreate, request: Request, deps: InjectedDeps, owner: Owner) -> Response:
    """Embed texts. If the client disconnects, the work stops."""
    response = await while_connected(request.receive, deps.embeddings.answer(body, owner))
    if response is None:
        return Response(status_code=499)  # the client has left
    return Response(response.body, response.status, response.headers, response.content_type)
