"""Dependencies of endpoints: shared objects, the owner of the request, and valid ids.

They are async although they wait for nothing, because FastAPI runs each plain function in a thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, overload

from fastapi import Depends, Header, Query, Request
from fastapi import Path as InPath

from api.model_calls import ModelCalls
from chains import EmbeddingRouter, ModelRouter
from chains.embeddings import Embedder
from graphs.admission import Limits
from graphs.runner import Runner
from retrieval.attachments import Attachments
from retrieval.ingestion import Ingestion
from retrieval.upload_parts import Uploads
from store.free_space import Disks, FreeSpace
from store.ports import (
    AssistantRow,
    Blobs,
    FileQueries,
    Keys,
    Kind,
    MessageRow,
    PageQuery,
    Row,
    RunRow,
    Store,
    StoreHealth,
    StoreRow,
    ThreadRow,
    UsageQueries,
    Vectors,
)
from wire.errors import InvalidRequest, MissingRow, NotFound
from wire.pages import ListBody, ListQuery, list_envelope
from wire.validation import MAX_ID, check_id, truncated

__all__ = [
    "EXTENSIONS_HEADER",
    "V1",
    "AssistantId",
    "BatchId",
    "Deps",
    "Extensions",
    "FileId",
    "Include",
    "InjectedDeps",
    "Listing",
    "MessageId",
    "Owner",
    "RunId",
    "StepId",
    "ThreadId",
    "UploadId",
    "VectorStoreId",
    "check_include",
    "get_or_404",
    "is_v1",
    "list_rows",
]


INCLUDABLE: Final = "step_details.tool_calls[*].file_search.results[*].content"
"""The one value of `include[]`."""

# FastAPI omits None: "a list or null" becomes a list, which is what a query can contain.
_INCLUDED: Final[dict[str, object]] = {"anyOf": None, "type": "array", "items": {"enum": [INCLUDABLE]}}


@dataclass(frozen=True, slots=True)
class Deps:
    """The shared objects that `server.create_app` assembles."""

    store: Store
    upstream: ModelRouter
    runner: Runner
    aliases: Mapping[str, str]
    """MODEL_ALIASES, which are listed with the upstream's models."""
    file_queries: FileQueries
    vectors: Vectors
    embedder: Embedder | None
    embeddings: EmbeddingRouter
    blobs: Blobs
    ingestion: Ingestion
    uploads: Uploads
    attachments: Attachments
    max_file_bytes: int
    health: StoreHealth
    """The state of the store."""
    keys: Keys
    """The stored API keys."""
    usage: UsageQueries
    """The usage of all owners."""
    disks: Disks
    """The disks that this server writes data to."""
    data_dir: Path
    """The folder of files."""
    free_space: FreeSpace
    """Limits uploads by the free space of the disk for files."""
    calls: ModelCalls = field(default_factory=lambda: ModelCalls(Limits()))
    """The queue of model calls that are not runs."""


async def _deps(request: Request) -> Deps:
    deps: Deps = request.app.state.deps
    return deps


async def _owner(request: Request) -> str:
    owner: str = request.state.owner
    return owner


def is_v1(headers: Mapping[str, str]) -> bool:
    """Return whether the request is from a v1 client."""
    return headers.get("openai-beta", "").strip().lower() == "assistants=v1"


async def _asks_v1(request: Request) -> bool:
    return is_v1(request.headers)


EXTENSIONS_HEADER: Final = "x-threadhold-extensions"


async def _asks_extensions(
    extensions: Annotated[
        bool, Query(description="Also send the events and fields that OpenAI's API does not have")
    ] = False,
    header: Annotated[bool, Header(alias=EXTENSIONS_HEADER, description="The same as the query `extensions`")] = False,
) -> bool:
    """Return whether the client requests what this server adds to OpenAI's API."""
    return extensions or header


def _path_id(param: str, prefix: str) -> object:
    """Return a dependency on an id in the path. It raises InvalidRequest for an id that no such object can have."""

    # For the OpenAPI document only: `check_id` refuses ids in OpenAI's wording.
    described = {"pattern": f"^{prefix}", "maxLength": MAX_ID}

    async def checked(value: Annotated[str, InPath(alias=param, json_schema_extra=described)]) -> str:
        check_id(param, value, prefix)
        return value

    return Depends(checked)


async def _include(
    include: Annotated[list[str] | None, Query(alias="include[]", json_schema_extra=_INCLUDED)] = None,
    bare: Annotated[list[str] | None, Query(alias="include", include_in_schema=False)] = None,
) -> bool:
    return check_include([*(include or ()), *(bare or ())])


def check_include(asked: Sequence[str]) -> bool:
    """Check `include[]`, and return whether it has its only possible value: the passages that file searches found."""
    for value in asked:
        if value != INCLUDABLE:
            message = f"Invalid value: '{truncated(value)}'. Supported values are: '{INCLUDABLE}'."
            raise InvalidRequest(message, param="include[]", code="invalid_value")
    return bool(asked)


InjectedDeps = Annotated[Deps, Depends(_deps)]
Owner = Annotated[str, Depends(_owner)]
V1 = Annotated[bool, Depends(_asks_v1)]
Extensions = Annotated[bool, Depends(_asks_extensions)]
AssistantId = Annotated[str, _path_id("assistant_id", "asst")]
ThreadId = Annotated[str, _path_id("thread_id", "thread")]
MessageId = Annotated[str, _path_id("message_id", "msg")]
RunId = Annotated[str, _path_id("run_id", "run")]
StepId = Annotated[str, _path_id("step_id", "step")]
VectorStoreId = Annotated[str, _path_id("vector_store_id", "vs")]
BatchId = Annotated[str, _path_id("batch_id", "vsfb")]
UploadId = Annotated[str, _path_id("upload_id", "upload")]
FileId = Annotated[str, _path_id("file_id", "")]
Include = Annotated[bool, Depends(_include)]
Listing = Annotated[ListQuery, Query()]


@overload
async def get_or_404(deps: Deps, kind: Literal["assistant"], id: str, owner: str) -> AssistantRow: ...
@overload
async def get_or_404(deps: Deps, kind: Literal["thread"], id: str, owner: str) -> ThreadRow: ...
@overload
async def get_or_404(deps: Deps, kind: Literal["vector_store"], id: str, owner: str) -> StoreRow: ...
@overload
async def get_or_404(
    deps: Deps, kind: Literal["message"], id: str, owner: str, *, thread_id: str | None = None
) -> MessageRow: ...
@overload
async def get_or_404(
    deps: Deps, kind: Literal["run"], id: str, owner: str, *, thread_id: str | None = None
) -> RunRow: ...
@overload
async def get_or_404(deps: Deps, kind: Kind, id: str, owner: str, *, thread_id: str | None = None) -> Row: ...
async def get_or_404(deps: Deps, kind: Kind, id: str, owner: str, *, thread_id: str | None = None) -> Row:
    """Return a row. Raises NotFound, which names the thread if the thread itself is missing."""
    row = await deps.store.get(kind, id, owner, thread_id=thread_id)
    if row is None:
        if thread_id is not None:
            await get_or_404(deps, "thread", thread_id, owner)
        raise NotFound(MissingRow(kind, id).message)
    return row


async def list_rows(
    deps: Deps, kind: Kind, owner: str, query: ListQuery, *, thread_id: str | None = None, run_id: str | None = None
) -> ListBody:
    """Return one page in the list envelope."""
    page_query = PageQuery(limit=query.limit, order=query.order, after=query.after or None, before=query.before or None)
    page = await deps.store.page(kind, owner, page_query, thread_id=thread_id, run_id=run_id)
    return list_envelope([row.body for row in page.rows], page.has_more)
