"""Schedules the indexing of files: each vector store file is indexed once.

Each owner has up to `_PARALLEL` files in progress, independent of other owners; in `retrieval.indexing`, owners take
turns. Invariants: a vector store file that is `in_progress` in the store is still to be indexed, even after a crash,
which loses only time. The process that holds it indexes it. Its status changes once, by compare-and-set, to `completed`
or `failed`. A file fails alone, with its reason. What is deleted or cancelled meanwhile stays so, and leaves nothing in
the index.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from chains.embeddings import Embedder
from documents.extraction import Extractor
from fairness.fair_limits import FairLimit
from retrieval.cancellation import MAX_CHANGED, cancel_files
from retrieval.index_maintenance import IndexMaintenance
from retrieval.indexing import Indexer, Limits
from store.free_space import FreeSpace
from store.ports import (
    DUE_AT_ONCE,
    Blobs,
    Change,
    Delete,
    FileQueries,
    Hold,
    Insert,
    Notify,
    Patch,
    Processes,
    RequireHeld,
    Row,
    Store,
    Vectors,
    store_file_id,
)
from store.single_process import single_process
from telemetry.background import log_errors, restart_on_error
from telemetry.context import set_current_owner
from telemetry.metrics import Counts, Histogram
from wire.errors import (
    HeldByOther,
    MissingRow,
    StatusConflict,
    StoreError,
    StoreFailed,
    ThreadholdError,
    UnreadableFile,
)
from wire.vector_stores import Attributes, StoreFileResult, failed_result

__all__ = ["Ingestion"]

logger = logging.getLogger("threadhold.ingestion")

_PARALLEL: Final = 2
"""Maximum files of one owner that are in progress at the same time."""
_WAITING: Final = 16
"""Maximum vector store files that are looked up at a time."""
_RETRY_S: Final = 5.0
"""How long to wait after an error of the store."""
_SWEEP_S: Final = 20.0
_MORE_S: Final = 0.05  # pause between two parts of a sweep
_FAILED: Final = "The server could not index this file; see its log."

_OPEN: Final = frozenset({"in_progress"})


class Ingestion:
    """An async context manager: entering continues what a crash or a stop left, leaving parks what is in progress.
    `clock` returns Unix seconds."""

    def __init__(
        self,
        store: Store,
        file_queries: FileQueries,
        blobs: Blobs,
        vectors: Vectors,
        embedder: Embedder | None,
        extractor: Extractor,
        *,
        free_space: FreeSpace | None = None,
        parallel: int = _PARALLEL,
        limits: Limits | None = None,
        sweep_s: float = _SWEEP_S,
        clock: Callable[[], float] = time.time,
        processes: Processes | None = None,
    ) -> None:
        """Without an embedder, files are found by their words only. `free_space` limits the disk space of the index.
        `processes` are the other processes on the store; None: there are none."""
        self._store = store
        self._file_queries = file_queries
        self._blobs = blobs
        self._vectors = vectors
        self._free_space = free_space
        self._indexer = Indexer(store, blobs, vectors, embedder, extractor, limits)
        self._slots = FairLimit(0, minimum=parallel)
        self._sweep_s = sweep_s
        self._clock = clock
        self._busy: dict[str, tuple[Row, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self.indexed = Counts()
        """Files by the result of indexing: completed, failed, or gone."""
        self.seconds = Histogram()
        self._purge_needed = asyncio.Event()
        self._purge_needed.set()
        processes = processes or single_process(store)
        self._leadership = processes.leadership
        self.maintenance = IndexMaintenance(file_queries, blobs, vectors, processes, retry_s=sweep_s)
        processes.liveness.on_loss(self._stop_after_lease_loss)
        processes.notifications.subscribe("files", self._note_others)
        self._tasks = asyncio.TaskGroup()
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.maintenance.start()
        await self._tasks.__aenter__()
        works = (self._work, self._sweep, self._purge, self.maintenance.sweep_forever, self.maintenance.refresh)
        self._workers = [self._tasks.create_task(restart_on_error(work)) for work in works]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (*self._workers, *(task for _, task in self._busy.values())):
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def files_in_progress(self) -> int:
        """The number of files that are being indexed."""
        return len(self._busy)

    def wake(self) -> None:
        """Look for work now, because vector store files were committed."""
        self._wake.set()

    async def wait_until_indexed(self, vector_store_ids: Sequence[str], limit_s: float = 60.0) -> bool:
        """Wait at most `limit_s` until no file of these vector stores is in progress; returns whether that is so."""
        now = asyncio.get_running_loop().time  # not the system clock, which can be set
        end = now() + limit_s
        while True:
            changed = self._changed
            file_totals = await self._file_queries.file_totals("vector_store_id", vector_store_ids)
            if not any(tally.by_status.get("in_progress") for tally in file_totals.values()):
                return True
            left = end - now()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await changed.wait()

    async def add(self, owner: str, store_files: Sequence[Row], *before: Change) -> None:
        """Commit `before`, then these vector store files, replacing existing ones, and index them.

        Raises MissingRow if a vector store or file does not exist, ReserveReached if the disk lacks space. In both
        cases nothing is stored.
        """
        if store_files and self._free_space is not None:
            await self._free_space.check()
        ids = {store_file.id for store_file in store_files}
        await self._stop(lambda id: id in ids)
        changes: list[Change] = list(before)
        for store_file in store_files:
            changes += [Delete("vector_store_file", store_file.id, owner, if_exists=True), Insert(store_file)]
        await self._store.commit([*changes, Notify("files")], durable=True)
        self._purge_needed.set()
        self.wake()

    async def set_attributes(self, owner: str, vector_store_id: str, file_id: str, attributes: Attributes) -> Row:
        """Replace the attributes of a vector store file, in its row and in the index. Raises MissingRow."""
        id = store_file_id(vector_store_id, file_id)
        rows = await self._store.commit(
            [Patch("vector_store_file", id, owner, {"attributes": attributes})], durable=True
        )
        with suppress(MissingRow):  # not indexed yet: indexing uses the row's attributes at its end
            await self._vectors.set_attributes(owner, vector_store_id, file_id, attributes)
        return rows[0]

    # --- deletion and cancellation ------------------------------------------------------------------------------------

    async def delete_file(self, owner: str, file_id: str) -> None:
        """Delete a file with its bytes and its vector store files. Raises MissingRow."""
        if await self._store.get("file", file_id, owner) is None:
            raise MissingRow("file", file_id)
        store_files = await self._file_queries.store_files_of(file_id)
        for start in range(0, len(store_files) - MAX_CHANGED, MAX_CHANGED):
            gone = [
                Delete("vector_store_file", store_file.id, owner, if_exists=True)
                for store_file in store_files[start:][:MAX_CHANGED]
            ]
            await self._store.commit(gone, durable=False)
        await self._store.commit([Delete("file", file_id, owner)], durable=True)
        await self._stop_deleted(lambda id: id.endswith(f"/{file_id}"))
        await self._blobs.remove(file_id)

    async def delete_store_file(self, owner: str, vector_store_id: str, file_id: str) -> None:
        """Remove a file from a vector store. Raises MissingRow."""
        await self._store.commit(
            [Delete("vector_store_file", store_file_id(vector_store_id, file_id), owner)], durable=True
        )
        await self._stop_deleted(lambda id: id == store_file_id(vector_store_id, file_id))

    async def delete_store(self, owner: str, vector_store_id: str) -> None:
        """Delete a vector store; its files are kept. Raises MissingRow."""
        await self._store.commit([Delete("vector_store", vector_store_id, owner)], durable=True)
        await self._stop_deleted(lambda id: id.startswith(f"{vector_store_id}/"))

    async def cancel(self, owner: str, vector_store_id: str, batch_id: str | None, *also: Change) -> None:
        """Commit `also`, and cancel what is in progress in a batch or a whole store. What is indexed is kept."""
        await self._store.commit(also, durable=True)
        ids = await cancel_files(self._store, self._file_queries, owner, vector_store_id, batch_id)
        await self._stop(lambda id: id in ids)
        self._purge_needed.set()
        self._notify()

    async def _stop_deleted(self, which: Callable[[str], bool]) -> None:
        """Stop work on deleted vector store files, and let their space in the index be freed."""
        await self._stop(which)
        self._purge_needed.set()
        self._notify()

    async def _stop(self, which: Callable[[str], bool]) -> None:
        tasks = [task for id, (_, task) in self._busy.items() if which(id)]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _stop_after_lease_loss(self) -> None:
        """Stop all work, because other processes can take it over."""
        await self._stop(lambda _: True)

    def _note_others(self) -> None:
        """Look for work, and for changes of status, because another process has committed some."""
        self.wake()
        self._notify()

    def _notify(self) -> None:
        """Wake the callers that wait for a status to change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # --- the work -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Forever: start each owner's oldest files in progress, as many as an owner can have at the same time."""
        while True:
            self._wake.clear()
            try:
                while waiting := await self._waiting():
                    for store_file in waiting:
                        if self._slots.is_free(store_file.owner):
                            self._begin(store_file)
            except StoreError as error:
                logger.error("the files to index could not be read, next try in %g s: %s", _RETRY_S, error)
                await asyncio.sleep(_RETRY_S)
                continue
            await self._wake.wait()

    async def _waiting(self) -> Sequence[Row]:
        """Return vector store files in progress that have not been started, of owners who can start more."""
        busy = [store_file for store_file, _ in self._busy.values()]
        full = {store_file.owner for store_file in busy if not self._slots.is_free(store_file.owner)}
        return await self._file_queries.waiting(_WAITING, besides=busy, full=full)

    def _begin(self, store_file: Row) -> None:
        index = partial(self._index, store_file)
        task = self._tasks.create_task(log_errors(f"indexing {store_file.id}", index, pause_s=_RETRY_S))
        self._busy[store_file.id] = (store_file, task)
        self._slots.acquire_nowait(store_file.owner)

        def done(_: asyncio.Task[None]) -> None:
            del self._busy[store_file.id]
            self._slots.release(store_file.owner)
            self._wake.set()

        task.add_done_callback(done)

    async def _index(self, store_file: Row) -> None:
        """Index one vector store file, and store the result. The outermost frame of a file: errors affect no other."""
        begun_at = time.monotonic()
        set_current_owner(store_file.owner)
        if not await self._claim(store_file):
            return
        try:
            result = await self._indexer.index(store_file)
        except (MissingRow, StatusConflict):
            result = None
        except UnreadableFile as error:
            result = failed_result(error.code, error.message)
        except StoreFailed as error:
            logger.error("file %s waits, as the store failed: %s", store_file.file_id, error)
            await asyncio.sleep(_RETRY_S)
            return
        except ThreadholdError as error:
            result = failed_result("server_error", error.message)
        except Exception:
            logger.exception("indexing %s failed unexpectedly", store_file.id)
            result = failed_result("server_error", _FAILED)
        if result is None or result["status"] != "completed":
            self._purge_needed.set()  # parts of it can be in the index
        self.indexed["gone" if result is None else result["status"],] += 1
        self.seconds.add(time.monotonic() - begun_at)
        try:
            await self._store_result(store_file, result)
        except StoreError as error:  # still in progress, or deleted but still in the index: the next start corrects it
            logger.error("the end of indexing %s could not be stored: %s", store_file.id, error)
            await asyncio.sleep(_RETRY_S)
        self._notify()

    async def _claim(self, store_file: Row) -> bool:
        """Make this process the holder of a vector store file; False if it cannot be."""
        try:
            await self._store.commit([Hold("vector_store_file", store_file.id, store_file.owner, _OPEN)], durable=False)
        except (MissingRow, StatusConflict, HeldByOther):
            return False
        except StoreError as error:
            logger.error("file %s waits, as the store failed: %s", store_file.file_id, error)
            await asyncio.sleep(_RETRY_S)
            return False
        return True

    async def _store_result(self, store_file: Row, result: StoreFileResult | None) -> None:
        """Store the result for a vector store file; `result` is None if the file is gone. Raises StoreError."""
        if result is not None:
            required = RequireHeld("vector_store_file", store_file.id, store_file.owner)
            change = Patch("vector_store_file", store_file.id, store_file.owner, result, only_if=_OPEN)
            with suppress(MissingRow, StatusConflict):
                with suppress(HeldByOther):  # it was added again meanwhile, and its earlier index entry is hidden
                    await self._store.commit([required, change, Notify("files")], durable=True)
                return
        # Deleted or cancelled while it was indexed: chunks can have been added after the index entry was removed.
        await self._vectors.remove(store_file.owner, str(store_file.vector_store_id), store_file.file_id)
        self._purge_needed.set()

    # --- expiry -------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Forever: delete expired files, and expire vector stores that are due."""
        while True:
            more = False
            try:
                if await self._leadership.is_leader("expiry"):
                    more = await self._expire_due(int(self._clock()))
            except StoreError as error:
                logger.error("expired files could not be removed, next try in %g s: %s", self._sweep_s, error)
            await asyncio.sleep(_MORE_S if more else self._sweep_s)

    async def _expire_due(self, now: int) -> bool:
        """Remove or expire a part of the files and vector stores that are due; return whether more can be due."""
        files = await self._file_queries.due("file", now)
        for file in files:
            with suppress(MissingRow):
                await self.delete_file(file.owner, file.id)
        stores = await self._file_queries.due("vector_store", now)
        for store in stores:
            await self._expire(store)
        return max(len(files), len(stores)) == DUE_AT_ONCE

    async def _expire(self, store: Row) -> None:
        """Remove a vector store from the index. The list of its files is kept, so they can be added to a new one."""
        with suppress(MissingRow):
            await self._store.commit(
                [Patch("vector_store", store.id, store.owner, {"status": "expired"})], durable=True
            )
            await self._stop(lambda id: id.startswith(f"{store.id}/"))
            await self._vectors.remove(store.owner, store.id)
            self._purge_needed.set()

    async def _purge(self) -> None:
        """Forever: free the space of removed files."""
        while True:
            await self._purge_needed.wait()
            self._purge_needed.clear()
            try:
                await self._store.purge()  # files leave the index with their store_files
                self.wake()  # those of deleted vector stores can have hidden others that wait
                await self._vectors.purge()
            except Exception as error:  # the work is retried after every error
                again, is_defect = self._sweep_s, not isinstance(error, StoreError)
                logger.error("the index could not be purged, next try in %g s: %s", again, error, exc_info=is_defect)
                self._purge_needed.set()
                await asyncio.sleep(self._sweep_s)
