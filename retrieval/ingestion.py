"""Schedules the indexing of files: each place of a file in a vector store is indexed once.

Each owner has up to `_PARALLEL` files in progress, independent of other owners; in `retrieval.indexing`, owners take
turns. Invariants: a place that is `in_progress` in the store is work to do, even after a crash, which loses only time.
Its status changes once, by compare-and-set, to `completed` or `failed`. A file fails alone, with its reason. What is
deleted or cancelled meanwhile stays so, and leaves nothing in the index.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from chains.embeddings import Embedder
from documents.extraction import Extractor
from retrieval.indexing import Indexer, Limits
from store.free_space import Room
from store.ports import Blobs, Change, Delete, Insert, Library, PageQuery, Patch, Row, Store, Vectors, store_file_id
from telemetry.context import act_for
from telemetry.metrics import Counts, Histogram
from telemetry.shares import Shares
from wire.errors import Missing, StatusConflict, StoreError, StoreFailed, ThreadholdError, Unreadable

__all__ = ["Ingestion"]

logger = logging.getLogger("threadhold.ingestion")

_PARALLEL: Final = 2
"""Maximum files of one owner that are in progress at the same time."""
_WAITING: Final = 16
"""Places that are looked up at a time."""
_PAGE: Final = 500
_PLACES: Final = 100
"""Maximum places that are removed in one commit."""
_AGAIN_S: Final = 5.0
"""How long the store is left alone when it fails."""
_SWEEP_S: Final = 20.0
_FAILED: Final = "The server could not index this file; its log says more."

_OPEN = frozenset({"in_progress"})


class Ingestion:
    """An async context manager: entering takes up what a crash or a stop left, leaving parks what is under way.
    `clock` gives Unix seconds."""

    def __init__(
        self,
        store: Store,
        library: Library,
        blobs: Blobs,
        vectors: Vectors,
        embedder: Embedder | None,
        extractor: Extractor,
        *,
        room: Room | None = None,
        parallel: int = _PARALLEL,
        limits: Limits | None = None,
        sweep_s: float = _SWEEP_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without an embedder, files are found by their words only. `room` limits the index's disk."""
        self._store = store
        self._library = library
        self._blobs = blobs
        self._vectors = vectors
        self._room = room
        self._indexer = Indexer(store, blobs, vectors, embedder, extractor, limits)
        self._places = Shares(0, least=parallel)
        self._sweep_s = sweep_s
        self._clock = clock
        self._busy: dict[str, tuple[Row, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self.indexed = Counts()
        """Files by how indexing them ended: completed, failed, or gone."""
        self.seconds = Histogram()
        self.outdated = 0
        """Files whose words are still in an older version's form."""
        self._untidy = asyncio.Event()
        self._untidy.set()
        self._tasks = asyncio.TaskGroup()
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        left = await self._blobs.sweep(self._library.unknown)
        if left:
            logger.info("removed %d blobs that a crash had left", left)
        await self._tasks.__aenter__()
        works = (self._work(), self._sweep(), self._tidy(), self._refresh())
        self._workers = [self._tasks.create_task(work) for work in works]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (*self._workers, *(task for _, task in self._busy.values())):
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def busy(self) -> int:
        """How many files are being indexed."""
        return len(self._busy)

    def wake(self) -> None:
        """Look for work at once: places were committed."""
        self._wake.set()

    async def ready(self, vector_store_ids: Sequence[str], limit_s: float = 60.0) -> bool:
        """Wait until no file of these stores is in progress, `limit_s` at the most; tell whether none is."""
        now = asyncio.get_running_loop().time  # not the clock, which somebody may set
        end = now() + limit_s
        while True:
            moved = self._moved
            tallies = await self._library.tallies("vector_store_id", vector_store_ids)
            if not any(tally.by_status.get("in_progress") for tally in tallies.values()):
                return True
            left = end - now()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await moved.wait()

    async def put(self, owner: str, places: Sequence[Row], *before: Change) -> None:
        """Commit `before`, then these places, each in place of an existing one, and index them.

        Raises Missing for a store or file that does not exist, ReserveReached if the disk lacks space. In both cases
        nothing is kept.
        """
        if places and self._room is not None:
            await self._room.check()
        ids = {place.id for place in places}
        await self._stop(lambda id: id in ids)
        changes: list[Change] = list(before)
        for place in places:
            changes += [Delete("vector_store_file", place.id, owner, if_there=True), Insert(place)]
        await self._store.commit(changes, durable=True)
        self._untidy.set()
        self.wake()

    async def set_attributes(self, owner: str, vector_store_id: str, file_id: str, attributes: dict[str, Any]) -> Row:
        """Replace a place's attributes, in its row and in the index. Raises Missing."""
        id = store_file_id(vector_store_id, file_id)
        rows = await self._store.commit(
            [Patch("vector_store_file", id, owner, {"attributes": attributes})], durable=True
        )
        with suppress(Missing):  # not indexed yet; it will be with what its row says at its end
            await self._vectors.set_attributes(owner, vector_store_id, file_id, attributes)
        return rows[0]

    # --- what ends places ---------------------------------------------------------------------------------------------

    async def delete_file(self, owner: str, file_id: str) -> None:
        """Delete a file, its bytes and its places. Raises Missing."""
        if await self._store.get("file", file_id, owner) is None:
            raise Missing("file", file_id)
        places = await self._library.places_of(file_id)
        for start in range(0, len(places) - _PLACES, _PLACES):  # a single commit would make others wait
            gone = [Delete("vector_store_file", place.id, owner, if_there=True) for place in places[start:][:_PLACES]]
            await self._store.commit(gone, durable=False)
        await self._store.commit([Delete("file", file_id, owner)], durable=True)
        await self._gone(lambda id: id.endswith(f"/{file_id}"))
        await self._blobs.remove(file_id)

    async def delete_store_file(self, owner: str, vector_store_id: str, file_id: str) -> None:
        """Take a file out of a vector store. Raises Missing."""
        await self._store.commit(
            [Delete("vector_store_file", store_file_id(vector_store_id, file_id), owner)], durable=True
        )
        await self._gone(lambda id: id == store_file_id(vector_store_id, file_id))

    async def delete_store(self, owner: str, vector_store_id: str) -> None:
        """Delete a vector store; its files stay. Raises Missing."""
        await self._store.commit([Delete("vector_store", vector_store_id, owner)], durable=True)
        await self._gone(lambda id: id.startswith(f"{vector_store_id}/"))

    async def cancel(self, owner: str, vector_store_id: str, batch_id: str | None, *also: Change) -> None:
        """Commit `also`, and cancel what is in progress of a batch, or of a whole store. What is indexed stays."""
        await self._store.commit(also, durable=True)
        places = await self._in_progress(owner, vector_store_id, batch_id)
        for place in places:
            change = Patch("vector_store_file", place.id, owner, {"status": "cancelled"}, only_if=_OPEN)
            with suppress(Missing, StatusConflict):
                await self._store.commit([change], durable=False)
        await self._store.commit([], durable=True)  # all of them are on disk then
        ids = {place.id for place in places}
        await self._stop(lambda id: id in ids)
        self._tell()

    async def _in_progress(self, owner: str, vector_store_id: str, batch_id: str | None) -> list[Row]:
        at = {"vector_store_id": vector_store_id, "batch_id": batch_id, "status": "in_progress"}
        found: list[Row] = []
        query = PageQuery(limit=_PAGE, order="asc")
        while True:
            page = await self._library.places(owner, query, **at)  # type: ignore[arg-type]
            found += page.rows
            if not page.has_more:
                return found
            query = replace(query, after=page.rows[-1].id)

    async def _gone(self, which: Callable[[str], bool]) -> None:
        """Stop what is done for places that were deleted; with their rows they left the index, and now their room."""
        await self._stop(which)
        self._untidy.set()
        self._tell()

    async def _stop(self, which: Callable[[str], bool]) -> None:
        tasks = [task for id, (_, task) in self._busy.items() if which(id)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tell(self) -> None:
        """Wake those who wait for a place to move."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # --- the work -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Forever: start each owner's oldest places that are in progress, as many as an owner can have at the same
        time."""
        while True:
            self._wake.clear()
            try:
                while waiting := await self._waiting():
                    for place in waiting:
                        if self._places.free(place.owner):
                            self._begin(place)
            except StoreError as error:
                logger.error("the files to index could not be read, next try in %g s: %s", _AGAIN_S, error)
                await asyncio.sleep(_AGAIN_S)
                continue
            await self._wake.wait()

    async def _waiting(self) -> list[Row]:
        """Return places in progress that have not been started, of owners who can start more."""
        busy = [place for place, _ in self._busy.values()]
        full = {place.owner for place in busy if not self._places.free(place.owner)}
        return await self._library.waiting(_WAITING, besides=busy, full=full)

    def _begin(self, place: Row) -> None:
        task = self._tasks.create_task(self._index(place))
        self._busy[place.id] = (place, task)
        self._places.take(place.owner)

        def done(_: asyncio.Task[None]) -> None:
            del self._busy[place.id]
            self._places.release(place.owner)
            self._wake.set()

        task.add_done_callback(done)

    async def _index(self, place: Row) -> None:
        """Index one place, and store how that ended. The outermost frame around a file: it breaks alone."""
        begun_at = time.monotonic()
        act_for(place.owner)
        try:
            moved = await self._indexer.index(place)
        except (Missing, StatusConflict):
            moved = None
        except Unreadable as error:
            moved = _failed(error.code, error.message)
        except StoreFailed as error:
            logger.error("file %s waits, as the store failed: %s", place.file_id, error)
            await asyncio.sleep(_AGAIN_S)
            return
        except ThreadholdError as error:
            moved = _failed("server_error", error.message)
        except Exception:
            logger.exception("indexing %s broke", place.id)
            moved = _failed("server_error", _FAILED)
        self.indexed["gone" if moved is None else moved["status"],] += 1
        self.seconds.add(time.monotonic() - begun_at)
        try:
            await self._end(place, moved)
        except StoreError as error:  # it is still in progress, or found although it is gone: the next start sees to it
            logger.error("the end of indexing %s could not be stored: %s", place.id, error)
            await asyncio.sleep(_AGAIN_S)
        self._tell()

    async def _end(self, place: Row, moved: dict[str, Any] | None) -> None:
        """Store how a place ended; None where it was found to be gone. Raises StoreError."""
        if moved is not None:
            change = Patch("vector_store_file", place.id, place.owner, moved, only_if=_OPEN)
            with suppress(Missing, StatusConflict):
                await self._store.commit([change], durable=True)
                return
        # Deleted or cancelled while it was indexed: whoever did so may have removed it before the last of it came.
        await self._vectors.remove(place.owner, str(place.vector_store_id), place.file_id)
        self._untidy.set()

    # --- expiry -------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Forever: delete files, and expire vector stores, whose time has come."""
        while True:
            try:
                now = int(self._clock())
                for file in await self._library.due("file", now):
                    with suppress(Missing):
                        await self.delete_file(file.owner, file.id)
                for store in await self._library.due("vector_store", now):
                    await self._expire(store)
            except StoreError as error:
                logger.error("what has expired could not be removed, next try in %g s: %s", self._sweep_s, error)
            await asyncio.sleep(self._sweep_s)

    async def _expire(self, store: Row) -> None:
        """Forget what a store's files say. The list of them stays, so that they can be put into a new one."""
        with suppress(Missing):
            await self._store.commit(
                [Patch("vector_store", store.id, store.owner, {"status": "expired"})], durable=True
            )
            await self._stop(lambda id: id.startswith(f"{store.id}/"))
            await self._vectors.remove(store.owner, store.id)
            self._untidy.set()

    async def _tidy(self) -> None:
        """Forever: free the room of what was removed."""
        while True:
            await self._untidy.wait()
            self._untidy.clear()
            try:
                await self._store.tidy()  # files leave the index with their places
                await self._vectors.tidy()
            except StoreError as error:
                logger.error("the index could not be tidied, next try in %g s: %s", self._sweep_s, error)
                self._untidy.set()
                await asyncio.sleep(self._sweep_s)

    async def _refresh(self) -> None:
        """Rewrite the words that an older version indexed, once."""
        while True:
            try:
                await self._rewrite()
                return
            except StoreError as error:
                logger.error("the index could not be rewritten, next try in %g s: %s", self._sweep_s, error)
                await asyncio.sleep(self._sweep_s)

    async def _rewrite(self) -> None:
        total, since = 0, time.monotonic()
        async for left in self._vectors.refresh():
            self.outdated = left
            if left > total:
                total = left
                logger.info("rewriting the word index in the background, files left: %d; searches continue", total)
        if total:
            logger.info("rewrote the word index, files: %d, seconds: %.1f", total, time.monotonic() - since)


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "last_error": {"code": code, "message": message}}
