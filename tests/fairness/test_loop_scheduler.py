"""Owners, and the keys of an owner, alternate on the event loop."""

import asyncio
import itertools

import pytest

from fairness.loop_scheduler import LoopScheduler

MANY = 500
FEW = 2
"""Work that starts in one pass of the loop."""


async def take(scheduler: LoopScheduler, owner: str, key: str, served: list[str]) -> None:
    await scheduler.wait_to_start(owner, key)
    served.append(owner + key)


async def test_a_pass_of_the_loop_starts_limited_work() -> None:
    scheduler, served = LoopScheduler(FEW), []
    waiting = [asyncio.ensure_future(take(scheduler, "ann", "", served)) for _ in range(MANY)]
    counts = [0]
    while not all(one.done() for one in waiting):
        await asyncio.sleep(0)
        counts.append(len(served))
    assert max(after - before for before, after in itertools.pairwise(counts)) <= 2 * FEW


@pytest.mark.parametrize("keys", [1, MANY], ids=["of one key", "of a key each"])
async def test_an_owner_waits_for_few_of_another_s_turns(keys: int) -> None:
    scheduler, served = LoopScheduler(FEW), []
    others = [asyncio.ensure_future(take(scheduler, "ann", str(number % keys), served)) for number in range(MANY)]
    await take(scheduler, "bob", "", served)
    assert served.index("bob") <= 3 * FEW
    await asyncio.gather(*others)


async def test_the_keys_of_an_owner_take_turns() -> None:
    scheduler, served = LoopScheduler(FEW), []
    await asyncio.gather(*(take(scheduler, "ann", key, served) for key in ["busy"] * 20 + ["quiet"]))
    assert served.index("annquiet") <= 3 * FEW


async def test_large_work_delays_the_next_passes() -> None:
    scheduler, passes = LoopScheduler(FEW), 0
    await scheduler.wait_to_start("ann", work=10 * FEW)
    waiting = asyncio.ensure_future(scheduler.wait_to_start("ann"))
    while not waiting.done():
        await asyncio.sleep(0)
        passes += 1
    assert passes >= 9


async def test_a_cancelled_waiter_takes_no_turn() -> None:
    scheduler, served = LoopScheduler(FEW), []
    waiting = [asyncio.ensure_future(take(scheduler, "ann", "", served)) for _ in range(100)]
    await asyncio.sleep(0)
    for one in waiting[20:90]:
        one.cancel()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert len(served) >= 30


async def test_no_one_waits_without_contention() -> None:
    passes: list[int] = []
    asyncio.get_running_loop().call_soon(passes.append, 1)
    await LoopScheduler(FEW).wait_to_start("ann")
    assert passes == []
