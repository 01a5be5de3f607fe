"""Readers: many at the same time, and a failed read affects no other."""

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from store.ports import Delete, PageQuery, Row
from store.sqlite import readers
from store.sqlite.readers import Readers, check_time, untimed
from store.sqlite.store import open_store
from telemetry.context import set_current_owner
from tests.store.rows import put, thread
from wire.errors import InvalidRequest, StoreFailed


def broken(_: sqlite3.Connection) -> NoReturn:
    raise ValueError("a defect")


async def test_a_failed_read_affects_no_other_and_ends() -> None:
    store = await open_store()
    row = thread()
    await put(store, row)
    reads = [store.engine.read(broken) if number == 3 else store.get("thread", row.id, "ann") for number in range(20)]
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(result) for number, result in enumerate(results) if number == 3] == [ValueError]
    assert [result for number, result in enumerate(results) if number != 3] == [row] * 19
    with pytest.raises(UnicodeEncodeError):
        await store.get("thread", "thread_\ud800", "ann")
    await store.close()


def test_a_disk_error_is_reported_and_affects_no_later_read(tmp_path: Path) -> None:
    """SQLite ends the transaction of a read by itself if the disk fails."""
    path, sql = tmp_path / "db", "SELECT sum(length(a)) FROM t"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 10_000)
        connection.commit()
    reader = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    reader.execute("PRAGMA cache_size = 10")
    (used,) = [int(one) for one in os.listdir("/proc/self/fd") if _target(one) == str(path)]
    working, unreadable = os.dup(used), os.open(path, os.O_WRONLY)

    async def read() -> None:
        reading = Readers([reader])
        os.dup2(unreadable, used)
        for _ in range(2):
            with pytest.raises(StoreFailed, match="disk I/O error"):
                await reading.run(lambda conn: conn.execute(sql).fetchone())
        os.dup2(working, used)
        assert await reading.run(lambda conn: conn.execute(sql).fetchone()) == (10_000_000,)
        await asyncio.to_thread(reading.close, time.monotonic() + 5)

    asyncio.run(read())
    os.close(working)
    os.close(unreadable)


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


async def test_a_cancelled_reader_affects_no_other() -> None:
    store = await open_store()
    row = thread()
    await put(store, row)
    tasks = [asyncio.create_task(store.get("thread", row.id, "ann")) for _ in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1::2] == [row] * 15
    await store.close()


async def test_reads_during_closing_all_end() -> None:
    store = await open_store()
    row = thread()
    await put(store, row)
    tasks = [asyncio.create_task(store.get("thread", row.id, "ann")) for _ in range(30)]
    await store.close()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result == row or isinstance(result, StoreFailed)


async def test_long_reads_of_one_owner_delay_no_other_read() -> None:
    store, go = await open_store(), threading.Event()
    row = thread()
    await put(store, row)

    def wait(_: sqlite3.Connection) -> bool:
        return go.wait(10)

    long = [asyncio.ensure_future(store.engine.read_long("ann", wait)) for _ in range(20)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert (await store.page("thread", "bob", PageQuery())).rows == []
        assert await store.engine.read(lambda conn: conn.execute("SELECT 1").fetchone()) == (1,)
    go.set()
    assert all(await asyncio.gather(*long))
    await store.close()


async def test_short_reads_of_one_owner_delay_no_other_owner() -> None:
    store, go = await open_store(), threading.Event()
    started = 0

    def wait(_: sqlite3.Connection) -> bool:
        nonlocal started
        started += 1
        return go.wait(10)

    async def read(owner: str) -> bool:
        set_current_owner(owner)
        return await store.engine.read(wait)

    reads = [asyncio.create_task(read("ann")) for _ in range(50)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert await store.get("thread", "thread_none", "bob") is None
        assert (await store.page("thread", "bob", PageQuery())).rows == []
        assert await store.events("run_none", after=-1, limit=1) == []
    for task in reads[20:]:
        task.cancel()
    await asyncio.wait(reads[20:])
    go.set()
    assert all(await asyncio.gather(*reads[:20]))
    assert started == 20  # those that were cancelled before they started were not run
    await store.close()


@pytest.mark.parametrize("field", ["body", "private"])
async def test_a_large_row_is_read_only_when_it_is_its_turn(field: str) -> None:
    """At most two large reads of one owner run at a time, so waiting ones must not have read the row already."""
    store, go = await open_store(), threading.Event()
    row = Row("thread", "thread_1", "ann", {"id": "thread_1", "object": "thread", "created_at": 1}, private={})
    getattr(row, field)["x"] = "x" * 1_000_000
    await put(store, row)
    read_bytes = 0

    def read(conn: sqlite3.Connection, *, maximum: int | None = None) -> None:
        nonlocal read_bytes
        found = conn.execute("SELECT body, private FROM threads").fetchone()
        read_bytes += sum(map(len, found))
        if maximum is None:
            go.wait(10)

    reads = [asyncio.create_task(store.engine.read_rows("ann", read)) for _ in range(20)]
    await asyncio.sleep(0.2)
    assert 2_000_000 < read_bytes < 2_001_000
    go.set()
    await asyncio.gather(*reads)
    assert await store.get("thread", "thread_1", "ann") == row
    await store.close()


async def test_untimed_work_does_not_count_towards_the_limit_of_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LONG_S", 0.2)
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0"
    finite = endless.replace("FROM n)", "FROM n WHERE i < 2000000)")

    def loads(conn: sqlite3.Connection, then: str) -> None:
        with untimed():
            conn.execute(finite).fetchall()
            time.sleep(0.3)
        check_time()
        conn.execute(then).fetchall()

    store = await open_store()
    await store.engine.read_long("ann", loads, "SELECT 1")
    with pytest.raises(InvalidRequest, match="seconds of reading"):
        await store.engine.read_long("ann", loads, endless)
    with pytest.raises(InvalidRequest, match="seconds of reading"):
        await store.engine.read_long("ann", lambda conn: conn.execute(endless).fetchall())
    await store.close()


@pytest.mark.parametrize("is_long", [False, True])
async def test_all_statements_of_a_read_see_the_same_commits(is_long: bool) -> None:
    """A row that the first statement finds is still there for the second, whatever is committed between them."""
    store = await open_store()
    row = thread()
    await put(store, row)
    found, deleted = threading.Event(), threading.Event()

    def read(conn: sqlite3.Connection) -> list[int]:
        counts = []
        for _ in range(2):
            counts.append(conn.execute("SELECT count(*) FROM threads").fetchone()[0])
            found.set()
            assert deleted.wait(5)
        return counts

    engine = store.engine
    reading = asyncio.create_task(engine.read_long("ann", read) if is_long else engine.read(read))
    await asyncio.to_thread(found.wait, 5)
    await store.commit([Delete("thread", row.id, "ann")], durable=True)
    deleted.set()
    assert await reading == [1, 1]
    assert await engine.read(read) == [0, 0]
    await store.close()
