"""Adds the files that messages attach to the thread's `tool_resources`, and so to its vector store.

Invariants: a message and the changes for its attachments are one commit. A thread has one vector store; two processes
that make one at the same time do so one after the other (compare-and-set). The first
attachment for `file_search` creates it; it expires seven days after its last use. One request can name thousands of
files: they are looked up in one query, and their rows are made in a thread, so that other requests are not delayed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast
from weakref import WeakValueDictionary

from fairness.fair_limits import REQUESTS
from retrieval.vector_store_drafts import add_store_files, create_inline_stores, draft_store, renew_expiry
from store.ports import (
    Change,
    Delete,
    FileQueries,
    Insert,
    MessageRow,
    Notify,
    Patch,
    RequireRow,
    RequireUnchanged,
    Row,
    Store,
    ThreadRow,
    store_file_id,
)
from wire.errors import MissingRow
from wire.messages import Message
from wire.resources import Resources
from wire.runs import Run
from wire.threads import Thread, ThreadChanges
from wire.vector_stores import NewStoreFile, VectorStoreCreate

__all__ = ["Attachments", "attached_files", "searched_stores"]

T = TypeVar("T")

_EXPIRY: Final = {"anchor": "last_active_at", "days": 7}
_FEW: Final = 64
"""Maximum files whose rows are made on the event loop, which takes about a millisecond."""


def attached_files(messages: Sequence[Message], tool: str) -> list[str]:
    """Return the ids of the files that messages attach for a tool, each once."""
    found = [
        attachment["file_id"]
        for message in messages
        for attachment in message["attachments"]
        if any(each["type"] == tool for each in attachment.get("tools") or ())
    ]
    return list(dict.fromkeys(found))


def named_files(messages: Sequence[Message]) -> list[str]:
    """Return the ids of all files that messages name, in attachments and as images."""
    found = [attachment["file_id"] for message in messages for attachment in message["attachments"]]
    for message in messages:
        found += [part["image_file"]["file_id"] for part in message["content"] if part["type"] == "image_file"]
    return list(dict.fromkeys(found))


def searched_stores(run: Run, thread: Thread, changes: Sequence[Change] = ()) -> list[str]:
    """Return the ids of the vector stores that a run searches, each once; `changes` can include the thread's."""
    changed = [each.body for each in changes if isinstance(each, Patch) and each.kind == "thread"]
    changed_to = [cast("ThreadChanges", body)["tool_resources"] for body in changed if "tool_resources" in body][-1:]
    found = [run["tool_resources"], *(changed_to or [thread["tool_resources"]])]
    searched = [(resources or {}).get("file_search") or {} for resources in found]
    return list(dict.fromkeys(id for each in searched for id in each.get("vector_store_ids") or ()))


@dataclass(slots=True)
class _ResourceDraft:
    """A thread's resources while attachments are added to them."""

    resources: Resources
    changes: list[Change] = field(default_factory=list)

    @property
    def store_id(self) -> str | None:
        """The thread's vector store."""
        return next(iter(self.resources.get("file_search", {}).get("vector_store_ids", ())), None)

    def inserted(self, kind: str) -> dict[str, Row]:
        """The rows of a kind that the changes add."""
        return {each.row.id: each.row for each in self.changes if isinstance(each, Insert) and each.row.kind == kind}


class Attachments:
    """Makes the changes for the attachments of messages. `wake` is called when vector store files were committed."""

    def __init__(
        self,
        store: Store,
        file_queries: FileQueries,
        *,
        wake: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._file_queries = file_queries
        self._wake = wake
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def require(self, owner: str, file_ids: Sequence[str]) -> None:
        """Raise MissingRow if one of many files does not exist.

        The commit checks all files anyway. This check avoids unnecessary work before it.
        """
        if len(file_ids) > _FEW:
            known = await self._file_queries.statuses("file", owner, file_ids)
            if (missing := next((id for id in file_ids if id not in known), None)) is not None:
                raise MissingRow("file", missing)

    async def create_inline_stores(self, owner: str, resources: Resources) -> tuple[Resources, list[Change]]:
        """Do what `vector_store_drafts.create_inline_stores` does, off the event loop.

        Raises InvalidRequest, MissingRow for a file that does not exist.
        """
        stores = resources.get("file_search", {}).get("vector_stores", ())
        file_ids = [file_id for store in stores for file_id in store.get("file_ids", ())]
        await self.require(owner, file_ids)
        now = int(self._clock())
        return await _in_thread(len(file_ids), owner, lambda: create_inline_stores(owner, resources, now=now))

    @asynccontextmanager
    async def of_new_thread(self, thread: ThreadRow, messages: Sequence[MessageRow]) -> AsyncIterator[list[Change]]:
        """Create the vector stores of the thread's `tool_resources`, and yield the changes to commit with the thread.

        Raises InvalidRequest, MissingRow for a file that does not exist.
        """
        bodies = [message.body for message in messages]
        resources, changes = await self.create_inline_stores(thread.owner, thread.body["tool_resources"])
        draft = _ResourceDraft(resources, changes)
        await self._fill(draft, thread.owner, bodies)
        thread.body["tool_resources"] = draft.resources
        yield draft.changes
        if draft.inserted("vector_store_file"):
            self._wake()

    @asynccontextmanager
    async def of_messages(
        self, owner: str, thread_id: str, messages: Sequence[MessageRow]
    ) -> AsyncIterator[list[Change]]:
        """Yield the changes to commit with new messages of a thread. Meanwhile, no other call attaches to the thread.

        If another process changes the thread's resources meanwhile, the commit is refused with StaleRow. Then call
        this again. Raises MissingRow if the thread or a file does not exist.
        """
        bodies = [message.body for message in messages]
        if not named_files(bodies):
            yield []
            return
        lock = self._locks.get(thread_id)
        if lock is None:
            lock = self._locks[thread_id] = asyncio.Lock()
        async with lock:
            thread = await self._store.get("thread", thread_id, owner)
            if thread is None:
                raise MissingRow("thread", thread_id)
            draft = _ResourceDraft(thread.body["tool_resources"])
            await self._fill(draft, owner, bodies)
            if draft.resources != thread.body["tool_resources"]:
                before = thread.body["tool_resources"]
                draft.changes.append(RequireUnchanged("thread", thread_id, owner, "tool_resources", before))
                draft.changes.append(Patch("thread", thread_id, owner, {"tool_resources": draft.resources}))
            yield draft.changes
        if draft.inserted("vector_store_file"):
            self._wake()

    async def _fill(self, draft: _ResourceDraft, owner: str, messages: Sequence[Message]) -> None:
        named = named_files(messages)
        await self.require(owner, named)
        draft.changes += [RequireRow("file", id, owner) for id in named]
        if for_search := attached_files(messages, "file_search"):
            await self._fill_store(draft, owner, for_search)
        if for_code := attached_files(messages, "code_interpreter"):
            kept = draft.resources.get("code_interpreter", {}).get("file_ids") or []
            whole = list(dict.fromkeys([*kept, *for_code]))
            draft.resources = {**draft.resources, "code_interpreter": {"file_ids": whole}}

    async def _fill_store(self, draft: _ResourceDraft, owner: str, file_ids: Sequence[str]) -> None:
        now = int(self._clock())
        store = draft.inserted("vector_store").get(draft.store_id or "")
        if store is None and draft.store_id is not None:
            store = await self._store.get("vector_store", draft.store_id, owner)
            if store is not None and store.body["status"] != "expired":
                draft.changes += renew_expiry(store, now=now, at_once=True)
        if store is None or store.body["status"] == "expired":
            asked = VectorStoreCreate.model_validate({"expires_after": _EXPIRY})
            store, _ = draft_store(owner, asked, now=now)
            draft.changes.append(Insert(store))
            draft.resources = {**draft.resources, "file_search": {"vector_store_ids": [store.id]}}
        is_new = store.id in draft.inserted("vector_store")
        present = draft.inserted("vector_store_file")
        wanted = [file_id for file_id in file_ids if store_file_id(store.id, file_id) not in present]
        ids = [] if is_new else [store_file_id(store.id, id) for id in wanted]
        statuses = await self._file_queries.statuses("vector_store_file", owner, ids)
        again = [id for id in wanted if statuses.get(store_file_id(store.id, id), "failed") in ("failed", "cancelled")]
        given = (NewStoreFile(file_id=id) for id in again)
        rows = await _in_thread(len(again), owner, lambda: add_store_files(owner, store.id, given, now=now))
        for row in rows:
            if not is_new:
                draft.changes.append(Delete("vector_store_file", row.id, owner, if_exists=True))
            draft.changes.append(Insert(row))
        if rows:
            draft.changes.append(Notify("files"))


async def _in_thread(count: int, owner: str, work: Callable[[], T]) -> T:
    """Return `work()`, called in a thread if it is about more than a few files."""
    return work() if count <= _FEW else await REQUESTS.run(owner, work)
