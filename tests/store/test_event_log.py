"""Blocks of events: reads return what was appended, whatever the blocks' boundaries."""

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from store.ports import Append, Retract, Store
from store.sqlite.event_log import read_events
from store.sqlite.store import open_store
from tests.store.rows import event, put_run
from wire.errors import StoreError
from wire.events import Event


async def numbers(store: Store, run_id: str, after: int = -1, limit: int = 10_000) -> list[int]:
    return [one.number for one in await store.events(run_id, after=after, limit=limit)]


@pytest.mark.parametrize("seed", range(5))
async def test_a_log_reads_the_same_however_it_was_split(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    names = ["thread.message.delta"] * 5 + ["thread.run.step.delta", "thread.message.completed"]
    _, r = await put_run(store)
    log: list[Event] = []
    number = 0
    for _ in range(40):
        together = []
        for _ in range(chance.choice((0, 1, 2, 30, 300))):
            number += chance.choice((1,) * 60 + (2, 4096))
            together.append(
                event(number, chance.choice(names), f"msg_{chance.randrange(3)}", text="ä\n" * (number % 3))
            )
        await store.commit([Append(r.id, together)], durable=False)
        log += together
    for _ in range(60):
        after, limit = chance.randrange(-2, number + 2), chance.choice((1, 7, 256, 10_000))
        assert await store.events(r.id, after=after, limit=limit) == [e for e in log if e.number > after][:limit]
    await store.commit([Retract(r.id, frozenset({"msg_1"}))], durable=False)
    left = [e for e in log if e.data()["id"] != "msg_1"]
    assert await store.events(r.id, after=-1, limit=100_000) == left
    await store.commit([Append(r.id, [event(number + 1)])], durable=False)
    assert (await numbers(store, r.id, limit=100_000))[-1] == number + 1


@pytest.mark.parametrize("taken", [[10], [14, 15], [7, 8, 9, 10], [19, 20]], ids=["first", "within", "starts", "last"])
async def test_no_number_of_a_block_is_reused(store: Store, taken: list[int]) -> None:
    _, r = await put_run(store)
    await store.commit([Append(r.id, [event(n) for n in range(10, 20)])], durable=False)
    with pytest.raises(StoreError, match="one of these numbers"):
        await store.commit([Append(r.id, [event(n) for n in taken])], durable=False)
    assert await numbers(store, r.id) == list(range(10, 20))


async def test_a_block_before_others_is_no_overlap(store: Store) -> None:
    _, r = await put_run(store)
    await store.commit([Append(r.id, [event(10), event(11)]), Append(r.id, [event(8), event(9)])], durable=False)
    assert await numbers(store, r.id) == [8, 9, 10, 11]


async def test_data_with_a_line_end_is_refused_before_it_is_stored(store: Store) -> None:
    _, r = await put_run(store)
    with pytest.raises(StoreError, match="line end"):
        await store.commit([Append(r.id, [Event(0, "thread.message.delta", b'{\n"id": "msg_1"}')])], durable=False)
    assert await numbers(store, r.id) == []


async def test_rows_without_blocks_are_returned_as_events(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    store = await open_store(path)
    _, r = await put_run(store)
    await store.close()
    await asyncio.to_thread(_insert_old, path, r.id, [event(n, id=f"msg_{n % 2}") for n in range(6)])
    store = await open_store(path)
    try:
        assert await numbers(store, r.id) == [0, 1, 2, 3, 4, 5]
        assert await numbers(store, r.id, after=2, limit=2) == [3, 4]
        with pytest.raises(StoreError):
            await store.commit([Append(r.id, [event(5), event(6)])], durable=False)
        await store.commit([Append(r.id, [event(6), event(7)]), Retract(r.id, frozenset({"msg_0"}))], durable=False)
        assert await numbers(store, r.id) == [1, 3, 5, 6, 7]
    finally:
        await store.close()


async def test_reading_the_end_of_a_long_log_reads_little(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    _, r = await put_run(store)
    for start in range(0, 20_000, 500):
        await store.commit([Append(r.id, [event(n) for n in range(start, start + 500)])], durable=False)
    await store.close()
    found, steps = await asyncio.to_thread(_read_counting, tmp_path / "t.db", r.id, 19_990)
    assert found == list(range(19_991, 20_000))
    assert steps < 20  # of ten instructions each


def _insert_old(path: Path, run_id: str, events: list[Event]) -> None:
    sql = "INSERT INTO events (run_id, number, owner, name, json) VALUES (?, ?, 'ann', ?, CAST(? AS TEXT))"
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany(sql, [(run_id, one.number, one.name, one.json) for one in events])


def _read_counting(path: Path, run_id: str, after: int) -> tuple[list[int], int]:
    steps: list[int] = []
    with closing(sqlite3.connect(path)) as conn:
        read_events(conn, "run_none", 0, 1)  # and the schema
        conn.set_progress_handler(lambda: steps.append(1), 10)
        return [one.number for one in read_events(conn, run_id, after, 256)], len(steps)


@pytest.mark.parametrize("together", [True, False], ids=["one commit", "commits"])
async def test_large_events_are_read_a_few_at_a_time(store: Store, together: bool) -> None:
    _, r = await put_run(store)
    log = [event(n, text="x" * size) for n, size in enumerate((1, 700_000, 700_000, 1, 3_000_000, 1, 1, 600_000, 2))]
    for some in [log] if together else [[one] for one in log]:
        await store.commit([Append(r.id, some)], durable=False)
    reads, after = [], -1
    while found := await store.events(r.id, after=after, limit=256):
        reads.append([one.number for one in found])
        assert found == log[after + 1 : after + 1 + len(found)]
        after = found[-1].number
    assert reads == [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    assert await numbers(store, r.id, after=1, limit=2) == [2, 3]


async def test_a_large_block_of_an_older_version_is_read_in_parts(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "t.db")
    _, r = await put_run(store)
    lines = b"\n".join(b'{"id":"msg_1","text":"%b"}' % (b"x" * 600_000) for _ in range(5))
    await store.commit([], durable=True)

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "t.db")) as conn, conn:
            values = (r.id, 0, 4, "ann", "thread.message.delta", lines.decode())
            conn.execute(
                "INSERT INTO events (run_id, number, last, owner, name, json) VALUES (?, ?, ?, ?, ?, ?)", values
            )

    await asyncio.to_thread(write)
    assert await numbers(store, r.id) == [0, 1]
    assert await numbers(store, r.id, after=1) == [2, 3]
    assert await numbers(store, r.id, after=3) == [4]
    await store.close()
