"""The store as the rest of the house sees it: rows in, rows out, and lists of changes that commit together.

A backend implements `Store`; `tests/store/test_conformance.py` is the law it must keep. A row's `body` is the wire
object, public as it stands; what only the server may know (secrets of actions, submitted outputs, sequence numbers)
is in `private`. Index columns (created_at, status, expires_at) are read from the body by the backend.
"""

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver

from wire.events import Event

__all__ = [
    "ACTIVE",
    "Append",
    "Change",
    "Delete",
    "DropCheckpoints",
    "Idle",
    "Insert",
    "Kind",
    "Newest",
    "Page",
    "PageQuery",
    "Patch",
    "Retract",
    "Row",
    "Store",
]

Kind = Literal["assistant", "thread", "message", "run", "step"]

ACTIVE: Final = frozenset({"queued", "in_progress", "requires_action", "cancelling"})
"""Run statuses that lock the thread."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object. `thread_id` is set on messages, runs and steps; `run_id` on steps and a run's own messages."""

    kind: Kind
    id: str
    owner: str
    body: dict[str, Any]
    thread_id: str | None = None
    run_id: str | None = None
    private: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A cursor page. Order is by insertion, which is by created_at with ties broken; `after`/`before` are object ids.

    `before` gives the page that ends just before that object in the listing's order. A cursor stays valid after
    its object was deleted.
    """

    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the listing's order; `has_more` tells whether rows follow the last one in that order."""

    rows: list[Row]
    has_more: bool


# --- changes: applied in order, all in one transaction, or not at all ---------------------------------------------


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row. A run is refused with ThreadBusy while its thread has an active one; a message, run or step
    whose thread is not there (for this owner) is refused with Missing."""

    row: Row


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge top-level keys into a row's body and private part (None values are stored, not removed).

    Raises Missing, or StatusConflict when `only_if` is given and body["status"] is not in it.
    """

    kind: Kind
    id: str
    owner: str
    body: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)
    only_if: frozenset[str] | None = None
    if_there: bool = False
    """Do nothing, instead of raising Missing, where the row is gone; no row is returned for it then."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row and all below it (a thread's messages, runs, steps, events, checkpoints). Raises Missing."""

    kind: Kind
    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class Idle:
    """Refuse the commit with ThreadBusy while the thread has an active run, with Missing when it is not there."""

    thread_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class Newest:
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


Change = Insert | Patch | Delete | Idle | Newest | Append | Retract | DropCheckpoints


class Store(Protocol):
    """Eight doors. Reads see every commit that was asked for earlier and touches the same thread."""

    def commit(self, changes: Sequence[Change], *, durable: bool) -> "Future[list[Row]]":
        """Queue changes as one transaction, at once and in order of the calls; the future ends when it is committed.

        Returns the rows after each Insert and Patch, in order. `durable` syncs the batch to disk before the future
        ends; without it the commit survives the process, not a power cut. Raises (through the future) StoreError,
        and then nothing of this commit was kept; other commits of the same batch stand.
        """
        ...

    async def get(
        self, kind: Kind, id: str, owner: str, *, thread_id: str | None = None, run_id: str | None = None
    ) -> Row | None:
        """Return one row of this owner (and, where given, of this thread and run), or None."""
        ...

    async def page(
        self, kind: Kind, owner: str, query: PageQuery, *, thread_id: str | None = None, run_id: str | None = None
    ) -> Page:
        """Return one page. Raises InvalidRequest (param `after`/`before`) for a cursor that never was in this list."""
        ...

    async def active_run(self, thread_id: str, owner: str) -> Row | None:
        """Return the thread's active run, or None."""
        ...

    async def unfinished(self, *, due_before: int | None = None) -> list[Row]:
        """Return every owner's active runs, oldest first; with `due_before` (Unix s) only those that expire by then."""
        ...

    async def events(self, run_id: str, *, after: int, limit: int) -> list[Event]:
        """Return up to `limit` events with a number above `after`, in order."""
        ...

    @property
    def checkpoints(self) -> "BaseCheckpointSaver[str]":
        """LangGraph's saver over the same writer. Its thread id is our run id.

        `configurable["fresh"]` true means: nothing is stored yet, do not look. A checkpoint whose `exchange`
        channel is empty or missing is not written (law 1: a run without tools writes none).
        """
        ...

    async def close(self) -> None:
        """Commit what is queued, then close every connection. Commits after that fail with StoreError."""
        ...
