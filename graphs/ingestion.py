"""Files become searchable: every place of a file in a vector store is read, cut, embedded and indexed.

The laws: a place that is `in_progress` in the store is work to do, whoever left it so: a crash loses nothing but time.
Its status moves once, by compare-and-set, to `completed` or `failed`, and a file fails alone, saying why. What is
deleted or cancelled meanwhile stays so, and leaves nothing in the index.
"""

import asyncio
import logging
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from chains.embeddings import Embedder
from documents.extraction import Extractor
from documents.pieces import Piece, cut
from store.blobs import Blobs
from store.library import Library, place_id
from store.ports import Change, Chunk, Delete, Insert, PageQuery, Patch, Row, Store, Vectors
from store.room import Room
from watch.figures import Counts, Histogram
from wire.errors import Missing, StatusConflict, StoreError, StoreFailed, ThreadholdError, Unreadable

__all__ = ["Ingestion"]

logger = logging.getLogger("threadhold.ingestion")

_PARALLEL: Final = 2
_EMBED: Final = 64
"""Pieces embedded at a time, so that others come between."""
_PAGE: Final = 500
_MAX_TEXT_BYTES: Final = 128 * 1024 * 1024
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
        sweep_s: float = _SWEEP_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without an embedder files are found by their words only. `room` is that of the index's disk."""
        self._store = store
        self._library = library
        self._blobs = blobs
        self._vectors = vectors
        self._embedder = embedder
        self._extractor = extractor
        self._room = room
        self._parallel = parallel
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
        self._house: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        left = await self._blobs.sweep(self._library.unknown)
        if left:
            logger.info("removed %d blobs that a crash had left", left)
        await self._tasks.__aenter__()
        works = (self._work(), self._sweep(), self._tidy(), self._refresh())
        self._house = [self._tasks.create_task(work) for work in works]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (*self._house, *(task for _, task in self._busy.values())):
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
        """Commit `before`, then these places anew, each instead of one that is there; and index them.

        Raises Missing for a store or file that is not there, ReserveReached without room; nothing is kept then.
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
        id = place_id(vector_store_id, file_id)
        rows = await self._store.commit(
            [Patch("vector_store_file", id, owner, {"attributes": attributes})], durable=True
        )
        with suppress(Missing):  # not indexed yet; it will be with what its row says at its end
            await self._vectors.set_attributes(owner, vector_store_id, file_id, attributes)
        return rows[0]

    # --- what ends places ---------------------------------------------------------------------------------------------

    async def delete_file(self, owner: str, file_id: str) -> None:
        """Delete a file, its bytes and its places. Raises Missing."""
        await self._store.commit([Delete("file", file_id, owner)], durable=True)
        await self._gone(lambda id: id.endswith(f"/{file_id}"))
        await self._blobs.remove(file_id)

    async def delete_place(self, owner: str, vector_store_id: str, file_id: str) -> None:
        """Take a file out of a vector store. Raises Missing."""
        await self._store.commit([Delete("vector_store_file", place_id(vector_store_id, file_id), owner)], durable=True)
        await self._gone(lambda id: id == place_id(vector_store_id, file_id))

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
        """Forever: take the oldest places that are in progress, as many as may be under way; owners take turns."""
        while True:
            self._wake.clear()
            try:
                free = self._parallel - len(self._busy)
                busy = [place for place, _ in self._busy.values()]
                waiting = await self._library.waiting(free, besides=busy) if free > 0 else []
            except StoreError as error:
                logger.error("the files to index could not be read, next try in %g s: %s", _AGAIN_S, error)
                await asyncio.sleep(_AGAIN_S)
                continue
            for place in waiting:
                self._begin(place)
            await self._wake.wait()

    def _begin(self, place: Row) -> None:
        task = self._tasks.create_task(self._index(place))
        self._busy[place.id] = (place, task)

        def done(_: asyncio.Task[None]) -> None:
            del self._busy[place.id]
            self._wake.set()

        task.add_done_callback(done)

    async def _index(self, place: Row) -> None:
        """Index one place, and store how that ended. The outermost frame around a file: it breaks alone."""
        begun_at = time.monotonic()
        try:
            moved = await self._indexed(place)
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

    async def _indexed(self, place: Row) -> dict[str, Any]:
        """Read, cut, embed, index; returns what the place's body becomes."""
        file_id, store_id = str(place.file_id), str(place.vector_store_id)
        file = await self._store.get("file", file_id, place.owner)
        if file is None:
            raise Missing("file", file_id)
        text = await self._text(file)
        sizes = place.body["chunking_strategy"]["static"]
        pieces = await asyncio.to_thread(_cut, text, sizes)
        if not pieces:
            raise Unreadable("The file has no text; pictures of text are not read.", code="invalid_file")
        chunks = await self._chunks(pieces)
        model = None if self._embedder is None else self._embedder.name
        fresh = await self._store.get("vector_store_file", place.id, place.owner) or place
        attributes = fresh.body["attributes"]
        await self._vectors.add(place.owner, store_id, file_id, chunks, model=model, attributes=attributes)
        size = sum(len(chunk.text.encode()) + 4 * len(chunk.vector or ()) for chunk in chunks)
        return {"status": "completed", "usage_bytes": size, "last_error": None}

    async def _text(self, file: Row) -> str:
        """Return the text of a file; extracted once, however many stores it is in.

        What was guessed or replaced on the way, such as the encoding, becomes the file's `status_details`: its status
        in a vector store has no field for it, as `last_error` is null where a file is completed.
        """
        name = f"{file.id}.text"
        if await self._blobs.path(name) is not None:
            return b"".join([block async for block in self._blobs.read(name)]).decode()
        path = await self._blobs.path(file.id)
        if path is None:
            raise Unreadable("The file's bytes are not in this server's folder any more.", code="server_error")
        extracted = await self._extractor.read(path, file.body["filename"])
        if extracted.note is not None:
            logger.info("file %s: %s", file.id, extracted.note)
            change = Patch("file", file.id, file.owner, {"status_details": extracted.note}, if_there=True)
            await self._store.commit([change], durable=False)
        async with self._blobs.writing(_MAX_TEXT_BYTES, "The file's text is too long.") as writing:
            await writing.write(extracted.text.encode("utf-8", "replace"))
            await writing.keep(name)
        return extracted.text

    async def _chunks(self, pieces: Sequence[Piece]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for start in range(0, len(pieces), _EMBED):
            some = pieces[start : start + _EMBED]
            vectors: Sequence[Sequence[float] | None] = [None] * len(some)
            if self._embedder is not None:
                embedded = await self._embedder.embed([piece.text for piece in some])
                vectors = [array("f", vector) for vector in embedded]  # a tenth of what a list of floats takes
            chunks += [
                Chunk(start + place, piece.text, piece.start, piece.end, vector)
                for place, (piece, vector) in enumerate(zip(some, vectors, strict=True))
            ]
        return chunks

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


def _cut(text: str, sizes: dict[str, int]) -> list[Piece]:
    return list(cut(text, max_tokens=sizes["max_chunk_size_tokens"], overlap_tokens=sizes["chunk_overlap_tokens"]))


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "last_error": {"code": code, "message": message}}
