"""Models: what the upstreams list, in OpenAI's envelope, and the aliases of MODEL_ALIASES."""

from typing import Annotated, Literal

from fastapi import Path, Response
from pydantic import BaseModel, ConfigDict

from api.depends import Deps, Extensions, InjectedDeps
from api.json_response import json_response
from api.routers import api_router
from chains.chat_types import ModelEntry
from wire.errors import NotFound, Unavailable
from wire.validation import truncated

__all__ = ["router"]

router = api_router("models")


class Model(BaseModel):
    """The object `model`; with extensions, also the upstream's own fields."""

    model_config = ConfigDict(extra="allow")

    id: str


class Models(BaseModel):
    """All models, on one page."""

    object: Literal["list"]
    data: list[Model]


@router.get("/models", response_model=Models)
async def list_models(deps: InjectedDeps, extensions: Extensions) -> Response:
    """List models. The list is empty if no upstream is set, so that programs that list models at their start work."""
    return json_response({"object": "list", "data": await _models(deps)}, extensions=extensions)


@router.get("/models/{model:path}", response_model=Model)
async def get_model(model: Annotated[str, Path()], deps: InjectedDeps, extensions: Extensions) -> Response:
    """Read one model, by the name it is listed under or as `upstream/model`."""
    for entry in await _models(deps):
        if model in (entry["id"], entry.get("threadhold", {}).get("model")):
            return json_response(entry, extensions=extensions)
    raise NotFound(f"The model '{truncated(model)}' does not exist", param="model", code="model_not_found")


async def _models(deps: Deps) -> list[ModelEntry]:
    try:
        listed = await deps.upstream.models()
    except Unavailable:
        listed = []
    entries = [_model(entry) for entry in listed] + deps.embeddings.entries()
    known = {entry.get("id"): entry for entry in entries}
    aliases = {name: target for name, target in deps.aliases.items() if name != "*" and name not in known}
    return entries + [
        {**known.get(target, {"id": name}), "id": name, "object": "model", "created": 0, "owned_by": "threadhold"}
        for name, target in aliases.items()
    ]


def _model(entry: ModelEntry) -> ModelEntry:
    """Return an upstream's entry with OpenAI's types for OpenAI's fields: one wrong type makes typed clients fail on
    the whole list."""
    created, owner = entry.get("created"), entry.get("owned_by")
    return {
        **entry,
        "object": "model",
        "created": int(created) if isinstance(created, int | float) and 0 <= created < 2**53 else 0,
        "owned_by": owner if isinstance(owner, str) else "upstream",
    }
