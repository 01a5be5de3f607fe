"""Turns of large reads: limited per owner, and kept by a block until it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context

import pytest

from store.ports import Patch, Row
from store.sqlite.large_reads import LargeReads
from store.sqlite.store import SqliteStore, open_store
from tests.store.rows import message, put, thread


async def gets_turn(reads: LargeReads, owner: str = "ann") -> bool:
    """Return whether another request of this owner gets a turn without a wait."""

    async def take() -> None:
        async with reads.slot(owner):
            pass

    taking = asyncio.get_running_loop().create_task(take(), context=Context())
    done, _ = await asyncio.wait([taking], timeout=0.02)
    taking.cancel()
    return bool(done)


async def test_an_owner_waits_for_a_turn_and_for_no_other_owner() -> None:
    reads = LargeReads(2)
    async with reads.slot("ann"), reads.slot("ann"):
        assert not await gets_turn(reads, "ann")
        assert await gets_turn(reads, "bob")
    assert await gets_turn(reads, "ann")


async def test_a_block_keeps_its_turn_until_it_ends() -> None:
    reads = LargeReads(1)
    async with reads.held():
        assert await gets_turn(reads)  # nothing large has been read yet
        async with reads.slot("ann"):
            pass
        assert not await gets_turn(reads)
    assert await gets_turn(reads)


async def test_a_block_does_not_wait_for_itself() -> None:
    reads = LargeReads(1)
    async with asyncio.timeout(1), reads.held(), reads.held(), reads.slot("ann"), reads.slot("ann"):
        pass
    assert await gets_turn(reads)


async def test_a_task_that_outlives_its_block_takes_its_own_turns() -> None:
    reads, ended = LargeReads(1), asyncio.Event()

    async def later() -> bool:
        await ended.wait()
        async with reads.slot("ann"):
            return not await gets_turn(reads)

    async with reads.held():
        task = asyncio.create_task(later())
    ended.set()
    assert await task
    assert await gets_turn(reads)


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = await open_store()
    yield opened
    await opened.close()


async def change(store: SqliteStore, row: Row, going: list[str], *, maximum: list[int]) -> None:
    async with store.for_update():
        kept = await store.get("message", row.id, "ann")
        assert kept is not None
        going.append(row.id)
        maximum.append(len(going))
        await store.commit([Patch("message", row.id, "ann", {"metadata": {}})], durable=True)
        going.remove(row.id)


@pytest.mark.parametrize(("size", "is_limited"), [(400_000, True), (10, False)], ids=["large", "small"])
async def test_changes_that_wait_for_their_commit_keep_few_large_rows(
    store: SqliteStore, size: int, is_limited: bool
) -> None:
    of = thread()
    row = message(of, text="x" * size)
    await put(store, of, row)
    going: list[str] = []
    maximum: list[int] = []
    await asyncio.gather(*(change(store, row, going, maximum=maximum) for _ in range(8)))
    assert (max(maximum) <= 2) is is_limited
