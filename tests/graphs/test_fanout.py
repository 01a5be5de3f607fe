"""Readers of runs are scheduled fairly, however many there are and however far behind they are."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from graphs.execution import _follow_live
from graphs.log import RunLog

READERS = 500
MAXIMUM = 40
"""Maximum batches in one pass of the event loop; without admission there are 500."""


class LoopScheduler:
    """Counts what happens in each turn of the event loop."""

    def __init__(self) -> None:
        self.number = 0
        self.batches: Counter[int] = Counter()
        self._counting = asyncio.ensure_future(self._count())

    async def _count(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def close(self) -> None:
        self._counting.cancel()


def publish(log: RunLog, count: int) -> None:
    log.publish(log.number([("thread.message.delta", b"{}")] * count))


async def read(log: RunLog, passes: LoopScheduler, seen: list[int]) -> None:
    async for batch in _follow_live(log, -1):
        passes.batches[passes.number] += 1
        seen.extend(event.number for event in batch)


async def while_waiting(log: RunLog) -> None:
    await asyncio.sleep(0.05)
    publish(log, 1)


async def behind(log: RunLog) -> None:
    publish(log, 2_000)


async def at_the_end(log: RunLog) -> None:
    await asyncio.sleep(0.05)
    log.close()


@pytest.mark.parametrize("before", [while_waiting, behind, at_the_end], ids=["live", "behind", "end"])
async def test_a_turn_of_the_loop_serves_few_readers(before: Callable[[RunLog], Awaitable[None]]) -> None:
    passes, log = LoopScheduler(), RunLog(0)
    seen: list[list[int]] = [[] for _ in range(READERS)]
    readers = [asyncio.ensure_future(read(log, passes, each)) for each in seen]
    await before(log)
    await asyncio.sleep(0.1)
    log.close()
    await asyncio.gather(*readers)
    passes.close()
    assert seen == [list(range(log.next))] * READERS
    assert max(passes.batches.values(), default=0) <= MAXIMUM


async def test_readers_far_behind_get_few_events_in_a_turn() -> None:
    passes, log = LoopScheduler(), RunLog(0)
    publish(log, 10_000)
    events: Counter[int] = Counter()

    async def one() -> None:
        async for batch in _follow_live(log, -1):
            events[passes.number] += len(batch)

    readers = [asyncio.ensure_future(one()) for _ in range(20)]
    await asyncio.sleep(0.05)
    log.close()
    await asyncio.gather(*readers)
    passes.close()
    assert max(events.values()) <= 512


async def test_readers_of_another_run_do_not_wait_for_all() -> None:
    passes, busy, quiet = LoopScheduler(), RunLog(0), RunLog(0)
    many = [asyncio.ensure_future(read(busy, passes, [])) for _ in range(READERS)]
    seen: list[int] = []
    few = [asyncio.ensure_future(read(quiet, passes, seen)) for _ in range(2)]
    await asyncio.sleep(0.05)
    publish(busy, 1)
    said_at = passes.number
    publish(quiet, 1)
    while len(seen) < 2:
        await asyncio.sleep(0)
    assert passes.number - said_at <= 4
    busy.close()
    quiet.close()
    await asyncio.gather(*few, *many)
    passes.close()


async def test_few_readers_do_not_wait() -> None:
    log = RunLog(0)
    publish(log, 1)
    events = _follow_live(log, -1)
    passes = LoopScheduler()
    await anext(events)
    assert passes.number == 0
    passes.close()
    await events.aclose()  # type: ignore[attr-defined]
