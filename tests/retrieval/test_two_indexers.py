"""Two processes that index files of one store: each file is indexed by one of them."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

from documents.extraction import Extractor
from retrieval.ingestion import Ingestion
from store.backend import open_backend
from store.blobs import FolderBlobs
from store.ports import Sharing
from store.sqlite.store import SqliteStore
from tests.graphs.harness import Clock
from tests.retrieval.test_ingestion import OWNER, Harness, Scripted, until


async def join(stack: AsyncExitStack, folder: Path, embedder: Scripted) -> Harness:
    """Open one more process on the store."""
    sharing = Sharing(lease_s=5, beat_s=0.1, poll_s=0.05)
    backend = await stack.enter_async_context(open_backend(folder / "t.db", sharing=sharing))
    store, blobs = backend.records, FolderBlobs(folder / "files")
    assert isinstance(store, SqliteStore)
    await blobs.open()
    ingestion = Ingestion(
        store, backend.file_queries, blobs, backend.vectors, embedder, Extractor(), processes=backend.processes
    )
    return Harness(store, blobs, await stack.enter_async_context(ingestion), Clock())


async def test_each_file_is_indexed_by_one_process(tmp_path: Path) -> None:
    embedders = Scripted(), Scripted()
    async with AsyncExitStack() as stack:
        a, b = [await join(stack, tmp_path, embedder) for embedder in embedders]
        files = [await a.file(f"Cat {number}.") for number in range(16)]
        store = await a.vector_store(*files)
        assert await b.ingestion.wait_until_indexed([store], 20)
        assert sorted(embedders[0].asked + embedders[1].asked) == sorted(f"Cat {number}." for number in range(16))
        assert await b.found(store, "cat") == set(files)
        await b.ingestion.delete_store_file(OWNER, store, files[0])
        assert await a.found(store, "cat") == set(files[1:])


async def test_a_dead_process_s_files_are_indexed_once_by_another(tmp_path: Path) -> None:
    stuck, resume = asyncio.Event(), asyncio.Event()

    async def hang(_: Sequence[str]) -> None:
        stuck.set()
        await resume.wait()

    def declare_oldest_dead() -> None:
        with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
            connection.execute("DELETE FROM processes WHERE id = (SELECT min(id) FROM processes)")

    async with AsyncExitStack() as stack:
        first, second = Scripted(hang), Scripted()
        a = await join(stack, tmp_path, first)
        file = await a.file("Cats purr.")
        store = await a.vector_store(file)
        await stuck.wait()
        b = await join(stack, tmp_path, second)
        await asyncio.sleep(0.3)
        assert second.asked == []  # a live process indexes it
        await asyncio.to_thread(declare_oldest_dead)
        assert await b.ingestion.wait_until_indexed([store], 10)
        resume.set()

        async def stopped() -> bool:
            return a.ingestion.files_in_progress == 0

        await until(stopped)
        assert (first.asked, second.asked) == (["Cats purr."], ["Cats purr."])
        assert (await b.store_file(store, file))["status"] == "completed"
        assert await b.found(store) == {file}
