"""Ingestion with a real store, real files and real readers; only the embedder is scripted."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chains.embeddings import Embedder
from documents.extraction import Extractor
from retrieval.attachments import Attachments
from retrieval.indexing import Limits
from retrieval.ingestion import Ingestion
from retrieval.vector_store_drafts import draft_store
from store.blobs import FolderBlobs
from store.ports import Delete, Insert, Query, Row, store_file_id
from store.sqlite import files as store_files
from store.sqlite.store import SqliteStore, open_store
from tests.graphs.harness import Clock
from wire.errors import EmbeddingFailed, MissingRow
from wire.files import FileCreate, new_file
from wire.ids import new_id
from wire.threads import ThreadCreate, new_thread
from wire.vector_stores import VectorStoreCreate

OWNER = "ann"
DAY_S = 86_400


@dataclass
class Scripted:
    """An embedder that runs `step` before it answers."""

    step: Callable[[Sequence[str]], Awaitable[None]] | None = None
    asked: list[str] = field(default_factory=list)
    name: str = "scripted"
    dimensions: int | None = 2

    async def embed(self, texts: Sequence[str], **_: object) -> list[list[float]]:
        self.asked += texts
        if self.step is not None:
            await self.step(texts)
        return [[1.0, 0.0] for _ in texts]

    def weight(self, _query: str, /) -> float | None:
        return None


@dataclass
class Harness:
    store: SqliteStore
    blobs: FolderBlobs
    ingestion: Ingestion
    clock: Clock

    async def file(self, content: str | bytes = "Cats purr.", name: str = "a.txt", **fields: Any) -> str:
        id = new_id("file")
        async with self.blobs.create(10**9, "") as writer:
            await writer.write(content.encode() if isinstance(content, str) else content)
            size = await writer.commit(id)
        request = FileCreate.model_validate({"purpose": "assistants", **fields})
        body = new_file(request, id=id, filename=name, size=size.bytes, now=int(self.clock()))
        await self.store.commit([Insert(Row("file", id, OWNER, body))], durable=True)
        return id

    async def vector_store(self, *file_ids: str, **fields: Any) -> str:
        request = VectorStoreCreate.model_validate({"file_ids": list(file_ids), **fields})
        store, places = draft_store(OWNER, request, now=int(self.clock()))
        await self.ingestion.add(OWNER, places, Insert(store))
        return store.id

    async def store_file(self, vector_store_id: str, file_id: str) -> dict[str, Any]:
        row = await self.store.get("vector_store_file", store_file_id(vector_store_id, file_id), OWNER)
        return {} if row is None else row.body

    async def found(self, vector_store_id: str, text: str = "cats") -> set[str]:
        found = await self.store.vectors.search(OWNER, [vector_store_id], Query(text))
        return {hit.file_id for hit in found.hits}


@asynccontextmanager
async def harness(
    folder: Path, embedder: Embedder | None = None, clock: Clock | None = None, **options: Any
) -> AsyncIterator[Harness]:
    clock = clock or Clock()
    store = await open_store(folder / "t.db")
    blobs = FolderBlobs(folder / "files")
    await blobs.open()
    ingestion = Ingestion(
        store, store.file_queries, blobs, store.vectors, embedder, Extractor(), clock=clock, **options
    )
    try:
        async with ingestion:
            yield Harness(store, blobs, ingestion, clock)
    finally:
        await store.close()


async def until(happens: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(10):
        while not await happens():
            await asyncio.sleep(0.01)


async def test_interrupted_files_are_indexed_after_the_next_start(tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async def hang(_: Sequence[str]) -> None:
        stuck.set()
        await asyncio.sleep(60)

    async with harness(tmp_path, Scripted(hang)) as w:
        files = [await w.file(f"Cat {number}.") for number in range(3)]
        store = await w.vector_store(*files)
        await stuck.wait()
    async with harness(tmp_path, Scripted()) as w:
        assert await w.ingestion.wait_until_indexed([store], 10)
        assert [(await w.store_file(store, file))["status"] for file in files] == ["completed"] * 3
        assert await w.found(store, "cat") == set(files)


async def test_a_failing_embedder_fails_its_file_only(tmp_path: Path) -> None:
    async def fail(texts: Sequence[str]) -> None:
        if any("bad" in text for text in texts):
            raise EmbeddingFailed("The model is down.")
        if any("worse" in text for text in texts):
            raise ZeroDivisionError

    async with harness(tmp_path, Scripted(fail)) as w:
        files = [await w.file(content) for content in ("a bad cat", "a good cat", "a worse cat")]
        store = await w.vector_store(*files)
        assert await w.ingestion.wait_until_indexed([store], 10)
        bodies = [await w.store_file(store, file) for file in files]
        assert [body["status"] for body in bodies] == ["failed", "completed", "failed"]
        assert bodies[0]["last_error"] == {"code": "server_error", "message": "The model is down."}
        assert bodies[2]["last_error"]["code"] == "server_error"
        assert await w.found(store, "cat") == {files[1]}


@pytest.mark.parametrize(
    ("content", "details"),
    [
        ("Die Katze schläft.".encode(), None),
        ("Die Katze schläft.".encode("cp1252"), "read as windows-1252"),
        ("Die Katze schläft, träumt. ".encode() * 9 + b"\xfc", "1 byte is not valid"),
        ("Die Katze \ufffd.".encode(), "U+FFFD"),
    ],
    ids=["certain", "guessed", "repaired", "replaced"],
)
async def test_guessed_encodings_are_in_the_status_details(tmp_path: Path, content: bytes, details: str | None) -> None:
    async with harness(tmp_path) as w:
        file = await w.file(content)
        vector_store = await w.vector_store(file)
        assert await w.ingestion.wait_until_indexed([vector_store], 10)
        store_file = await w.store_file(vector_store, file)
        assert (store_file["status"], store_file["last_error"]) == ("completed", None)
        row = await w.store.get("file", file, OWNER)
        assert row is not None
        status_details = row.body["status_details"]
        assert status_details is None if details is None else details in status_details
        assert row.body["status"] == "processed"


async def test_a_file_is_read_once_for_all_stores(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        file = await w.file("Cats purr.")
        assert await w.ingestion.wait_until_indexed([await w.vector_store(file)], 10)
        async with w.blobs.local_file(file) as path:
            await asyncio.to_thread(path.write_bytes, b"")  # reading it again would fail
        second = await w.vector_store(file)
        assert await w.ingestion.wait_until_indexed([second], 10)
        assert (await w.store_file(second, file))["status"] == "completed"


@pytest.mark.parametrize("what", ["file", "store_file", "store", "row"])
async def test_objects_deleted_during_embedding_leave_nothing(tmp_path: Path, what: str) -> None:
    embedding, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Sequence[str]) -> None:
        embedding.set()
        await go_on.wait()

    async with harness(tmp_path, Scripted(wait)) as w:
        file = await w.file()
        store = await w.vector_store(file)
        await embedding.wait()
        match what:
            case "file":
                await w.ingestion.delete_file(OWNER, file)
            case "store_file":
                await w.ingestion.delete_store_file(OWNER, store, file)
            case "store":
                await w.ingestion.delete_store(OWNER, store)
            case _:  # without notice to the ingestion, which detects it at its end
                await w.store.commit([Delete("vector_store_file", store_file_id(store, file), OWNER)], durable=True)
        go_on.set()
        assert await w.ingestion.wait_until_indexed([store], 10)
        other = await w.vector_store(await w.file("Cats sleep."))
        assert await w.ingestion.wait_until_indexed([other], 10)
        assert await w.found(store) == set()
        assert await w.store_file(store, file) == {}


@pytest.mark.parametrize("how", ["cancel", "put again"])
async def test_indexing_of_deleted_or_cancelled_files_stops_immediately(tmp_path: Path, how: str) -> None:
    stuck, stopped = asyncio.Event(), asyncio.Event()

    async def hang(_: Sequence[str]) -> None:
        if stuck.is_set():
            return
        stuck.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with harness(tmp_path, Scripted(hang), parallel=1) as w:
        file = await w.file()
        store = await w.vector_store(file)
        await stuck.wait()
        if how == "cancel":
            await w.ingestion.cancel(OWNER, store, None)
        else:
            store_file = await w.store.get("vector_store_file", store_file_id(store, file), OWNER)
            assert store_file is not None
            await w.ingestion.add(OWNER, [store_file])
        assert stopped.is_set()
        other = await w.vector_store(await w.file("Cats sleep."))
        assert await w.ingestion.wait_until_indexed([store, other], 10)
        assert (await w.store_file(store, file))["status"] == ("cancelled" if how == "cancel" else "completed")


@dataclass
class Long(Scripted):
    """Returns vectors of 2,000 numbers."""

    async def embed(self, texts: Sequence[str], **_: object) -> list[list[float]]:
        return [[1.0, *vector, *[0.5] * 1_997] for vector in await super().embed(texts)]


TEXT_OF_800_CHUNKS = " ".join(f"cat{number:05}" for number in range(18_000))
SMALL_CHUNKS = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50}}


async def test_indexing_uses_memory_for_one_block_of_vectors(tmp_path: Path) -> None:
    async with harness(tmp_path, Long()) as w:
        file = await w.file(TEXT_OF_800_CHUNKS)
        tracemalloc.start()
        store = await w.vector_store(file, chunking_strategy=SMALL_CHUNKS)
        assert await w.ingestion.wait_until_indexed([store], 60)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        body = await w.store_file(store, file)
        assert body["status"] == "completed"
        assert body["usage_bytes"] > 6_400_000  # of which the vectors
        assert peak < 5_000_000


async def rows_in_index(w: Harness) -> int:
    sql = "SELECT (SELECT count(*) FROM index_files) + (SELECT count(*) FROM index_chunks)"
    return int(await w.store.engine.read(lambda conn: conn.execute(sql).fetchone()[0]))


@pytest.mark.parametrize("how", ["fail", "stall", "cancel", "length", "delete"])
async def test_a_file_that_fails_half_way_leaves_no_index_rows(tmp_path: Path, how: str) -> None:
    half_way = asyncio.Event()

    async def stop(_: Sequence[str]) -> None:
        if len(embedder.asked) < 300:
            return
        half_way.set()
        match how:
            case "fail":
                raise EmbeddingFailed("The model is down.")
            case "length":
                embedder.dimensions = 3
            case _:
                await asyncio.sleep(60)

    @dataclass
    class Changing(Scripted):
        async def embed(self, texts: Sequence[str], **_: object) -> list[list[float]]:
            await super().embed(texts)
            return [[1.0] * (self.dimensions or 0) for _ in texts]

    embedder = Changing(stop)
    limits = Limits(stall_s=1.0 if how == "stall" else 60.0)
    async with harness(tmp_path, embedder, limits=limits) as w:
        file = await w.file(TEXT_OF_800_CHUNKS)
        store = await w.vector_store(file, chunking_strategy=SMALL_CHUNKS)
        await half_way.wait()
        assert await rows_in_index(w) > 200
        assert await w.found(store, "cat00001") == set()
        if how == "cancel":
            await w.ingestion.cancel(OWNER, store, None)
        if how == "delete":
            await w.ingestion.delete_store_file(OWNER, store, file)
        assert await w.ingestion.wait_until_indexed([store], 10)
        error = (await w.store_file(store, file)).get("last_error")
        message = "" if error is None else error["message"]
        expected = {"fail": "is down", "stall": "no progress for 1 seconds, with ", "length": "3 after 2 numbers"}
        assert expected.get(how, "") in message
        assert bool(message) == (how in expected)

        async def is_empty() -> bool:
            return await rows_in_index(w) == 0

        await until(is_empty)


async def test_files_of_a_deleted_store_do_not_hide_waiting_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_files, "_OLDEST", 3)
    stuck, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Sequence[str]) -> None:
        stuck.set()
        await go_on.wait()

    async with harness(tmp_path, Scripted(wait)) as w:
        files = [await w.file(f"Cat {number}.") for number in range(200)]
        deleted = await w.vector_store(*files)
        other = await w.vector_store(files[0])
        await stuck.wait()
        go_on.set()
        await w.ingestion.delete_store(OWNER, deleted)
        assert await w.ingestion.wait_until_indexed([other], 10)
        assert (await w.store_file(other, files[0]))["status"] == "completed"


async def test_ready_waits_up_to_its_timeout(tmp_path: Path) -> None:
    async def hang(_: Sequence[str]) -> None:
        await asyncio.sleep(60)

    async with harness(tmp_path, Scripted(hang), Clock(0)) as w:
        store = await w.vector_store(await w.file())
        assert await w.ingestion.wait_until_indexed([], 0)
        assert not await w.ingestion.wait_until_indexed([store], 0)


async def test_expired_files_and_stores_are_removed(tmp_path: Path) -> None:
    async with harness(tmp_path, sweep_s=0.02) as w:
        file = await w.file()
        short = await w.file(expires_after={"anchor": "created_at", "seconds": 3600})
        store = await w.vector_store(file, expires_after={"anchor": "last_active_at", "days": 2})
        lasting = await w.vector_store(file)
        assert await w.ingestion.wait_until_indexed([store, lasting], 10)
        w.clock.now += DAY_S

        async def gone() -> bool:
            return await w.store.get("file", short, OWNER) is None

        await until(gone)
        assert await w.blobs.size(short) is None
        assert await w.found(store) == {file}
        w.clock.now += DAY_S

        async def expired() -> bool:
            row = await w.store.get("vector_store", store, OWNER)
            return row is not None and row.body["status"] == "expired"

        await until(expired)

        async def forgotten() -> bool:
            return await w.found(store) == set()

        await until(forgotten)
        assert (await w.store_file(store, file))["status"] == "completed"  # still listed
        assert await w.found(lasting) == {file}


async def test_bytes_without_a_row_are_removed_at_the_start(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        file = await w.file()
        async with w.blobs.create(100, "") as writer:
            await writer.commit("file-orphan")
    async with harness(tmp_path) as w:
        assert await w.blobs.size("file-orphan") is None
        assert await w.blobs.size(file) is not None


async def test_two_concurrent_messages_make_one_store_for_their_thread(tmp_path: Path) -> None:
    async with harness(tmp_path) as w:
        attachments = Attachments(w.store, w.store.file_queries, wake=w.ingestion.wake, clock=w.clock)
        body = new_thread(ThreadCreate(), id=new_id("thread"), now=1)
        await w.store.commit([Insert(Row("thread", body["id"], OWNER, body))], durable=True)
        files = [await w.file(f"Cat {number}.") for number in range(4)]

        async def attach(file: str) -> None:
            content = {"attachments": [{"file_id": file, "tools": [{"type": "file_search"}]}], "content": []}
            row = Row("message", new_id("msg"), OWNER, content, body["id"])
            async with attachments.of_messages(OWNER, body["id"], [row]) as changes:
                await w.store.commit([*changes, Insert(row)], durable=True)

        await asyncio.gather(*map(attach, files))
        thread = await w.store.get("thread", body["id"], OWNER)
        assert thread is not None
        (store,) = thread.body["tool_resources"]["file_search"]["vector_store_ids"]
        assert await w.ingestion.wait_until_indexed([store], 10)
        assert await w.found(store, "cat") == set(files)


async def test_thousands_of_missing_files_are_handled_quickly(tmp_path: Path) -> None:
    ids = [f"file-{number}" for number in range(10_000)]
    async with harness(tmp_path) as w:
        attachments = Attachments(w.store, w.store.file_queries)
        since = time.process_time()
        with pytest.raises(MissingRow):
            await attachments.create_inline_stores(OWNER, {"file_search": {"vector_stores": [{"file_ids": ids}]}})
        assert time.process_time() - since < 0.1  # their rows alone take 0.2 s
