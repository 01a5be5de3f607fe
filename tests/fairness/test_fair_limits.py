import asyncio
import threading
import time
from contextlib import suppress

import pytest

from fairness.fair_limits import FairLimit, FairThreads


async def _wait(limit: FairLimit, owner: str, order: list[str], *, urgent: bool = False) -> None:
    async with limit.slot(owner, urgent=urgent):
        order.append(owner)
        await asyncio.sleep(0)


async def test_owners_take_turns_however_many_requests_one_has() -> None:
    limit, order = FairLimit(1), list[str]()
    async with limit.slot("x"), asyncio.TaskGroup() as group:
        for owner in ("ann", "ann", "ann", "bob", "cid", "bob"):
            group.create_task(_wait(limit, owner, order))
        await asyncio.sleep(0)
        limit.release("x")
        await asyncio.sleep(0.05)
        await limit.acquire("x")
    assert order == ["ann", "bob", "cid", "ann", "bob", "ann"]
    assert limit.waiting == 0


@pytest.mark.parametrize(
    ("size", "minimum", "portion", "held"),
    [(8, 0, 1, [4, 2, 1, 1, 0]), (120, 4, 4, [100, 24, 8, 4, 4]), (0, 2, 1, [2, 2, 2, 2, 2])],
    ids=["half", "nearly all", "a fixed number"],
)
def test_no_owner_can_take_all_slots(size: int, minimum: int, portion: float, held: list[int]) -> None:
    limit, taken = FairLimit(size, minimum=minimum, portion=portion), []
    for owner in "abcde":
        taken.append(0)
        while limit.is_free(owner):
            limit.acquire_nowait(owner)
            taken[-1] += 1
    assert taken == held


async def test_urgent_work_goes_first_but_not_always() -> None:
    limit, order = FairLimit(1), list[str]()
    await limit.acquire("x")
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(_wait(limit, f"question{number}", order, urgent=True))
        group.create_task(_wait(limit, "book", order))
        await asyncio.sleep(0)
        limit.release("x")
    assert 0 < order.index("book") <= 4


async def test_a_cancelled_wait_takes_no_slot() -> None:
    limit = FairLimit(1)
    await limit.acquire("x")
    waits = [asyncio.ensure_future(limit.acquire("ann")) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()
    await asyncio.sleep(0)
    limit.release("x")  # the second is granted the slot and cancelled before it runs
    waits[1].cancel()
    await asyncio.wait(waits)
    assert waits[2].done()
    assert not waits[2].cancelled()
    limit.release("ann")
    assert limit.is_free("bob")
    assert limit.waiting == 0


async def test_a_thread_without_a_waiter_still_counts() -> None:
    workers, go, order = FairThreads(2, "test", portion=1), threading.Event(), list[str]()
    first = asyncio.ensure_future(workers.run("ann", go.wait, 10))
    await asyncio.sleep(0.05)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(workers.run("ann", order.append, "ann"))
    await asyncio.sleep(0.05)
    assert not second.done(), "one of ann's threads is busy, and the last one is reserved for others"
    since = time.monotonic()
    await workers.run("bob", order.append, "bob")
    assert time.monotonic() - since < 1
    go.set()
    await second
    assert order == ["bob", "ann"]
    await workers.close()


async def test_an_error_in_a_thread_reaches_the_caller() -> None:
    workers = FairThreads(1, "test")
    with pytest.raises(ValueError, match="no"):
        await workers.run("ann", int, "no")
    assert await workers.run("ann", int, "7") == 7
    await workers.close()


def test_bytes_are_shared_like_slots() -> None:
    limit = FairLimit(100, minimum=10, portion=1)
    assert limit.is_free("ann", 60)
    assert not limit.is_free("ann", 61)
    limit.acquire_nowait("ann", 60)
    assert [count for count in (30, 35, 36) if limit.is_free("bob", count)] == [30, 35]
    limit.acquire_nowait("bob", 35)
    assert [limit.is_free(owner, count) for owner, count in (("ann", 1), ("cid", 10), ("cid", 23), ("cid", 24))] == [
        False,
        True,
        True,
        False,
    ]
    limit.release("ann", 60)
    limit.release("bob", 35)
    assert limit.is_free("cid", 60)
