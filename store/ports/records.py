"""The port of the store: rows in, rows out, and lists of changes that commit together.

A backend implements `Store`; `tests/store/test_conformance.py` tests the rules that it must keep. A row's `body` is the
wire object, all of which is public. What only the server is allowed to know (secrets of actions, submitted outputs,
sequence numbers) is in `private`. The backend reads index columns (status, expires_at, purpose, usage_bytes) from the
body.
"""

from asyncio import Future
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from store.ports.checkpoints import Checkpoints
from wire.events import Event

__all__ = [
    "Append",
    "Change",
    "Delete",
    "DropCheckpoints",
    "HeldKind",
    "Hold",
    "Insert",
    "Kind",
    "Page",
    "PageQuery",
    "Patch",
    "RequireHeld",
    "RequireNewest",
    "RequireNoActiveRun",
    "RequireRow",
    "RequireUnchanged",
    "Retract",
    "Row",
    "RunStart",
    "Store",
    "Topic",
    "Unfinished",
    "Wake",
]

_OfThreads = Literal["thread", "message", "run", "step"]
_OfFiles = Literal["file", "vector_store", "vector_store_file", "file_batch", "upload"]
Kind = Literal["assistant", _OfThreads, _OfFiles]

HeldKind = Literal["run", "vector_store_file"]
"""Kinds that a process holds while it works on them."""

Topic = Literal["runs", "files"]
"""What a process can be woken for: runs to execute, cancel or delete; vector store files to index."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object. `thread_id` is set on messages, runs and steps; `run_id` on steps and a run's own messages;
    `vector_store_id` on batches and vector store files; `file_id` and, if it was added in a batch, `batch_id` on vector
    store files.

    On the wire, a vector store file has the id of its file; here, its id is `store_file_id`.
    """

    kind: Kind
    id: str
    owner: str
    body: dict[str, Any]
    thread_id: str | None = None
    run_id: str | None = None
    private: dict[str, Any] = field(default_factory=dict)
    vector_store_id: str | None = None
    batch_id: str | None = None
    file_id: str | None = None


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
class Page:
    """Rows in the order of the list; `has_more` is whether rows follow the last one in that order.

    Rows of several megabytes in total span several pages, whatever the limit. A page has at least one row, if there is
    one. `size` is the number of characters of the rows as stored.
    """

    rows: list[Row]
    has_more: bool
    size: int


@dataclass(frozen=True, slots=True)
class RunStart:
    """What the start of a run reads: each row or None, and the thread's newest messages."""

    assistant: Row | None
    thread: Row | None
    active: Row | None
    """The thread's active run."""
    newest: Page


# --- changes: applied in order in one transaction, all or none ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row. Refused with ThreadBusy for a run whose thread has an active one, and with Missing if this owner has
    no such thread for a message, run or step, or no such vector store or file for a vector store file or batch."""

    row: Row
    held: bool = False
    """Whether this process holds the new run (see `Hold`)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Make this process the holder of a run or vector store file: the only process that works on it.

    A process holds a run until the run pauses or ends, and a vector store file until it is indexed. What a dead process
    held is free. Raises Missing, StatusConflict if the status is not in `only_if`, and
    HeldElsewhere if another live process holds the row.
    """

    kind: HeldKind
    id: str
    owner: str
    only_if: frozenset[str]


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge top-level keys into a row's body and private part (None values are stored, not removed).

    Raises Missing, or StatusConflict if `only_if` is given and body["status"] is not in it.
    """

    kind: Kind
    id: str
    owner: str
    body: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)
    only_if: frozenset[str] | None = None
    if_there: bool = False
    """Do nothing, instead of raising Missing, if the row does not exist; no row is returned for it then."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row and everything that belongs to it (a thread's messages, runs, steps, events, checkpoints; a vector
    store's files and batches; a file's vector store files). Raises Missing.

    The parts of threads and vector stores are hidden immediately, and removed later, in short commits.
    """

    kind: Kind
    id: str
    owner: str
    if_there: bool = False
    """Do nothing, instead of raising Missing, if the row does not exist."""


@dataclass(frozen=True, slots=True)
class RequireRow:
    """Refuse the commit with Missing unless the row exists."""

    kind: Kind
    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RequireHeld:
    """Refuse the commit unless this process holds the row: with HeldElsewhere, or with Missing if there is no row."""

    kind: HeldKind
    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RequireUnchanged:
    """Refuse the commit with Changed unless the row still has this value, and with Missing if there is no row.

    `key` is one of the body, or of the private part if `is_private`. Read, change and commit again after a refusal.
    """

    kind: Kind
    id: str
    owner: str
    key: str
    value: Any
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class RequireNoActiveRun:
    """Refuse the commit with ThreadBusy while the thread has an active run, with Missing if it does not exist."""

    thread_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class RequireNewest:
    """Refuse the commit with ThreadMoved unless this is the thread's newest message (None: it has none)."""

    thread_id: str
    owner: str
    message_id: str | None


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
class Wake:
    """Wake the subscribers of other processes once this is committed (see `Signals`)."""

    topic: Topic


_Required = RequireRow | RequireHeld | RequireUnchanged | RequireNoActiveRun | RequireNewest
Change = Insert | Hold | Patch | Delete | _Required | Append | Retract | DropCheckpoints | Wake


class Store(Protocol):
    """Ten methods. Reads see every commit that was requested earlier and touches the same thread. Every commit of a
    process that was declared dead is refused with LeaseLost (see `store.ports.processes`)."""

    def commit(
        self, changes: Sequence[Change], *, durable: bool, failed: Callable[[], None] | None = None
    ) -> "Future[list[Row]]":
        """Queue changes as one transaction, without waiting and in the order of the calls; the future ends when it is
        committed.

        Returns the rows after each Insert and Patch, in order. `durable` syncs the batch to disk before the future
        ends; without it, the commit survives an end of the process, but not a power failure. Raises (through the
        future) StoreError: nothing of this commit is kept then, but other commits of the same batch are. An empty list
        of changes fails whenever a write would fail, so it tests whether the store is writable. `failed` is called
        before the future raises, even if the future is no longer awaited. Cancelling the future withdraws nothing.
        """
        ...

    async def get(
        self, kind: Kind, id: str, owner: str, *, thread_id: str | None = None, run_id: str | None = None
    ) -> Row | None:
        """Return one row of this owner (and, if given, of this thread and run), or None."""
        ...

    async def page(
        self, kind: Kind, owner: str, query: PageQuery, *, thread_id: str | None = None, run_id: str | None = None
    ) -> Page:
        """Return one page. Raises InvalidRequest (param `after`/`before`) for a cursor that was never in this list."""
        ...

    def changing(self) -> AbstractAsyncContextManager[None]:
        """Enclose a change that reads a row and keeps it until its commit.

        If a row that is read in the block is large, the owner's other such blocks wait until this one ends: otherwise
        every change that waits for its commit would keep a copy. Take locks before the first read.
        """
        ...

    async def active_run(self, thread_id: str, owner: str) -> Row | None:
        """Return the thread's active run, or None."""
        ...

    async def run_start(self, owner: str, thread_id: str, assistant_id: str, messages: int) -> RunStart:
        """Return, in one read, what a run of this assistant on this thread starts with: up to `messages` messages, the
        newest first."""
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

    async def tidy(self) -> None:
        """Remove the parts of deleted threads and vector stores; this also happens automatically. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Commit what is queued, then close every connection. Later commits fail with StoreError."""
        ...
