"""The parts of deleted objects are hidden by the deleting commit, and removed in short commits, even after a
crash."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from store.ports import Append, Chunk, Delete, Insert, PageQuery, Patch, Query, RequireNoActiveRun, RequireRow
from store.sqlite.database import Engine
from store.sqlite.deferred_deletes import DeferredDeletes
from store.sqlite.store import SqliteStore, open_store
from tests.store.rows import event, file, file_batch, message, put, run, step, store_file, thread, vector_store
from wire.errors import MissingRow, StoreError
from wire.status import ACTIVE

TABLES = ("remains", "messages", "runs", "steps", "events", "vector_store_files", "file_batches")


async def left(store: SqliteStore) -> int:
    """Count the rows of objects that can be parts, and of the table `remains`."""
    counts = " + ".join(f"(SELECT count(*) FROM {name})" for name in TABLES)
    found: int = await store.engine.read(lambda connection: connection.execute(f"SELECT {counts}").fetchone()[0])
    return found


async def stop_removing(store: SqliteStore) -> None:
    """Keep the background task from removing anything."""
    await store.deferred_deletes._removing.acquire()


async def test_a_deletion_hides_all_parts_before_they_are_removed() -> None:
    store = await open_store()
    await stop_removing(store)
    of = thread()
    posted, r = message(of), run(of)
    s = step(r)
    await put(store, of, posted, r, s)
    await store.commit([Append(r.id, [event(0)])], durable=False)
    await store.commit([Delete("thread", of.id, "ann")], durable=False)
    for row in (posted, r, s):
        assert await store.get(row.kind, row.id, "ann") is None
        assert (await store.page(row.kind, "ann", PageQuery(), thread_id=of.id)).rows == []
        for change in (Patch(row.kind, row.id, "ann", {"x": 1}), Delete(row.kind, row.id, "ann")):
            with pytest.raises(MissingRow):
                await store.commit([change], durable=False)
        with pytest.raises(MissingRow):
            await store.commit([RequireRow(row.kind, row.id, "ann")], durable=False)
    for refused in (Insert(message(of)), Insert(step(r)), Append(r.id, [event(1)]), RequireNoActiveRun(of.id, "ann")):
        with pytest.raises(MissingRow):
            await store.commit([refused], durable=False)
    assert await store.events(r.id, after=-1, limit=10) == []
    assert await store.active_run(of.id, "ann") is None
    assert await store.unfinished() == []
    assert (await store.run_start("ann", of.id, "asst_x", 10)).newest.rows == []
    assert await left(store) == 5
    store.deferred_deletes._removing.release()
    await store.purge()
    assert await left(store) == 0
    await store.close()


async def test_a_deleted_vector_store_is_not_searched_during_removal() -> None:
    store = await open_store()
    await stop_removing(store)
    gone, kept, f = vector_store(), vector_store(), file()
    batch = file_batch(gone)
    waiting = [store_file(gone, f, batch), store_file(kept, f)]
    await put(store, gone, kept, f, batch, *waiting)
    for vs in (gone, kept):
        await store.vectors.add("ann", vs.id, f.id, [Chunk(0, "ferry", 0, 5)], model=None)
    await store.commit([Delete("vector_store", gone.id, "ann")], durable=False)
    found = await store.vectors.search("ann", [gone.id, kept.id], Query("ferry"))
    assert [hit.vector_store_id for hit in found.hits] == [kept.id]
    assert await store.vectors.chunks("ann", gone.id, f.id) == []
    assert [row.id for row in await store.file_queries.waiting(10)] == [waiting[1].id]
    assert [row.id for row in await store.file_queries.store_files_of(f.id)] == [waiting[1].id]
    assert await store.get("file_batch", batch.id, "ann") is None
    with pytest.raises(MissingRow):
        await store.vectors.add("ann", gone.id, f.id, [Chunk(0, "again", 0, 5)], model=None)
    store.deferred_deletes._removing.release()
    await store.purge()
    await store.vectors.purge()
    sql = "SELECT (SELECT count(*) FROM index_stores), (SELECT count(*) FROM index_chunks)"
    assert await store.engine.read(lambda connection: connection.execute(sql).fetchone()) == (1, 1)
    assert await left(store) == 1
    await store.close()


async def test_others_write_while_a_large_thread_is_removed() -> None:
    seen: list[str] = []
    store = await open_store(trace=seen.append)
    of = thread()
    await put(store, of)
    for _ in range(40):
        await put(store, *(message(of) for _ in range(500)))
    await store.commit([Delete("thread", of.id, "ann")], durable=True)
    seen.clear()
    await store.commit([Insert(thread("bob"))], durable=True)
    await store.purge()
    steps = [sql.split("(")[0].split("WHERE")[0].strip() for sql in seen]
    removed = [index for index, sql in enumerate(steps) if sql == "DELETE FROM messages"]
    assert steps.index("INSERT INTO threads") < removed[-1]  # in a single commit, all would already be removed
    assert steps[: removed[-1]].count("COMMIT") >= 3
    await store.close()


async def test_each_of_many_deleted_objects_takes_its_turn() -> None:
    store = await open_store()
    await stop_removing(store)
    large, small = thread(), thread()
    await put(store, large, small, message(small))
    for _ in range(20):
        await put(store, *(message(large) for _ in range(500)))
    for of in (large, small):
        await store.commit([Delete("thread", of.id, "ann")], durable=False)
    store.deferred_deletes._removing.release()
    sql = "SELECT count(*) FROM messages WHERE thread_id = ?"
    while await store.engine.read(lambda connection: connection.execute(sql, (small.id,)).fetchone()[0]):
        await asyncio.sleep(0)
    assert await left(store) > 1000
    await store.close()


async def test_the_next_start_removes_remains(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    await stop_removing(store)
    of = thread()
    r = run(of, sorted(ACTIVE)[0])
    await put(store, of, r, *(message(of) for _ in range(100)))
    await store.commit([Delete("thread", of.id, "ann")], durable=True)
    await store.close()
    store = await open_store(tmp_path / "t.db")
    assert await store.unfinished() == []
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while await left(store):
                await asyncio.sleep(0.01)
    assert await left(store) == 0
    await store.close()


async def test_an_id_can_be_reused_once_its_thread_is_removed() -> None:
    store = await open_store()
    of = thread()
    old, new = message(of), message(of)
    await put(store, of, old)
    await store.commit([Delete("thread", of.id, "ann")], durable=False)
    await store.purge()
    await put(store, of, new)
    assert [row.id for row in (await store.page("message", "ann", PageQuery(), thread_id=of.id)).rows] == [new.id]
    await store.close()


class Defective:
    """An engine whose first read has a defect."""

    def __init__(self, engine: Engine) -> None:
        self.pending, self.queue, self._engine, self._reads = engine.pending, engine.queue, engine, 0

    async def read(self, *call: Any) -> Any:
        self._reads += 1
        if self._reads == 1:
            raise KeyError("a defect")
        return await self._engine.read(*call)


async def test_the_removal_continues_after_an_unexpected_error(caplog: pytest.LogCaptureFixture) -> None:
    store = await open_store()
    store.deferred_deletes = DeferredDeletes(cast("Engine", Defective(store.engine)), retry_s=0.05)
    of = thread()
    await put(store, of, message(of))
    await store.commit([Delete("thread", of.id, "ann")], durable=False)
    async with asyncio.timeout(10):
        while await left(store):
            await asyncio.sleep(0.01)
    assert "failed unexpectedly" in caplog.text
    await store.close()


async def test_a_closed_store_starts_no_removal() -> None:
    store = await open_store()
    await store.close()
    with pytest.raises(StoreError):
        await store.commit([Delete("thread", "thread_x", "ann")], durable=False)
    assert asyncio.all_tasks() == {asyncio.current_task()}
