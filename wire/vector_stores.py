"""Vector stores, their files and file batches: requests, objects, and how objects are made.

Invariant: stored objects have no counts, sizes or statuses derived from them. These are added when an object is shown.
"""

from typing import Annotated, Final, Literal, NotRequired, Self

import orjson
from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator, with_config
from pydantic_core import PydanticKnownError
from typing_extensions import TypedDict

from wire.closed import CLOSED, OPEN
from wire.json import Json
from wire.metadata import Metadata
from wire.validation import Id, Request, Scalar, invalid_value, one_of

__all__ = [
    "AUTO",
    "MAX_FILES_AT_ONCE",
    "Attributes",
    "Chunking",
    "ChunkingStrategy",
    "FileBatch",
    "FileBatchCreate",
    "FileCounts",
    "LastError",
    "NewStoreFile",
    "StoreChanges",
    "StoreFileModify",
    "StoreFileResult",
    "StoredBatch",
    "StoredStore",
    "VectorStore",
    "VectorStoreCreate",
    "VectorStoreFile",
    "VectorStoreModify",
    "chunking",
    "expiry",
    "failed_result",
    "new_batch",
    "new_store_file",
    "new_vector_store",
    "show_batch",
    "show_vector_store",
    "vector_store_changes",
]

_DAY_S: Final = 86_400
MAX_FILES_AT_ONCE: Final = 2_000
"""Files that one request adds to a vector store: they are one commit, and other writes wait for it."""

_Key = Annotated[str, StringConstraints(max_length=64)]
_MAX_TEXT: Final = 512
_MAX_COMMON_BYTES: Final = 20_000_000
"""Of the attributes that a batch gives each of its files, in all: as many as 500 files at OpenAI can have, and some
0.4 s of the database."""


def _short(value: Json) -> Json:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise PydanticKnownError("string_too_long", {"max_length": _MAX_TEXT})
    return value


_Value = Annotated[
    Scalar,
    AfterValidator(_short),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": _MAX_TEXT}, {"type": "number"}, {"type": "boolean"}]}),
]
Attributes = Annotated[dict[_Key, _Value], Field(max_length=16)]
Name = Annotated[str, StringConstraints(max_length=256)]


class AutoChunking(Request):
    """The default chunk sizes."""

    type: Literal["auto"]


class StaticSizes(Request):
    """The size of chunks, and of the overlap with the previous chunk, in tokens."""

    max_chunk_size_tokens: int = Field(ge=100, le=4096)
    chunk_overlap_tokens: int = Field(ge=0)

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.chunk_overlap_tokens * 2 > self.max_chunk_size_tokens:
            raise invalid_value(
                f"chunk_overlap_tokens is {self.chunk_overlap_tokens}, and at most half of max_chunk_size_tokens "
                f"({self.max_chunk_size_tokens}) is allowed"
            )
        return self


class StaticChunking(Request):
    """Sizes that the client sets."""

    type: Literal["static"]
    static: StaticSizes


ChunkingStrategy = one_of(auto=AutoChunking, static=StaticChunking)


class StoreExpiry(Request):
    """When a store expires, in days after its last use."""

    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class VectorStoreCreate(Request):
    """POST /vector_stores."""

    name: Name | None = None
    description: Annotated[str, StringConstraints(max_length=512)] | None = None
    file_ids: Annotated[list[Id], Field(max_length=500)] | None = None
    expires_after: StoreExpiry | None = None
    chunking_strategy: ChunkingStrategy | None = None  # type: ignore[valid-type]
    metadata: Metadata | None = None


class VectorStoreModify(Request):
    """POST /vector_stores/{vector_store_id}: only the given fields change; metadata is replaced as a whole."""

    name: Name | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class NewStoreFile(Request):
    """POST /vector_stores/{vector_store_id}/files, and each of a batch's `files`."""

    file_id: Id
    chunking_strategy: ChunkingStrategy | None = None  # type: ignore[valid-type]
    attributes: Attributes | None = None


class StoreFileModify(Request):
    """POST /vector_stores/{vector_store_id}/files/{file_id}: attributes are replaced as a whole."""

    attributes: Attributes | None


class FileBatchCreate(Request):
    """POST /vector_stores/{vector_store_id}/file_batches: `file_ids`, or `files` with options for each file."""

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_FILES_AT_ONCE)] | None = None
    files: Annotated[list[NewStoreFile], Field(min_length=1, max_length=MAX_FILES_AT_ONCE)] | None = None
    chunking_strategy: ChunkingStrategy | None = None  # type: ignore[valid-type]
    attributes: Attributes | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.file_ids is None) == (self.files is None):
            raise invalid_value("give file_ids or files, one of them and not both")
        size = len(self.file_ids or ()) * len(orjson.dumps(self.attributes))
        if size > _MAX_COMMON_BYTES:
            raise invalid_value(
                f"each file gets the attributes, which makes {size} bytes of JSON; at most {_MAX_COMMON_BYTES} are "
                "allowed. Use several batches, or smaller attributes"
            )
        return self

    def store_files(self) -> list[NewStoreFile]:
        """Return the files, each with its options."""
        if self.files is not None:
            return self.files
        return [
            NewStoreFile(file_id=id, chunking_strategy=self.chunking_strategy, attributes=self.attributes)
            for id in self.file_ids or ()
        ]


@with_config(OPEN)
class FileCounts(TypedDict):
    """The number of files by status."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


@with_config(OPEN)
class Expiry(TypedDict):
    """When a store expires, in days after its last use."""

    anchor: Literal["last_active_at"]
    days: int


class StoredStore(TypedDict):
    """A vector store as it is stored."""

    id: str
    object: Literal["vector_store"]
    created_at: int
    name: str
    description: str | None
    status: Literal["expired", "in_progress", "completed"]
    expires_after: Expiry | None
    expires_at: int | None
    last_active_at: int | None
    metadata: dict[str, str]


@with_config(CLOSED)
class VectorStore(StoredStore):
    """The object `vector_store`."""

    usage_bytes: int
    file_counts: FileCounts


class StoreChanges(TypedDict, total=False):
    """Keys of a vector store that a request or a use of the store changes."""

    name: str
    metadata: dict[str, str]
    expires_after: Expiry | None
    expires_at: int | None
    last_active_at: int


@with_config(OPEN)
class Sizes(TypedDict):
    """Chunk sizes, in tokens."""

    max_chunk_size_tokens: int
    chunk_overlap_tokens: int


AUTO: Final[Sizes] = {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}
"""The chunk sizes of the strategy `auto`."""


@with_config(OPEN)
class Chunking(TypedDict):
    """How a file is split."""

    type: Literal["static"]
    static: Sizes


@with_config(OPEN)
class LastError(TypedDict):
    """Why a file failed."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


@with_config(CLOSED)
class VectorStoreFile(TypedDict):
    """The object `vector_store.file`; its id is the file's."""

    id: str
    object: Literal["vector_store.file"]
    created_at: int
    vector_store_id: str
    usage_bytes: int
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    last_error: LastError | None
    chunking_strategy: Chunking
    attributes: dict[str, str | float | bool]


class StoreFileResult(TypedDict):
    """The fields of a vector store file that change once it is indexed."""

    status: Literal["completed", "failed"]
    usage_bytes: NotRequired[int]
    last_error: LastError | None


def failed_result(code: Literal["server_error", "unsupported_file", "invalid_file"], message: str) -> StoreFileResult:
    """Return the end of a vector store file that could not be indexed."""
    return {"status": "failed", "last_error": {"code": code, "message": message}}


class StoredBatch(TypedDict):
    """A batch as it is stored."""

    id: str
    object: Literal["vector_store.files_batch"]
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]


@with_config(CLOSED)
class FileBatch(StoredBatch):
    """The object `vector_store.files_batch`."""

    file_counts: FileCounts


def chunking(strategy: AutoChunking | StaticChunking | None) -> Chunking:
    """Return the static strategy that a request's strategy stands for, the default one for None."""
    if not isinstance(strategy, StaticChunking):
        return {"type": "static", "static": AUTO.copy()}
    given = strategy.static
    sizes = Sizes(max_chunk_size_tokens=given.max_chunk_size_tokens, chunk_overlap_tokens=given.chunk_overlap_tokens)
    return {"type": "static", "static": sizes}


def expiry(expires_after: Expiry | None, last_active_at: int) -> int | None:
    """Return when a store expires that was last used at `last_active_at`, both in Unix seconds."""
    return None if expires_after is None else last_active_at + expires_after["days"] * _DAY_S


def _expiry(given: StoreExpiry | None) -> Expiry | None:
    return None if given is None else Expiry(anchor=given.anchor, days=given.days)


def new_vector_store(request: VectorStoreCreate, *, id: str, now: int) -> StoredStore:
    """Make the stored object; `now` in Unix seconds."""
    expires_after = _expiry(request.expires_after)
    return {
        "id": id,
        "object": "vector_store",
        "created_at": now,
        "name": request.name or "",
        "description": request.description,
        "status": "completed",
        "expires_after": expires_after,
        "expires_at": expiry(expires_after, now),
        "last_active_at": now,
        "metadata": request.metadata or {},
    }


def vector_store_changes(request: VectorStoreModify, body: StoredStore, *, now: int) -> StoreChanges:
    """Return the keys of `body` that the request changes, with their new values."""
    changes: StoreChanges = {}
    if "name" in request.model_fields_set:
        changes["name"] = request.name or ""
    if "metadata" in request.model_fields_set:
        changes["metadata"] = request.metadata or {}
    if "expires_after" in request.model_fields_set:
        expires_after = _expiry(request.expires_after)
        changes["expires_after"] = expires_after
        changes["expires_at"] = expiry(expires_after, body["last_active_at"] or now)
    return changes


def show_vector_store(body: StoredStore, counts: FileCounts, usage_bytes: int) -> VectorStore:
    """Make the wire object from the stored one."""
    status = "in_progress" if body["status"] != "expired" and counts["in_progress"] else body["status"]
    return {**body, "status": status, "usage_bytes": usage_bytes, "file_counts": counts}


def new_store_file(request: NewStoreFile, *, vector_store_id: str, now: int) -> VectorStoreFile:
    """Make the wire object of a file that will be indexed."""
    return {
        "id": request.file_id,
        "object": "vector_store.file",
        "created_at": now,
        "vector_store_id": vector_store_id,
        "usage_bytes": 0,
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": chunking(request.chunking_strategy),
        "attributes": request.attributes or {},
    }


def new_batch(*, id: str, vector_store_id: str, now: int) -> StoredBatch:
    """Make the stored object of a batch. Its status is derived from its files unless the batch is cancelled."""
    return {
        "id": id,
        "object": "vector_store.files_batch",
        "created_at": now,
        "vector_store_id": vector_store_id,
        "status": "in_progress",
    }


def show_batch(body: StoredBatch, counts: FileCounts) -> FileBatch:
    """Make the wire object: in progress while a file is, and failed if every file failed."""
    status = body["status"]
    if status != "cancelled" and not counts["in_progress"]:
        status = "failed" if counts["failed"] and counts["failed"] == counts["total"] else "completed"
    return {**body, "status": status, "file_counts": counts}
