"""Where statements run: always in threads of the store, whatever happens to the file or the writer."""

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from store.ports import Append, Delete, Insert
from store.sqlite.store import open_store
from tests.store.rows import assistant, message, put, put_run, thread
from wire.errors import StoreFailed


def locking(path: Path) -> sqlite3.Connection:
    """Another program that has started to write."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def test_no_statement_runs_on_the_event_loop(tmp_path: Path) -> None:
    loop, threads = threading.get_ident(), set[int]()
    store = await open_store(tmp_path / "t.db", trace=lambda _: threads.add(threading.get_ident()))
    threads.clear()
    asked, row, large = assistant(), thread(), thread(pad="x" * 400_000)
    await put(store, asked, row, large, *(message(row, pad="x" * 100_000) for _ in range(5)))
    of, run = await put_run(store, "completed")
    await store.commit([Append(run.id, [])], durable=True)
    for each in (row, large, of):
        assert await store.get("thread", each.id, "ann") == each
    assert len((await store.run_start("ann", row.id, asked.id, 20)).newest.rows) == 5
    assert await store.active_run(row.id, "ann") is None
    await store.commit([Delete("thread", row.id, "ann")], durable=True)
    await store.close()
    assert len(threads) > 1
    assert loop not in threads


@pytest.mark.parametrize("kind", ["small", "deletions"])
async def test_queued_commits_are_synced_once(tmp_path: Path, kind: str) -> None:
    seen: list[str] = []
    store = await open_store(tmp_path / "t.db", trace=seen.append)
    seen.clear()
    rows = [thread() for _ in range(64)]
    asked = [store.commit([Insert(row)], durable=True) for row in rows]
    if kind == "deletions":
        await asyncio.gather(*asked)
        seen.clear()
        asked = [store.commit([Delete("thread", row.id, "ann")], durable=True) for row in rows]
    await asyncio.gather(*asked)
    assert seen.count("COMMIT") == 1
    await store.close()


async def test_a_lock_is_waited_for_again_after_a_timeout(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db", busy_timeout_s=1)
    for locked_s, kept in ((1.5, False), (0.6, True)):
        with closing(await asyncio.to_thread(locking, tmp_path / "t.db")) as foreign:
            asked = store.commit([Insert(thread())], durable=True)
            await asyncio.sleep(locked_s)
            await asyncio.to_thread(foreign.execute, "ROLLBACK")
        (outcome,) = await asyncio.gather(asked, return_exceptions=True)
        assert isinstance(outcome, list) is kept
        await put(store, thread())
    await store.close()


async def test_a_close_that_is_cancelled_still_closes(tmp_path: Path) -> None:
    for _ in range(10):
        store = await open_store(tmp_path / "t.db")
        closing_it = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing_it.cancel()
        await asyncio.gather(closing_it, return_exceptions=True)
        async with asyncio.timeout(5):
            while store.engine._writer._thread.is_alive() or not await is_free(tmp_path / "t.db"):
                await asyncio.sleep(0.01)


async def is_free(path: Path) -> bool:
    """Return whether the file can be opened; it is closed again."""
    try:
        await (await open_store(path)).close()
    except StoreFailed:
        return False
    return True


async def test_reading_row_after_row_lets_others_take_turns() -> None:
    store = await open_store()
    row = thread()
    await put(store, row)
    turns, reading = 0, True

    async def other() -> None:
        nonlocal turns
        while reading:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    for _ in range(2000):
        assert await store.get("thread", row.id, "ann") == row
    reading = False
    await beside
    assert turns > 5
    await store.close()


async def test_a_foreign_lock_delays_no_read(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db", busy_timeout_s=5)
    (of, _), (other, _) = await put_run(store, "completed"), await put_run(store, "completed")

    with closing(await asyncio.to_thread(locking, tmp_path / "t.db")) as foreign:
        row = message(of)
        asked = store.commit([Insert(row)], durable=True)
        longest, last = 0.0, time.perf_counter()
        for _ in range(60):
            await asyncio.sleep(0.005)
            assert await store.get("thread", other.id, "ann") == other
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        assert not asked.done()
        await asyncio.to_thread(foreign.execute, "ROLLBACK")
        await asked
    assert longest < 0.25, "SQLite's own wait for a lock is shorter than a second"
    assert await store.get("message", row.id, "ann") == row
    await store.close()


async def test_a_defect_in_the_writer_leaves_no_caller_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    broke: list[type] = []
    monkeypatch.setattr(threading, "excepthook", lambda response: broke.append(response.exc_type))
    store = await open_store()

    def broken(_: sqlite3.Connection) -> None:
        raise ValueError("a defect")

    row = thread()
    asked = [store.engine.queue([broken], touched=frozenset(), durable=True, size=1) for _ in range(20)]
    await asyncio.sleep(0)
    asked += [
        store.commit([Insert(row)], durable=True),
        *(store.commit([Insert(thread())], durable=True) for _ in "abc"),
    ]
    for result in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(result, StoreFailed)
    assert await store.get("thread", row.id, "ann") is None, "the refused row is visible"
    with pytest.raises(StoreFailed):
        await put(store, thread())
    await store.close()
    assert broke == [ValueError]
