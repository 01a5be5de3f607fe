"""The writer thread: which commits are grouped, refused alone, fail together, or are synced."""

import asyncio
import logging
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from store.ports import Append, Change, CheckpointKey, Delete, DropCheckpoints, Insert, PageQuery, Patch, Row
from store.sqlite.store import open_store
from telemetry.context import set_current_owner
from tests.store.rows import assistant, checkpoint, checkpoint_write, event, message, put, put_run, run, step, thread
from wire.errors import MissingRow, StoreError, StoreFailed, StoreLocked


@contextmanager
def file_size_limit(max_bytes: int) -> Iterator[None]:
    """Keep every file of this process from growing beyond the limit, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def transactions(statements: list[str]) -> list[str]:
    """Return the results of the batches, each with the sync level that was set at its start.

    Reads, from `BEGIN` to `ROLLBACK`, are not included.
    """
    level, reads, ended = "", 0, []
    for sql in statements:
        if sql.startswith("PRAGMA synchronous"):
            level = sql.split()[-1]
        elif sql == "BEGIN":
            reads += 1
        elif sql == "ROLLBACK" and reads:
            reads -= 1
        elif sql in ("COMMIT", "ROLLBACK"):
            ended.append(f"{sql} {level}")
    return ended


async def test_commits_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    seen: list[str] = []
    store = await open_store(tmp_path / "t.db", trace=seen.append)
    seen.clear()
    # Long enough for the writer to be busy while the others are queued.
    first = thread()
    slow = store.commit([Insert(first), *(Insert(message(first)) for _ in range(3000))], durable=True)
    while "BEGIN IMMEDIATE" not in seen:
        await asyncio.sleep(0)
    asked = [store.commit([Insert(thread())], durable=True) for _ in range(100)]
    await asyncio.gather(slow, *asked)
    assert transactions(seen) in (["COMMIT FULL"] * 2, ["COMMIT FULL"] * 3)  # a slow machine leaves some for later
    await store.close()


async def test_an_owner_s_changes_keep_their_order_whichever_task_makes_them(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    slow = thread("bob")
    busy = store.commit([Insert(slow), *(Insert(message(slow)) for _ in range(3000))], durable=True)

    def ask(asking: str, *changes: Change) -> "asyncio.Future[list[Row]]":
        set_current_owner(asking)
        return store.commit(changes, durable=True)

    first, own = run(of := thread("ann")), run(other := thread("bob"))
    # The end of bob's run starts ann's next one, which then writes as ann.
    asked = [ask("bob", Insert(other)), ask("bob", Insert(own)), ask("bob", Insert(of), Insert(first))]
    store.checkpoints.put(checkpoint(first.id, "1"))
    asked += [ask("ann", Insert(step(first))), ask("ann", DropCheckpoints(first.id)), ask("", Append(first.id, []))]
    await asyncio.gather(busy, *asked)
    assert await store.checkpoints.get(first.id, "", "1") is None
    await store.close()


async def test_one_owner_s_many_changes_do_not_delay_another_s(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    ended: list[str] = []

    def ask(owner: str, count: int) -> "list[asyncio.Future[list[Row]]]":
        set_current_owner(owner)
        asked = [store.commit([Insert(thread(owner, text="x" * 500_000))], durable=True) for _ in range(count)]
        for one in asked:
            one.add_done_callback(lambda _: ended.append(owner))
        return asked

    asked = [*ask("ann", 60), *ask("bob", 1), *ask("ann", 60)]
    await asyncio.gather(*asked)
    assert ended.index("bob") < 20
    await store.close()


LARGE = "x" * 3_000_000
LARGE_ROWS: dict[str, Callable[[], tuple[list[Row], Row]]] = {
    "assistant": lambda: ([], assistant("ann", instructions=LARGE)),
    "message": lambda: ([of := thread("ann")], message(of, text=LARGE)),
    "run": lambda: ([of := thread("ann")], run(of, tools=LARGE)),
    "step": lambda: ([of := thread("ann"), in_run := run(of)], step(in_run, text=LARGE)),
    "thread": lambda: ([], thread("ann", tool_resources=LARGE)),
}


EACH_ROW = [
    pytest.param(make, id=name, marks=() if name == "step" else pytest.mark.soak) for name, make in LARGE_ROWS.items()
]


@pytest.mark.parametrize("make", EACH_ROW)
async def test_small_changes_of_large_rows_delay_no_other_owner(
    tmp_path: Path, make: Callable[[], tuple[list[Row], Row]]
) -> None:
    store = await open_store(tmp_path / "t.db")
    above, large = make()
    await store.commit([Insert(row) for row in (*above, large)], durable=True)
    ended: list[str] = []

    def ask(owner: str, change: Insert | Patch) -> "asyncio.Future[list[Row]]":
        set_current_owner(owner)
        asked = store.commit([change], durable=False)
        asked.add_done_callback(lambda _: ended.append(owner))
        return asked

    asked = [ask("ann", Patch(large.kind, large.id, "ann", {"metadata": {"n": str(number)}})) for number in range(200)]
    while not ended:
        await asyncio.sleep(0)
    asked.append(ask("bob", Insert(thread("bob"))))
    await asyncio.gather(*asked)
    assert ended.index("bob") < 150  # two batches of 50 ms, in which a fast machine makes 60 changes
    found = await store.get(large.kind, large.id, "ann")
    assert found is not None
    assert found.body["metadata"] == {"n": "199"}
    await store.close()


async def test_changes_left_over_by_a_batch_come_before_new_ones(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    rows = [thread(f"ann{number}", text=LARGE) for number in range(6)]
    await store.commit([Insert(row) for row in rows], durable=True)
    ended: list[str] = []
    asked = []
    for owner, change in [
        *((row.owner, Patch("thread", row.id, row.owner, {"metadata": {}})) for _ in range(8) for row in rows),
        ("bob", Insert(thread("bob"))),
    ]:
        set_current_owner(owner)
        asked.append(store.commit([change], durable=False))
        asked[-1].add_done_callback(lambda _, owner=owner: ended.append(owner))
    await asyncio.gather(*asked)
    assert ended.index("bob") < 15
    await store.close()


@pytest.mark.soak
async def test_an_owner_whose_batch_was_cut_waits_for_others(tmp_path: Path) -> None:
    seen: list[str] = []
    store = await open_store(tmp_path / "t.db", trace=seen.append)
    row = thread("ann", text=LARGE * 10)
    await store.commit([Insert(row)], durable=True)
    served = asyncio.Event()

    def ask(owner: str, change: Insert | Patch) -> "asyncio.Future[list[Row]]":
        set_current_owner(owner)
        asked = store.commit([change], durable=False)
        asked.add_done_callback(lambda _: served.set())
        return asked

    asked = [ask("ann", Patch("thread", row.id, "ann", {"metadata": {}})) for _ in range(16)]
    await served.wait()
    before = seen.count("COMMIT")
    await ask("bob", Insert(thread("bob")))
    assert seen.count("COMMIT") - before <= 3  # the current one, bob's, and perhaps one that has started since
    await asyncio.gather(*asked)
    await store.close()


async def test_closing_keeps_changes_that_take_long(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    row = thread("ann", text=LARGE)
    await store.commit([Insert(row)], durable=True)
    set_current_owner("ann")
    changes = [
        store.commit([Patch("thread", row.id, "ann", {"metadata": {"n": str(number)}})], durable=False)
        for number in range(30)
    ]
    await asyncio.sleep(0.02)
    await store.close()
    await asyncio.gather(*changes)
    store = await open_store(tmp_path / "t.db")
    found = await store.get("thread", row.id, "ann")
    assert found is not None
    assert found.body["metadata"] == {"n": "29"}
    await store.close()


async def test_changes_of_an_owner_keep_their_order_among_others(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    rows = {owner: thread(owner) for owner in ("ann", "bob")}
    asked = []
    for number in range(400):
        for owner, row in rows.items():
            set_current_owner(owner)
            change = Patch("thread", row.id, owner, {"metadata": {"n": str(number)}}) if number else Insert(row)
            asked.append(store.commit([change], durable=False))
    await asyncio.gather(*asked)
    for owner, row in rows.items():
        found = await store.get("thread", row.id, owner)
        assert found is not None
        assert found.body["metadata"] == {"n": "399"}
    await store.close()


async def test_a_batch_is_synced_if_one_of_its_commits_is_durable(tmp_path: Path) -> None:
    seen: list[str] = []
    store = await open_store(tmp_path / "t.db", trace=seen.append)
    seen.clear()
    await store.commit([Insert(thread())], durable=False)
    await store.commit([Insert(thread())], durable=True)
    await store.commit([Insert(thread())], durable=False)
    assert transactions(seen) == ["COMMIT NORMAL", "COMMIT FULL", "COMMIT NORMAL"]
    await store.close()


async def test_a_refused_commit_leaves_the_others_of_its_batch() -> None:
    store = await open_store()
    threads = [thread() for _ in range(50)]
    asked = []
    for row in threads:
        asked.append(store.commit([Insert(row)], durable=True))
        asked.append(store.commit([Insert(thread("eve")), Delete("thread", "thread_none", "ann")], durable=True))
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [list, MissingRow] * 50
    page = await store.page("thread", "ann", PageQuery(limit=100, order="asc"))
    assert [row.id for row in page.rows] == [row.id for row in threads]
    assert (await store.page("thread", "eve", PageQuery())).rows == []
    await store.close()


async def test_non_json_is_refused_at_the_call_and_oversized_values_alone() -> None:
    store = await open_store()
    with pytest.raises(TypeError):
        store.commit([Insert(thread(metadata=object()))], durable=False)
    too_large = message(thread())
    _, run = await put_run(store)
    results = await asyncio.gather(
        store.commit([Patch("run", run.id, "ann", {"expires_at": 2**63})], durable=False),
        put(store, thread()),
        put(store, too_large),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [StoreFailed, list, MissingRow]
    await store.close()


async def test_a_full_disk_fails_the_batch_and_the_writer_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(tmp_path / "t.db")
    kept, small, large = thread(), thread(), thread(pad="x" * 10_000_000)
    await store.commit([Insert(kept)], durable=True)
    with file_size_limit(2_000_000), caplog.at_level(logging.ERROR):
        asked = [store.commit([Insert(row)], durable=True) for row in (large, small)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(results[0], StoreFailed)
        assert await store.get("thread", kept.id, "ann") == kept
        assert await store.get("thread", large.id, "ann") is None
    assert "failed" in caplog.text
    # The small one fails with the other if they are one batch, and stands if they are two; nothing in between.
    found = await store.get("thread", small.id, "ann")
    assert (found is None) is isinstance(results[1], StoreFailed)
    await put(store, large)
    await store.close()


async def test_a_commit_without_enough_memory_fails_alone(tmp_path: Path) -> None:
    def grow(_: sqlite3.Connection) -> NoReturn:
        raise MemoryError

    store = await open_store(tmp_path / "t.db")
    large = [store.engine.queue([grow], touched=frozenset()) for _ in range(2)]
    others = [store.commit([Insert(thread())], durable=True) for _ in range(3)]
    for one in large:
        with pytest.raises(StoreFailed, match="memory is full"):
            await one
    await asyncio.gather(*others)
    await store.commit([Insert(thread())], durable=True)
    await store.close()


async def test_a_locked_file_fails_the_batch_and_later_ones_succeed(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db", busy_timeout_s=0.05)
    row = thread()

    def foreign() -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "t.db", isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        return connection

    with closing(await asyncio.to_thread(foreign)) as connection:
        results = await asyncio.gather(put(store, row), put(store, thread()), return_exceptions=True)
        assert [type(result) for result in results] == [StoreLocked, StoreLocked]
        assert await store.get("thread", row.id, "ann") is None
        await asyncio.to_thread(connection.execute, "ROLLBACK")
    await put(store, row)
    await store.close()


async def test_a_progress_commit_that_fails_unawaited_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(tmp_path / "t.db")
    with file_size_limit(2_000_000), caplog.at_level(logging.ERROR):
        store.commit([Insert(thread(pad="x" * 10_000_000))], durable=False)
        await store.unfinished()
    assert [record.name for record in caplog.records] == ["threadhold.store"]
    await store.close()


async def test_a_reader_does_not_wait_for_other_threads_commits(tmp_path: Path) -> None:
    seen: list[str] = []
    store = await open_store(tmp_path / "t.db", trace=seen.append)
    of, run = await put_run(store)
    _, other_run = await put_run(store)
    log = [event(number, pad="x" * 200) for number in range(100_000)]
    slow = store.commit([Append(other_run.id, log)], durable=True)
    assert await store.get("run", run.id, "ann", thread_id=of.id) == run
    assert (await store.page("run", "ann", PageQuery(), thread_id=of.id)).rows == [run]
    assert await store.active_run(of.id, "ann") == run
    assert not slow.done()
    await store.events(other_run.id, after=-1, limit=1)
    assert slow.done()
    await store.close()


@pytest.mark.parametrize("way_out", ["end", "drop", "renew"])
async def test_a_run_whose_checkpoint_was_lost_is_not_acknowledged(tmp_path: Path, way_out: str) -> None:
    store = await open_store(tmp_path / "t.db")
    _, run = await put_run(store, "in_progress")
    pause = Patch("run", run.id, "ann", {"status": "requires_action"})
    with file_size_limit(2_000_000):
        store.checkpoints.put_writes(CheckpointKey(run.id, "", "1"), [checkpoint_write(b"x" * 10_000_000)])
        await store.unfinished()
    with pytest.raises(StoreError, match="checkpoint"):
        await store.commit([pause], durable=True)
    await store.commit([Append(run.id, [event(0)])], durable=False)
    if way_out == "end":
        await store.commit([Patch("run", run.id, "ann", {"status": "failed"})], durable=True)
    elif way_out == "drop":
        await store.commit([DropCheckpoints(run.id), pause], durable=True)
    else:
        store.checkpoints.put(checkpoint(run.id, "2"))
        await store.commit([pause], durable=True)
    await store.close()


async def test_owners_get_equal_shares_of_the_time(tmp_path: Path) -> None:
    """An owner with large commits does not get as many turns as one with small ones."""
    store = await open_store(tmp_path / "t.db")
    ended: list[str] = []

    def ask(owner: str, rows: int) -> "asyncio.Future[list[Row]]":
        set_current_owner(owner)
        asked = store.commit([Insert(thread(owner)) for _ in range(rows)], durable=False)
        asked.add_done_callback(lambda _: ended.append(owner))
        return asked

    asked = [ask("ann", 4_000) for _ in range(4)]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    bobs = [ask("bob", 100) for _ in range(12)]  # together shorter than one of ann's
    await asyncio.gather(*bobs)
    assert ended.count("ann") <= 3, "the first, the one that ran when bob's arrived, and one during bob's"
    await asyncio.gather(*asked)
    await store.close()
