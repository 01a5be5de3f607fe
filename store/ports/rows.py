"""Rows: one object each, with a type for each kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias

from typing_extensions import TypedDict, TypeIs, TypeVar

from store.ports.private import (
    AssistantPrivate,
    FilePrivate,
    ItemPrivate,
    RunPrivate,
    StepPrivate,
    UploadPrivate,
)
from wire.assistants import Assistant
from wire.files import File
from wire.items import Item
from wire.json import JsonView
from wire.messages import Message
from wire.runs import Run
from wire.steps import RunStep
from wire.threads import Thread
from wire.uploads import Upload
from wire.vector_stores import StoredBatch, StoredStore, VectorStoreFile

__all__ = [
    "AnyRow",
    "AssistantRow",
    "BatchRow",
    "EntrySize",
    "FileRow",
    "ItemRow",
    "Kind",
    "ListKind",
    "MessageRow",
    "ParentIds",
    "Row",
    "RunRow",
    "StepRow",
    "StoreFileRow",
    "StoreRow",
    "ThreadRow",
    "Unfinished",
    "UploadRow",
    "is_item",
    "is_message",
]

_OfThreads = Literal["thread", "message", "item", "run", "step"]
_OfFiles = Literal["file", "vector_store", "vector_store_file", "file_batch", "upload"]
Kind = Literal["assistant", _OfThreads, _OfFiles]

ListKind = Literal[Kind, "entry"]
"""A kind of list: the objects of one kind, or the entries of a thread, which are its messages and items in one order.

Messages and items are in the order of their insertion."""


Body = TypeVar("Body", bound=Mapping[str, object], covariant=True, default=JsonView)
Private = TypeVar("Private", bound=Mapping[str, object], covariant=True, default=JsonView)


@dataclass(frozen=True, slots=True)
class Row(Generic[Body, Private]):
    """One object. `thread_id` is set on messages, items, runs and steps; `run_id` on steps, and on
    messages and items that a run made; `vector_store_id` on batches and vector store files; `file_id` and, if it was
    added in a batch, `batch_id` on vector store files.

    On the wire, a vector store file has the id of its file; here, its id is `store_file_id`.
    """

    kind: Kind
    id: str
    owner: str
    body: Body
    thread_id: str | None = None
    run_id: str | None = None
    private: Private = field(default_factory=dict)  # type: ignore[assignment]
    vector_store_id: str | None = None
    batch_id: str | None = None
    file_id: str | None = None


AssistantRow: TypeAlias = Row[Assistant, AssistantPrivate]
ThreadRow: TypeAlias = Row[Thread]
MessageRow: TypeAlias = Row[Message]
ItemRow: TypeAlias = Row[Item, ItemPrivate]
RunRow: TypeAlias = Row[Run, RunPrivate]
StepRow: TypeAlias = Row[RunStep, StepPrivate]
FileRow: TypeAlias = Row[File, FilePrivate]
StoreRow: TypeAlias = Row[StoredStore]
StoreFileRow: TypeAlias = Row[VectorStoreFile]
BatchRow: TypeAlias = Row[StoredBatch]
UploadRow: TypeAlias = Row[Upload, UploadPrivate]

AnyRow = TypeVar("AnyRow", bound=Row, covariant=True, default=Row)


class ParentIds(TypedDict, total=False):
    """The thread and the run that a row must belong to; None is any."""

    thread_id: str | None
    run_id: str | None


def is_message(row: Row) -> TypeIs[MessageRow]:
    """Whether an entry of a thread is a message."""
    return row.kind == "message"


def is_item(row: Row) -> TypeIs[ItemRow]:
    """Whether an entry of a thread is an item."""
    return row.kind == "item"


@dataclass(frozen=True, slots=True)
class EntrySize:
    """A thread's entry without its content."""

    kind: Literal["message", "item"]
    id: str
    size: int
    """The bytes of the row's JSON as stored."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The part of an active run that is read when there can be ten thousand of them."""

    id: str
    owner: str
    thread_id: str
    status: str
    created_at: int
    size: int
    """The number of characters of the object's JSON."""
