"""The store's part of the event loop's time: quick calls there, everything else in the threads."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from store import SqliteStore, open_store, quickness
from store.ports import Delete, Insert
from store.quickness import Quickness
from tests.store.rows import assistant, message, put, put_run, thread
from wire.errors import StoreFailed

Where = dict[str, set[bool]]


def watched(where: Where) -> Callable[[str], None]:
    """Note by a statement's first word whether it ran on the loop."""
    loop = threading.get_ident()

    def trace(sql: str) -> None:
        where.setdefault(sql.split()[0], set()).add(threading.get_ident() == loop)

    return trace


def locking(path: Path) -> sqlite3.Connection:
    """Another program that has begun to write."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def opened(tmp_path: Path, where: Where) -> SqliteStore:
    store = await open_store(tmp_path / "t.db", trace=watched(where))
    await put(store, thread())  # the first finds nothing in memory
    await asyncio.sleep(0.01)
    where.clear()
    return store


async def test_small_changes_and_reads_run_on_the_loop_and_their_commit_in_the_thread(tmp_path: Path) -> None:
    where: Where = {}
    store = await opened(tmp_path, where)
    row = thread()
    await put(store, row)
    assert await store.get("thread", row.id, "ann") == row
    assert where["INSERT"] == where["SELECT"] == {True}
    assert where["COMMIT"] == {False}
    await store.close()


@pytest.mark.parametrize("what", ["many changes", "a large change", "a deletion", "a slow disk"])
async def test_what_may_take_long_is_the_threads(tmp_path: Path, what: str) -> None:
    where: Where = {}
    store = await opened(tmp_path, where)
    row = thread()
    if what == "a slow disk":
        store.engine._quickness.took(time.perf_counter() - 1)
    changes = {
        "many changes": [Insert(message(row)) for _ in range(50)],
        "a large change": [Insert(message(row, pad="x" * 200_000))],
    }.get(what, [])
    await store.commit([Insert(row), *changes], durable=True)
    if what == "a deletion":
        where.clear()
        await store.commit([Delete("thread", row.id, "ann")], durable=True)
        assert where["DELETE"] == {False}
    else:
        assert where["INSERT"] == {False}
    await store.close()


async def test_large_rows_are_read_in_a_thread(tmp_path: Path) -> None:
    where: Where = {}
    store = await opened(tmp_path, where)
    asked, row = assistant(), thread()
    written = [message(row, pad="x" * 100_000) for _ in range(5)]
    await put(store, asked, row, *written)
    await asyncio.sleep(0.01)
    where.clear()
    found = await store.beginning("ann", row.id, asked.id, 20)
    assert found.newest.rows == written[::-1]
    assert where["SELECT"] == {True, False}  # it was begun on the loop, and given up
    large = thread(pad="x" * 400_000)
    await put(store, large)
    where.clear()
    assert await store.get("thread", large.id, "ann") == large
    assert where["SELECT"] == {True, False}
    await store.close()


@pytest.mark.parametrize("kind", ["small", "deletions"])
async def test_what_waits_together_is_synced_once(tmp_path: Path, kind: str) -> None:
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


async def test_after_a_lock_that_outlasted_our_patience_the_next_is_waited_for_again(tmp_path: Path) -> None:
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


async def test_a_close_that_is_cancelled_at_once_closes_all_the_same(tmp_path: Path) -> None:
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
    """Whether the file can be opened; it is closed again."""
    try:
        await (await open_store(path)).close()
    except StoreFailed:
        return False
    return True


async def test_a_slow_call_sends_the_next_ones_to_the_threads_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickness, "_REST_S", 0.05)
    quick = Quickness(asyncio.get_running_loop())
    quick.took(time.perf_counter() - 0.02)
    await asyncio.sleep(0.01)
    assert not quick.allows()
    await asyncio.sleep(0.06)
    assert quick.allows()


async def test_of_a_turn_of_the_loop_the_store_takes_a_part() -> None:
    quick = Quickness(asyncio.get_running_loop())
    assert quick.allows()
    quick.took(time.perf_counter() - 0.003)
    assert not quick.allows()
    await asyncio.sleep(0)
    assert quick.allows()


async def test_who_reads_row_after_row_lets_others_have_their_turn() -> None:
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


async def test_a_foreign_lock_is_waited_for_beside_the_loop(tmp_path: Path) -> None:
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
    assert longest < 0.25, "SQLite's own wait for a lock is a second at the least"
    assert await store.get("message", row.id, "ann") == row
    await store.close()


@pytest.mark.timeout(10)
async def test_a_defect_on_the_loop_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    broke: list[type] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: broke.append(told.exc_type))
    store = await open_store()

    def broken(_: sqlite3.Connection) -> None:
        raise ValueError("a defect")

    row = thread()
    asked = [store.engine.queue([broken], touches=frozenset(), durable=True, size=1) for _ in range(20)]
    await asyncio.sleep(0)
    asked += [
        store.commit([Insert(row)], durable=True),
        *(store.commit([Insert(thread())], durable=True) for _ in "abc"),
    ]
    for result in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(result, StoreFailed)
    assert await store.get("thread", row.id, "ann") is None, "what was refused is not shown"
    with pytest.raises(StoreFailed):
        await put(store, thread())
    await store.close()
    assert broke == [ValueError]
