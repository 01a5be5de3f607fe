"""The port of the store: rows in, rows out, and lists of changes that commit together.

A backend implements `Store`; `tests/store/test_conformance.py` tests the rules that it must keep. A row's `body` is the
wire object, all of which is public. What only the server is allowed to know (secrets of actions, submitted outputs,
sequence numbers) is in `private`. The backend reads index columns (status, expires_at, purpose, usage_bytes) from the
body.
"""

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, Unpack, overload

from store.ports.checkpoints import Checkpoints
from store.ports.rows import (
    AnyRow,
    AssistantRow,
    BatchRow,
    EntrySize,
    FileRow,
    ItemRow,
    Kind,
    ListKind,
    MessageRow,
    ParentIds,
    Row,
    RunRow,
    StepRow,
    StoreFileRow,
    StoreRow,
    ThreadRow,
    Unfinished,
    UploadRow,
)
from store.ports.usage import CountUsage
from wire.events import Event

__all__ = [
    "Append",
    "Change",
    "Delete",
    "DropCheckpoints",
    "HeldKind",
    "Hold",
    "Insert",
    "Notify",
    "Page",
    "PageQuery",
    "Patch",
    "RequireHeld",
    "RequireNewest",
    "RequireNoActiveRun",
    "RequireRow",
    "RequireUnchanged",
    "Retract",
    "RunStart",
    "Store",
    "Topic",
]


HeldKind = Literal["run", "vector_store_file"]
"""Kinds that a process holds while it works on them."""

Topic = Literal["runs", "files"]
"""What a process can be woken for: runs to execute, cancel or delete; vector store files to index."""


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A cursor page. The order is by insertion, which is by `created_at` with ties broken; `after` and `before` are
    object ids.

    `before` gives the page that ends just before that object in the order of the list. A cursor stays valid after its
    object is deleted.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[AnyRow]):
    """Rows in the order of the list; `has_more` is whether rows follow the last one in that order.

    Rows of several megabytes in total span several pages, whatever the limit. A page has at least one row, if there is
    one. `size` is the number of characters of the rows as stored.
    """

    rows: Sequence[AnyRow]
    has_more: bool
    size: int


@dataclass(frozen=True, slots=True)
class RunStart:
    """What the start of a run reads: each row or None, and the thread's newest entries."""

    assistant: AssistantRow | None
    thread: ThreadRow | None
    active: RunRow | None
    """The thread's active run."""
    newest: Page
    """Entries, newest first."""


# --- changes: applied in order in one transaction, all or none ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row. Refused with ThreadBusy for a run whose thread has an active one, and with MissingRow if this owner
    has no such thread for a message, item, run or step, or no such vector store or file for a vector store file or
    batch.
    """

    row: Row
    held: bool = False
    """Whether this process holds the new run (see `Hold`)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Make this process the holder of a run or vector store file: the only process that works on it.

    A process holds a run until the run pauses or ends, and a vector store file until it is indexed. What a dead process
    held is free. Raises MissingRow, StatusConflict if the status is not in `only_if`, and
    HeldByOther if another live process holds the row.
    """

    kind: HeldKind
    id: str
    owner: str
    only_if: frozenset[str]


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge top-level keys into a row's body and private part (None values are stored, not removed).

    Raises MissingRow, or StatusConflict if `only_if` is given and body["status"] is not in it.
    """

    kind: Kind
    id: str
    owner: str
    body: Mapping[str, object] = field(default_factory=dict)
    private: Mapping[str, object] = field(default_factory=dict)
    only_if: frozenset[str] | None = None
    if_exists: bool = False
    """Do nothing, instead of raising MissingRow, if the row does not exist; no row is returned for it then."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row and everything that belongs to it (a thread's messages, items, runs, steps, events, checkpoints; a
    vector store's files and batches; a file's vector store files). Raises MissingRow.

    The parts of threads and vector stores are hidden immediately, and removed later, in short commits.
    """

    kind: Kind
    id: str
    owner: str
    if_exists: bool = False
    """Do nothing, instead of raising MissingRow, if the row does not exist."""


@dataclass(frozen=True, slots=True)
class RequireRow:
    """Refuse the commit with MissingRow unless the row exists."""

    kind: Kind
    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RequireHeld:
    """Refuse the commit unless this process holds the row: with HeldByOther, or with MissingRow if there is no row."""

    kind: HeldKind
    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RequireUnchanged:
    """Refuse the commit with StaleRow unless the row still has this value, and with MissingRow if there is no row.

    `key` is one of the body, or of the private part if `is_private`. Read, change and commit again after a refusal.
    """

    kind: Kind
    id: str
    owner: str
    key: str
    value: object
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class RequireNoActiveRun:
    """Refuse the commit with ThreadBusy while the thread has an active run, with MissingRow if it does not exist."""

    thread_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RequireNewest:
    """Refuse the commit with StaleThread unless this is the thread's newest entry (None: it has none)."""

    thread_id: str
    owner: str
    entry_id: str | None


@dataclass(frozen=True, slots=True)
class Append:
    """Add events to a run's log. Numbers rise within a log; the caller numbers them."""

    run_id: str
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Retract:
    """Remove from a run's log every event whose data `id` is one of `object_ids` (messages and steps)."""

    run_id: str
    object_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class DropCheckpoints:
    """Remove the LangGraph checkpoints of a run that has ended."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify the subscribers of other processes once this is committed (see `Notifications`)."""

    topic: Topic


_Required = RequireRow | RequireHeld | RequireUnchanged | RequireNoActiveRun | RequireNewest
Change = Insert | Hold | Patch | Delete | _Required | Append | Retract | DropCheckpoints | Notify | CountUsage


class Store(Protocol):
    """Eleven methods. Reads see every commit that was requested earlier and touches the same thread. Every commit of a
    process that was declared dead is refused with LeaseLost (see `store.ports.processes`)."""

    def commit(
        self, changes: Sequence[Change], *, durable: bool, on_failure: Callable[[], None] | None = None
    ) -> "Future[list[Row]]":
        """Queue changes as one transaction, without waiting and in the order of the calls; the future ends when it is
        committed.

        Returns the rows after each Insert and Patch, in order. `durable` syncs the batch to disk before the future
        ends; without it, the commit survives an end of the process, but not a power failure. Raises (through the
        future) StoreError: nothing of this commit is kept then, but other commits of the same batch are. An empty list
        of changes fails whenever a write would fail, so it tests whether the store is writable. `on_failure` is called
        before the future raises, even if the future is no longer awaited. Cancelling the future withdraws nothing.
        """
        ...

    @overload
    async def get(
        self, kind: Literal["assistant"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> AssistantRow | None: ...
    @overload
    async def get(
        self, kind: Literal["thread"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> ThreadRow | None: ...
    @overload
    async def get(
        self, kind: Literal["message"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> MessageRow | None: ...
    @overload
    async def get(self, kind: Literal["item"], id: str, owner: str, **parents: Unpack[ParentIds]) -> ItemRow | None: ...
    @overload
    async def get(self, kind: Literal["run"], id: str, owner: str, **parents: Unpack[ParentIds]) -> RunRow | None: ...
    @overload
    async def get(self, kind: Literal["step"], id: str, owner: str, **parents: Unpack[ParentIds]) -> StepRow | None: ...
    @overload
    async def get(self, kind: Literal["file"], id: str, owner: str, **parents: Unpack[ParentIds]) -> FileRow | None: ...
    @overload
    async def get(
        self, kind: Literal["vector_store"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> StoreRow | None: ...
    @overload
    async def get(
        self, kind: Literal["vector_store_file"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> StoreFileRow | None: ...
    @overload
    async def get(
        self, kind: Literal["file_batch"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> BatchRow | None: ...
    @overload
    async def get(
        self, kind: Literal["upload"], id: str, owner: str, **parents: Unpack[ParentIds]
    ) -> UploadRow | None: ...
    @overload
    async def get(self, kind: Kind, id: str, owner: str, **parents: Unpack[ParentIds]) -> Row | None: ...

    async def get(self, kind: Kind, id: str, owner: str, **parents: Unpack[ParentIds]) -> Row | None:
        """Return one row of this owner (and, if given, of this thread and run), or None."""
        ...

    @overload
    async def page(
        self, kind: Literal["assistant"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[AssistantRow]: ...
    @overload
    async def page(
        self, kind: Literal["thread"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[ThreadRow]: ...
    @overload
    async def page(
        self, kind: Literal["message"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[MessageRow]: ...
    @overload
    async def page(
        self, kind: Literal["item"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[ItemRow]: ...
    @overload
    async def page(
        self, kind: Literal["run"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[RunRow]: ...
    @overload
    async def page(
        self, kind: Literal["step"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[StepRow]: ...
    @overload
    async def page(
        self, kind: Literal["vector_store"], owner: str, query: PageQuery, **parents: Unpack[ParentIds]
    ) -> Page[StoreRow]: ...
    @overload
    async def page(self, kind: ListKind, owner: str, query: PageQuery, **parents: Unpack[ParentIds]) -> Page: ...

    async def page(self, kind: ListKind, owner: str, query: PageQuery, **parents: Unpack[ParentIds]) -> Page:
        """Return one page. Raises InvalidRequest (param `after`/`before`) for a cursor that was never in this list."""
        ...

    def for_update(self) -> AbstractAsyncContextManager[None]:
        """Enclose a change that reads a row and keeps it until its commit.

        If a row that is read in the block is large, the owner's other such blocks wait until this one ends: otherwise
        every change that waits for its commit would keep a copy. Take locks before the first read.
        """
        ...

    async def active_run(self, thread_id: str, owner: str) -> RunRow | None:
        """Return the thread's active run, or None."""
        ...

    async def run_start(self, owner: str, thread_id: str, assistant_id: str | None, entries: int) -> RunStart:
        """Return, in one read, what a run of this assistant on this thread starts with: up to `entries` entries, the
        newest first. None: a run without a stored assistant."""
        ...

    async def entries_from(
        self, owner: str, thread_id: str, message_id: str, *, limit: int, max_bytes: int
    ) -> list[EntrySize]:
        """Return a message and all later entries of its thread, oldest first; none if the thread has no such message.

        The list ends with the first entry that follows `limit` others, or others of more than `max_bytes` in total.
        """
        ...

    async def unfinished(self, *, due_before: int | None = None) -> list[Unfinished]:
        """Return every owner's active runs, oldest first; with `due_before` (Unix s) only those that expire by then."""
        ...

    async def events(self, run_id: str, *, after: int, limit: int) -> list[Event]:
        """Return up to `limit` events with a number above `after`, in order."""
        ...

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of unfinished runs, with the same writer."""
        ...

    async def purge(self) -> None:
        """Remove the parts of deleted threads and vector stores; this also happens automatically. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Commit what is queued, then close every connection. Later commits fail with StoreError."""
        ...
