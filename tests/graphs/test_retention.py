"""Old threads are deleted, a few at a time; threads that are used, wait, or only seem old are kept."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from graphs.retention import DAY_S, Retention, prune
from store.ports import Insert, PageQuery, Row, ThreadActivity, ThreadActivityQueries
from store.sqlite.store import SqliteStore, open_store
from store.sqlite.thread_activity import SqliteThreadActivity
from wire.messages import MessageCreate, new_message
from wire.threads import ThreadCreate, new_thread

NOW = 1_800_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "x.db")
    try:
        yield opened
    finally:
        await opened.close()


def thread(name: str, days: float, *, owner: str = "default") -> Row:
    """Return a thread that was created this many days ago."""
    id = f"thread_{name}"
    return Row("thread", id, owner, new_thread(ThreadCreate(), id=id, now=int(NOW - days * DAY_S)))


def message(name: str, days: float, *, owner: str = "default") -> Row:
    request = MessageCreate(role="user", content="x")
    id = f"msg_{name}{days}"
    body = new_message(request, id=id, thread_id=f"thread_{name}", now=int(NOW - days * DAY_S))
    return Row("message", id, owner, body, f"thread_{name}")


def run(name: str, days: float, status: str) -> Row:
    body = {"id": f"run_{name}", "created_at": int(NOW - days * DAY_S), "status": status, "expires_at": None}
    return Row("run", f"run_{name}", "default", body, f"thread_{name}")


async def put(store: SqliteStore, *rows: Row) -> None:
    await store.commit([Insert(row) for row in rows], durable=True)


async def left(store: SqliteStore, owner: str = "default") -> list[str]:
    page = await store.page("thread", owner, PageQuery(limit=100, order="asc"))
    return [row.id.removeprefix("thread_") for row in page.rows]


async def pruned(store: SqliteStore, days: float = 30) -> tuple[int, int]:
    done = await prune(store, SqliteThreadActivity(store.engine), before=int(NOW - days * DAY_S), pause_s=0)
    return done.threads, done.kept


async def test_an_unused_thread_is_deleted_with_its_contents(store: SqliteStore) -> None:
    await put(store, thread("old", 40), message("old", 39), run("old", 39, "completed"), thread("new", 3))
    assert await pruned(store) == (1, 0)
    assert await left(store) == ["new"]
    assert await store.get("message", "msg_old39", "default") is None
    assert await store.get("run", "run_old", "default") is None


async def test_a_thread_is_as_old_as_its_newest_message_or_run(store: SqliteStore) -> None:
    await put(store, thread("with_message", 400), message("with_message", 399), message("with_message", 2))
    await put(store, thread("with_run", 400), message("with_run", 399), run("with_run", 2, "failed"))
    await put(store, thread("empty", 400))
    assert await pruned(store) == (1, 0)
    assert await left(store) == ["with_message", "with_run"]


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling"])
async def test_a_waiting_run_keeps_its_thread_however_old(store: SqliteStore, status: str) -> None:
    await put(store, thread("waits", 400), message("waits", 399), run("waits", 399, status))
    assert await pruned(store) == (0, 1)
    assert await left(store) == ["waits"]


async def test_every_owner_s_old_threads_are_deleted(store: SqliteStore) -> None:
    await put(store, thread("a", 40, owner="ann"), thread("b", 40, owner="bob"), thread("c", 1, owner="bob"))
    assert await pruned(store) == (2, 0)
    assert (await left(store, "ann"), await left(store, "bob")) == ([], ["c"])


async def test_a_thread_used_before_its_deletion_stays(store: SqliteStore) -> None:
    class Slow(SqliteThreadActivity):
        async def threads(self, *, after: int, limit: int) -> list[ThreadActivity]:
            found = await super().threads(after=after, limit=limit)
            if found:
                await put(store, message("old", 0))
            return found

    await put(store, thread("old", 400), message("old", 399))
    thread_activity: ThreadActivityQueries = Slow(store.engine)
    done = await prune(store, thread_activity, before=NOW - 30 * DAY_S)
    assert (done.threads, done.kept) == (0, 1)
    assert await left(store) == ["old"]


async def test_pages_of_any_number_are_processed_while_others_write(store: SqliteStore) -> None:
    for start in range(0, 1000, 100):
        await put(store, *(thread(str(n), 400 if n % 2 else 1) for n in range(start, start + 100)))
    task = asyncio.create_task(pruned(store))
    longest, count = 0.0, 0
    while not task.done():
        started = time.monotonic()
        await put(store, thread(f"meanwhile{count}", 0))
        longest, count = max(longest, time.monotonic() - started), count + 1
    assert await task == (500, 0)
    assert count > 10
    assert longest < 2


async def test_threads_are_pruned_after_the_start_and_repeatedly(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await put(store, thread("first", 40))
    async with Retention(
        store, SqliteThreadActivity(store.engine), days=30, first_s=0, every_s=0.05, clock=lambda: NOW
    ):
        await until_left(store, [])
        await asyncio.sleep(0.2)  # the first pass is over
        await put(store, thread("second", 40), thread("new", 1))
        await until_left(store, ["new"])
    assert "deleted 1 threads not used for 30 days" in caplog.text


async def until_left(store: SqliteStore, wanted: list[str]) -> None:
    async with asyncio.timeout(10):
        while await left(store) != wanted:
            await asyncio.sleep(0.01)


async def test_without_a_limit_nothing_is_deleted(store: SqliteStore) -> None:
    await put(store, thread("old", 4000))
    async with Retention(store, SqliteThreadActivity(store.engine), days=0, first_s=0, every_s=0.01):
        await asyncio.sleep(0.1)
    assert await left(store) == ["old"]


async def test_a_clock_that_jumps_ahead_deletes_nothing_at_first(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    await put(store, thread("young", 1))
    times: list[Any] = [NOW]
    thread_activity = SqliteThreadActivity(store.engine)
    async with Retention(store, thread_activity, days=30, first_s=0.05, every_s=0.3, clock=lambda: times[-1]):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        times.append(NOW + 365 * DAY_S)
        await asyncio.sleep(0.2)
        assert await left(store) == ["young"]
        assert "jumped ahead by 8760.0 hours" in caplog.text
        await until_left(store, [])


async def test_a_failed_deletion_is_repeated(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    async with Retention(store, SqliteThreadActivity(store.engine), days=30, first_s=0, every_s=0.02):
        await store.close()
        await asyncio.sleep(0.1)
    assert caplog.text.count("could not be deleted, next try in 0.02 s") >= 2
